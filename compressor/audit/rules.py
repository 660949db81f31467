"""The low-complexity rules of each challenge year, read from `rules/*.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from compressor.audit.conventions import CONVENTIONS
from compressor.errors import ConfigError, UnknownNameError

__all__ = ["Limit", "Metric", "Rules", "load_rules", "rules_for", "years"]

Metric = Literal["nonzero_bytes", "params", "param_bytes", "macs", "number_type"]
EVIDENCE = {
    "V": "read in an organiser's page or code",
    "S": "quoted by a third party",
    "I": "inferred or recomputed",
    "N": "not to be had",
}


@dataclass(frozen=True)
class Limit:
    """One limit of a year.

    Attributes:
        name: as the rules call it; metric: which figure is compared; unit: of value and limit.
        convention: who counts (a key of `conventions.CONVENTIONS`).
        max: the largest value allowed; None for a number type.
        max_strictest: a smaller limit in conflicting sources; between the two "it depends".
        also_convention: a second way to count that sources disagree about.
        only: the number type allowed, for the metric `number_type`.
        evidence: V, S, I or N; note: what is counted, in words.
    """

    name: str
    metric: Metric
    convention: str
    unit: str
    evidence: str
    max: int | None = None
    max_strictest: int | None = None
    also_convention: str = ""
    only: str = ""
    note: str = ""


@dataclass(frozen=True)
class Rules:
    """The rules of one year; `segment_s` is the audio one inference sees."""

    year: int
    task: str
    segment_s: float
    classes: int
    official_counter: str
    ranked_by: str
    ranked_by_evidence: str
    limits: tuple[Limit, ...]


_FOLDER = Path(__file__).with_name("rules")


def years() -> tuple[int, ...]:
    """Returns the years that have rules, oldest first."""
    return tuple(sorted(int(path.stem) for path in _FOLDER.glob("[0-9]*.toml")))


@cache
def rules_for(year: int) -> Rules:
    """Returns the rules of a year.

    Raises:
        UnknownNameError: no rules for that year.
    """
    if year not in years():
        raise UnknownNameError("challenge year", str(year), map(str, years()))
    return load_rules(_FOLDER / f"{year}.toml")


def load_rules(path: Path) -> Rules:
    """Reads a rule file.

    Raises:
        ConfigError: not TOML, a missing, unknown or mistyped key; the message names it.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name}: cannot be read as TOML: {error}") from error
    limits = table.pop("limit", [])
    if not isinstance(limits, list) or not limits:
        raise ConfigError(f"{path.name}: no [[limit]] table, expected at least one")
    kinds: dict[str, type] = {
        "year": int,
        "task": str,
        "segment_s": float,
        "classes": int,
        "official_counter": str,
        "ranked_by": str,
        "ranked_by_evidence": str,
    }
    _check(path, table, kinds, required=set(kinds))
    return Rules(**table, limits=tuple(_limit(path, limit) for limit in limits))


def _limit(path: Path, table: dict[str, Any]) -> Limit:
    kinds: dict[str, type] = {
        "name": str,
        "metric": str,
        "convention": str,
        "unit": str,
        "evidence": str,
        "max": int,
        "max_strictest": int,
        "also_convention": str,
        "only": str,
        "note": str,
    }
    if not isinstance(table, dict):
        raise ConfigError(f"{path.name}: limit must be written as [[limit]] tables")
    _check(path, table, kinds, required={"name", "metric", "convention", "unit", "evidence"})
    limit = Limit(**table)
    where = f"{path.name}: limit {limit.name!r}"
    if limit.metric not in get_args(Metric):
        allowed = ", ".join(get_args(Metric))
        raise ConfigError(f"{where}: metric {limit.metric!r}, allowed {allowed}")
    for convention in (limit.convention, limit.also_convention or "strict"):
        if convention not in CONVENTIONS:
            raise ConfigError(
                f"{where}: convention {convention!r}, allowed {', '.join(CONVENTIONS)}"
            )
    if limit.evidence not in EVIDENCE:
        raise ConfigError(f"{where}: evidence {limit.evidence!r}, allowed V, S, I, N")
    if (limit.max is None) != (limit.metric == "number_type"):
        raise ConfigError(f"{where}: give `max` for a figure, `only` for a number type")
    return limit


def _check(
    path: Path, table: Mapping[str, Any], kinds: Mapping[str, type], required: set[str]
) -> None:
    if missing := sorted(required - table.keys()):
        raise ConfigError(f"{path.name}: {missing[0]!r} is missing")
    for key, value in table.items():
        if key not in kinds:
            raise ConfigError(f"{path.name}: unknown key {key!r}, allowed {', '.join(kinds)}")
        if type(value) is not kinds[key]:
            raise ConfigError(
                f"{path.name}: {key} = {value!r} must be of type {kinds[key].__name__}"
            )
