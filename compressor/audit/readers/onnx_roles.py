"""What a stored tensor of an ONNX file is: parameter, buffer, scale or constant.

ONNX only knows initializers and Constant nodes. What one *is* follows from the operators that read
it, in this order of strength:

- **parameter**: a weight or bias of a layer (the named places of the table below), of any number
  type; at every other place a tensor of at least one axis that holds floating-point or quantised
  numbers (8 bits or fewer): bias of an Add, scale of a Mul, table of a Gather, input of an operator
  nobody knows.
- **buffer**: running mean and variance of a BatchNormalization.
- **scale**: scales and zero points of quantised numbers, also where they reach the result through
  a Mul behind MatMulInteger, ConvInteger or DynamicQuantizeLinear.
- **constant**: everything else: shapes, axes, pads, indices (whole numbers of more than 8 bits),
  limits of a Clip, scales of a Resize, windows of an STFT, numbers without an axis, a Constant node
  of one number or of zeros (an exporter's factor or initial state), an initial state of a recurrent
  layer that is all zero, a scale and a shift of InstanceNormalization that are all one and all zero
  (exporters write GroupNorm so).

Operators that only rearrange or convert (Identity, Cast, Transpose, Reshape, QuantizeLinear,
DequantizeLinear, ...) pass the question on to whoever reads their result. Where the file cannot
tell a learned number from a fixed one, it is counted: a mel matrix in a MatMul, a normalisation
constant of one axis or more and a tensor that nothing reads are parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from compressor.audit.inventory import Role
from compressor.audit.readers.onnx_payload import FLOATS, QUANTISED

__all__ = ["FOLLOW", "Place", "by_type", "place_of"]


class Place(NamedTuple):
    """What a tensor at one input of an operator is.

    Attributes:
        role: None where its type and rank decide (`by_type`).
        local: last part of its qualified name; "" for that of the file.
        idle: the number that, all over the tensor, makes it no parameter: it does nothing (a scale
            and a shift: only together).
    """

    role: Role | None
    local: str = ""
    idle: int | None = None


# One word an input: a name = parameter; ?name or ? = by type; s = scale; - = constant;
# =name = buffer; 1name, 0name = parameter unless all ones or zeros. The last word holds for all
# further inputs.
_TABLE = """
Attention                ? ? ? - ?
BatchNormalization       ? weight bias =running_mean =running_var
BiasGelu                 ? bias
BitShift                 ? -
CausalConvWithState      ?input weight bias ?
CenterCropPad            ? -
Clip                     ? - -
Col2Im                   ? - -
Compress                 ? -
ConstantOfShape          -
Conv                     ?input weight bias ?
ConvInteger              ?input weight s
ConvTranspose            ?input weight bias
CumSum                   ? -
DFT                      ? -
DeformConv               ?input weight ? bias ?
Dropout                  ? -
DynamicQuantizeMatMul    ?input weight s s bias
EmbedLayerNormalization  - - ?word_weight ?position_weight ?segment_weight weight bias -
Expand                   ? -
FusedConv                ?input weight bias ?
FusedGemm                ?left weight bias
FusedMatMul              ?left weight
GRU                      ?input weight_ih weight_hh bias_ih_hh - 0initial_h
Gather                   ?weight -
GatherElements           ?weight -
GatherND                 ?weight -
Gemm                     ?left weight bias
GridSample               ? -
GroupNorm                ? weight bias
GroupNormalization       ? weight bias
GroupQueryAttention      ? ? ? ? ? - - - - - -
InstanceNormalization    ? 1weight 0bias
LSTM                     ?input weight_ih weight_hh bias_ih_hh - 0initial_h 0initial_c weight_p
LayerNormalization       ? weight bias
MatMul                   ?left weight
MatMulInteger            ?left weight s
MatMulIntegerToFloat     ?left weight s s s s bias
MatMulNBits              ?input weight s s - bias
MelWeightMatrix          -
MultiHeadAttention       ? ? ? bias - ? ? ? -
NonMaxSuppression        ? ? -
OneHot                   -
PRelu                    ? weight
Pad                      ? -
QAttention               ?input weight bias s s - s s ?
QGemm                    ?left s s weight s s bias s s
QLinearAdd               ? s s ? s s s s
QLinearAveragePool       ? s
QLinearConcat            s
QLinearConv              ?input s s weight s s s s bias
QLinearGlobalAveragePool ? s
QLinearLeakyRelu         ? s
QLinearMatMul            ?left s s weight s s s s
QLinearMul               ? s s ? s s s s
QLinearReduceMean        ? s
QLinearSigmoid           ? s
QLinearSoftmax           ? s
RMSNormalization         ? weight
RNN                      ?input weight_ih weight_hh bias_ih_hh - 0initial_h
Range                    -
ReduceL1                 ? -
ReduceL2                 ? -
ReduceLogSum             ? -
ReduceLogSumExp          ? -
ReduceMax                ? -
ReduceMean               ? -
ReduceMin                ? -
ReduceProd               ? -
ReduceSum                ? -
ReduceSumSquare          ? -
Reshape                  ? -
Resize                   ? -
ReverseSequence          ? -
RoiAlign                 ? -
RotaryEmbedding          ? -
STFT                     ? -
SimplifiedLayerNormalization ? weight
SkipLayerNormalization   ? ? weight bias bias_skip
SkipSimplifiedLayerNormalization ? ? weight bias_skip
Slice                    ? -
Split                    ? -
SplitToSequence          ? -
Squeeze                  ? -
TensorScatter            ? ? -
Tile                     ? -
TopK                     ? -
Trilu                    ? -
Unsqueeze                ? -
Upsample                 ? -
"""

# Operators whose result is the same numbers in another order, number or type.
_FOLLOW = """
Cast CastLike Concat DepthToSpace DequantizeLinear Expand Flatten Gather Identity Pad QuantizeLinear
Reshape Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze com.microsoft.DequantizeLinear
com.microsoft.QuantizeLinear
"""
FOLLOW = frozenset(_FOLLOW.split())


def _place(word: str) -> Place:
    mark, rest = word[0], word[1:]
    if mark == "?":
        return Place(None, rest)
    if mark == "=":
        return Place("buffer", rest)
    if mark in "01":
        return Place("parameter", rest, idle=int(mark))
    if word in {"s", "-"}:
        return Place("scale" if word == "s" else "constant")
    return Place("parameter", word)


_PLACES: Mapping[str, tuple[Place, ...]] = {
    name: tuple(map(_place, words))
    for name, *words in (line.split() for line in _TABLE.strip().splitlines())
}
_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_ANY = Place(None)
_SCALE = Place("scale")


def place_of(op: str, index: int) -> Place:
    """Returns what a stored tensor at an input of an operator is.

    Args:
        op: qualified operator type; those of com.microsoft share the table.
        index: of the input.
    """
    name = op.removeprefix("com.microsoft.")
    if op == "com.microsoft.Attention":
        return Place("parameter", ("weight", "bias")[index - 1]) if index in {1, 2} else _ANY
    if name in _QUANTISING:
        return _SCALE if index else _ANY
    places = _PLACES.get(name)
    if places is None:
        return _ANY
    return places[min(index, len(places) - 1)]


def by_type(dtype: str, rank: int) -> Role:
    """Returns the role of a tensor whose place says nothing."""
    return "parameter" if rank and (dtype in FLOATS or dtype in QUANTISED) else "constant"
