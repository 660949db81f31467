"""An ONNX graph that grows node by node: initializers, operators, rounded tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.fx import Node

from compressor.errors import QuantizeError
from compressor.methods.dataflow import NetworkGraph
from compressor.methods.quant.integers import Activation, IntegerBias, IntegerWeight

__all__ = ["INPUT", "OUTPUT", "Integers", "Writer", "cannot"]

INPUT, OUTPUT = "features", "logits"
Array = NDArray[Any]


@dataclass(frozen=True)
class Integers:
    """What the quantised form needs besides the graph.

    Attributes:
        grids: for each node on a grid the site whose scale it has.
        integer: layers' nodes that compute on integers.
        activations: scale and zero point by readable name of the site.
        weights: integer weights by layer.
        biases: integer biases by layer.
    """

    grids: Mapping[Node, Node]
    integer: Collection[Node]
    activations: Mapping[str, Activation]
    weights: Mapping[str, IntegerWeight]
    biases: Mapping[str, IntegerBias]


@dataclass
class Writer:
    """One ONNX graph in the making.

    Attributes:
        graph: the network.
        integers: None for the float32 form.
        nodes: operators so far.
        initializers: stored tensors by name.
        tensors: name of the tensor that each node of the network gave; names, for a split.
        pairs: of a rounded tensor: names of its integers, their scale and zero point.
    """

    graph: NetworkGraph
    integers: Integers | None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    tensors: dict[Node, Any] = field(default_factory=dict)  # node -> name, or list for a split
    pairs: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def name(self, node: Node) -> str:
        """Name of the tensor that `node` gives before it is rounded."""
        return OUTPUT if node is self.graph.output else self.graph.names[node]

    def store(self, name: str, value: Array) -> str:
        """Add an initializer once."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def numbers(self, name: str, *values: int) -> str:
        """Add a list of whole numbers (axes, sizes)."""
        return self.store(name, np.array(values, dtype=np.int64))

    def emit(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Add one operator, named after its first output."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))

    def then(self, kind: str, name: str) -> str:
        """Put an operator behind the last one, which made `name`; the result takes that name."""
        last = self.nodes[-1]
        last.name = last.output[0] = f"{name}.before"
        self.emit(kind, [f"{name}.before"], [name])
        return name

    def drop_unread(self, output: str) -> None:
        """Leave out operators whose results nothing reads: onnxruntime would run them."""
        wanted, kept = {output}, []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.initializers = {k: v for k, v in self.initializers.items() if k in wanted}

    def source(self, argument: Any) -> str:
        """Tensor name of an argument that is a node."""
        found = self.tensors[argument]
        assert isinstance(found, str)
        return found

    def operand(self, node: Node, argument: Any, position: int) -> str:
        """Tensor name of a node, or of a stored number."""
        value = self.graph.concrete(argument)
        if isinstance(value, Node):
            return self.source(value)
        if not isinstance(value, (int, float)):
            raise cannot(self.graph, node, f"an operand {value!r}")
        name = f"{self.name(node)}.operand{position}"
        return self.store(name, np.array(value, dtype=np.float32))

    def round(self, name: str, site: Activation, scale_name: str) -> str:
        """Quantise and dequantise tensor `name`; returns the name of the result."""
        scale = self.store(f"{scale_name}.scale", np.array(site.scale, dtype=np.float32))
        zero = self.store(f"{scale_name}.zero_point", np.array(site.zero_point, dtype=np.uint8))
        plain = name == OUTPUT  # the graph's output keeps its name
        raw = f"{name}.unrounded" if plain else name
        if plain:
            self.nodes[-1].output[0] = raw
        rounded = OUTPUT if plain else f"{name}.rounded"
        self.emit("QuantizeLinear", [raw, scale, zero], [f"{name}.quantized"])
        self.emit("DequantizeLinear", [f"{name}.quantized", scale, zero], [rounded])
        self.pairs[rounded] = (f"{name}.quantized", scale, zero)
        return rounded

    def between(self, rounded: str, name: str, kind: str, *inputs: str) -> str:
        """Apply an operator that only moves values to the integers behind a rounded tensor."""
        integers, scale, zero = self.pairs[rounded]
        self.emit(kind, [integers, *inputs], [f"{name}.quantized"])
        self.emit("DequantizeLinear", [f"{name}.quantized", scale, zero], [name])
        self.pairs[name] = (f"{name}.quantized", scale, zero)
        return name


def cannot(graph: NetworkGraph, node: Node, what: str) -> QuantizeError:
    """The error for what has no ONNX form here."""
    return QuantizeError(f": {what} cannot be written to ONNX", graph.names[node])
