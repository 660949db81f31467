"""Integers and their scales: weights, biases and activations as they are deployed.

A value is scale x (integer - zero_point). Weights are signed and symmetric (zero point 0, no use of
the most negative number, so that a change of sign stays on the grid), activations unsigned with
8 bits, biases 32-bit with the scale that a layer's sum of products has anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "ACTIVATION_LEVELS",
    "BIAS_LIMIT",
    "Activation",
    "IntegerBias",
    "IntegerWeight",
    "activation_grid",
    "quantize_bias",
    "quantize_weight",
    "round_to",
    "top",
    "weight_scale",
    "widen_for_bias",
]

ACTIVATION_LEVELS = 255  # unsigned 8 bits: 0 to 255
INT32_MAX = 2**31 - 1
BIAS_LIMIT = 2.0**30  # leaves the other half of the accumulator to the products
# A range below this would need a scale whose reciprocal overflows float32.
SMALLEST_SCALE = 2.0**-100


class Activation(NamedTuple):
    """The grid of one activation tensor: float32 scale, zero point 0 to 255, number type."""

    scale: float
    zero_point: int
    dtype: str = "uint8"

    def round(self, x: Tensor) -> Tensor:
        """The points of the grid that are nearest to `x`, as integer kernels take them."""
        low, high = -self.zero_point, ACTIVATION_LEVELS - self.zero_point
        return round_to(x, self.scale, low * self.scale, high * self.scale)


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """The weights of one layer.

    Attributes:
        values: int8, in the shape of the float weights.
        scale: float32 (outputs,) or (1,).
        zero_point: always 0, the grid is symmetric.
        bits: width that the values need, 2 to 8.
    """

    values: Tensor
    scale: Tensor
    zero_point: int = 0
    bits: int = 8

    def float(self) -> Tensor:
        """The weights on their grid, float32."""
        return self.values.float() * self.scale.reshape(-1, *[1] * (self.values.dim() - 1))

    @property
    def stored_bits(self) -> int:
        """Bits that each takes in a deployed file: 4 up to a width of 4, otherwise 8."""
        return 4 if self.bits <= 4 else 8

    @property
    def nbytes(self) -> int:
        """Bytes in a deployed file, the last one filled up; scales are not part of it."""
        return (self.values.numel() * self.stored_bits + 7) // 8


@dataclass(frozen=True, eq=False)
class IntegerBias:
    """The bias of one layer: int32 (outputs,) and float32 scales (outputs,) or (1,)."""

    values: Tensor
    scale: Tensor

    def float(self) -> Tensor:
        """The bias on its grid, float32."""
        return (self.values.double() * self.scale.double()).float()

    @property
    def nbytes(self) -> int:
        """Four bytes for each."""
        return 4 * self.values.numel()


def top(bits: int) -> int:
    """The largest integer of a symmetric grid: 127 for 8 bits, 7 for 4, 1 for 2."""
    return int(2 ** (bits - 1)) - 1


def weight_scale(weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    """Scale with which the largest magnitude is the largest integer: float32 (outputs,) or (1,).

    A channel of zeros has scale 1, so that it stays zero.
    """
    flat = weight.detach().abs().reshape(weight.shape[0], -1)
    largest = flat.amax(dim=1) if per_channel else flat.amax().reshape(1)
    scale = largest / top(bits)
    return torch.where(scale > SMALLEST_SCALE, scale, torch.ones_like(scale)).float()


def quantize_weight(
    weight: Tensor, bits: int = 8, *, per_channel: bool = True, scale: Tensor | None = None
) -> IntegerWeight:
    """Round weights (outputs, ...) to the nearest points of their symmetric grids.

    `scale` (outputs,) or (1,) takes the place of the one that the largest magnitudes give.
    """
    if scale is None:
        scale = weight_scale(weight, bits, per_channel)
    shaped = scale.reshape(-1, *[1] * (weight.dim() - 1))
    limit = top(bits)
    values = torch.round(weight.detach() / shaped).clamp(-limit, limit).to(torch.int8)
    return IntegerWeight(values.contiguous(), scale.detach().float().clone(), 0, bits)


def widen_for_bias(weight: IntegerWeight, bias: Tensor, input_scale: float) -> IntegerWeight:
    """The weights with coarser scales where a bias would not fit into 32 bits at theirs.

    That happens to channels whose weights and inputs are almost zero beside the bias: what they
    lose is less than 2^-22 of it. The others, and so nearly always all, stay exactly as they are.
    """
    smallest = (bias.detach().double().abs() / (BIAS_LIMIT * input_scale)).float()
    if weight.scale.numel() == 1:
        smallest = smallest.amax().reshape(1)
    if not bool((smallest > weight.scale).any()):
        return weight
    scale = torch.maximum(weight.scale, smallest)
    return quantize_weight(weight.float(), weight.bits, scale=scale)


def quantize_bias(bias: Tensor, weight: IntegerWeight, input_scale: float) -> IntegerBias:
    """Round a bias (outputs,) to int32 with scale input x weight, as integer kernels add it.

    The scale is large enough after `widen_for_bias`.
    """
    scale = (weight.scale.double() * input_scale).float()
    values = torch.round(bias.detach().double() / scale.double())
    assert not bool((values.abs() > INT32_MAX).any())
    return IntegerBias(values.to(torch.int32), scale)


def round_to(x: Tensor, scale: float, low: float, high: float) -> Tensor:
    """Nearest points of the grid of `scale`, ties to even, clipped to `low` and `high` on it."""
    return x.clamp(low, high).div_(scale).round_().mul_(scale)


def activation_grid(low: float, high: float) -> Activation:
    """The grid of 256 points that spans low to high and holds zero exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / ACTIVATION_LEVELS
    if scale < SMALLEST_SCALE:  # silent on every clip: any grid holds its zeros
        return Activation(1.0, 0)
    scale = float(torch.tensor(scale, dtype=torch.float32))
    zero_point = int(min(max(round(-low / scale), 0), ACTIVATION_LEVELS))
    return Activation(scale, zero_point)
