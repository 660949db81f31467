"""What a stored tensor of a TFLite file is to the operator that reads it, and what both are called.

A TFLite file does not mark its weights: a weight, a shape to reshape to and an axis to reduce over
are all tensors with a buffer. What the operator does with the operand tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from compressor.audit.inventory import Role
from compressor.audit.readers.tflite_schema import OpRecord, SubgraphRecord, TensorRecord

__all__ = ["VIEWS", "WEIGHT_VIEWS", "layer_name", "local_name", "role_of"]

# Operators whose output is the stored weight in another number type or layout, not an activation.
WEIGHT_VIEWS = frozenset({"DEQUANTIZE", "DENSIFY"})
# Operators that move nothing: their output is their first input under another shape.
VIEWS = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})

_CONVOLUTION = {1: "weight", 2: "bias"}
_GATES = ("input", "forget", "cell", "output")
_LSTM = {
    **{1 + i: f"weight_{gate}" for i, gate in enumerate(_GATES)},
    **{5 + i: f"recurrent_{gate}" for i, gate in enumerate(_GATES)},
    **{9 + i: f"peephole_{gate}" for i, gate in enumerate(("input", "forget", "output"))},
    **{12 + i: f"bias_{gate}" for i, gate in enumerate(_GATES)},
    16: "projection",
    17: "bias_projection",
    **{20 + i: f"norm_{gate}" for i, gate in enumerate(_GATES)},
}
_OPERANDS: Mapping[str, Mapping[int, str]] = {
    "CONV_2D": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": _CONVOLUTION,
    "CONV_3D": _CONVOLUTION,
    "FULLY_CONNECTED": _CONVOLUTION,
    "TRANSPOSE_CONV": {1: "weight", 3: "bias"},
    "CONV_3D_TRANSPOSE": {1: "weight", 3: "bias"},
    "BATCH_MATMUL": {0: "weight", 1: "weight"},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM,
    "LSTM": _LSTM,
    "RNN": {1: "weight", 2: "recurrent", 3: "bias"},
    "UNIDIRECTIONAL_SEQUENCE_RNN": {1: "weight", 2: "recurrent", 3: "bias"},
    "SVDF": {1: "weight_feature", 2: "weight_time", 3: "bias"},
    "PRELU": {1: "slope"},
    "GATHER": {0: "table"},
    "EMBEDDING_LOOKUP": {1: "table"},
}
_BIAS_PREFIXES = ("bias", "peephole", "norm")
_WHOLE = ("int32", "int64", "uint32", "uint64")
_NEVER = ("bool", "string", "resource", "variant")
# Numbers that steer an operator although they are of the data's type: the value to pad with.
_SETTINGS = {("PADV2", 2), ("ONE_HOT", 2), ("ONE_HOT", 3), ("FILL", 1)}


def role_of(op: str, slot: int, tensor: TensorRecord) -> Role:
    """Tells a parameter from a constant.

    Constants: shapes, axes and indices (whole numbers that carry no scale and are no bias), truth
    values and strings, single numbers without an axis (an epsilon, a factor), padding values.
    """
    if tensor.dtype in _NEVER or (op, slot) in _SETTINGS or not tensor.shape:
        return "constant"
    if tensor.dtype in _WHOLE and not tensor.scales:
        bias = _OPERANDS.get(op, {}).get(slot, "").startswith(_BIAS_PREFIXES)
        return "parameter" if bias else "constant"
    return "parameter"


def local_name(op: str, slot: int) -> str:
    """Names an operand of an operator ("weight"); "operand3" where it has no name of its own."""
    return _OPERANDS.get(op, {}).get(slot, f"operand{slot}")


# What the name of a fused tensor holds for the part that the operator itself computes.
_HINTS: Mapping[str, tuple[str, ...]] = {
    "CONV_2D": ("conv",),
    "DEPTHWISE_CONV_2D": ("depthwise",),
    "TRANSPOSE_CONV": ("conv_transpose", "transpose"),
    "CONV_3D": ("conv3d",),
    "FULLY_CONNECTED": ("dense", "matmul"),
}


def layer_name(op: OpRecord, part: SubgraphRecord) -> str:
    """Makes a layer's name of the name of the tensor it writes.

    A converter writes "model/layer/Relu;model/layer/BiasAdd": fused names behind each other, each
    with the model in front and the operation behind. Names of no help ("StatefulPartitionedCall:0")
    give way to that of the operator.
    """
    fallback = op.name.removeprefix("CUSTOM:").lower() or "custom"
    full = part.tensors[op.outputs[0]].name if op.outputs else ""
    pieces = [piece for piece in full.split(";") if piece]
    hints = _HINTS.get(op.name, ())
    hinted = [p for p in pieces if any(h in p.lower() for h in hints)]
    chosen = min(hinted, key=len) if hinted else pieces[0] if pieces else ""
    steps = chosen.removeprefix("tfl.").split("/")
    if len(steps) > 2:
        steps = steps[1:-1]
    elif len(steps) == 2:
        steps = steps[:1]
    elif "PartitionedCall" in steps[0] or steps[0] in {"", "Identity"}:
        return fallback
    return "/".join(steps)[:200] or fallback
