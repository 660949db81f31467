"""Output shapes of ONNX operators: elementwise, normalisation, reduction, quantisation, creation.

Own shape functions and not `onnx.shape_inference`: that one is C++ which on a hostile file can run
without bound or end the process, it leaves open what an exporter computes at run time (chains of
Shape, Gather and Concat before a Reshape), and loading it costs more than the whole audit may.
Layers stand in `onnx_shapes_layers`, operators that move elements in `onnx_shapes_move`. A shape
function is a pure function of a `Call`; it raises `UnknownShape` where the shape depends on data
and `ValueError` where shapes contradict each other.

Source: the operator definitions at https://onnx.ai/onnx/operators
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, prod

from compressor.audit.graph import Shape
from compressor.audit.readers.onnx_payload import BITS, DTYPES
from compressor.audit.readers.onnx_records import Tensor
from compressor.audit.readers.onnx_values import Call, UnknownShape, axis_of, checked

__all__ = ["ELEMENTWISE", "Out", "ShapeRule", "broadcast", "cast_type", "plain"]

Out = tuple[str, Shape]  # number type and shape of one output
ShapeRule = Callable[[Call], list[Out]]

_SAME = """
Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumProd CumSum
Elu Erf Exp Floor Gelu HardSigmoid HardSwish Hardmax Identity InstanceNormalization LRN LeakyRelu
Log LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg PRelu RandomNormalLike
RandomUniformLike Reciprocal Relu ReverseSequence RotaryEmbedding Round Scatter ScatterElements
ScatterND Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt SwiGLU Swish Tan Tanh
TensorScatter ThresholdedRelu Trilu GroupNormalization RMSNormalization Affine ImageScaler
ParametricSoftplus ScaledTanh Scale com.microsoft.BiasGelu com.microsoft.FastGelu
com.microsoft.Gelu com.microsoft.QuickGelu com.microsoft.BiasSplitGelu com.microsoft.QLinearSigmoid
com.microsoft.QLinearLeakyRelu com.microsoft.QLinearSoftmax com.microsoft.GroupNorm
com.microsoft.RotaryEmbedding com.microsoft.Trilu SimplifiedLayerNormalization
com.microsoft.SimplifiedLayerNormalization
"""
_TO_BOOL = "IsInf IsNaN Not"
_BROADCAST = """
Add BitShift BitwiseAnd BitwiseOr BitwiseXor Div Max Mean Min Mod Mul Pow Sub Sum
com.microsoft.BiasAdd
"""
_COMPARE = "And Equal Greater GreaterOrEqual Less LessOrEqual Or Xor"
_REDUCE = """
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare com.microsoft.QLinearReduceMean
"""
_WINDOWS = "BlackmanWindow HammingWindow HannWindow"


def broadcast(*shapes: Shape) -> Shape:
    """Returns the common shape of operands, as numpy finds it.

    Raises:
        ValueError: they have none.
    """
    rank = max(map(len, shapes), default=0)
    common = [1] * rank
    for shape in shapes:
        for place, size in enumerate(shape, rank - len(shape)):
            if size != 1:
                if common[place] not in {1, size}:
                    raise ValueError(f"{' and '.join(map(str, shapes))} do not broadcast")
                common[place] = size
    return tuple(common)


def cast_type(number: object) -> str:
    """Returns the name of an element type."""
    if not isinstance(number, int) or number not in DTYPES:
        raise ValueError(f"element type {number!r} is unknown")
    return DTYPES[number][0]


def plain(call: Call) -> tuple[Shape, ...]:
    """Returns the shapes of all inputs that are there."""
    return tuple(call.shape(i) for i, given in enumerate(call.inputs) if given is not None)


def _same(call: Call) -> list[Out]:
    return [(call.dtype(), call.shape())] * call.outputs


def _to_bool(call: Call) -> list[Out]:
    return [("bool", call.shape())]


def _broadcasting(call: Call) -> list[Out]:
    if call.version < 7 and "axis" in call.attrs and len(call.inputs) == 2:
        return [(call.dtype(), call.shape())]  # before numpy's rules: the first operand's shape
    return [(call.dtype(), broadcast(*plain(call)))]


def _comparing(call: Call) -> list[Out]:
    return [("bool", _broadcasting(call)[0][1])]


def _where(call: Call) -> list[Out]:
    return [(call.dtype(1), broadcast(*plain(call)))]


def _reduced(shape: Shape, axes: tuple[int, ...] | None, keep: bool, noop: bool = False) -> Shape:
    if not axes:
        if noop:
            return shape
        axes = tuple(range(len(shape)))
    gone = {axis_of(axis, len(shape)) for axis in axes}
    if keep:
        return tuple(1 if i in gone else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in gone)


def _reduce(call: Call) -> list[Out]:
    """The axes are an attribute, since version 18 (ReduceSum: 13) an input."""
    if call.op.startswith("com.microsoft."):
        axes = call.list("axes", ())
    else:
        axes = call.ints("axes", 1) or ()
    keep, noop = call.integer("keepdims", 1) != 0, call.integer("noop_with_empty_axes", 0) != 0
    return [(call.dtype(), _reduced(call.shape(), axes, keep, noop))]


def _arg(call: Call) -> list[Out]:
    keep = call.integer("keepdims", 1) != 0
    return [("int64", _reduced(call.shape(), (call.integer("axis", 0),), keep))]


def _cast(call: Call) -> list[Out]:
    return [(cast_type(call.attrs.get("to")), call.shape())]


def _bit_cast(call: Call) -> list[Out]:
    dtype = cast_type(call.attrs.get("to"))
    if BITS[dtype] != BITS.get(call.dtype()):
        raise ValueError(f"{call.dtype()} read as {dtype}")
    return [(dtype, call.shape())]


def _causal_conv(call: Call) -> list[Out]:
    """Input (N, C, L), weight (C, 1, k): the state is the last k - 1 places."""
    data, weight = call.shape(), call.shape(1)
    if len(data) != 3 or weight[:-1] != (data[1], 1):
        raise ValueError(f"an input {data} does not fit a weight {weight}")
    return [(call.dtype(), data), (call.dtype(), (*data[:2], weight[2] - 1))]


def _cast_like(call: Call) -> list[Out]:
    return [(call.dtype(1), call.shape())]


def _dropout(call: Call) -> list[Out]:
    return [(call.dtype(), call.shape()), ("bool", call.shape())]


def _batch_norm(call: Call) -> list[Out]:
    shape = call.shape()
    if len(shape) < 2 or (shape[1],) != call.shape(1):
        raise ValueError(f"{call.shape(1)} scales for an input {shape}")
    return [(call.dtype(), shape)] + [(call.dtype(3), call.shape(3))] * (call.outputs - 1)


def _layer_norm(call: Call) -> list[Out]:
    shape = call.shape()
    kept = axis_of(call.integer("axis", -1), len(shape))
    small = (*shape[:kept], *(1 for _ in shape[kept:]))
    return [(call.dtype(), shape), ("float32", small), ("float32", small)]


def _skip_layer_norm(call: Call) -> list[Out]:
    shape = call.shape()
    small = (*shape[:-1], 1)
    return [(call.dtype(), s) for s in (shape, small, small, shape)]


def _quantize(call: Call) -> list[Out]:
    given = call.attrs.get("output_dtype")
    zero = call.given(2)
    dtype = cast_type(given) if given else zero.dtype if zero is not None else "uint8"
    return [(dtype, call.shape())]


def _dequantize(call: Call) -> list[Out]:
    given = call.attrs.get("output_dtype")
    return [(cast_type(given) if given else call.dtype(1), call.shape())]


def _dynamic_quantize(call: Call) -> list[Out]:
    return [("uint8", call.shape()), ("float32", ()), ("uint8", ())]


def _qlinear_two(call: Call) -> list[Out]:
    """Inputs A, its scale and zero point, B, its scale and zero point, those of the result."""
    return [(call.dtype(), broadcast(call.shape(0), call.shape(3)))]


def _constant_of_shape(call: Call) -> list[Out]:
    value = call.attrs.get("value")
    dtype = cast_type(value.dtype) if isinstance(value, Tensor) else "float32"
    return [(dtype, checked(call.ints("", 0) or ()))]


def _range(call: Call) -> list[Out]:
    first, last, step = (call.numbers(i) for i in range(3))
    if not first or not last or not step or step[0] == 0:
        raise ValueError("a range without a start, an end or a step")
    try:
        count = max(ceil((last[0] - first[0]) / step[0]), 0)
    except (OverflowError, ValueError) as error:  # infinite or not a number
        raise ValueError("a range that is not finite") from error
    return [(call.dtype(), checked((count,)))]


def _random(call: Call) -> list[Out]:
    return [(cast_type(call.attrs.get("dtype", 1)), checked(call.list("shape", ())))]


def _typed_like(call: Call) -> list[Out]:
    given = call.attrs.get("dtype")
    return [(cast_type(given) if given else call.dtype(), call.shape())]


def _multinomial(call: Call) -> list[Out]:
    count = call.integer("sample_size", 1)
    return [(cast_type(call.attrs.get("dtype", 6)), checked((call.shape()[0], count)))]


def _window(call: Call) -> list[Out]:
    size = call.ints("", 0)
    return [(cast_type(call.attrs.get("output_datatype", 1)), checked(size or ()))]


def _mel(call: Call) -> list[Out]:
    bands, points = call.ints("", 0), call.ints("", 1)
    if not bands or not points:
        raise ValueError("a mel matrix without sizes")
    dtype = cast_type(call.attrs.get("output_datatype", 1))
    return [(dtype, checked((points[0] // 2 + 1, bands[0])))]


def _dft(call: Call) -> list[Out]:
    """Input (..., n, 1 or 2): the last axis becomes real and imaginary part."""
    shape = list(call.shape())
    length = call.ints("", 1)
    given = call.ints("", 2)
    axis = given[0] if given else call.integer("axis", 1 if call.version < 20 else -2)
    axis = axis_of(axis, len(shape))
    onesided, inverse = call.integer("onesided", 0), call.integer("inverse", 0)
    if length:
        shape[axis] = length[0]
    elif onesided and inverse:
        shape[axis] = 2 * (shape[axis] - 1)
    if onesided and not inverse:
        shape[axis] = shape[axis] // 2 + 1
    shape[-1] = 1 if onesided and inverse else 2
    return [(call.dtype(), checked(tuple(shape)))]


def _stft(call: Call) -> list[Out]:
    """Signal (N, L, 1 or 2): (N, frames, bins, 2)."""
    signal, step, window = call.shape(), call.ints("", 1), call.given(2)
    length = call.ints("", 3) or (window.shape if window is not None else None)
    if not step or not length or step[0] <= 0 or len(signal) < 2:
        raise ValueError(f"an STFT of a signal {signal} without frame step or length")
    frames = (signal[1] - length[0]) // step[0] + 1
    bins = length[0] // 2 + 1 if call.integer("onesided", 1) else length[0]
    return [(call.dtype(), checked((signal[0], frames, bins, 2)))]


def _shape_of(call: Call) -> list[Out]:
    rank = len(call.shape())
    first, last = _slice_of_shape(call, rank)
    return [("int64", (max(last - first, 0),))]


def _slice_of_shape(call: Call, rank: int) -> tuple[int, int]:
    """Which part of a shape is asked for (version 15)."""
    first, last = call.integer("start", 0), call.integer("end", rank)
    clamp = [min(max(at + rank if at < 0 else at, 0), rank) for at in (first, last)]
    return clamp[0], clamp[1]


def _size_of(call: Call) -> list[Out]:
    prod(call.shape())
    return [("int64", ())]


def _nonzero(call: Call) -> list[Out]:
    """Known only for a list of known numbers, as exporters compute a shape with it."""
    shape, numbers = call.shape(), call.numbers(0)
    if numbers is None or len(shape) != 1:
        raise UnknownShape
    return [("int64", (1, sum(map(bool, numbers))))]


def _unknown(_: Call) -> list[Out]:
    raise UnknownShape


ELEMENTWISE: Mapping[str, ShapeRule] = {
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_TO_BOOL.split(), _to_bool),
    **dict.fromkeys(_BROADCAST.split(), _broadcasting),
    **dict.fromkeys(_COMPARE.split(), _comparing),
    **dict.fromkeys(_REDUCE.split(), _reduce),
    **dict.fromkeys(_WINDOWS.split(), _window),
    "ArgMax": _arg,
    "ArgMin": _arg,
    "BatchNormalization": _batch_norm,
    "BitCast": _bit_cast,
    "Cast": _cast,
    "CausalConvWithState": _causal_conv,
    "CastLike": _cast_like,
    "ConstantOfShape": _constant_of_shape,
    "DFT": _dft,
    "DequantizeLinear": _dequantize,
    "Dropout": _dropout,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "Bernoulli": _typed_like,
    "EyeLike": _typed_like,
    "LayerNormalization": _layer_norm,
    "MelWeightMatrix": _mel,
    "Multinomial": _multinomial,
    "QuantizeLinear": _quantize,
    "RandomNormal": _random,
    "RandomUniform": _random,
    "Range": _range,
    "STFT": _stft,
    "Shape": _shape_of,
    "Size": _size_of,
    "Where": _where,
    "com.microsoft.DequantizeLinear": _dequantize,
    "com.microsoft.LayerNormalization": _layer_norm,
    "com.microsoft.QLinearAdd": _qlinear_two,
    "com.microsoft.QLinearMul": _qlinear_two,
    "com.microsoft.QuantizeLinear": _quantize,
    "com.microsoft.SkipLayerNormalization": _skip_layer_norm,
    "com.microsoft.SkipSimplifiedLayerNormalization": _skip_layer_norm,
    "NonZero": _nonzero,
    **dict.fromkeys(("Unique", "Compress", "NonMaxSuppression"), _unknown),
}
