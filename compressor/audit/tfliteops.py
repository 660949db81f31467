"""TFLite operators to multiply-accumulates: the strict convention, as one table.

Layouts follow the TFLite kernels: images (N, H, W, C), filters (O, H, W, I), depthwise filters
(1, H, W, C x multiplier), fully connected weights (O, I), transposed convolution (output shape,
filter (O, H, W, I), image). Each rule is a pure function of shapes. `attrs` may hold `slots`, the
operand number of each input (optional operands are left out), and `repeat`, how often a loop runs
the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from compressor.audit.graph import Shape

__all__ = ["FREE", "RULES"]

Shapes = Sequence[Shape]
Rule = Callable[[Shapes, Shapes, Mapping[str, Any]], int]


def _repeated(rule: Rule) -> Rule:
    def counted(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
        return int(attrs.get("repeat", 1)) * rule(inputs, outputs, attrs)

    return counted


def _operand(inputs: Shapes, attrs: Mapping[str, Any], slot: int) -> Shape | None:
    """Shape of an operand by its number in the kernel's list; None where it is left out."""
    slots = attrs.get("slots", range(len(inputs)))
    return inputs[slots.index(slot)] if slot in slots else None


def _conv(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Filter (O, *kernel, I / groups): every weight meets every output position once."""
    image, weight, out = inputs[0], inputs[1], outputs[0]
    fits = len(image) == len(weight) and weight[0] == out[-1]
    if not fits or not weight[-1] or image[-1] % weight[-1]:
        raise ValueError(f"input {image}, filter {weight}, output {out}")
    return prod(out[:-1]) * prod(weight)


def _depthwise(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Filter (1, H, W, C x multiplier): every weight meets every output position once."""
    weight, out = inputs[1], outputs[0]
    if len(weight) != 4 or weight[0] != 1 or weight[3] != out[-1]:
        raise ValueError(f"filter {weight}, output {out}")
    return prod(out[:-1]) * prod(weight)


def _conv_3d(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Filter (D, H, W, I, O)."""
    image, weight, out = inputs[0], inputs[1], outputs[0]
    fits = len(weight) == 5 and weight[4] == out[-1]
    if not fits or not weight[3] or image[-1] % weight[3]:
        raise ValueError(f"input {image}, filter {weight}, output {out}")
    return prod(out[:-1]) * prod(weight)


def _transposed(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Operands (output shape, filter, image): every weight meets every *input* position once.

    Filter (O, H, W, I) in two dimensions, (D, H, W, O, I) in three.
    """
    weight, image, out = inputs[1], inputs[2], outputs[0]
    channels = weight[0] if len(weight) == 4 else weight[3]
    if len(image) != len(weight) or weight[-1] != image[-1] or channels != out[-1]:
        raise ValueError(f"input {image}, filter {weight}, output {out}")
    return prod(image[:-1]) * prod(weight)


def _fully_connected(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Weights (O, I); the input is flattened to rows of I numbers."""
    data, weight = inputs[0], inputs[1]
    if len(weight) != 2 or not weight[1] or prod(data) % weight[1] or outputs[0][-1] != weight[0]:
        raise ValueError(f"input {data}, weights {weight}, output {outputs[0]}")
    return prod(data) // weight[1] * prod(weight)


def _batch_matmul(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """(..., m, k) @ (..., k, n), leading axes broadcast: k for each element of the output."""
    left, right, out = inputs[0], inputs[1], outputs[0]
    inner = left[-2] if attrs.get("adj_x") else left[-1]
    other = right[-1] if attrs.get("adj_y") else right[-2]
    if inner != other or len(out) < 2:
        raise ValueError(f"{left} @ {right} is not a matrix product")
    return prod(out) * inner


def _matrices(*slots: int) -> Rule:
    """A recurrent layer: every weight matrix meets every step of every sequence once.

    Peepholes, biases, normalisation and the elementwise gates are no matrix products. Recurrent
    weights of one axis (a diagonal) are elementwise as well.
    """

    def rule(inputs: Shapes, _outputs: Shapes, attrs: Mapping[str, Any]) -> int:
        data = _operand(inputs, attrs, 0)
        if data is None or len(data) < 2:
            raise ValueError(f"input {data}")
        weights = [_operand(inputs, attrs, slot) for slot in slots]
        return prod(data[:-1]) * sum(prod(w) for w in weights if w is not None and len(w) == 2)

    return rule


_LSTM = (*range(1, 9), 16)  # four input, four recurrent matrices, the projection
_BIDIRECTIONAL_LSTM = (*_LSTM, *range(18, 26), 33, *range(40, 48))  # backward, auxiliary input


def _lstm(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """One step. The basic kernel has one matrix (4 H, I + H) as operand 2, else as a sequence."""
    if len(inputs) <= 5:
        return prod(inputs[0][:-1]) * prod(inputs[2])
    return _matrices(*_LSTM)(inputs, outputs, attrs)


RULES: Mapping[str, Rule] = {
    f"tflite.{name}": _repeated(rule)
    for name, rule in {
        "CONV_2D": _conv,
        "DEPTHWISE_CONV_2D": _depthwise,
        "CONV_3D": _conv_3d,
        "TRANSPOSE_CONV": _transposed,
        "CONV_3D_TRANSPOSE": _transposed,
        "FULLY_CONNECTED": _fully_connected,
        "BATCH_MATMUL": _batch_matmul,
        "LSTM": _lstm,
        "UNIDIRECTIONAL_SEQUENCE_LSTM": _matrices(*_LSTM),
        "BIDIRECTIONAL_SEQUENCE_LSTM": _matrices(*_BIDIRECTIONAL_LSTM),
        "RNN": _matrices(1, 2),
        "UNIDIRECTIONAL_SEQUENCE_RNN": _matrices(1, 2),
        "BIDIRECTIONAL_SEQUENCE_RNN": _matrices(1, 2, 5, 6, 10, 11),
        "SVDF": _matrices(1, 2),  # feature weights (F, I), time weights (F, memory)
    }.items()
}

_FREE_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR HASHTABLE_LOOKUP
L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC MAX_POOL_2D MUL RELU RELU_N1_TO_1
RELU6 RESHAPE RESIZE_BILINEAR SOFTMAX SPACE_TO_DEPTH TANH PAD GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE STRIDED_SLICE EXP TOPK_V2 SPLIT LOG_SOFTMAX CAST
PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN
SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT
REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU
REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH SCATTER_ND SELECT_V2 DENSIFY
SEGMENT_SUM CUMSUM BROADCAST_TO IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT
HASHTABLE_SIZE REDUCE_ALL VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS
RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1
UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN
BITCAST BITWISE_XOR RIGHT_SHIFT DILATE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5
WHILE IF CALL CALL_ONCE STABLEHLO_COMPOSITE
"""
# WHILE, IF, CALL, CALL_ONCE, STABLEHLO_COMPOSITE: what they run is counted operator by operator.
FREE: frozenset[str] = frozenset(f"tflite.{name}" for name in _FREE_NAMES.split())
