"""Which change of one figure alone would raise a system, and how far: computed, for every place.

Moving one figure of one system changes its own rank and, depending on the tie rule, the ranks of
the others. Both follow from where the new value stands among the others' distinct values: equal to
one of them, or between two. For each of these positions the place is 1 + the number of better
scores, counted for all positions together in O(n log n).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compressor.audit.ranking import column_ranks, standings
from compressor.audit.rules_ranking import Criterion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Step", "what_if"]

WHOLE_COLUMNS = frozenset({"bytes", "macs"})


@dataclass(frozen=True, slots=True)
class Step:
    """The smallest change of one figure, all else equal, that reaches a place.

    Attributes:
        place: that is reached (a shared place counts).
        value: of the figure; `beyond` tells whether it suffices, or must be surpassed by any
            amount, however small.
        change: value - current value.
    """

    place: int
    value: float
    beyond: bool
    change: float


def what_if(
    values: NDArray[np.float64], criteria: Sequence[Criterion], index: int, ties: str = "dense"
) -> dict[str, tuple[Step, ...]]:
    """Returns for each column the steps that raise one system, smallest change first.

    Every step reaches a better place than the one before it; a place that is missing is skipped
    over, or cannot be reached by this figure alone.

    Args:
        values: (n, c) figures of all systems.
        criteria: direction and weight of each column.
        index: which system changes.
        ties: tie rule, as in `ranking.standings`.
    """
    import numpy as np

    found = standings(values, criteria, ties)
    place = int(found.places()[index])
    others = np.arange(len(values)) != index
    steps = {}
    for at, criterion in enumerate(criteria):
        sign = -1.0 if criterion.best == "highest" else 1.0
        weight = found.weights[at]
        signed = sign * values[:, at]
        fixed = found.scores2 - weight * found.ranks2[:, at]  # what the other columns give
        levels, places = _places(
            signed[others],
            fixed[others],
            own=int(fixed[index]),
            weight=weight,
            ties=ties,
            now=place,
        )
        steps[criterion.column] = _steps(
            levels,
            places,
            current=float(signed[index]),
            sign=sign,
            bounds=_Bounds.of(criterion, values[:, at]),
            place=place,
        )
    return steps


def _places(
    signed: NDArray[np.float64],
    fixed: NDArray[np.int64],
    *,
    own: int,
    weight: int,
    ties: str,
    now: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Place of the changed system at each position among the others' m distinct values.

    Args:
        signed: the others' values, lowest best.
        fixed: their scores without this column.
        own: score of the changed system without this column.
        weight: of this column.
        ties: tie rule.
        now: its place now, the answer where there are no others.

    Returns:
        The m distinct values, ascending, and 2m + 1 places: at 2k between value k and k + 1 (from
        1; better than all at 0, worse than all at 2m), at 2k - 1 equal to value k.
    """
    import numpy as np

    levels, group, sizes = np.unique(signed, return_inverse=True, return_counts=True)
    if not len(levels):
        return levels, np.array([now], dtype=np.int64)
    group = group.astype(np.int64) + 1  # 1..m
    k = np.arange(1, len(levels) + 1, dtype=np.int64)
    before = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)  # others at better values
    scores = fixed + weight * column_ranks(signed, ties)
    if ties == "dense":
        tie_rank2, gap_rank2 = 2 * k, 2 * np.arange(1, len(levels) + 2, dtype=np.int64)
    else:
        tie_rank2 = 2 * before[:-1] + (2 if ties == "min" else sizes + 2)
        gap_rank2 = 2 * (before + 1)
    pushed_by_tie = {"dense": (0, 0), "min": (0, 2), "average": (1, 2)}[ties]
    places = np.empty(2 * len(levels) + 1, dtype=np.int64)
    for first, ranks2, pushed in ((1, tie_rank2, pushed_by_tie), (0, gap_rank2, (0, 2))):
        places[first::2] = _count_better(
            scores, group, own + weight * ranks2, weight=weight, first=first, pushed=pushed
        )
    return levels, places + 1


def _count_better(
    scores: NDArray[np.int64],
    group: NDArray[np.int64],
    targets: NDArray[np.int64],
    *,
    weight: int,
    first: int,
    pushed: tuple[int, int],
) -> NDArray[np.int64]:
    """Counts for each target score the others that stay below it.

    The others at the same value are pushed back by pushed[0] half ranks, those at worse values by
    pushed[1], at most one rank. Targets are a rank or more apart, so that each of the others is in
    doubt for one target at most.

    Args:
        scores: of the others without the changed system.
        group: number of their value, from 1.
        targets: ascending scores of the changed system at value number first, first + 1, ...
        weight: of this column.
        first: number of the first target's value.
        pushed: half ranks by which the others at the same and at worse values are pushed back.
    """
    import numpy as np

    ordered = np.sort(scores)
    certain = np.searchsorted(ordered, targets - 2 * weight, side="left")
    at = np.searchsorted(targets, scores, side="right")  # the lowest target above each score
    inside = at < len(targets)
    at, scores, group = at[inside], scores[inside], group[inside]
    number = at + first
    push = np.where(group > number, pushed[1], np.where(group == number, pushed[0], 0))
    doubtful = scores >= targets[at] - 2 * weight
    below = doubtful & (scores + weight * push < targets[at])
    return np.asarray(certain + np.bincount(at[below], minlength=len(targets)), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What values a column can take: whole numbers or any, and the best that is possible."""

    whole: bool
    best: float  # in the sign in which the lowest is best

    @classmethod
    def of(cls, criterion: Criterion, column: NDArray[np.float64]) -> _Bounds:
        import numpy as np

        whole = criterion.column in WHOLE_COLUMNS and bool(np.all(column == np.floor(column)))
        if criterion.best == "lowest":
            return cls(whole, 0.0)
        if criterion.column == "accuracy":
            return cls(whole, -1.0 if column.max() <= 1 else -100.0)
        return cls(whole, -np.inf)


def _steps(
    levels: NDArray[np.float64],
    places: NDArray[np.int64],
    *,
    current: float,
    sign: float,
    place: int,
    bounds: _Bounds,
) -> tuple[Step, ...]:
    """Walks from the current value to better ones and keeps the positions that gain a place."""
    import numpy as np

    lower = int(np.searchsorted(levels, current, side="left"))
    tied = lower < len(levels) and levels[lower] == current
    here = 2 * lower + 1 if tied else 2 * lower
    # Places only get better on the way, so that each gain is the first of its run.
    ahead = places[:here][::-1]
    gains = np.flatnonzero(np.diff(np.concatenate(([place], ahead))) < 0)
    steps: list[Step] = []
    for position in (here - 1 - gains).tolist():
        # A position between two values may hold no value; the next one (a tie) then stands in.
        for candidate in (position, position - 1):
            if candidate < 0:
                continue
            found = _value(levels, candidate, bounds)
            if found is None:
                continue
            reached = int(places[candidate])
            if reached < (steps[-1].place if steps else place):
                value, beyond = found
                steps.append(Step(reached, sign * value, beyond, sign * (value - current)))
            break
    return tuple(steps)


def _value(
    levels: NDArray[np.float64], position: int, bounds: _Bounds
) -> tuple[float, bool] | None:
    """The value of a position nearest to the worse side, and whether it must be surpassed."""
    import numpy as np

    if position % 2:
        return float(levels[position // 2]), False
    above = float(levels[position // 2])  # never the last gap: that is worse than every value
    below = float(levels[position // 2 - 1]) if position else bounds.best
    if bounds.whole:
        value = above - 1
        fits = value > below or (position == 0 and value >= below)
        return (value, False) if fits else None
    room = float(np.nextafter(above, -np.inf))
    fits = room > below or (position == 0 and room >= below)
    return (above, True) if fits else None
