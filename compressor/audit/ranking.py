"""The 2023 ranking: accuracy, memory and MACs as a weighted mean of ranks.

Score = 0.5 x rank of accuracy + 0.25 x rank of memory + 0.25 x rank of MACs, lowest first. Highest
accuracy has rank 1, lowest memory and lowest MACs have rank 1. The formula is the organisers'; the
weights are quoted by third parties; the rule for ties could not be read, and the ranks published
for 2025 fit dense ranking and no other, hence the default.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from compressor.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TIES", "WEIGHTS", "Ranked", "System", "order_depends_on_ties", "rank", "read_systems"]

Ties = Literal["dense", "min", "average"]
TIES: tuple[Ties, ...] = get_args(Ties)
WEIGHTS = (0.5, 0.25, 0.25)  # accuracy, memory, MACs
COLUMNS = ("name", "accuracy", "bytes", "macs")


@dataclass(frozen=True, slots=True)
class System:
    """One system: accuracy in any one unit (higher is better), memory in bytes, MACs."""

    name: str
    accuracy: float
    bytes: float
    macs: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """A system with its three ranks, its score and its place (equal scores share the place)."""

    place: int
    system: System
    rank_accuracy: float
    rank_bytes: float
    rank_macs: float
    score: float


def rank(systems: Sequence[System], ties: str = "dense") -> tuple[Ranked, ...]:
    """Ranks systems, best first; systems with equal scores keep the order they came in.

    Args:
        systems: any number.
        ties: rank of equal values: "dense" 1, 2, 2, 3; "min" 1, 2, 2, 4; "average" 1, 2.5, 2.5, 4.

    Raises:
        UnknownNameError: no such tie rule.
    """
    if not systems:
        _known(ties)
        return ()
    ranks, scores = _scores(systems, ties)
    order = scores.argsort(kind="stable")
    ranked = []
    place, last = 0, None
    columns = [column.tolist() for column in ranks]
    plain = scores.tolist()
    for position, index in enumerate(order.tolist(), start=1):
        if plain[index] != last:
            place, last = position, plain[index]
        accuracy, memory, macs = (column[index] for column in columns)
        ranked.append(Ranked(place, systems[index], accuracy, memory, macs, plain[index]))
    return tuple(ranked)


def order_depends_on_ties(systems: Sequence[System]) -> bool:
    """Tells whether the tie rules put the systems in different orders."""
    orders = {tuple(_scores(systems, ties)[1].argsort(kind="stable").tolist()) for ties in TIES}
    return len(orders) > 1


def _known(ties: str) -> None:
    if ties not in TIES:
        raise UnknownNameError("tie rule", ties, TIES)


def _scores(
    systems: Sequence[System], ties: str
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    import numpy as np

    _known(ties)
    values = np.array(
        [(-system.accuracy, system.bytes, system.macs) for system in systems], dtype=np.float64
    ).reshape(-1, 3)
    ranks = [_ranks(values[:, column], ties) for column in range(3)]
    total = sum(
        (weight * column for weight, column in zip(WEIGHTS, ranks, strict=True)),
        np.zeros(len(systems)),
    )
    return ranks, total


def _ranks(values: NDArray[np.float64], ties: str) -> NDArray[np.float64]:
    """Ranks ascending values from 1; the tie rules differ in what equal values get."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    if ties == "dense":
        return (inverse + 1).astype(np.float64)
    before = np.concatenate(([0], np.cumsum(counts)[:-1]))
    lowest = before + 1.0 if ties == "min" else before + (counts + 1) / 2
    return np.asarray(lowest[inverse], dtype=np.float64)


def read_systems(path: Path) -> tuple[System, ...]:
    """Reads a CSV file with the columns name, accuracy, bytes and macs; others are ignored.

    Raises:
        DataError: no such file, a missing column, or a value that is no finite number; the message
            names the row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return tuple(_systems(csv.reader(stream), path.name))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name}: cannot be read as CSV: {error}") from error


def _systems(rows: Iterable[list[str]], name: str) -> Iterable[System]:
    iterator = iter(rows)
    header = [cell.strip().lower() for cell in next(iterator, [])]
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        found = ", ".join(header) or "nothing"
        raise DataError(
            f"{name}: column {missing[0]!r} is missing; expected {', '.join(COLUMNS)}, "
            f"found {found}"
        )
    at = [header.index(column) for column in COLUMNS]
    for number, row in enumerate(iterator, start=2):
        if not row:
            continue
        if len(row) <= max(at):
            raise DataError(f"{name}, row {number}: {len(row)} cells, expected {len(header)}")
        title = row[at[0]].strip()
        figures = [
            _figure(row[index], column, f"{name}, row {number}")
            for index, column in zip(at[1:], COLUMNS[1:], strict=True)
        ]
        yield System(title, *figures)


def _figure(cell: str, column: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or (value < 0 and column != "accuracy"):
        raise DataError(f"{where}: {column} is {cell!r}, expected a finite number")
    return value
