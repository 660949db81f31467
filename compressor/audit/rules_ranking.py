"""How a year ranks its systems, as data: columns, which end is best, and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compressor.errors import ConfigError

__all__ = ["Criterion", "read_criteria"]

_ENDS = ("highest", "lowest")


@dataclass(frozen=True, slots=True)
class Criterion:
    """One column that systems are ranked by.

    Attributes:
        column: name of the column in a table of systems.
        best: "highest" or "lowest"; the best value has rank 1.
        weight: share of this rank in the score, as the decimal number that the file shows.
        mean_of: columns whose mean the value is, where a table holds them instead.
    """

    column: str
    best: str
    weight: float
    mean_of: tuple[str, ...] = ()


def read_criteria(file: str, tables: object) -> tuple[Criterion, ...]:
    """Reads the [[ranking]] tables of a rule file; none is allowed.

    Args:
        file: what messages call the rule file.
        tables: what TOML gave for the key.

    Raises:
        ConfigError: a missing, unknown or mistyped key, a column twice, no weight above 0.
    """
    if not isinstance(tables, list):
        raise ConfigError(f"{file}: ranking must be written as [[ranking]] tables")
    criteria = tuple(_criterion(file, table) for table in tables)
    columns = [criterion.column for criterion in criteria]
    if len(set(columns)) < len(columns):
        raise ConfigError(f"{file}: ranking names a column twice: {', '.join(columns)}")
    return criteria


def _criterion(file: str, table: object) -> Criterion:
    allowed = ("column", "best", "weight", "mean_of")
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: ranking must be written as [[ranking]] tables")
    if unknown := sorted(table.keys() - set(allowed)):
        raise ConfigError(
            f"{file}: ranking: unknown key {unknown[0]!r}, allowed {', '.join(allowed)}"
        )
    column, best, weight = table.get("column"), table.get("best"), table.get("weight", 1)
    mean_of: Any = table.get("mean_of", [])
    if not isinstance(column, str) or not column or column == "name":
        raise ConfigError(f"{file}: ranking: column = {column!r} must name a column of figures")
    if best not in _ENDS:
        raise ConfigError(
            f"{file}: ranking {column!r}: best = {best!r}, allowed {', '.join(_ENDS)}"
        )
    exact = type(weight) in (int, float) and 0 < weight <= 1000 and round(weight, 6) == weight
    if not exact:
        raise ConfigError(
            f"{file}: ranking {column!r}: weight = {weight!r}, allowed above 0 to 1000 with at "
            "most six decimals"
        )
    if not isinstance(mean_of, list) or not all(isinstance(name, str) for name in mean_of):
        raise ConfigError(f"{file}: ranking {column!r}: mean_of must be a list of columns")
    return Criterion(column.lower(), str(best), float(weight), tuple(mean_of))
