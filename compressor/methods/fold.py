"""BatchNorm folding: the same function with fewer layers.

In evaluation a BatchNorm is y = a x + c for each channel, with a = gamma / sqrt(var + eps) and
c = beta - a mean. Where x is made by linear operators alone, a and c go into their weights and
biases: into one convolution or linear layer, into every term of a sum (two depthwise convolutions
added, as in the DSSC block), into every part of a channel concatenation, through poolings that
average. A BatchNorm behind anything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.modules.batchnorm import _BatchNorm

from compressor.methods.dataflow import NetworkGraph, check_finite, trace
from compressor.methods.grouping import bare_copy

__all__ = [
    "Change",
    "Folding",
    "fold",
    "fold_batchnorm",
    "fold_scalings",
    "foldable",
    "scale_inputs",
    "scale_layer",
    "spread",
    "through_identities",
]


@dataclass(frozen=True, eq=False)
class Folding:
    """A folded network and how it was made.

    Attributes:
        model: of the same class, in evaluation mode; folded BatchNorms are nn.Identity.
        folded: names of the folded BatchNorms.
        kept: names of those that could not be folded.
        factors: (channels,) what the weights of each changed layer were multiplied by, for each
            output channel. Integer weights on a per-channel grid keep their magnitudes.
    """

    model: nn.Module
    folded: tuple[str, ...]
    kept: tuple[str, ...]
    factors: Mapping[str, Tensor]


@dataclass
class Change:
    """Factors, and shifts, for the outputs of layers that a change upstream needs."""

    factors: dict[str, Tensor] = field(default_factory=dict)
    shifts: dict[str, Tensor] = field(default_factory=dict)


def fold_batchnorm(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy in evaluation mode in which BatchNorms behind linear operators are folded.

    Args:
        model: network; left as it is.
        example: (N, ...) an input that it takes.

    Returns:
        A network of the same class; each folded BatchNorm is an nn.Identity, the layers before it
        have a bias. Its outputs are those of `model` in evaluation mode, to rounding.

    Raises:
        MeasureError: the network cannot be traced, or holds values that are not finite.
        ShapeError: it does not run on the example.
    """
    return fold(model, example).model


def fold(model: nn.Module, example: Tensor, *, only: frozenset[str] | None = None) -> Folding:
    """`fold_batchnorm` with an account of what was done; `only` limits it to these BatchNorms."""
    check_finite(model)
    twin = bare_copy(model).eval()
    graph = trace(twin, example)
    norms = [node for node in graph.nodes if graph.kind(node) == "batchnorm"]
    factors: dict[str, Tensor] = {}
    folded: list[str] = []
    kept: list[str] = []
    for node in norms:
        name = str(node.target)
        change = _absorb(graph, node)
        if change is None or (only is not None and name not in only):
            kept.append(name)
            continue
        for layer, factor in change.factors.items():
            scale_layer(twin.get_submodule(layer), factor, change.shifts.get(layer))
            factors[layer] = factors[layer] * factor if layer in factors else factor
        _replace(twin, name)
        folded.append(name)
    return Folding(twin, tuple(folded), tuple(dict.fromkeys(kept)), factors)


def foldable(graph: NetworkGraph, node: Node) -> tuple[str, ...]:
    """Layers that would take the BatchNorm at `node` in; empty if it cannot be folded."""
    change = _absorb(graph, node)
    return () if change is None else tuple(change.factors)


def fold_scalings(model: nn.Module, example: Tensor) -> tuple[str, ...]:
    """Multiply depthwise 1x1 convolutions into the convolutions behind them, in place.

    Only those without a bias whose every reader is a convolution; each becomes an nn.Identity.

    Args:
        model: in evaluation mode.
        example: (N, ...) an input.

    Returns:
        The layers that are gone.
    """
    graph = trace(model, example)
    gone = []
    for name, node in list(graph.weighted()):
        layer = model.get_submodule(name)
        readers = through_identities(graph, node)
        if not (isinstance(layer, nn.Conv2d) and _is_scaling(layer) and graph.calls(name) == 1):
            continue
        if not readers or any(
            graph.kind(reader) != "conv" or graph.calls(str(reader.target)) != 1
            for reader in readers
        ):
            continue
        factor = layer.weight.detach().double().reshape(-1)
        for reader in readers:
            scale_inputs(model.get_submodule(str(reader.target)), factor)
        _replace(model, name)
        gone.append(name)
    return tuple(gone)


def through_identities(graph: NetworkGraph, node: Node) -> list[Node]:
    """Nodes that read the value of `node`, those behind identities included."""
    found: list[Node] = []
    for user in graph.users(node):
        found += through_identities(graph, user) if graph.kind(user) == "identity" else [user]
    return found


def _is_scaling(layer: nn.Conv2d) -> bool:
    return (
        layer.bias is None
        and layer.kernel_size == (1, 1)
        and layer.stride == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == layer.in_channels == layer.out_channels
    )


@torch.no_grad()
def scale_inputs(layer: nn.Module, factor: Tensor) -> None:
    """Multiply the weights of input channel i of a convolution or linear layer by factor i."""
    weight: Tensor = layer.get_parameter("weight")
    groups = int(getattr(layer, "groups", 1))
    rows = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).double()
    scaled = rows * factor.reshape(groups, 1, weight.shape[1], 1)
    weight.copy_(scaled.reshape(weight.shape))


def _replace(model: nn.Module, name: str) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())


def _absorb(graph: NetworkGraph, node: Node) -> Change | None:
    """What folding the BatchNorm at `node` would change; None where it cannot be folded."""
    layer = graph.layer(node)
    source = node.args[0]
    if not isinstance(layer, _BatchNorm) or not isinstance(source, Node):
        return None
    if layer.running_mean is None or layer.running_var is None:
        return None  # its statistics are those of the batch: no constant function
    if graph.calls(str(node.target)) != 1:
        return None
    # double precision: the factor of a channel with a tiny variance is large
    scale = (layer.running_var.double() + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight.detach().double()
    shift = -scale * layer.running_mean.double()
    if layer.bias is not None:
        shift = shift + layer.bias.detach().double()
    change = Change()
    return change if spread(graph, source, scale, shift, change) else None


def spread(
    graph: NetworkGraph,
    node: Node,
    scale: Tensor,
    shift: Tensor | None,
    change: Change,
    *,
    users: int = 1,
) -> bool:
    """Note in `change` how the value of `node` becomes scale x value + shift; False if it cannot.

    Without a shift and with positive factors the way may lead through a ReLU. `users` is how many
    nodes read the value; more than the caller knows of would want it as it is.
    """
    if len(graph.users(node)) != users:
        return False
    kind = graph.kind(node)
    if kind in ("conv", "linear"):
        name = str(node.target)
        if graph.calls(name) != 1 or name in change.factors:
            return False
        if kind == "linear" and len(graph.shape(node)) != 2:
            return False  # a BatchNorm1d normalises the second axis, a linear layer makes the last
        change.factors[name] = scale
        if shift is not None:
            change.shifts[name] = shift
        return True
    if (
        kind == "identity"
        or (kind in ("avgpool", "globalavg") and (shift is None or _only_averages(graph, node)))
        or (kind in ("relu", "maxpool") and shift is None and bool((scale > 0).all()))
    ):
        source = node.args[0]
        return isinstance(source, Node) and spread(graph, source, scale, shift, change)
    if kind == "add" and len(node.args) == 2 and not node.kwargs:
        first, second = node.args
        if not (isinstance(first, Node) and isinstance(second, Node)) or first is second:
            return False
        if graph.shape(first) != graph.shape(second):
            return False
        return spread(graph, first, scale, shift, change) and spread(
            graph, second, scale, None, change
        )
    if kind == "cat" and _axis(node) == 1:
        parts = node.args[0]
        if not isinstance(parts, (tuple, list)):
            return False
        start = 0
        for part in parts:
            if not isinstance(part, Node):
                return False
            rows = slice(start, start + graph.shape(part)[1])
            start = rows.stop
            own = None if shift is None else shift[rows]
            if not spread(graph, part, scale[rows], own, change):
                return False
        return True
    return False


def _axis(node: Node) -> object:
    return node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)


def _only_averages(graph: NetworkGraph, node: Node) -> bool:
    """True where pooling a constant gives that constant, so that a shift may go before it."""
    layer = graph.layer(node) if node.op == "call_module" else None
    if isinstance(layer, nn.AvgPool2d):
        padded = layer.padding not in (0, (0, 0)) and layer.count_include_pad
        return not padded and layer.divisor_override is None
    return isinstance(layer, nn.AdaptiveAvgPool2d)


@torch.no_grad()
def scale_layer(layer: nn.Module, factor: Tensor, shift: Tensor | None) -> None:
    """Multiply the outputs of a convolution or linear layer by `factor` and add `shift`."""
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear))
    weight, bias = layer.weight, layer.bias
    shaped = factor.reshape(-1, *[1] * (weight.dim() - 1))
    weight.copy_(weight.double() * shaped)
    if bias is None and shift is None:
        return
    total = torch.zeros_like(factor) if bias is None else bias.detach().double() * factor
    if shift is not None:
        total = total + shift
    layer.bias = nn.Parameter(total.to(weight.dtype), requires_grad=weight.requires_grad)
