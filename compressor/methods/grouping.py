"""The removable channels of a network, in groups of layers that share them.

Channels that are tied together (`compressor.methods.coupling`) make a unit; units that come from
the same layers make a group. What cannot be cut exactly is refused here where the graph shows it;
the rest is found by the comparison in `compressor.methods.surgery`.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressor.errors import PruneError, UnknownNameError
from compressor.methods.coupling import OUT, couple, trace
from compressor.methods.kinds import Side, is_batchnorm, is_supported, passes_through, widths

__all__ = ["ChannelGroup", "Span", "bare_copy", "channel_groups"]

COMPUTED = (
    "{key} of layer {name!r} is computed (torch.nn.utils.prune, weight_norm or a parametrization) "
    "and cannot be cut; make it permanent first, for example with torch.nn.utils.prune.remove"
)


@dataclass(frozen=True)
class Span:
    """The part of one layer's channels that belongs to a group.

    Attributes:
        layer: qualified name.
        side: "out" or "in" for convolutions and linear layers, "both" where channels pass through.
        positions: for each unit of the group, the indices along that axis (empty: none).
    """

    layer: str
    side: Side
    positions: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Layers whose output channels are tied to each other, unit by unit.

    A unit is the smallest set of channels that can be removed exactly. In a plain chain or residual
    stage it is one channel of each layer; where a width is halved or a convolution is grouped it
    holds several.

    Attributes:
        index: place in the list of groups, by the first layer as the network registers them.
        size: number of units.
        batchnorms: spans of the BatchNorm layers with a scale.
        layers: all spans, BatchNorms included.
    """

    index: int
    size: int
    batchnorms: tuple[Span, ...]
    layers: tuple[Span, ...]

    @property
    def name(self) -> str:
        """Name of the first layer that makes these channels."""
        return next((s.layer for s in self.layers if s.side == "out"), self.layers[0].layer)


def bare_copy(model: nn.Module) -> nn.Module:
    """A deep copy without gradients and without hooks, in the same training mode.

    Raises:
        PruneError: the model cannot be copied.
    """
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        # a weight that a hook computes is no leaf, which is what copying stumbles over
        hooked = [n for n, m in model.named_modules() if {"weight", "bias"} & vars(m).keys()]
        if hooked:
            raise PruneError(COMPUTED.format(key="weight", name=hooked[0])) from error
        raise PruneError(f"{type(model).__name__} cannot be copied: {error}") from error
    for module in twin.modules():
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
            getattr(module, name).clear()
        module._backward_pre_hooks.clear()
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


def _check_example(model: nn.Module, example: Tensor) -> None:
    try:
        with torch.no_grad():
            out = model(example)
    except Exception as error:
        raise PruneError(
            f"the network does not run on an example of shape {tuple(example.shape)}: {error}"
        ) from error
    if not isinstance(out, Tensor):
        raise PruneError(
            f"the network returns a {type(out).__name__}, but pruning needs one tensor of logits"
        )


def _ignored_modules(model: nn.Module, ignored: Sequence[str]) -> set[str]:
    """Names of all layers at or below the names in `ignored`."""
    names = [name for name, _ in model.named_modules() if name]
    for name in ignored:
        if name not in names:
            raise UnknownNameError("layer to leave alone", name, names)
    return {n for n in names if any(n == i or n.startswith(f"{i}.") for i in ignored)}


def _check_layer(model: nn.Module, name: str) -> None:
    """Refuse layers whose weights are not plain parameters of their own."""
    layer = model.get_submodule(name)
    own = layer._parameters
    for key in ("weight", "bias"):
        if key not in own and getattr(layer, key, None) is not None:
            raise PruneError(COMPUTED.format(key=key, name=name))
    for key, value in own.items():
        if value is None:
            continue
        shared = [n for n, p in model.named_parameters(remove_duplicate=False) if p is value]
        if len(shared) > 1:
            raise PruneError(
                f"{key} of layer {name!r} is shared ({', '.join(shared)}) and cannot be cut; name "
                "the layers in ignored= or give each its own weights"
            )


@dataclass
class _Unit:
    """A class of channels while it is being judged: index sets by (layer name, side)."""

    members: dict[tuple[str, Side], list[int]]
    foreign: list[str]
    fixed: bool


def _units(nodes: list[Any], names: dict[int, str], ignored: set[str]) -> list[_Unit]:
    units: dict[tuple[int, int, int], _Unit] = {}
    for key, root in couple(nodes).items():
        unit = units.setdefault(root, _Unit(defaultdict(list), [], False))
        node_number, axis, index = key
        node = nodes[node_number]
        module = node.module
        if type(module).__module__.startswith("torch_pruning"):
            unit.fixed |= type(module).__name__ == "_OutputOp"
            continue
        if isinstance(module, nn.Parameter) or not is_supported(module):
            unit.foreign.append(names.get(id(module), type(module).__name__))
            continue
        name = names[id(module)]
        side: Side = "both" if passes_through(module) else ("out" if axis == OUT else "in")
        # a scalar PReLU serves any number of channels
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            continue
        width = widths(module).out if axis == OUT else widths(module).in_
        if index >= width:
            if width > 1:  # a single channel is broadcast over all the others
                unit.foreign.append(f"{name} ({width} channels on another axis)")
            continue
        unit.members[name, side].append(index)
        unit.fixed |= side != "in" and (name in ignored or not node.outputs)
    return list(units.values())


def _makes_channels(model: nn.Module, name: str, side: Side) -> bool:
    """True for the output axis of a layer that mixes channels (not depthwise, not pass-through)."""
    return side == "out" and not widths(model.get_submodule(name)).loses_whole_groups


def _join(model: nn.Module, units: list[_Unit]) -> list[list[_Unit]]:
    """Units that share a channel-making layer form one group."""
    leader: dict[str, int] = {}
    parent = list(range(len(units)))

    def find(n: int) -> int:
        while parent[n] != n:
            n = parent[n]
        return n

    for n, unit in enumerate(units):
        for name, side in unit.members:
            if _makes_channels(model, name, side):
                a, b = find(leader.setdefault(name, n)), find(n)
                parent[max(a, b)] = min(a, b)
    groups: dict[int, list[_Unit]] = defaultdict(list)
    for n, unit in enumerate(units):
        groups[find(n)].append(unit)
    return list(groups.values())


def _empties_a_layer(model: nn.Module, unit: _Unit) -> bool:
    """True where the unit is all there is of some layer (a spatial gate of one channel)."""
    for (name, side), index in unit.members.items():
        now = widths(model.get_submodule(name))
        if len(index) >= (now.in_ if side == "in" else now.out):
            return True
    return False


def channel_groups(
    model: nn.Module, example: Tensor, ignored: Sequence[str] = ()
) -> list[ChannelGroup]:
    """The removable channels of `model`, in groups.

    Left out: channels of the network's input and output, of layers in `ignored`, and channels that
    are all a layer has.

    Args:
        model: network; neither its weights nor its mode or hooks are touched.
        example: input (N, ...) that it takes.
        ignored: qualified names of layers (or blocks of layers) whose output channels stay.

    Raises:
        PruneError: the network does not run on the example, or a removable channel runs through
            something that cannot be cut (the message names it).
        UnknownNameError: a name in `ignored` that is no layer.
    """
    twin = bare_copy(model).eval()
    twin.requires_grad_(True)
    ignored_names = _ignored_modules(twin, ignored)
    with torch.enable_grad():
        _check_example(twin, example)
        try:
            graph = trace(twin, example.detach())
        except Exception as error:
            raise PruneError(f"the network's channels cannot be traced: {error}") from error
    names = {id(m): n for n, m in twin.named_modules()} | {
        id(p): n for n, p in twin.named_parameters()
    }
    nodes = list(graph.module2node.values())
    order = {name: n for n, (name, _) in enumerate(twin.named_modules())}
    found: list[tuple[int, tuple[Span, ...], tuple[Span, ...]]] = []
    for units in _join(twin, _units(nodes, names, ignored_names)):
        free = [u for u in units if not u.fixed and not _empties_a_layer(twin, u)]
        if not any(_makes_channels(twin, n, s) for u in free for n, s in u.members):
            continue
        spans = sorted({key for u in free for key in u.members})
        spans.sort(key=lambda key: (order[key[0]], key[1]))
        layers = tuple(
            Span(name, side, tuple(tuple(sorted(u.members.get((name, side), ()))) for u in free))
            for name, side in spans
        )
        maker = next(s.layer for s in layers if _makes_channels(twin, s.layer, s.side))
        foreign = sorted({f for u in free for f in u.foreign})
        if foreign:
            raise PruneError(
                f"channels of layer {maker!r} run through {', '.join(foreign[:3])}, which cannot "
                f"be cut exactly; leave them alone with ignored=[{maker!r}, ...]"
            )
        for span in layers:
            _check_layer(twin, span.layer)
        norms = tuple(s for s in layers if is_batchnorm(twin.get_submodule(s.layer)))
        found.append((len(free), norms, layers))
    found.sort(key=lambda group: order[group[2][0].layer])
    return [ChannelGroup(n, *group) for n, group in enumerate(found)]
