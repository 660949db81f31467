"""Freq-MixStyle of feature batches (N, C, M, T): clips exchange the statistics of their mel bands.

F. Schmid et al., "CP-JKU submission to DCASE22" and the DCASE 2024 Task 1 baseline, after K. Zhou
et al., "Domain generalization with MixStyle", ICLR 2021: a band's mean and deviation over a clip
say much about the recording device, so each clip is normalised band by band and given a mixture of
its own statistics and another clip's. The labels stay.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["mixstyle", "random_mixstyle"]

_EPS = 1e-6  # under the root: a band that never changes has no deviation


def mixstyle(x: Tensor, weights: Tensor, partners: Tensor) -> Tensor:
    """Give each clip's bands w of their own statistics and 1 - w of its partner's.

    Args:
        x: (N, C, M, T) of a floating type.
        weights: (N,) w, 0 to 1.
        partners: (N,) int64 index of each clip's partner in the batch.

    Returns:
        (N, C, M, T); statistics are taken over channels and frames.
    """
    variance, mean = torch.var_mean(x, dim=(1, 3), keepdim=True, correction=0)
    std = (variance + _EPS).sqrt()
    w = weights.to(x.dtype).view(-1, 1, 1, 1)
    new_mean = torch.lerp(mean[partners], mean, w)
    new_std = torch.lerp(std[partners], std, w)
    return (x - mean) / std * new_std + new_mean


def random_mixstyle(x: Tensor, rng: np.random.Generator, share: float, alpha: float) -> Tensor:
    """`mixstyle` on a share of the batches, with a weight from Beta(alpha, alpha) a clip.

    Args:
        x: (N, C, M, T) of a floating type.
        rng: where the choice, the weights and the partners are drawn from.
        share: probability that the batch is mixed; 0 draws nothing.
        alpha: both parameters of the Beta distribution, above 0.

    Returns:
        (N, C, M, T), `x` itself where it is not mixed.
    """
    if share == 0 or rng.random() >= share:
        return x
    n = x.shape[0]
    weights = torch.from_numpy(rng.beta(alpha, alpha, n)).to(x.device)
    return mixstyle(x, weights, torch.from_numpy(rng.permutation(n)).to(x.device))
