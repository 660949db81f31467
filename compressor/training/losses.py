"""Objectives. Each takes logits and targets and returns one number to minimise."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["smoothed_cross_entropy", "soft_targets"]


def soft_targets(labels: Tensor, num_classes: int) -> Tensor:
    """Class indices (N,) as one-hot rows (N, num_classes) in float32, ready to be mixed."""
    return F.one_hot(labels, num_classes).float()


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats against targets t' = (1 - s)·t + s / classes.

    Args:
        logits: (N, classes); taken to float32, because a bfloat16 logarithm has 8 bits.
        targets: (N, classes) probabilities, or (N,) class indices.
        smoothing: share s of the target spread over all classes (Szegedy et al. 2016, section 7).

    Returns:
        A scalar.
    """
    return F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
