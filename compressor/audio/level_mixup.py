"""Mixup that knows how loud its clips are (Deepsound's DCASE 2021 report, section 2.2).

Y. Tokozume, Y. Ushiku and T. Harada, "Learning from between-class examples for deep sound
recognition", ICLR 2018, section 3.2: to be heard in the ratio r : 1 - r, two sounds of levels G1
and G2 dB are added with the weights p and 1 - p,

    p = 1 / (1 + 10^((G1 - G2) / 20) · (1 - r) / r),
    sound = (p · s1 + (1 - p) · s2) / sqrt(p^2 + (1 - p)^2),   target = r · t1 + (1 - r) · t2.

Tokozume et al. draw r uniformly; Deepsound draws it from Beta(0.6, 0.6) and does not say what it
mixes. Here features are mixed: either interpolated with p, as mixup does, or, where `log_unit` says
what a unit of the features is, as powers. The latter is what adding the waveforms gives on average
over their phases.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.audio.draws import to_device

__all__ = ["level_aware_mixup", "level_weights", "mix_levels"]


def level_weights(shares: Tensor, own_db: Tensor, partner_db: Tensor) -> Tensor:
    """The weight p of a clip that is to be heard with the share r (Tokozume et al. 2018, eq. 2).

    Args:
        shares: (N,) r, 0 to 1.
        own_db: (N,) level G1 of the clip.
        partner_db: (N,) level G2 of its partner.

    Returns:
        (N,) p, written r / (r + 10^((G1 - G2) / 20) · (1 - r)), which is also defined at r = 0.
    """
    louder = torch.pow(10.0, (own_db - partner_db) / 20.0)
    return shares / (shares + louder * (1.0 - shares))


def mix_levels(
    x: Tensor, partners: Tensor, weights: Tensor, log_unit: float | None = None
) -> Tensor:
    """Mix each clip with its partner, p against 1 - p.

    Args:
        x: (N, C, M, T) of a floating type.
        partners: (N,) int64 index of each clip's partner in the batch.
        weights: (N,) p, 0 to 1.
        log_unit: None interpolates the features. A number says that `x` holds log-mels, not
            standardised, that rise by it when the power is multiplied by e (`LogMel.log_unit`);
            then powers are added: (p^2 · P1 + (1 - p)^2 · P2) / (p^2 + (1 - p)^2).

    Returns:
        (N, C, M, T); float32 where powers are added.
    """
    p = weights.view(-1, 1, 1, 1)
    if log_unit is None:
        return torch.lerp(x[partners], x, p.to(x.dtype))
    p = p.float()
    total = (p.square() + (1.0 - p).square()).log()
    own = x.float() / log_unit + 2.0 * p.log()
    other = x[partners].float() / log_unit + 2.0 * (1.0 - p).log()
    return (torch.logaddexp(own, other) - total) * log_unit


def level_aware_mixup(
    x: Tensor,
    targets: Tensor,
    levels_db: Tensor | NDArray[Any],
    alpha: float,
    rng: np.random.Generator,
    *,
    log_unit: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Mixup with a share r from Beta(alpha, alpha) and weights that allow for the clips' levels.

    As `random_mixup` does, and with the same draws, the batch has one r and a random order as
    partners; p differs from pair to pair.

    Args:
        x: (N, C, M, T) of a floating type.
        targets: (N, classes) probabilities.
        levels_db: (N,) level of each clip in dB, relative to anything common to them.
        alpha: both parameters of the Beta distribution, above 0.
        rng: where r and the partners are drawn from.
        log_unit: None, or the unit of log-mels that are to be added as powers, see `mix_levels`.

    Returns:
        The mixed batch and r · targets + (1 - r) · targets[partner].
    """
    n = x.shape[0]
    shares = to_device(np.full(n, rng.beta(alpha, alpha), dtype=np.float32), x)
    partners = to_device(rng.permutation(n), x)
    levels = torch.as_tensor(levels_db, dtype=torch.float32, device=x.device)
    weights = level_weights(shares, levels, levels[partners])
    soft = torch.lerp(targets[partners], targets, shares.to(targets.dtype).view(-1, 1))
    return mix_levels(x, partners, weights, log_unit), soft
