"""The dataflow of a network as folding and quantisation see it: FX nodes with kinds and shapes.

Tracing is symbolic, so a network whose forward depends on the numbers in its input cannot be
traced and is refused. Whatever depends on shapes alone is settled by one run on an example.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.modules.batchnorm import _BatchNorm

from compressor.errors import MeasureError, ShapeError

__all__ = [
    "COMPUTING",
    "MOVING",
    "WEIGHTED",
    "NetworkGraph",
    "Sizes",
    "check_finite",
    "each_value",
    "is_tensors",
    "trace",
]

# What a node does. Several spellings of one operation share a kind.
_MODULES: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Conv1d, "conv"),
    (nn.Conv2d, "conv"),
    (nn.Linear, "linear"),
    (_BatchNorm, "batchnorm"),
    (nn.ReLU, "relu"),
    (nn.Sigmoid, "sigmoid"),
    (nn.Hardswish, "hardswish"),
    (nn.Hardsigmoid, "hardsigmoid"),
    (nn.Tanh, "tanh"),
    (nn.Identity, "identity"),
    (nn.modules.dropout._DropoutNd, "identity"),
    (nn.MaxPool2d, "maxpool"),
    (nn.AvgPool2d, "avgpool"),
    (nn.AdaptiveAvgPool2d, "globalavg"),
    (nn.Flatten, "flatten"),
)
_FUNCTIONS: dict[Callable[..., Any], str] = {
    operator.add: "add",
    operator.iadd: "add",
    torch.add: "add",
    operator.mul: "mul",
    operator.imul: "mul",
    torch.mul: "mul",
    torch.cat: "cat",
    torch.concat: "cat",
    torch.chunk: "chunk",
    torch.split: "split",
    operator.getitem: "getitem",
    F.relu: "relu",
    torch.relu: "relu",
    torch.sigmoid: "sigmoid",
    F.sigmoid: "sigmoid",
    F.hardswish: "hardswish",
    F.hardsigmoid: "hardsigmoid",
    torch.tanh: "tanh",
    torch.mean: "mean",
    torch.max: "max",
    torch.amax: "amax",
    torch.transpose: "transpose",
    torch.permute: "permute",
    torch.flatten: "flatten",
    torch.unsqueeze: "unsqueeze",
    torch.squeeze: "squeeze",
    torch.index_select: "index_select",
    F.pad: "pad",
}
_METHODS: dict[str, str] = {
    "add": "add",
    "mul": "mul",
    "chunk": "chunk",
    "split": "split",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "mean": "mean",
    "max": "max",
    "amax": "amax",
    "transpose": "transpose",
    "permute": "permute",
    "flatten": "flatten",
    "unsqueeze": "unsqueeze",
    "squeeze": "squeeze",
    "index_select": "index_select",
    "contiguous": "identity",
}
WEIGHTED = frozenset({"conv", "linear"})
# Kinds that move values without changing them: the output has the input's scale.
MOVING = frozenset(
    {"identity", "flatten", "transpose", "permute", "unsqueeze", "squeeze", "getitem", "chunk"}
    | {"split", "index_select", "maxpool", "pad", "max", "amax"}
)
# Kinds that are neither weighted nor moving, but known to quantisation.
COMPUTING = frozenset(
    {"add", "mul", "cat", "relu", "sigmoid", "hardswish", "hardsigmoid", "tanh"}
    | {"avgpool", "globalavg", "mean", "batchnorm"}
)


class _Tracer(torch.fx.Tracer):
    """torch's tracer; `extra` names classes of ours that stay whole."""

    def __init__(self, extra: tuple[type[nn.Module], ...] = ()) -> None:
        super().__init__()
        self._extra = extra

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Layers of torch and of `extra` are not entered."""
        return isinstance(m, self._extra) or super().is_leaf_module(m, module_qualified_name)


@dataclass(frozen=True, eq=False)
class NetworkGraph:
    """A traced network.

    Attributes:
        module: runs the nodes; it shares its layers with the network that was traced.
        values: what each node gave on the example: a shape for a tensor, a tuple of shapes for
            several, the value itself for anything else.
        names: readable and unique name of each node, "layers.0.conv1" or "layers.0 (add)".
    """

    module: torch.fx.GraphModule
    values: Mapping[Node, Any]
    names: Mapping[Node, str]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in the order in which they run."""
        return tuple(self.module.graph.nodes)

    @property
    def input(self) -> Node:
        """The one placeholder."""
        return next(node for node in self.nodes if node.op == "placeholder")

    @property
    def output(self) -> Node:
        """The node of the logits."""
        found = next(node for node in self.nodes if node.op == "output").args[0]
        assert isinstance(found, Node)
        return found

    def node(self, name: str) -> Node:
        """The node of a readable name."""
        return next(node for node, own in self.names.items() if own == name)

    def layer(self, node: Node) -> nn.Module:
        """The module that a call_module node calls."""
        return self.module.get_submodule(str(node.target))

    def kind(self, node: Node) -> str:
        """What the node does; "input", "output", "number" (no tensor) or "" if not known."""
        if node.op in ("placeholder", "output"):
            return "input" if node.op == "placeholder" else "output"
        if not is_tensors(self.values[node]):
            return "number"
        if node.op == "get_attr":
            return "constant"
        if node.op == "call_module":
            layer = self.layer(node)
            return next((kind for types, kind in _MODULES if isinstance(layer, types)), "")
        if node.op == "call_method":
            return _METHODS.get(str(node.target), "")
        if node.op == "call_function" and callable(node.target):
            if getattr(node.target, "__name__", "") in ("check_input", "split"):
                return "identity" if node.target.__name__ == "check_input" else "split"
            return _FUNCTIONS.get(node.target, "")
        return ""

    def users(self, node: Node) -> tuple[Node, ...]:
        """Nodes that take the tensor of `node`; those that only ask for its shape left out."""
        return tuple(user for user in node.users if self.kind(user) != "number")

    def owner(self, node: Node) -> str:
        """Path of the module whose forward runs the node: itself for a layer."""
        if node.op == "call_module":
            return str(node.target)
        stack = node.meta.get("nn_module_stack") or {}
        paths = [path for path, _ in stack.values()]
        return paths[-1] if paths else ""

    def calls(self, target: str) -> int:
        """How often the module of this name is called."""
        return sum(n.op == "call_module" and n.target == target for n in self.nodes)

    def concrete(self, argument: Any) -> Any:
        """An argument of a node with numbers in place of the nodes that compute them."""
        if isinstance(argument, Node):
            value = self.values[argument]
            return argument if is_tensors(value) else value
        if isinstance(argument, (tuple, list)):
            return type(argument)(self.concrete(item) for item in argument)
        if isinstance(argument, slice):
            parts = (argument.start, argument.stop, argument.step)
            return slice(*(self.concrete(part) for part in parts))
        return argument

    def shape(self, node: Node) -> tuple[int, ...]:
        """Shape of the tensor that `node` gives, on the example."""
        return tuple(self.values[node].sizes)

    def weighted(self) -> Iterator[tuple[str, Node]]:
        """Layer name and node of every convolution and linear layer, in order."""
        for node in self.nodes:
            if self.kind(node) in WEIGHTED:
                yield str(node.target), node


@dataclass(frozen=True)
class Sizes:
    """The shape of a tensor, told apart from tuples of numbers that a forward computes with."""

    sizes: tuple[int, ...]


def is_tensors(value: Any) -> bool:
    """True where a recorded value stands for a tensor or a tuple of tensors."""
    if isinstance(value, tuple) and value:
        return all(isinstance(item, Sizes) for item in value)
    return isinstance(value, Sizes)


class _Recording(torch.fx.Interpreter):
    """Runs a graph module and keeps the shape, or the number, that every node gives."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.recorded: dict[Node, Any] = {}

    def run_node(self, n: Node) -> Any:
        """One node."""
        try:
            value = super().run_node(n)
        except Exception as error:
            where = f"layer {n.target!r}" if n.op == "call_module" else f"operator {n.name!r}"
            raise ShapeError(f"{where} does not run on the example: {error}") from error
        self.recorded[n] = _plain(value)
        return value


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Sizes(tuple(value.shape))
    if isinstance(value, (tuple, list)) and any(isinstance(item, Tensor) for item in value):
        return tuple(_plain(item) for item in value)
    return tuple(value) if isinstance(value, torch.Size) else value


def trace(
    model: nn.Module, example: Tensor, *, leaves: tuple[type[nn.Module], ...] = ()
) -> NetworkGraph:
    """Trace `model` and run it once on `example`, in the mode it is in.

    Args:
        model: takes one tensor, gives one tensor; its layers are shared and not copied.
        example: (N, ...) an input.
        leaves: module classes that are not entered.

    Raises:
        MeasureError: the network cannot be traced.
        ShapeError: the network does not run on the example; the message names the layer.
    """
    tracer = _Tracer(leaves)
    try:
        graph = tracer.trace(model)
        _open_silu(graph, model)
        module = torch.fx.GraphModule(model, graph)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise MeasureError(
            f"{type(model).__name__} cannot be traced, which quantisation and BatchNorm folding "
            f"need: {reason}; its forward must not depend on the values of its input"
        ) from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise MeasureError(
            f"{type(model).__name__} takes {len(inputs)} inputs; quantisation handles one tensor"
        )
    recording = _Recording(module)
    module.train(model.training)
    with torch.no_grad():
        result = recording.run(example)
    if not isinstance(result, Tensor):
        raise MeasureError(
            f"{type(model).__name__} returns a {type(result).__name__}; quantisation needs one "
            "tensor of logits"
        )
    return NetworkGraph(module, recording.recorded, _readable(graph))


def _open_silu(graph: torch.fx.Graph, model: nn.Module) -> None:
    """Write SiLU as x * sigmoid(x): both have integer kernels, SiLU itself has none."""
    for node in list(graph.nodes):
        whole = node.op == "call_module" and isinstance(model.get_submodule(node.target), nn.SiLU)
        if not whole and node.target is not F.silu:
            continue
        source = node.args[0]
        with graph.inserting_after(node):
            gate = graph.call_function(torch.sigmoid, (source,))
        with graph.inserting_after(gate):
            product = graph.call_function(operator.mul, (source, gate))
        for made in (gate, product):
            made.meta = dict(node.meta)
        if whole:
            product.meta["layer"] = str(node.target)
        node.replace_all_uses_with(product)
        graph.erase_node(node)


def _readable(graph: torch.fx.Graph) -> dict[Node, str]:
    """Layer names for layers; "block (add)" for operators between them; made unique by numbers."""
    names: dict[Node, str] = {}
    taken: set[str] = set()
    for node in graph.nodes:
        if node.op == "call_module":
            name = str(node.target)
        elif "layer" in node.meta:  # stands for a whole layer
            name = str(node.meta["layer"])
        elif node.op == "placeholder":
            name = "input"
        else:
            kind = node.name.rstrip("_0123456789")
            paths = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
            name = f"{paths[-1]} ({kind})" if paths and paths[-1] else f"({kind})"
        unique, number = name, 2
        while unique in taken:
            unique = f"{name[:-1]} {number})" if name.endswith(")") else f"{name} ({number})"
            number += 1
        taken.add(unique)
        names[node] = unique
    return names


class _Watching(torch.fx.Interpreter):
    """Runs a graph and shows the value of chosen nodes to a function."""

    def __init__(
        self, graph: NetworkGraph, nodes: Collection[Node], see: Callable[[Node, Tensor], Any]
    ) -> None:
        super().__init__(graph.module)
        self._nodes = frozenset(nodes)
        self._see = see

    def run_node(self, n: Node) -> Any:
        """One node; what `see` returns, if anything, takes the place of its value."""
        value = super().run_node(n)
        if n in self._nodes and isinstance(value, Tensor):
            changed = self._see(n, value)
            return value if changed is None else changed
        return value


def each_value(
    graph: NetworkGraph,
    batches: Iterable[Tensor],
    nodes: Collection[Node],
    see: Callable[[Node, Tensor], Any],
) -> Iterator[Tensor]:
    """Run the network over `batches`; `see(node, value)` may look at values and replace them.

    Yields:
        The logits of each batch.
    """
    runner = _Watching(graph, nodes, see)
    with torch.no_grad():
        for batch in batches:
            yield runner.run(batch)


def check_finite(model: nn.Module) -> None:
    """Raises MeasureError naming the first tensor of `model` that holds infinities or NaN."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            layer, _, own = name.rpartition(".")
            raise MeasureError(
                f"layer {layer or 'of the network'!r}: {own} holds values that are not finite; "
                "train the network again"
            )
