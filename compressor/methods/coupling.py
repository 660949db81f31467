"""Which single channels are tied together, from torch_pruning's dependency graph.

torch_pruning's DependencyGraph tells which layer follows which and how channel indices map between
them (concatenation, split, flatten). From its edges a union-find over single channels is built
here, so that every coupled set is exact, also where one channel drags two others along (halved
widths, grouped convolutions). Nothing else of torch_pruning is used: its pruner classes keep every
pruned model alive through mutable default arguments (in_channel_groups, out_channel_groups,
num_heads), and skip a group that would vanish whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from compressor.errors import PruneError
from compressor.methods.kinds import is_index_preserving, is_supported, widths

__all__ = ["IN", "OUT", "Key", "couple", "trace"]

# (number of the node, axis, index of the channel)
Key = tuple[int, int, int]


def trace(model: nn.Module, example: Tensor) -> Any:
    """The dependency graph of a disposable copy: the one place that calls torch_pruning.

    Every mutable argument is passed explicitly, so that nothing is shared between calls.
    """
    with warnings.catch_warnings():
        # its import and its raw-parameter notice warn; what matters of the latter is refused below
        warnings.simplefilter("ignore")
        import torch_pruning as tp
        from torch_pruning.pruner.function import BasePruningFunc

        class _AsIs(BasePruningFunc):  # type: ignore[misc]
            """Tells the graph that a layer is one channel axis; never asked to prune."""

            def get_out_channels(self, layer: Any) -> int:
                return int(layer.channels)

            get_in_channels = get_out_channels

            def prune_out_channels(self, layer: Any, idxs: Sequence[int]) -> Any:
                raise NotImplementedError

            prune_in_channels = prune_out_channels

        kinds = {type(m) for m in model.modules() if is_index_preserving(m)}
        graph = tp.DependencyGraph()
        graph.build_dependency(
            model,
            [example],
            customized_pruners={kind: _AsIs() for kind in kinds},
            unwrapped_parameters=[],
            ignored_layers=[],
            ignored_params=[],
            verbose=False,
        )
    return graph


class _Index(NamedTuple):
    """What torch_pruning's index mappings take and give: where an index is and where it began."""

    idx: int
    root_idx: int


class _Classes:
    """Union-find over (node, axis, index)."""

    def __init__(self) -> None:
        self.parent: dict[Key, Key] = {}

    def find(self, key: Key) -> Key:
        root = key
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[key] != root:
            self.parent[key], key = root, self.parent[key]
        return root

    def add(self, key: Key) -> bool:
        if key in self.parent:
            return False
        self.parent[key] = key
        return True

    def union(self, a: Key, b: Key) -> None:
        # the smaller key leads, so that the result does not depend on the order of calls
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[max(a, b)] = min(a, b)


# The two axes of a node; nodes that hand channels through use OUT for both.
OUT, IN = 0, 1


def _coupled_by_convolution(layer: nn.Module) -> Iterable[list[tuple[int, int]]]:
    """Sets of (axis, index) that a grouped convolution ties together."""
    now = widths(layer)
    if now.groups == 1:
        return
    if now.loses_whole_groups:
        for g in range(now.groups):
            outs = range(g * now.out_per_group, (g + 1) * now.out_per_group)
            ins = range(g * now.in_per_group, (g + 1) * now.in_per_group)
            yield [(OUT, o) for o in outs] + [(IN, i) for i in ins]
        return
    # otherwise every convolution group loses the same places, so that they stay equally wide
    for o in range(now.out_per_group):
        yield [(OUT, g * now.out_per_group + o) for g in range(now.groups)]
    for i in range(now.in_per_group):
        yield [(IN, g * now.in_per_group + i) for g in range(now.groups)]


def couple(nodes: Sequence[Any]) -> dict[Key, Key]:
    """For every channel of every node, the channel that stands for its coupled set.

    Args:
        nodes: the nodes of the dependency graph; their order numbers them.

    Returns:
        From each (node, axis, index), ascending, to the smallest one that it is tied to.
    """
    number = {id(node): n for n, node in enumerate(nodes)}

    def axis(node: Any, side: int) -> int:
        two_sided = isinstance(node.module, (nn.modules.conv._ConvNd, nn.Linear))
        return side if two_sided else OUT

    classes = _Classes()
    work: list[tuple[Any, int, list[int]]] = []

    def reach(node: Any, side: int, index: Iterable[int]) -> None:
        fresh = [i for i in index if classes.add((number[id(node)], side, i))]
        if fresh:
            work.append((node, side, fresh))

    for node in nodes:
        if isinstance(node.module, nn.Module) and is_supported(node.module):
            now = widths(node.module)
            reach(node, OUT, range(now.out))
            reach(node, axis(node, IN), range(now.in_))
    while work:
        node, side, index = work.pop()
        here = number[id(node)]
        # torch_pruning lists the edges to a node's inputs first, then those to its outputs
        for place, edge in enumerate(node.dependencies):
            to_input = place < len(node.inputs)
            if axis(node, IN if to_input else OUT) != side:
                continue
            ends = node.inputs if to_input else node.outputs
            if edge.target is not ends[place - (0 if to_input else len(node.inputs))]:
                raise PruneError("this version of torch_pruning orders its edges differently")
            mapped = [_Index(i, i) for i in index]
            for mapping in edge.index_mapping:
                if mapping is not None:
                    mapped = mapping(mapped)
            there = number[id(edge.target)]
            target_side = axis(edge.target, OUT if to_input else IN)
            reach(edge.target, target_side, [m.idx for m in mapped])
            for m in mapped:
                classes.union((here, side, m.root_idx), (there, target_side, m.idx))
    for node in nodes:
        if isinstance(node.module, nn.modules.conv._ConvNd):
            here = number[id(node)]
            for tied in _coupled_by_convolution(node.module):
                for side, i in tied[1:]:
                    classes.union((here, *tied[0]), (here, side, i))
    return {key: classes.find(key) for key in sorted(classes.parent)}
