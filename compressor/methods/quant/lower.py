"""A traced network as an ONNX graph, in float32 or with integers in quantise-dequantise form.

One operator of the network becomes one or two of ONNX; tensors are named after the network's own
layers, weights after the state dict. In the quantised form every layer reads integers through
DequantizeLinear, and every site of the plan ends in a QuantizeLinear and DequantizeLinear pair with
its scale: the form that onnxruntime turns into integer kernels. Weights and biases are stored as
the integers they are; nothing is computed again.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper
from torch.fx import Node

from compressor.methods.dataflow import NetworkGraph
from compressor.methods.quant.float_layers import write_float_layer, written_in_float
from compressor.methods.quant.onnx_operators import HANDLERS
from compressor.methods.quant.onnx_writer import INPUT, OUTPUT, Integers, Writer, cannot

__all__ = ["INPUT", "OPSET", "OUTPUT", "Integers", "lower"]

OPSET = 21  # 8-bit and 4-bit DequantizeLinear with an axis; onnxruntime 1.20 and newer
IR_VERSION = 10


def lower(
    graph: NetworkGraph, integers: Integers | None = None, *, name: str = "network"
) -> onnx.ModelProto:
    """Write a traced network, in evaluation mode, as an ONNX model with a free batch size.

    Args:
        graph: the network; layers in `integers` are replaced by their integers.
        integers: None writes everything in float32.
        name: of the ONNX graph.

    Raises:
        QuantizeError: an operator that has no ONNX form here; the message names the layer.
    """
    writer = Writer(graph, integers)
    late = {} if integers is None else _late_relus(graph, integers)
    for node in graph.nodes:
        kind = graph.kind(node)
        if kind in ("output", "number"):
            continue
        if node in late:
            writer.tensors[node] = writer.source(node.args[0])
            continue
        handler = HANDLERS.get(kind)
        if handler is None and node.op == "call_module" and written_in_float(graph.layer(node)):
            handler = write_float_layer
        if handler is None:
            what = type(graph.layer(node)).__name__ if node.op == "call_module" else node.name
            raise cannot(graph, node, what)
        writer.tensors[node] = handler(writer, node)
        if node in late.values():
            writer.tensors[node] = writer.then("Relu", writer.tensors[node])
        own = writer.tensors[node]
        if integers is None or node not in integers.grids or not isinstance(own, str):
            continue
        sources = [writer.tensors.get(source) for source in node.all_input_nodes]
        site = integers.grids[node]
        # a node that made nothing hands on a value that is rounded already, unless it is the site
        if own not in sources or site is node:
            label = graph.names[site]
            writer.tensors[node] = writer.round(own, integers.activations[label], label)
    return _finish(writer, name)


def _late_relus(graph: NetworkGraph, integers: Integers) -> dict[Node, Node]:
    """ReLUs of float layers whose values only a maximum is taken of, and the pooling behind each.

    Maximum, ReLU and rounding keep the order of values, so they may change places. Written as
    pooling, ReLU, rounding, the pooling is one over floats. Otherwise onnxruntime moves the
    rounding before it, and its maximum over integers whose channels are not innermost takes about
    30 times as long.
    """
    found: dict[Node, Node] = {}
    for node in graph.nodes:
        if graph.kind(node) != "relu" or integers.grids.get(node) is not node:
            continue
        source = node.all_input_nodes[0]
        while graph.kind(source) == "identity":
            source = source.all_input_nodes[0]
        users = graph.users(node)
        if graph.kind(source) != "conv" or source in integers.integer or len(users) != 1:
            continue
        if graph.kind(users[0]) == "maxpool":
            found[node] = users[0]
    return found


def _finish(writer: Writer, name: str) -> onnx.ModelProto:
    graph = writer.graph
    final = writer.source(graph.output)
    if final != OUTPUT:  # an identity, or a value that the input itself is
        writer.emit("Identity", [final], [OUTPUT])
    writer.drop_unread(OUTPUT)
    sizes_in, sizes_out = graph.shape(graph.input), graph.shape(graph.output)
    inputs = [
        helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *sizes_in[1:]]),
    ]
    outputs = [
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", *sizes_out[1:]]),
    ]
    proto = helper.make_graph(
        writer.nodes, name, inputs, outputs, initializer=list(writer.initializers.values())
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="compressor",
    )
    return model
