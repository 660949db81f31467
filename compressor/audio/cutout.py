"""Cutout of feature batches (N, C, M, T): rectangles of bands and frames become 0.

T. DeVries and G. W. Taylor, "Improved regularization of convolutional neural networks with
Cutout", 2017, section 3: a patch of fixed size, its centre anywhere in the image, so that a part of
it may lie outside. They cut squares of pixels; bands and frames are different units, so the two
sides are given apart, each as a share of its axis.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compressor.audio.draws import to_device

__all__ = ["cutout", "random_cutout"]


def cutout(x: Tensor, bands: Tensor, frames: Tensor, height: int, width: int) -> Tensor:
    """Set rectangles of `height` bands and `width` frames to 0.

    Args:
        x: (N, C, M, T), standardised: 0 is the mean.
        bands: (N, rectangles) int64 first band of each; negative ones begin below the lowest band.
        frames: (N, rectangles) int64 first frame of each; negative ones begin before the clip.
        height: bands of every rectangle.
        width: frames of every rectangle.

    Returns:
        (N, C, M, T), a new tensor. All channels of a clip share its rectangles.
    """
    mels, total = x.shape[2], x.shape[3]
    m = torch.arange(mels, device=x.device)
    t = torch.arange(total, device=x.device)
    rows = (m >= bands.unsqueeze(2)) & (m < bands.unsqueeze(2) + height)  # (N, rectangles, M)
    columns = (t >= frames.unsqueeze(2)) & (t < frames.unsqueeze(2) + width)
    inside = (rows.unsqueeze(3) & columns.unsqueeze(2)).any(dim=1, keepdim=True)
    return x.masked_fill(inside, 0.0)


def random_cutout(
    x: Tensor,
    rng: np.random.Generator,
    *,
    masks: int = 1,
    freq_share: float,
    time_share: float,
) -> Tensor:
    """`cutout` with rectangles whose centres are drawn anywhere in the clip.

    Args:
        x: (N, C, M, T), standardised.
        rng: where the centres are drawn from.
        masks: rectangles a clip; 0 gives the batch as it is.
        freq_share: height of a rectangle as a share of M, rounded to whole bands.
        time_share: width of a rectangle as a share of T, rounded to whole frames.

    Returns:
        (N, C, M, T).
    """
    n, mels, total = x.shape[0], x.shape[2], x.shape[3]
    height, width = round(freq_share * mels), round(time_share * total)
    if masks == 0 or height == 0 or width == 0:
        return x
    bands = rng.integers(0, mels, (n, masks)) - height // 2
    frames = rng.integers(0, total, (n, masks)) - width // 2
    return cutout(x, to_device(bands, x), to_device(frames, x), height, width)
