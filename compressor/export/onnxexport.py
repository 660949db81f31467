"""ONNX with float weights: float32 arithmetic, weights stored as float32, float16 or bfloat16.

The graph is torch's own export, with its constants folded and its leftovers removed. BatchNorm
stays an operator of its own, so that the file holds exactly the numbers of the model file (every
runtime folds it when it loads the file). Weights of two bytes are cast to float32 by one node each,
which a runtime does once, at loading: float16 arithmetic on a CPU is many times slower than
float32, and the outputs stay those of the PyTorch network with the same rounded weights.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from compressor.errors import MeasureError
from compressor.extras import try_import

if TYPE_CHECKING:
    import onnx

__all__ = ["INPUT", "OPSET", "OUTPUT", "float_onnx", "set_metadata", "to_bytes"]

INPUT, OUTPUT = "features", "logits"
OPSET = 20  # what torch's exporter is written against; newer ones only cost readers
_STORED = {"float16": "FLOAT16", "bfloat16": "BFLOAT16"}


def float_onnx(model: nn.Module, example: Tensor, dtype: str) -> onnx.ModelProto:
    """The network as ONNX, with a free batch axis.

    Args:
        model: float32 network in evaluation mode, its weights on the grid of `dtype`.
        example: input (n, *input_shape), n at least 2.
        dtype: number type in which weights are stored.

    Raises:
        MeasureError: torch cannot export the network; says at which operator.
        UsageError: onnxscript is not installed.
    """
    try_import("onnxscript")
    own = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    with _quiet():
        try:
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                external_data=False,
                optimize=False,  # it would fold BatchNorm: see the module's text
                verbose=False,
            )
        except Exception as error:
            line = " ".join(str(error).split())[:300]
            raise MeasureError(
                f"torch cannot export {type(model).__name__} to ONNX: {line}"
            ) from error
        assert program is not None
        _clean(program.model)
    proto: onnx.ModelProto = program.model_proto
    _drop_traces(proto)
    _store_as(proto, own, dtype)
    return proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own insides from the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        # torch copies a class that torch has deprecated
        warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated", FutureWarning)
        logger.setLevel(logging.ERROR)  # "torchvision is not installed", once an operator
        try:
            yield
        finally:
            logger.setLevel(level)


def _clean(model: Any) -> None:
    """Fold constants, and remove what came with operators and does nothing."""
    common = try_import("onnxscript.rewriter.rules.common")
    optimizer = try_import("onnxscript.optimizer")
    rewriter = try_import("onnxscript.rewriter")
    import onnx_ir.passes.common as passes

    rules = [
        common.materialize_reshape_shape_rule,
        common.no_op_cast_rule,
        common.no_op_expand_rule,
        common.no_op_transpose_rule,
        common.remove_optional_bias_from_conv_rule,  # torch's exporter adds biases of zeros
        common.remove_optional_bias_from_conv_transpose_rule,
        common.remove_optional_bias_from_gemm_rule,
    ]
    for _ in range(2):  # a folded shape lets a rule match, and what that leaves can be folded
        optimizer.fold_constants(model, onnx_shape_inference=True)
        rewriter.rewrite(model, rules)
    for step in (
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
    ):
        step(model)


def _drop_traces(proto: onnx.ModelProto) -> None:
    """Remove what the exporter noted of the Python code it came from, paths among it."""
    graph = proto.graph
    proto.ClearField("metadata_props")
    proto.ClearField("doc_string")
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("value_info")  # shapes follow from the operators
    graph.name = "network"
    for thing in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        thing.ClearField("metadata_props")
        thing.ClearField("doc_string")


def _store_as(proto: onnx.ModelProto, own: set[str], dtype: str) -> None:
    """Store the network's own tensors as `dtype`, each with a node that casts it to float32."""
    if dtype == "float32":
        return
    import onnx
    from onnx import helper, numpy_helper

    kind = getattr(onnx.TensorProto, _STORED[dtype])
    casts = []
    for tensor in proto.graph.initializer:
        if tensor.name not in own or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
        stored = values.to(getattr(torch, dtype))
        if not torch.equal(stored.float(), values):
            raise MeasureError(f"tensor {tensor.name!r} is not on the grid of {dtype}: cast first")
        name, shown = tensor.name, f"{tensor.name}.{dtype}"
        raw = stored.view(torch.int16).numpy().astype("<i2").tobytes()
        tensor.CopyFrom(helper.make_tensor(shown, kind, list(values.shape), raw, raw=True))
        node = helper.make_node("Cast", [shown], [name], name=f"to_float.{name}")
        node.attribute.append(helper.make_attribute("to", onnx.TensorProto.FLOAT))
        casts.append(node)
    nodes = [*casts, *proto.graph.node]
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)


def set_metadata(proto: onnx.ModelProto, strings: Mapping[str, str]) -> None:
    """Put `strings` into the file's metadata in place of entries of the same keys."""
    kept = {entry.key: entry.value for entry in proto.metadata_props if entry.key not in strings}
    proto.ClearField("metadata_props")
    for key, value in (*kept.items(), *strings.items()):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value


def to_bytes(proto: onnx.ModelProto) -> bytes:
    """The file's content; the same bytes for the same network."""
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def operators_of(proto: onnx.ModelProto) -> dict[str, int]:
    """Operators with their counts, most frequent first."""
    return dict(Counter(node.op_type for node in proto.graph.node).most_common())
