"""Time warping of feature batches (N, C, M, T): SpecAugment's first transformation.

D. S. Park et al., "SpecAugment: a simple data augmentation method for automatic speech
recognition", Interspeech 2019, section 2: a point of the time axis within (W, T - W) moves left or
right by a distance of at most W, the two edges stay. The authors warp the image by a sparse spline
through the moved point and points fixed on the border; here, as in most later implementations, the
axis is warped piecewise linearly, so that all bands of a frame move together and the cost is that
of two look-ups.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compressor.audio.draws import to_device
from compressor.errors import ShapeError

__all__ = ["random_time_warp", "time_warp"]


def time_warp(x: Tensor, centres: Tensor, shifts: Tensor) -> Tensor:
    """Move frame `centres[n]` of each clip to `centres[n] + shifts[n]`, the edges staying.

    Frame t of the result is read at t · c / (c + w) up to the moved frame, and behind it at
    T-1 - (T-1 - t) · (T-1 - c) / (T-1 - c - w), between frames by linear interpolation.

    Args:
        x: (N, C, M, T) of a floating type.
        centres: (N,) frames c, above 0 and below T - 1.
        shifts: (N,) distances w in frames, with c + w above 0 and below T - 1.

    Returns:
        (N, C, M, T) of the type of `x`.
    """
    n, channels, mels, total = x.shape
    last = total - 1
    c = centres.to(torch.float32).view(n, 1)
    moved = c + shifts.to(torch.float32).view(n, 1)
    t = torch.arange(total, device=x.device, dtype=torch.float32)
    before = t * (c / moved)
    behind = last - (last - t) * ((last - c) / (last - moved))
    source = torch.where(t <= moved, before, behind).clamp(0, last)
    left = source.floor().clamp(max=last - 1)
    weight = (source - left).to(x.dtype)
    index = left.long().view(n, 1, 1, total).expand(n, channels, mels, total)
    return torch.lerp(x.gather(3, index), x.gather(3, index + 1), weight.view(n, 1, 1, total))


def random_time_warp(x: Tensor, rng: np.random.Generator, max_frames: int) -> Tensor:
    """`time_warp` with one drawn point and one drawn distance a clip.

    The point is a frame uniform over max_frames + 1 to T - 2 - max_frames, the distance uniform
    over -max_frames to max_frames and not rounded (the paper does not say whether it is).

    Args:
        x: (N, C, M, T) of a floating type.
        rng: where points and distances are drawn from.
        max_frames: W, the largest distance in frames; 0 gives the batch as it is.

    Returns:
        (N, C, M, T).

    Raises:
        ShapeError: the clips have too few frames for the distance.
    """
    if max_frames == 0:
        return x
    n, total = x.shape[0], x.shape[3]
    if max_frames < 0 or total < 2 * max_frames + 3:
        raise ShapeError(
            f"time warping by up to {max_frames} frames, but the clips have {total}; set "
            f"time_warp_frames to 0 (off) or at most {max(0, (total - 3) // 2)}"
        )
    centres = rng.integers(max_frames + 1, total - 1 - max_frames, n)
    shifts = rng.uniform(-max_frames, max_frames, n)
    return time_warp(x, to_device(centres, x), to_device(shifts, x))
