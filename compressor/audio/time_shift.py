"""Time shifting of feature batches (N, C, M, T): each clip rolled by a normally drawn distance.

Section 3.2 of PKU/Xiaomi's report (DCASE 2022), after Dinkel et al. 2021: the frames x_1 ... x_T
become x_eta, ..., x_T, x_1, ..., x_(eta-1), eta drawn from N(0, 10). The report leaves open whether
10 is the standard deviation or the variance and how eta becomes whole; here it is the standard
deviation, in frames, and eta is rounded to the nearest frame.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from compressor.audio.augment import roll_crop
from compressor.audio.draws import to_device

__all__ = ["random_time_shift"]


def random_time_shift(x: Tensor, rng: np.random.Generator, sigma_frames: float = 10.0) -> Tensor:
    """Roll each clip by eta frames, eta = round(N(0, sigma_frames)).

    Args:
        x: (N, C, M, T).
        rng: where the distances are drawn from.
        sigma_frames: standard deviation of the distance; 0 gives the batch as it is.

    Returns:
        (N, C, M, T), clip n beginning with its frame eta modulo T.
    """
    if sigma_frames == 0:
        return x
    n, total = x.shape[0], x.shape[3]
    starts = np.rint(rng.normal(0.0, sigma_frames, n)).astype(np.int64) % total
    return roll_crop(x, to_device(starts, x), total)
