"""Augmentation of feature batches (N, C, M, T): clips, channels, mel bands, frames.

Each transformation is a pure function of a batch and of drawn numbers (`roll_crop`, `band_keep`,
`mixup`), beside one that draws them from a NumPy generator (`spec_augment`, `random_roll_crop`,
`random_mixup`). Drawing on the CPU makes a seed mean the same on every device. Nothing loops over
clips: the numbers of all clips are broadcast against an index of bands or frames.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compressor.audio.draws import draw_spans, to_device

__all__ = [
    "band_keep",
    "mixup",
    "random_mixup",
    "random_roll_crop",
    "roll_crop",
    "spec_augment",
]


def roll_crop(x: Tensor, starts: Tensor, frames: int) -> Tensor:
    """Cut `frames` frames out of each clip from its own start, going round from the end to 0.

    Args:
        x: (N, C, M, T).
        starts: (N,) int64 first frames, 0 to T - 1.
        frames: frames of the result; T gives each clip rolled by -start.

    Returns:
        (N, C, M, frames), clip n being frames (starts[n] + 0, 1, ...) modulo T.
    """
    n, channels, mels, total = x.shape
    index = (starts.view(n, 1) + torch.arange(frames, device=x.device)) % total
    # The expanded index takes no memory: one row of frame numbers serves all channels and bands.
    return x.gather(3, index.view(n, 1, 1, frames).expand(n, channels, mels, frames))


def random_roll_crop(x: Tensor, frames: int | None, roll: bool, rng: np.random.Generator) -> Tensor:
    """Random temporal crop, or roll, or both, one start a clip.

    With `roll` a start is any frame and the crop goes round the end; without it the crop stays
    inside the clip. `frames=None` keeps all frames.

    Returns:
        (N, C, M, frames or T).
    """
    n, total = x.shape[0], x.shape[3]
    length = total if frames is None else frames
    choices = total if roll else total - length + 1
    if choices == 1:  # nothing to choose: the batch as it is
        return x
    return roll_crop(x, to_device(rng.integers(0, choices, n), x), length)


def band_keep(size: int, starts: Tensor, widths: Tensor) -> Tensor:
    """Which of `size` positions lie outside masks of given starts and widths.

    Args:
        size: bands or frames.
        starts: (N, masks) first position of each mask.
        widths: (N, masks) positions a mask; 0 masks nothing.

    Returns:
        (N, size) bool, false where any of the clip's masks lies.
    """
    position = torch.arange(size, device=starts.device)
    start, end = starts.unsqueeze(2), (starts + widths).unsqueeze(2)
    return ~((position >= start) & (position < end)).any(dim=1)


def spec_augment(
    x: Tensor,
    rng: np.random.Generator,
    *,
    freq_masks: int,
    freq_share: float,
    time_masks: int,
    time_share: float,
) -> Tensor:
    """SpecAugment's frequency and time masks (Park et al. 2019, section 2), without warping.

    A mask's width is uniform over 0 to floor(share · size), its start uniform over the places where
    it fits, so one mask hides share/2 of the size on average. Hidden values become 0, the mean of
    standardised features. All channels of a clip share its masks.

    Args:
        x: (N, C, M, T), standardised.
        rng: where the masks are drawn from.
        freq_masks: masks over bands, a clip.
        freq_share: widest such mask as a share of M.
        time_masks: masks over frames, a clip.
        time_share: widest such mask as a share of T.

    Returns:
        (N, C, M, T), a new tensor unless there is nothing to mask.
    """
    if freq_masks > 0:
        x = x * _random_keep(x, 2, freq_masks, freq_share, rng)
    if time_masks > 0:
        x = x * _random_keep(x, 3, time_masks, time_share, rng)
    return x


def mixup(x: Tensor, targets: Tensor, weights: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
    """Mix each clip and its target with those of a partner (Zhang et al. 2018).

    Args:
        x: (N, C, M, T).
        targets: (N, classes) probabilities.
        weights: (N,) weight of the clip itself, 0 to 1.
        partners: (N,) int64 index of each clip's partner in the batch.

    Returns:
        w·x + (1 - w)·x[partner] and the same of the targets.
    """
    w = weights.to(x.dtype)
    mixed = torch.lerp(x[partners], x, w.view(-1, 1, 1, 1))
    return mixed, torch.lerp(targets[partners], targets, w.view(-1, 1))


def random_mixup(
    x: Tensor, targets: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Mixup with one weight from Beta(alpha, alpha) for the batch, and a random order as partners.

    One weight a clip, instead of one a batch as in the authors' code, learns more slowly:
    BatchNorm then never sees a batch of clips that are all nearly pure.
    """
    n = x.shape[0]
    weights = np.full(n, rng.beta(alpha, alpha), dtype=np.float32)
    return mixup(x, targets, to_device(weights, x), to_device(rng.permutation(n), x))


def _random_keep(
    x: Tensor, axis: int, masks: int, share: float, rng: np.random.Generator
) -> Tensor:
    """`band_keep` over one axis of `x` with drawn masks, shaped to be multiplied with `x`."""
    n, size = x.shape[0], x.shape[axis]
    starts, widths = draw_spans(n, masks, size, share, rng)
    shape = [n, 1, 1, 1]
    shape[axis] = size
    return band_keep(size, to_device(starts, x), to_device(widths, x)).view(shape)
