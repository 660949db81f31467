"""Half-precision weights: float16 or bfloat16 in the file, float32 arithmetic.

float16 arithmetic is 7 to 28 times slower than float32 on an ordinary CPU, so the type is one of
storage: weights and BatchNorm statistics are rounded to it, counted at two bytes and computed with
in float32. `CastResult.in_type` gives the network that computes in the type as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from compressor.errors import MeasureError, UnknownNameError
from compressor.methods.grouping import bare_copy

__all__ = ["CAST_TYPES", "CastReport", "CastResult", "HalfType", "cast"]

HalfType = Literal["float16", "bfloat16"]
CAST_TYPES: dict[str, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class CastReport:
    """Values of one tensor that the type cannot hold as they are.

    Attributes:
        name: of the tensor in the state dict.
        values: how many of them.
        of: numbers in the tensor.
        extreme: the largest magnitude among them for an overflow, the smallest for subnormals.
    """

    name: str
    values: int
    of: int
    extreme: float


@dataclass(frozen=True, eq=False)
class CastResult:
    """A network whose weights lie on the grid of a half-precision type.

    Attributes:
        model: float32 network with rounded weights; the one that was given is untouched.
        dtype: "float16" or "bfloat16".
        overflowed: tensors with values beyond the largest finite number, which they now hold
            instead (saturated); empty for a sound network.
        subnormal: tensors with values below the smallest normal number: held with fewer digits.
        flushed: tensors with values that became zero.
        largest_error: largest relative rounding error of a normal value.
    """

    model: nn.Module
    dtype: str
    overflowed: tuple[CastReport, ...]
    subnormal: tuple[CastReport, ...]
    flushed: tuple[CastReport, ...]
    largest_error: float

    def in_type(self) -> nn.Module:
        """A copy that computes in the type: for `model(x.to(dtype))`, slow on most CPUs."""
        return bare_copy(self.model).to(CAST_TYPES[self.dtype])


def cast(model: nn.Module, dtype: HalfType) -> CastResult:
    """Round the weights and the floating buffers of `model` to `dtype`.

    Args:
        model: a float32 network; left as it is.
        dtype: "float16" (11 significant bits, up to 65,504) or "bfloat16" (8 bits, range of
            float32).

    Raises:
        UnknownNameError: another type.
        MeasureError: a weight that is not finite; the message names it.
    """
    if dtype not in CAST_TYPES:
        raise UnknownNameError("half-precision type", str(dtype), CAST_TYPES)
    target = CAST_TYPES[dtype]
    info = torch.finfo(target)
    rounded = bare_copy(model)
    overflowed: list[CastReport] = []
    subnormal: list[CastReport] = []
    flushed: list[CastReport] = []
    largest_error = 0.0
    seen: set[int] = set()
    for name, tensor in rounded.state_dict(keep_vars=True).items():
        if not tensor.is_floating_point() or id(tensor) in seen:  # a tied weight is one tensor
            continue
        seen.add(id(tensor))
        value = tensor.detach()
        if not bool(torch.isfinite(value).all()):
            raise MeasureError(
                f"{name!r} holds values that are not finite; train the network again"
            )
        held = value.to(target)
        over = torch.isinf(held)
        held = torch.where(over, value.sign().to(target) * info.max, held)
        result = held.to(value.dtype)
        size = value.abs()
        lost = (size > 0) & (result == 0)
        small = (result != 0) & (result.abs() < info.tiny)
        for mask, reports, pick in (
            (over, overflowed, torch.amax),
            (small, subnormal, torch.amin),
            (lost, flushed, torch.amin),
        ):
            if bool(mask.any()):
                count = int(mask.sum())
                reports.append(CastReport(name, count, value.numel(), float(pick(size[mask]))))
        largest_error = max(largest_error, _relative_error(value, result, ~(over | small | lost)))
        with torch.no_grad():
            tensor.copy_(result)
    return CastResult(
        rounded, dtype, tuple(overflowed), tuple(subnormal), tuple(flushed), largest_error
    )


def _relative_error(value: Tensor, result: Tensor, normal: Tensor) -> float:
    normal = normal & (value != 0)
    if not bool(normal.any()):
        return 0.0
    return float(((result - value).abs()[normal] / value.abs()[normal]).max())
