"""Ranking of systems: a weighted mean of ranks, as in 2023, or one figure, as in the other years.

2023: score = 0.5 x rank of accuracy + 0.25 x rank of memory + 0.25 x rank of MACs, lowest first.
Highest accuracy has rank 1, lowest memory and lowest MACs have rank 1. The formula is the
organisers'; the weights are quoted by third parties; the rule for ties could not be read, and the
ranks published for 2025 fit dense ranking and no other, hence the default.

Scores are whole numbers inside (weights over their common denominator, ranks doubled), so that two
scores are equal exactly when the formula says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Literal, get_args

from compressor.audit.rules_ranking import Criterion
from compressor.errors import UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CRITERIA",
    "TIES",
    "Ranked",
    "Standings",
    "System",
    "column_ranks",
    "order_depends_on_ties",
    "rank",
    "standings",
    "tie_rule",
]

Ties = Literal["dense", "min", "average"]
TIES: tuple[Ties, ...] = get_args(Ties)
CRITERIA = (
    Criterion("accuracy", "highest", 0.5),
    Criterion("bytes", "lowest", 0.25),
    Criterion("macs", "lowest", 0.25),
)


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


@dataclass(frozen=True)
class Standings:
    """Ranks and scores of n systems under c criteria, in the order the systems came in.

    Attributes:
        ranks2: (n, c), twice the rank in each column (average ranks may end in a half).
        scores2: (n,), the score times 2 x `denominator`.
        weights: whole numbers; over `denominator` they are the weights of the criteria.
    """

    ranks2: NDArray[np.int64]
    scores2: NDArray[np.int64]
    weights: tuple[int, ...]
    denominator: int

    def order(self) -> NDArray[np.int64]:
        """Indices of the systems, best first; equal scores keep the order they came in."""
        return self.scores2.argsort(kind="stable")

    def places(self) -> NDArray[np.int64]:
        """(n,) places: 1 + the number of better scores, so that equal scores share the place."""
        import numpy as np

        return np.searchsorted(np.sort(self.scores2), self.scores2, side="left") + 1

    def scores(self) -> NDArray[np.float64]:
        """(n,) scores as the formula gives them."""
        return self.scores2 / (2 * self.denominator)


def tie_rule(ties: str) -> None:
    """Checks the name of a tie rule.

    Raises:
        UnknownNameError: no such rule.
    """
    if ties not in TIES:
        raise UnknownNameError("tie rule", ties, TIES)


def standings(
    values: NDArray[np.float64], criteria: Sequence[Criterion] = CRITERIA, ties: str = "dense"
) -> Standings:
    """Ranks n systems by c criteria.

    Args:
        values: (n, c), a column a criterion, in the unit of the table.
        criteria: direction and weight of each column.
        ties: rank of equal values: "dense" 1, 2, 2, 3; "min" 1, 2, 2, 4; "average" 1, 2.5, 2.5, 4.

    Raises:
        UnknownNameError: no such tie rule.
    """
    import numpy as np

    tie_rule(ties)
    fractions = [Fraction(str(criterion.weight)) for criterion in criteria]
    denominator = lcm(*(fraction.denominator for fraction in fractions))
    weights = tuple(int(fraction * denominator) for fraction in fractions)
    ranks2 = np.empty(values.shape, dtype=np.int64)
    for column, criterion in enumerate(criteria):
        sign = -1.0 if criterion.best == "highest" else 1.0
        ranks2[:, column] = column_ranks(sign * values[:, column], ties)
    return Standings(ranks2, ranks2 @ np.array(weights, dtype=np.int64), weights, denominator)


def column_ranks(values: NDArray[np.float64], ties: str) -> NDArray[np.int64]:
    """Twice the rank of each value, the lowest first; the tie rules differ for equal values."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    if ties == "dense":
        return 2 * (inverse.astype(np.int64) + 1)
    before = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)
    twice = 2 * before + (2 if ties == "min" else counts + 1)
    return np.asarray(twice[inverse], dtype=np.int64)


def rank(systems: Sequence[System], ties: str = "dense") -> tuple[Ranked, ...]:
    """Ranks systems by the rule of 2023, best first; equal scores keep the order they came in.

    Args:
        systems: any number.
        ties: as in `standings`.

    Raises:
        UnknownNameError: no such tie rule.
    """
    tie_rule(ties)
    if not systems:
        return ()
    found = standings(_values(systems), CRITERIA, ties)
    ranks, scores, places = (found.ranks2 / 2).tolist(), found.scores().tolist(), found.places()
    ranked = []
    for index in found.order().tolist():
        accuracy, memory, macs = ranks[index]
        place = int(places[index])
        ranked.append(Ranked(place, systems[index], accuracy, memory, macs, scores[index]))
    return tuple(ranked)


def order_depends_on_ties(systems: Sequence[System]) -> bool:
    """Tells whether any system has another place under another tie rule."""
    if not systems:
        return False
    values = _values(systems)
    return len({tuple(standings(values, CRITERIA, ties).places().tolist()) for ties in TIES}) > 1


def _values(systems: Sequence[System]) -> NDArray[np.float64]:
    import numpy as np

    rows = [(system.accuracy, system.bytes, system.macs) for system in systems]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)
