"""SpecAugment++: stripes of one clip are filled from another, at the input or in hidden layers.

H. Wang, Y. Zou and W. Wang, "SpecAugment++: a hidden space data augmentation method for acoustic
scene classification", Interspeech 2021 (as section 3.1 of PKU/Xiaomi's DCASE 2022 report retells
it): "mini-batch based mixture masking" replaces what a stripe hides by the mean of the clip and of
another clip of the batch; "zero-value masking" replaces it by 0. The labels stay those of the clip.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from compressor.audio.augment import band_keep
from compressor.audio.draws import draw_spans, to_device

__all__ = ["mix_masks", "random_mix_masks"]


def mix_masks(x: Tensor, keep: Tensor, partners: Tensor, scale: float = 0.5) -> Tensor:
    """Replace what `keep` does not keep by scale · x + (1 - scale) · x[partner].

    Args:
        x: (N, C, F, T) of a floating type; gradients flow to both clips.
        keep: bool, of a shape that broadcasts to that of `x`; false where a stripe lies.
        partners: (N,) int64 index of each clip's partner in the batch.
        scale: weight of the clip's own values: 0.5 is the paper's mixture, 0 its "cutting".

    Returns:
        (N, C, F, T), a new tensor.
    """
    return torch.where(keep, x, torch.lerp(x[partners], x, scale))


def random_mix_masks(
    x: Tensor,
    rng: np.random.Generator,
    *,
    freq_masks: int,
    freq_share: float,
    time_masks: int,
    time_share: float,
    scale: float = 0.5,
    mode: Literal["mixture", "zero"] = "mixture",
) -> Tensor:
    """`mix_masks`, or zeros, in stripes drawn as SpecAugment draws them.

    Widths are uniform over 0 to floor(share · size), starts uniform over the places where a stripe
    fits. A clip's partner is any other clip of the batch, the same for all of its stripes; in a
    batch of one nothing changes. For a map with time before frequency (N, C, T, F) exchange the
    `freq_` and `time_` arguments.

    Args:
        x: (N, C, F, T), an input or a hidden map.
        rng: where stripes and partners are drawn from.
        freq_masks: stripes over the third axis, a clip.
        freq_share: widest such stripe as a share of F.
        time_masks: stripes over the fourth axis, a clip.
        time_share: widest such stripe as a share of T.
        scale: weight of the clip's own values inside a stripe, see `mix_masks`.
        mode: "mixture", or "zero" for zero-value masking (of a standardised input: the mean).

    Returns:
        (N, C, F, T), `x` itself where there is nothing to mask.
    """
    n, bands, frames = x.shape[0], x.shape[2], x.shape[3]
    keep = None
    if freq_masks > 0:
        keep = _keep(x, bands, freq_masks, freq_share, rng).view(n, 1, bands, 1)
    if time_masks > 0:
        over_time = _keep(x, frames, time_masks, time_share, rng).view(n, 1, 1, frames)
        keep = over_time if keep is None else keep & over_time
    if keep is None:
        return x
    if mode == "zero":
        return x.masked_fill(~keep, 0.0)
    if n < 2:
        return x
    partners = (np.arange(n) + rng.integers(1, n, n)) % n  # never the clip itself
    return mix_masks(x, keep, to_device(partners, x), scale)


def _keep(x: Tensor, size: int, masks: int, share: float, rng: np.random.Generator) -> Tensor:
    starts, widths = draw_spans(x.shape[0], masks, size, share, rng)
    return band_keep(size, to_device(starts, x), to_device(widths, x))
