"""The validation share: whole groups of the training part, balanced over classes as they allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor.errors import DataError

if TYPE_CHECKING:
    from compressor.data.features import FeatureSet

__all__ = ["split_rows"]


_ORDER_SEED = 2021  # of the order in which groups are visited


def split_rows(train: FeatureSet, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows to validate on.

    Groups (a location, a source recording) are never split; a clip without one is a group of its
    own. Groups are visited in a random order and go to the validation share where that brings its
    class counts nearer to `share` of the part's. A class that is then still missing gives up the
    group that fits best, as long as it keeps at least half of its clips for training.

    The split depends on the part alone, not on a run's seed: a network trained on the part before,
    with whatever seed, has not seen the validation clips of its fine-tuning either.

    Args:
        train: the training part.
        share: share of its clips, 0 to 0.5; 0 gives no validation rows.

    Returns:
        Row numbers to train on and to validate on, ascending.

    Raises:
        DataError: no group can be spared.
    """
    rows = np.arange(len(train), dtype=np.int64)
    if share == 0:
        return rows, rows[:0]
    group_of = _group_numbers(train)
    counts = np.zeros((group_of.max() + 1, len(train.classes)))
    np.add.at(counts, (group_of, train.y), 1)
    totals = counts.sum(axis=0)
    target = share * totals
    chosen = np.zeros(len(counts), dtype=bool)
    held = np.zeros_like(target)
    for group in np.random.default_rng(_ORDER_SEED).permutation(len(counts)):
        added = held + counts[group]
        if ((added - target) ** 2).sum() < ((held - target) ** 2).sum():
            chosen[group], held = True, added
    for label in np.flatnonzero((held == 0) & (totals > 0)):
        free = np.flatnonzero(~chosen & (counts[:, label] > 0))
        after = held + counts[free]
        free = free[(after <= totals / 2).all(axis=1)]
        if len(free) > 0:
            misfit = ((held + counts[free] - target) ** 2).sum(axis=1)
            group = free[misfit.argmin()]
            chosen[group], held = True, held + counts[group]
    if not chosen.any() or chosen.all():
        raise DataError(
            f"validation_share {share:g} cannot be taken from the {len(counts)} group(s) of the "
            f"{len(train)} training clips without splitting one; set validation_share = 0 to train "
            f"without validation and keep the last epoch"
        )
    held_out = chosen[group_of]
    return rows[~held_out], rows[held_out]


def _group_numbers(train: FeatureSet) -> NDArray[np.int64]:
    """A number for each clip's group, 0 upwards without gaps; (N,)."""
    names = np.asarray(train.groups, dtype=str)
    if len(names) == 0:
        return np.arange(len(train), dtype=np.int64)
    _, numbers = np.unique(names, return_inverse=True)
    numbers = numbers.astype(np.int64)
    alone = names == ""
    numbers[alone] = numbers.max() + 1 + np.arange(alone.sum())
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
