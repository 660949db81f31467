"""Tables of systems: a CSV file with a name and the columns that a ranking needs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.audit.ranking import CRITERIA, System
from compressor.audit.rules_ranking import Criterion
from compressor.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Table", "parse_system", "read_systems", "read_table"]

NAME = "name"


@dataclass(frozen=True)
class Table:
    """Systems with the figures they are ranked by.

    Attributes:
        names: n names, in the order of the file; they need not differ.
        criteria: c columns with their directions and weights.
        rows: n rows of c figures, in the unit of the file.
    """

    names: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    rows: tuple[tuple[float, ...], ...]

    def values(self) -> NDArray[np.float64]:
        """(n, c) figures."""
        import numpy as np

        return np.array(self.rows, dtype=np.float64).reshape(-1, len(self.criteria))

    def with_row(self, name: str, figures: Sequence[float]) -> Table:
        """The table with one more system at its end."""
        return Table((*self.names, name), self.criteria, (*self.rows, tuple(figures)))

    def index(self, name: str) -> int:
        """Position of the only system of that name.

        Raises:
            UsageError: none or several of that name.
        """
        found = [index for index, own in enumerate(self.names) if own == name]
        if len(found) == 1:
            return found[0]
        from difflib import get_close_matches

        close = [] if found else get_close_matches(name, self.names[:10_000], n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        many = f"{len(found)} systems are called" if found else "no system is called"
        raise UsageError(f"{many} {name!r}, expected exactly one{hint}")

    def mixed_units(self) -> str:
        """The column that seems to mix fractions and percent; "" if none does."""
        for at, criterion in enumerate(self.criteria):
            column = [row[at] for row in self.rows]
            if criterion.column == "accuracy" and column and min(column) <= 1 < max(column):
                return criterion.column
        return ""


def read_systems(path: Path) -> tuple[System, ...]:
    """Reads a CSV file with the columns name, accuracy, bytes and macs; others are ignored.

    Raises:
        DataError: as `read_table`.
    """
    table = read_table(path)
    return tuple(System(name, *row) for name, row in zip(table.names, table.rows, strict=True))


def read_table(path: Path, criteria: Sequence[Criterion] = CRITERIA) -> Table:
    """Reads a CSV file with the column "name" and one for each criterion; others are ignored.

    Args:
        path: comma-separated, UTF-8, with a header; names of columns in any case and order.
        criteria: what the systems are ranked by.

    Raises:
        DataError: no such file, a missing or repeated column, a row that is too short, or a value
            that is no finite number; the message names the file, the line and the column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            lines = ((reader.line_num, row) for row in reader)
            rows = list(_rows(lines, path.name, tuple(criteria)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path.name}: cannot be read as CSV: {reason}") from error
    return Table(tuple(name for name, _ in rows), tuple(criteria), tuple(row for _, row in rows))


def parse_system(text: str, criteria: Sequence[Criterion] = CRITERIA) -> tuple[str, list[float]]:
    """Reads one system of the command line: "NAME,0.55,122296,29419156".

    Raises:
        UsageError: another number of parts, or a part that is no number.
    """
    wanted = ",".join([NAME, *(criterion.column for criterion in criteria)])
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != len(criteria) + 1 or not parts[0]:
        raise UsageError(f"--add {text!r}: expected {wanted}")
    try:
        return parts[0], [
            _figure(part, criterion.column, f"--add {text!r}")
            for part, criterion in zip(parts[1:], criteria, strict=True)
        ]
    except DataError as error:
        raise UsageError(str(error)) from None


def _rows(
    lines: Iterable[tuple[int, list[str]]], name: str, criteria: tuple[Criterion, ...]
) -> Iterator[tuple[str, tuple[float, ...]]]:
    iterator = iter(lines)
    header = [cell.strip().lower() for cell in next(iterator, (1, []))[1]]
    title_at = _position(header, NAME, name, criteria)
    sources = [_sources(header, criterion, name, criteria) for criterion in criteria]
    last = max(title_at, *(max(at for at, _ in source) for source in sources))
    for line, row in iterator:
        if not row or row == [""]:
            continue
        if len(row) <= last:
            raise DataError(f"{name}, line {line}: {len(row)} cells, expected {len(header)}")
        figures = []
        for source in sources:
            parts = [_figure(row[at], column, f"{name}, line {line}") for at, column in source]
            figures.append(sum(parts) / len(parts) if len(parts) > 1 else parts[0])
        yield row[title_at].strip(), tuple(figures)


def _sources(
    header: list[str], criterion: Criterion, name: str, criteria: tuple[Criterion, ...]
) -> list[tuple[int, str]]:
    """Where the figure stands: the columns whose mean it is, if they are all there, or its own."""
    if criterion.mean_of and all(column in header for column in criterion.mean_of):
        return [(_position(header, part, name, criteria), part) for part in criterion.mean_of]
    return [(_position(header, criterion.column, name, criteria), criterion.column)]


def _position(header: list[str], column: str, name: str, criteria: tuple[Criterion, ...]) -> int:
    if header.count(column) == 1:
        return header.index(column)
    if column in header:
        raise DataError(f"{name}, line 1: column {column!r} stands there twice")
    wanted = ", ".join([NAME, *(criterion.column for criterion in criteria)])
    found = ", ".join(header) or "nothing"
    raise DataError(f"{name}: column {column!r} is missing; expected {wanted}, found {found}")


def _figure(cell: str, column: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or value < 0:
        raise DataError(
            f"{where}, column {column}: {cell.strip()!r}, expected a finite number, not negative"
        )
    return value
