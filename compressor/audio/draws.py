"""Drawn numbers for augmentation: spans of bands or frames, and the way to the batch's device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["draw_spans", "to_device"]


def to_device(numbers: NDArray[Any], like: Tensor) -> Tensor:
    """Drawn numbers as a tensor of their own type on the device of `like`."""
    return torch.from_numpy(numbers).to(like.device)


def draw_spans(
    n: int, spans: int, size: int, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and widths of `spans` spans for each of `n` clips, inside 0 to `size` - 1.

    A width is uniform over 0 to floor(share · size), a start uniform over the places where the span
    fits (Park et al. 2019, section 2).

    Returns:
        (n, spans) starts and (n, spans) widths.
    """
    widths = rng.integers(0, int(share * size) + 1, (n, spans))
    return rng.integers(0, size - widths + 1), widths
