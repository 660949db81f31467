"""A deterministic stratified split for sets that come without one."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from compressor.data.dataset import Clip
from compressor.data.tables import misspelt
from compressor.errors import DataError

__all__ = ["FOLDS", "SEED", "Split", "stratified_folds"]

FOLDS = 5
SEED = 2021


@dataclass(frozen=True)
class Split:
    """The fold of each clip, all folds there are, and where they come from in words.

    A clip is in the test part of its own fold, and in the training part of all others.
    """

    fold_of: tuple[int, ...]
    folds: tuple[int, ...]
    words: str


def stratified_folds(clips: Sequence[Clip], classes: Sequence[str]) -> Split:
    """Deals whole groups into folds with the classes spread evenly.

    Groups are shuffled by a fixed seed, then dealt largest first, each to the fold that has the
    least of the group's classes. Five folds, or fewer where a class has fewer groups, so that every
    class is in every test part's training part.

    Raises:
        DataError: a class whose clips are all one group cannot be trained and tested.
    """
    content: dict[str, Counter[int]] = defaultdict(Counter)
    for clip in clips:
        content[clip.group][clip.label] += 1
    groups_of = Counter(label for counts in content.values() for label in counts)
    rarest = min(groups_of, key=lambda label: (groups_of[label], label))
    folds = min(FOLDS, groups_of[rarest])
    if folds < 2:
        raise DataError(
            f"class {classes[rarest]!r} has a single group of clips "
            f"({next(clip.path for clip in clips if clip.label == rarest)}), so it cannot be both "
            f"trained and tested; {misspelt(classes[rarest], classes)}needed: clips "
            "from at least two recordings or locations"
        )
    order = sorted(content)
    random.Random(SEED).shuffle(order)
    order.sort(key=lambda group: -content[group].total())  # stable: ties stay shuffled
    filled = [Counter[int]() for _ in range(folds)]
    fold_of_group = {}
    for group in order:
        counts = content[group]
        best = min(
            range(folds),
            key=lambda one: (
                sum(count * filled[one][label] for label, count in counts.items()),
                filled[one].total(),
                one,
            ),
        )
        filled[best].update(counts)
        fold_of_group[group] = best + 1
    words = f"{folds} folds made here: stratified by class, whole groups together, seed {SEED}"
    return Split(
        tuple(fold_of_group[clip.group] for clip in clips), tuple(range(1, folds + 1)), words
    )
