"""Integers of up to 4 bits, two to a byte: how files hold them.

The first number stands in the lower half of a byte, as ONNX has it; each half is a two's
complement of 4 bits, and behind an odd count the last half is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from compressor.errors import ArtifactError

__all__ = ["NARROW_BITS", "narrow_weights", "packed", "unpacked"]

NARROW_BITS = 4  # the widest integers that share a byte


def narrow_weights(
    tensors: Mapping[str, Tensor], quantization: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """Weights that fit two to a byte, with their shapes.

    Args:
        tensors: the state dict of a network.
        quantization: its record; entries of "weights" say "bits".
    """
    found = {}
    for layer, entry in quantization.get("weights", {}).items():
        tensor = tensors.get(f"{layer}.weight")
        bits = entry.get("bits", 8) if isinstance(entry, Mapping) else 8
        if tensor is None or tensor.dtype != torch.int8 or bits > NARROW_BITS:
            continue
        if tensor.numel() and -8 <= int(tensor.min()) <= int(tensor.max()) <= 7:
            found[f"{layer}.weight"] = tuple(tensor.shape)
    return found


def packed(values: Tensor) -> Tensor:
    """int8 of any shape, each -8 to 7 -> uint8 (ceil(numel / 2),)."""
    low = values.detach().reshape(-1).to(torch.int16) & 15
    if low.numel() % 2:
        low = torch.cat([low, low.new_zeros(1)])
    pairs = low.reshape(-1, 2)
    return (pairs[:, 0] | (pairs[:, 1] << 4)).to(torch.uint8)


def unpacked(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """The state dict with int8 tensors of `shapes` in place of packed ones.

    Raises:
        ArtifactError: a tensor that is not there, or does not hold as many numbers.
    """
    found = dict(tensors)
    for name, shape in shapes.items():
        count, tensor = prod(shape), tensors.get(name)
        fits = tensor is not None and tensor.dtype == torch.uint8
        if tensor is None or not fits or tuple(tensor.shape) != ((count + 1) // 2,):
            held = "not stored" if tensor is None else f"{tuple(tensor.shape)} of {tensor.dtype}"
            raise ArtifactError(
                f"tensor {name!r} should hold {tuple(shape)} numbers of 4 bits, but is {held}"
            )
        halves = torch.stack([tensor & 15, tensor >> 4], dim=1).reshape(-1)[:count].to(torch.int8)
        found[name] = torch.where(halves > 7, halves - 16, halves).reshape(shape)
    return found
