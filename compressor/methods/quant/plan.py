"""Where values are rounded: the sites of 8-bit activations, and which operators run on integers.

Convolutions and linear layers always compute on integers (unless kept in float), so their inputs
must lie on a grid, and a convolution's output is rounded at once. An operator between them (sum,
product, concatenation, average, sigmoid) computes on integers only where its output is wanted on a
grid anyway. A ReLU behind a convolution or a sum is part of it: rounding happens after the ReLU.
Operators that only move values hand the grid of their input on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import nn
from torch.fx import Node

from compressor.errors import QuantizeError, UnknownNameError
from compressor.methods.dataflow import COMPUTING, MOVING, WEIGHTED, NetworkGraph
from compressor.methods.quant.float_layers import written_in_float

__all__ = ["Plan", "make_plan"]

# Kinds that integer kernels exist for, by the name that the settings use.
_SWITCHES = {
    "add": "add",
    "mul": "mul",
    "cat": "cat",
    "avgpool": "average",
    "globalavg": "average",
    "mean": "average",
    "sigmoid": "sigmoid",
}


@dataclass(frozen=True, eq=False)
class Plan:
    """The decisions for one traced network.

    Attributes:
        sites: nodes whose output is rounded to 8 bits, in order.
        grids: for each node on a grid the site that it has its scale from (itself, for a site).
        integer: nodes that compute on integers.
        weights: layers with integer weights and their nodes, in order; those that compute in
            float32 are not in `integer`.
    """

    sites: tuple[Node, ...]
    grids: Mapping[Node, Node]
    integer: frozenset[Node]
    weights: Mapping[str, Node]


def make_plan(
    graph: NetworkGraph,
    *,
    keep_float: Collection[str] = (),
    float_compute: Collection[str] = (),
    operators: Collection[str] = (),
) -> Plan:
    """Decide for every node of `graph`, whose BatchNorms are folded where that is possible.

    Args:
        graph: a traced network.
        keep_float: layers or modules that stay in float32.
        float_compute: layers or modules with integer weights that compute in float32.
        operators: names of operators that may compute on integers (see `INTEGER_OPERATORS`).

    Raises:
        UnknownNameError: a name in `keep_float` that no module has.
        QuantizeError: a layer or operator that cannot be quantised and is not kept in float; or no
            layer is left to quantise.
    """
    modules = [name for name, _ in graph.module.named_modules() if name]
    for setting, names in (("keep_float", keep_float), ("float_compute", float_compute)):
        for name in names:
            if name not in modules:
                raise UnknownNameError(f"layer in {setting}", name, modules)
    kept = frozenset(node for node in graph.nodes if _is_below(graph, node, keep_float))
    _check_kinds(graph, kept)
    floats = kept | {node for node in graph.nodes if _is_below(graph, node, float_compute)}
    integer: set[Node] = set()
    wanted: set[Node] = set()  # must lie on a grid
    useful: set[Node] = set()  # feed a ReLU that must
    for node in reversed(graph.nodes):
        kind = graph.kind(node)
        inputs = _tensor_inputs(graph, node)
        if kind in WEIGHTED and node not in floats:
            integer.add(node)
            wanted.add(inputs[0])
        elif node in wanted and kind in MOVING:
            wanted.update(inputs[:1])
        elif node in wanted and kind == "relu":
            useful.update(inputs)
        elif (
            (node in wanted or node in useful)
            and _SWITCHES.get(kind, "") in operators
            and node not in floats
            and (len(inputs) > 1 or kind not in ("add", "mul"))  # not for x + 1
        ):
            integer.add(node)
            wanted.update(inputs)
    weights = {name: node for name, node in graph.weighted() if node not in kept}
    if not weights:
        raise QuantizeError(
            "no layer is left to quantise: the network has no convolution and no linear layer, or "
            f"keep_float {list(keep_float)} names them all"
        )
    sites, grids = _sites(graph, integer, wanted)
    return Plan(sites, grids, frozenset(integer), weights)


def _sites(
    graph: NetworkGraph, integer: set[Node], wanted: set[Node]
) -> tuple[tuple[Node, ...], dict[Node, Node]]:
    """The sites, and the grid of every node that is on one."""
    grids: dict[Node, Node] = {}
    sites: list[Node] = []
    late: set[Node] = set()  # identities that a site was put off to
    for node in graph.nodes:
        kind = graph.kind(node)
        inputs = _tensor_inputs(graph, node)
        if node in late:
            grids[node] = node
            sites.append(node)
            continue
        if kind in MOVING:
            if inputs and inputs[0] in grids:
                grids[node] = grids[inputs[0]]
            continue
        rounded = node in wanted or (node in integer and kind != "linear")
        if kind == "relu" and inputs:
            if inputs[0] in grids:  # the value before it is used elsewhere as well
                grids[node] = grids[inputs[0]]
                continue
            rounded = rounded or _source(graph, inputs[0]) in integer
        elif rounded and _joins_relu(graph, node):
            continue
        if not rounded or kind in ("number", "output", "constant"):
            continue
        last = node if kind == "input" else _last_identity(graph, node)
        if last is not node:
            late.add(last)
        else:
            grids[node] = node
            sites.append(node)
    return tuple(sites), grids


def _last_identity(graph: NetworkGraph, node: Node) -> Node:
    """The last of the nn.Identity that `node` leads into: a BatchNorm stood, or stands, there."""
    while True:
        users = graph.users(node)
        if len(users) != 1 or users[0].op != "call_module":
            return node
        if not isinstance(graph.layer(users[0]), nn.Identity):  # not behind dropout: it scales
            return node
        node = users[0]


def _source(graph: NetworkGraph, node: Node) -> Node:
    """The node behind identities (folded BatchNorms, dropout)."""
    while graph.kind(node) == "identity" and isinstance(node.args[0], Node):
        node = node.args[0]
    return node


def _joins_relu(graph: NetworkGraph, node: Node) -> bool:
    """True where the only thing that happens to the value is a ReLU."""
    users = graph.users(node)
    while len(users) == 1 and graph.kind(users[0]) == "identity":
        users = graph.users(users[0])
    return len(users) == 1 and graph.kind(users[0]) == "relu"


def _tensor_inputs(graph: NetworkGraph, node: Node) -> list[Node]:
    """Nodes whose tensors `node` reads, stored constants left out."""
    return [
        source
        for source in node.all_input_nodes
        if graph.kind(source) not in ("number", "constant")
    ]


def _is_below(graph: NetworkGraph, node: Node, names: Collection[str]) -> bool:
    """True for what a module of these names runs."""
    owner = graph.owner(node)
    return any(owner == name or owner.startswith(f"{name}.") for name in names)


def _check_kinds(graph: NetworkGraph, floats: Collection[Node]) -> None:
    known = WEIGHTED | MOVING | COMPUTING | {"input", "output", "number", "constant"}
    for node in graph.nodes:
        kind = graph.kind(node)
        if node in floats:
            continue
        name = graph.names[node]
        if kind not in known:
            what = type(graph.layer(node)).__name__ if node.op == "call_module" else node.name
            if node.op == "call_module" and written_in_float(graph.layer(node)):
                hint = f"; {_keep_hint(str(node.target))}"
            else:
                hint = ", nor written in float among integers; replace it"
            raise QuantizeError(f": {what} cannot be quantised{hint}", name)
        if kind in WEIGHTED and graph.calls(str(node.target)) > 1:
            raise QuantizeError(
                f" is called {graph.calls(str(node.target))} times, but a quantised layer has one "
                f"input range; {_keep_hint(str(node.target))}",
                name,
            )
        layer = graph.layer(node) if node.op == "call_module" else None
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)) and (
            layer.padding_mode != "zeros" or isinstance(layer.padding, str)
        ):
            raise QuantizeError(
                f" pads with {layer.padding!r} ({layer.padding_mode}), but only zeros given as "
                "numbers can be quantised or written beside integers; pad before the layer",
                name,
            )


def _keep_hint(layer: str) -> str:
    return f"keep it in float: --keep-float {layer}, or keep_float = [{layer!r}] in a recipe"
