"""Mean and spread of a handful of runs, and what a pruning curve says: held, broke, knee.

Standard library only; every function is pure. Accuracies are shares (0..1).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["TOLERANCE", "Held", "Spread", "held_until", "knee_of", "spread"]

TOLERANCE = 0.01  # one percentage point: what the challenge reports round to and call "no loss"


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean of `n` runs with its spread.

    Attributes:
        n: number of values.
        mean: arithmetic mean.
        sd: sample standard deviation (n - 1 below the root); None for one value.
        low: smallest value.
        high: largest value.
    """

    n: int
    mean: float
    sd: float | None
    low: float
    high: float

    @property
    def se(self) -> float | None:
        """Standard error of the mean: sd / sqrt(n); None for one value."""
        return None if self.sd is None else self.sd / math.sqrt(self.n)


def spread(values: Iterable[object]) -> Spread | None:
    """Mean and spread of the finite numbers among `values`; None where there is none."""
    numbers = [
        float(value)
        for value in values
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    ]
    if not numbers:
        return None
    return Spread(
        n=len(numbers),
        mean=statistics.fmean(numbers),
        sd=statistics.stdev(numbers) if len(numbers) > 1 else None,
        low=min(numbers),
        high=max(numbers),
    )


@dataclass(frozen=True, slots=True)
class Held:
    """Indices into the curve: the last point before the first loss, and the first lost one.

    Attributes:
        until: last index that held with all before it; None if the first point is lost already.
        broke: first index that lost more than the tolerance; None if none did.
        again: later indices that are back within the tolerance.
    """

    until: int | None
    broke: int | None
    again: tuple[int, ...]


def held_until(changes: Sequence[float], tolerance: float = TOLERANCE) -> Held:
    """Where a curve leaves the dense level.

    Args:
        changes: mean accuracy minus dense accuracy, by ascending prune ratio, as shares.
        tolerance: largest loss that still counts as held.

    Returns:
        Held up to (all points before it held as well), first lost, and any later recovery.
    """
    # a loss of exactly one point held: the sums above carry rounding of about 1e-16
    lost = [change < -tolerance - 1e-9 for change in changes]
    broke = next((index for index, is_lost in enumerate(lost) if is_lost), None)
    if broke is None:
        return Held(len(changes) - 1 if changes else None, None, ())
    again = tuple(i for i in range(broke + 1, len(lost)) if not lost[i])
    return Held(broke - 1 if broke else None, broke, again)


def knee_of(x: Sequence[float], y: Sequence[float], tolerance: float = TOLERANCE) -> int | None:
    """Knee of a falling curve: the point farthest above the chord from first to last point.

    Both axes are scaled to 0..1 first (Satopää et al. 2011, "Finding a 'kneedle' in a haystack",
    definition for a concave decreasing curve, without their smoothing: sweeps have few points).

    Args:
        x: ascending positions, such as 0 (dense) and the prune ratios.
        y: values at them.
        tolerance: a fall from first to last point of no more than this has no knee.

    Returns:
        Index of the knee; None with fewer than four points, without a fall, or where the curve
        nowhere lies above its chord (it falls evenly or at once).
    """
    if len(x) < 4 or y[0] - y[-1] <= tolerance + 1e-9 or x[-1] <= x[0]:
        return None
    width, height = x[-1] - x[0], y[0] - y[-1]
    above = [
        (value - y[-1]) / height - (1.0 - (place - x[0]) / width)
        for place, value in zip(x, y, strict=True)
    ]
    best = max(range(1, len(x) - 1), key=lambda index: above[index])
    return best if above[best] > 1e-9 else None
