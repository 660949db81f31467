"""The few numbers that shapes are computed from: constants followed through small operators.

Exporters write the target of a Reshape as a chain of Shape, Gather, Concat and sums. Values of at
most `MAX_CONST` elements are followed through such chains in plain Python; anything larger or
unknown is simply not known. Nothing is ever allocated from what a file declares.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from math import prod
from typing import Any

from compressor.audit.graph import Shape
from compressor.audit.readers.onnx_shapes import broadcast
from compressor.audit.readers.onnx_shapes_move import slice_ranges
from compressor.audit.readers.onnx_values import MAX_CONST, Call, axis_of

__all__ = ["FOLDS", "fold"]

Numbers = tuple[Any, ...]
_HUGE = 1 << 64
_ROUNDED = {"float64": "d", "float32": "f", "float16": "e"}  # others are not computed with


def fold(call: Call, dtype: str, shape: Shape) -> Numbers | None:
    """Computes the first output of an operator; None where its numbers are not known.

    Args:
        call: the operator on its inputs.
        dtype: of the output, as its shape function found it.
        shape: the same.
    """
    rule = FOLDS.get(call.op)
    if rule is None or prod(shape) > MAX_CONST:
        return None
    if call.op not in {"Shape", "Size"} and any(
        given is not None and given.const is None for given in call.inputs
    ):
        return None
    try:
        numbers = rule(call)
    except (ArithmeticError, ValueError, IndexError, TypeError):
        return None
    if len(numbers) != prod(shape):
        return None
    return _typed(numbers, dtype)


def _typed(numbers: Numbers, dtype: str) -> Numbers | None:
    """Turns results into the numbers of a type; None where they do not fit."""
    try:
        if dtype == "bool":
            return tuple(bool(number) for number in numbers)
        if "float" in dtype:
            code = _ROUNDED.get(dtype)
            if code is None:
                return None
            layout = f"<{len(numbers)}{code}"
            return struct.unpack(layout, struct.pack(layout, *numbers))
        whole = tuple(int(number) for number in numbers)
    except (ArithmeticError, ValueError, TypeError, struct.error):
        return None
    return whole if all(abs(number) < _HUGE for number in whole) else None


def _const(call: Call, index: int = 0) -> Numbers:
    found = call.value(index).const
    if found is None:
        raise ValueError("not known")
    return found


def _copy(call: Call) -> Numbers:
    return _const(call)


def _each(function: Callable[[Any], Any]) -> Callable[[Call], Numbers]:
    return lambda call: tuple(function(number) for number in _const(call))


def _pairs(function: Callable[..., Any]) -> Callable[[Call], Numbers]:
    """An operator on operands that broadcast."""

    def run(call: Call) -> Numbers:
        shapes = [call.shape(i) for i in range(len(call.inputs))]
        common = broadcast(*shapes)
        spread = [_spread(_const(call, i), s, common) for i, s in enumerate(shapes)]
        result = spread[0] if len(spread) == 1 else ()
        if len(spread) > 1:
            result = tuple(function(*items) for items in zip(*spread, strict=True))
        return result

    return run


def _spread(numbers: Numbers, shape: Shape, common: Shape) -> Numbers:
    """Repeats numbers of one shape to a shape they broadcast to."""
    if shape == common:
        return numbers
    if len(numbers) == 1:
        return numbers * prod(common)
    lead = len(common) - len(shape)
    steps = _steps(shape)
    places = (
        sum(at * step for at, step, size in zip(spot[lead:], steps, shape, strict=True) if size > 1)
        for spot in product(*map(range, common))
    )
    return tuple(numbers[place] for place in places)


def _steps(shape: Shape) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def _taken(numbers: Numbers, shape: Shape, axes: list[Iterable[int]]) -> Numbers:
    """Returns the elements at some places of every axis."""
    steps = _steps(shape)
    spots = product(*axes)
    return tuple(
        numbers[sum(at * step for at, step in zip(spot, steps, strict=True))] for spot in spots
    )


def _shape(call: Call) -> Numbers:
    return call.shape()[slice(call.attrs.get("start"), call.attrs.get("end"))]


def _size(call: Call) -> Numbers:
    return (prod(call.shape()),)


def _concat(call: Call) -> Numbers:
    parts = [_const(call, i) for i in range(len(call.inputs))]
    if len(call.shape()) != 1:
        raise ValueError("only lists are joined")
    return tuple(number for part in parts for number in part)


def _gather(call: Call) -> Numbers:
    shape = call.shape()
    axis = axis_of(call.integer("axis", 0), len(shape))
    if len(call.shape(1)) > 1 and len(shape) > 1:
        raise ValueError("only along one axis")
    size = shape[axis]
    picked = [int(i) + size if i < 0 else int(i) for i in _const(call, 1)]
    if any(not 0 <= i < size for i in picked):
        raise IndexError("outside")
    axes: list[Iterable[int]] = [range(size) for size in shape]
    axes[axis] = picked
    return _taken(_const(call), shape, axes)


def _slice(call: Call) -> Numbers:
    shape = call.shape()
    axes: list[Iterable[int]] = [range(size) for size in shape]
    for axis, places in slice_ranges(call).items():
        axes[axis] = places
    return _taken(_const(call), shape, axes)


def _transpose(call: Call) -> Numbers:
    shape = call.shape()
    order = call.list("perm", tuple(reversed(range(len(shape)))))
    steps = _steps(shape)
    spots = product(*(range(shape[i]) for i in order))
    return tuple(
        _const(call)[sum(at * steps[i] for at, i in zip(spot, order, strict=True))]
        for spot in spots
    )


def _expand(call: Call) -> Numbers:
    common = broadcast(call.shape(), tuple(int(size) for size in _const(call, 1)))
    return _spread(_const(call), call.shape(), common)


def _constant_of_shape(call: Call) -> Numbers:
    fill = call.state.get("fill")
    if fill is None:
        raise ValueError("not known")
    return (fill,) * prod(int(size) for size in _const(call))


def _range(call: Call) -> Numbers:
    (first,), (last,), (step,) = (_const(call, i) for i in range(3))
    count = max(math.ceil((last - first) / step), 0)
    return tuple(first + step * i for i in range(count))


def _reduce(function: Callable[[Iterable[Any]], Any]) -> Callable[[Call], Numbers]:
    """Over all elements of a list: what shapes need."""

    def run(call: Call) -> Numbers:
        if len(call.shape()) > 1:
            raise ValueError("only lists are reduced")
        return (function(_const(call)),)

    return run


def _nonzero(call: Call) -> Numbers:
    (_,) = call.shape()
    return tuple(place for place, number in enumerate(_const(call)) if number)


def _divide(one: Any, other: Any) -> Any:
    if isinstance(one, int) and isinstance(other, int):
        quotient = abs(one) // abs(other)  # C's division: towards zero
        return quotient if (one < 0) == (other < 0) else -quotient
    return one / other


def _modulo(call: Call) -> Numbers:
    if call.integer("fmod", 0):
        return _pairs(math.fmod)(call)
    return _pairs(operator.mod)(call)


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) > 64:
        raise ValueError("too large")
    return base**exponent


FOLDS: Mapping[str, Callable[[Call], Numbers]] = {
    **dict.fromkeys(
        ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"),
        _copy,
    ),
    "Abs": _each(abs),
    "Add": _pairs(operator.add),
    "And": _pairs(lambda a, b: a and b),
    "Ceil": _each(math.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _pairs(_divide),
    "Equal": _pairs(operator.eq),
    "Expand": _expand,
    "Floor": _each(math.floor),
    "Gather": _gather,
    "Greater": _pairs(operator.gt),
    "GreaterOrEqual": _pairs(operator.ge),
    "Less": _pairs(operator.lt),
    "LessOrEqual": _pairs(operator.le),
    "Max": _pairs(max),
    "Min": _pairs(min),
    "Mod": _modulo,
    "Mul": _pairs(operator.mul),
    "Neg": _each(operator.neg),
    "NonZero": _nonzero,
    "Not": _each(operator.not_),
    "Or": _pairs(lambda a, b: a or b),
    "Pow": _pairs(_power),
    "Range": _range,
    "ReduceMax": _reduce(max),
    "ReduceMin": _reduce(min),
    "ReduceProd": _reduce(prod),
    "ReduceSum": _reduce(sum),
    "Round": _each(round),
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Sqrt": _each(math.sqrt),
    "Sub": _pairs(operator.sub),
    "Transpose": _transpose,
    "Where": _pairs(lambda condition, a, b: a if condition else b),
}
