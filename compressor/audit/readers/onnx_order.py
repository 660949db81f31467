"""The order in which the operators of a graph run."""

from __future__ import annotations

from collections.abc import Iterator

from compressor.audit.readers.onnx_records import GraphDef, Node
from compressor.errors import ModelFileError

__all__ = ["in_order"]


def in_order(nodes: list[Node], name: str) -> list[Node]:
    """Returns operators so that each stands behind those it reads from.

    A valid file is in such an order already; some tools write another one, which runtimes accept.

    Raises:
        ModelFileError: there is no such order, the graph has a cycle.
    """
    makers = {out: place for place, node in enumerate(nodes) for out in node.outputs if out}
    if not makers:
        return nodes
    needs = [{makers[used] for used in _reads(node) if used in makers} for node in nodes]
    if all(max(need, default=-1) < place for place, need in enumerate(needs)):
        return nodes
    readers: dict[int, list[int]] = {}
    for place, need in enumerate(needs):
        for maker in need:
            readers.setdefault(maker, []).append(place)
    waiting = [len(need) for need in needs]
    ready = [place for place, count in enumerate(waiting) if not count]
    order: list[int] = []
    for place in ready:  # grows while it is read
        order.append(place)
        for reader in readers.get(place, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(order) < len(nodes):
        stuck = next(nodes[place] for place, count in enumerate(waiting) if count)
        raise ModelFileError(
            f"{name}: the graph has a cycle at {stuck.name or stuck.op!r}: an operator needs its "
            "own result; export the model again"
        )
    return [nodes[place] for place in order]


def _reads(node: Node) -> Iterator[str]:
    """Yields the names an operator reads, those that its inner graphs take from outside too."""
    yield from node.inputs
    for value in node.attrs.values():
        for graph in value if isinstance(value, list) else (value,):
            if isinstance(graph, GraphDef):
                yield from _free(graph)


def _free(graph: GraphDef) -> set[str]:
    own = {info.name for info in graph.inputs}
    own |= {out for node in graph.nodes for out in node.outputs}
    read = {used for node in graph.nodes for used in _reads(node)}
    return (read | {info.name for info in graph.outputs}) - own
