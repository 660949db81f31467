"""From ONNX operator to multiply-accumulates: rules and free operators of `macs.rule_for`.

Names are "onnx.Conv" in the standard domain and "onnx.com.microsoft.FusedConv" in another one. A
rule sees the shapes of the inputs by position; an input that was left out has the shape ().
`attrs["times"]` is how often a loop runs the operator.

Attention counts query x keys and weights x values for every query head, whatever the mask; Einsum
the product of the sizes of all letters of two operands, after letters that only one operand has
and that the result drops were summed up (more operands: from left to right). DFT, STFT and the
operators of ai.onnx.ml and of unknown domains have no rule: they are reported as not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from compressor.audit.macs import Rule, Shapes

__all__ = ["FREE", "RULES"]


def _times(attrs: Mapping[str, Any]) -> int:
    times: int = attrs.get("times", 1)
    return times


def _conv(weight: int, positions_of_input: bool = False) -> Rule:
    """Weights (M, C / group, *kernel) x output positions; transposed: x input positions."""

    def rule(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
        image = inputs[0] if positions_of_input else outputs[0]
        if len(image) < 3 or len(image) != len(inputs[weight]):
            raise ValueError(f"{inputs[0]} does not fit a weight {inputs[weight]}")
        return _times(attrs) * image[0] * prod(image[2:]) * prod(inputs[weight])

    return rule


def _matmul(right: int = 1) -> Rule:
    """Every number of the result is a sum over the inner axis."""

    def rule(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
        inner = inputs[right][-2:][0]
        left = inputs[0][-2:-1] if attrs.get("transA") else inputs[0][-1:]
        if attrs.get("transB"):
            inner = inputs[right][-1]
        if left != (inner,):
            raise ValueError(f"{inputs[0]} @ {inputs[right]} is not a matrix product")
        return _times(attrs) * prod(outputs[0]) * inner

    return rule


def _packed_matmul(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """Input (..., K) and a packed weight of N columns: (...) x K x N."""
    return _times(attrs) * prod(outputs[0]) * inputs[0][-1]


def _einsum(inputs: Shapes, _outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    terms, sizes = [set(term) for term in attrs["terms"]], attrs["sizes"]
    result = set(attrs["result"])
    total, held = 0, terms[0]
    for place, term in enumerate(terms[1:], 1):
        later = result.union(*terms[place + 1 :])
        left = {c for c in held if c in later or c in term}  # the rest is summed up beforehand
        right = {c for c in term if c in later or c in held}
        total += prod(sizes[c] for c in left | right)
        held = {c for c in left | right if c in later}
    return _times(attrs) * total


def _recurrent(inputs: Shapes, _outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """Every weight of W and R, both directions, meets every step of every sequence once."""
    return _times(attrs) * prod(inputs[0][:2]) * (prod(inputs[1]) + prod(inputs[2]))


def _attention(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """(N, L, heads x E) and (N, S, heads x V), or with the heads as an axis of their own.

    The keys are those of the past too: L x S x (E + V) for each query head.
    """
    query, key, value = inputs[:3]
    past = inputs[4] if len(inputs) > 4 else ()
    before = past[2] if len(past) == 4 else 0
    if len(query) == 4:
        total = key[2] + before
        return _times(attrs) * prod(query[:3]) * total * (query[3] + value[3])
    total = key[1] + before
    heads: int = attrs["kv_num_heads"]
    width = query[2] + query[2] // (key[2] // heads) * (value[2] // heads)
    return _times(attrs) * prod(query[:2]) * total * width


def _packed_attention(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """com.microsoft.Attention: the projection (N x L x weight), then L x S x (E + V)."""
    data, weight = inputs[0], inputs[1]
    sizes: Sequence[int] = attrs.get("qkv_hidden_sizes") or (weight[1] // 3,) * 3
    past = inputs[4] if len(inputs) > 4 else ()
    total = data[1] + (past[3] if len(past) == 5 else 0)
    return _times(attrs) * prod(data[:2]) * (prod(weight) + total * (sizes[0] + sizes[2]))


def _quantised_attention(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """com.microsoft.QAttention: as Attention, the past is input 8."""
    past = inputs[8] if len(inputs) > 8 else ()
    return _packed_attention((*inputs[:4], past), outputs, attrs)


def _multi_head(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """com.microsoft.MultiHeadAttention; query, key and value may come in one tensor."""
    query = inputs[0]
    past = inputs[6] if len(inputs) > 6 else ()
    before = past[2] if len(past) == 4 else 0
    if len(query) == 5:  # (N, L, heads, 3, size)
        batch, length, heads, _, size = query
        return _times(attrs) * batch * length * (length + before) * 2 * heads * size
    key = inputs[1]
    if len(key) == 5:  # (N, S, heads, 2, size)
        keys, width = key[1], query[2]
    elif len(key) == 4:  # (N, heads, S, size)
        keys, width = key[2], outputs[0][2]
    else:
        keys, width = key[1], outputs[0][2]
    return _times(attrs) * prod(query[:2]) * (keys + before) * (query[2] + width)


def _grouped_query(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """com.microsoft.GroupQueryAttention: keys are those of this step and of the past."""
    past = inputs[3] if len(inputs) > 3 else ()
    length, width = outputs[0][1], outputs[0][2]
    total = length + (past[2] if len(past) == 4 else 0)
    return _times(attrs) * outputs[0][0] * length * total * 2 * width


RULES: Mapping[str, Rule] = {
    f"onnx.{name}": rule
    for name, rule in {
        "Attention": _attention,
        "CausalConvWithState": _conv(1),
        "Conv": _conv(1),
        "ConvInteger": _conv(1),
        "ConvTranspose": _conv(1, positions_of_input=True),
        "DeformConv": _conv(1),
        "Einsum": _einsum,
        "GRU": _recurrent,
        "Gemm": _matmul(),
        "LSTM": _recurrent,
        "MatMul": _matmul(),
        "MatMulInteger": _matmul(),
        "QLinearConv": _conv(3),
        "QLinearMatMul": _matmul(3),
        "RNN": _recurrent,
        "com.microsoft.Attention": _packed_attention,
        "com.microsoft.DynamicQuantizeMatMul": _matmul(),
        "com.microsoft.FusedConv": _conv(1),
        "com.microsoft.FusedGemm": _matmul(),
        "com.microsoft.FusedMatMul": _matmul(),
        "com.microsoft.GroupQueryAttention": _grouped_query,
        "com.microsoft.MatMulIntegerToFloat": _matmul(),
        "com.microsoft.MatMulNBits": _packed_matmul,
        "com.microsoft.MultiHeadAttention": _multi_head,
        "com.microsoft.QAttention": _quantised_attention,
        "com.microsoft.QGemm": _matmul(3),
        "com.microsoft.QLinearConv": _conv(3),
    }.items()
}

_POINTWISE = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr
BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater
GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log
Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink
Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum SwiGLU Swish Tan Tanh
ThresholdedRelu Where Xor Affine ParametricSoftplus ScaledTanh Scale ImageScaler
"""
_REDUCE = """
ArgMax ArgMin CumProd CumSum Hardmax LogSoftmax ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Softmax TopK Unique
NonMaxSuppression NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss
"""
_MOVE = """
AffineGrid CenterCropPad Col2Im Compress Concat DepthToSpace Dropout Expand EyeLike Flatten Gather
GatherElements GatherND GridSample NonZero OneHot Pad Reshape Resize ReverseSequence RoiAlign
RotaryEmbedding Scatter ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze
TensorScatter Tile Transpose Trilu Unsqueeze Upsample SequenceAt SequenceConstruct SequenceEmpty
SequenceErase SequenceInsert SequenceLength SplitToSequence ConcatFromSequence Optional
OptionalGetElement OptionalHasElement StringNormalizer StringConcat StringSplit RegexFullMatch
"""
_NORM_POOL = """
AveragePool BatchNormalization GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization
InstanceNormalization LRN LayerNormalization LpNormalization LpPool MaxPool MaxRoiPool MaxUnpool
MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization
"""
_CREATE = """
Bernoulli BlackmanWindow Constant ConstantOfShape HammingWindow HannWindow MelWeightMatrix
Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range
"""
_QUANTISE = "DequantizeLinear DynamicQuantizeLinear QuantizeLinear"
_MICROSOFT = """
BiasAdd BiasGelu BiasSplitGelu DequantizeLinear FastGelu Gelu GroupNorm LayerNormalization
QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
QLinearReduceMean QLinearSigmoid QLinearSoftmax QuantizeLinear QuickGelu RotaryEmbedding
SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization Trilu
"""

FREE: frozenset[str] = frozenset(
    f"onnx.{name}"
    for group in (_POINTWISE, _REDUCE, _MOVE, _NORM_POOL, _CREATE, _QUANTISE)
    for name in group.split()
) | frozenset(f"onnx.com.microsoft.{name}" for name in _MICROSOFT.split())
