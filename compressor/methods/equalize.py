"""Repairs before rounding, none of which needs labels or training.

Cross-layer equalisation (M. Nagel et al., "Data-free quantization through weight equalization and
bias correction", ICCV 2019) moves scale between neighbouring layers until their channels span like
ranges: relu(s x) = s relu(x) for s > 0, so dividing output channel i of one layer by s_i and
multiplying input channel i of the next by it changes nothing else. Bias correction (same paper)
takes back the mean shift that rounded weights give each channel.

Levelling uses the same freedom for activations: where depthwise convolutions alone read a tensor,
its channels can be given equal ranges at no cost, as every kernel of a depthwise convolution has a
weight scale of its own. Without it the widest channel sets the step for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from compressor.methods.dataflow import NetworkGraph, each_value, trace
from compressor.methods.fold import Change, scale_inputs, scale_layer, spread, through_identities

__all__ = ["correct_biases", "equalize", "level_channels", "neighbours"]

ROUNDS = 20
CONVERGED = 1e-3  # relative change of the scales below which the rounds end
LIMIT = 1e3  # a channel is scaled by at most this in one round: dead channels have no range
CORRECTION_CLIPS = 32  # they run as one batch

# Kinds between two layers that a positive factor passes through, channel by channel.
_HOMOGENEOUS = frozenset({"relu", "identity", "maxpool", "avgpool", "globalavg"})


def neighbours(graph: NetworkGraph) -> list[tuple[str, str]]:
    """Pairs of layers with nothing but homogeneous operators, and no other reader, between them."""
    pairs = []
    for name, node in graph.weighted():
        follower = _follower(graph, node)
        if graph.calls(name) == 1 and follower is not None and graph.calls(follower) == 1:
            pairs.append((name, follower))
    return pairs


def _follower(graph: NetworkGraph, node: Node) -> str | None:
    while True:
        users = graph.users(node)
        if len(users) != 1 or node is graph.output:
            return None
        node = users[0]
        kind = graph.kind(node)
        if kind in ("conv", "linear"):
            return str(node.target)
        flat = kind == "flatten" and graph.shape(node)[1] == graph.shape(node.all_input_nodes[0])[1]
        if kind not in _HOMOGENEOUS and not flat:
            return None


@torch.no_grad()
def equalize(model: nn.Module, example: Tensor) -> tuple[tuple[str, str], ...]:
    """Level the weight ranges of neighbouring layers, in place; the function stays the same.

    Args:
        model: in evaluation mode, BatchNorms folded.
        example: (N, ...) an input.

    Returns:
        The pairs of layers that were levelled.

    Raises:
        MeasureError: the network cannot be traced.
    """
    graph = trace(model.eval(), example)
    pairs = [
        (first, second)
        for first, second in neighbours(graph)
        if _inputs(model.get_submodule(second)) == _outputs(model.get_submodule(first))
    ]
    for _ in range(ROUNDS):
        change = 0.0
        for first, second in pairs:
            change = max(change, _level(model.get_submodule(first), model.get_submodule(second)))
        if change < CONVERGED:
            break
    return tuple(pairs)


def _outputs(layer: Any) -> int:
    return int(layer.weight.shape[0])


def _inputs(layer: Any) -> int:
    return int(layer.weight.shape[1]) * int(getattr(layer, "groups", 1))


def _by_input(layer: Any) -> Tensor:
    """A view of the weights with the input channels second: (groups, inputs, outputs, rest)."""
    weight: Tensor = layer.weight
    groups = int(getattr(layer, "groups", 1))
    view = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return view.transpose(1, 2)


def _level(first: Any, second: Any) -> float:
    """One round for one pair; returns the largest relative change of a scale."""
    out_range = first.weight.abs().reshape(_outputs(first), -1).amax(dim=1)
    rows = _by_input(second)
    in_range = rows.abs().amax(dim=(2, 3)).reshape(-1)
    scale = torch.sqrt(out_range / in_range).clamp(1 / LIMIT, LIMIT)
    scale = torch.where((out_range > 0) & (in_range > 0), scale, torch.ones_like(scale))
    first.weight.div_(scale.reshape(-1, *[1] * (first.weight.dim() - 1)))
    if first.bias is not None:
        first.bias.div_(scale)
    rows.mul_(scale.reshape(rows.shape[0], rows.shape[1], 1, 1))
    return float((scale - 1).abs().max())


@torch.no_grad()
def level_channels(model: nn.Module, example: Tensor, batches: Sequence[Tensor]) -> tuple[str, ...]:
    """Give the channels of tensors that only depthwise convolutions read equal ranges, in place.

    Args:
        model: in evaluation mode, BatchNorms folded.
        example: (N, ...) an input.
        batches: inputs from which the ranges are taken.

    Returns:
        Names of the levelled tensors.
    """
    graph = trace(model.eval(), example)
    readers: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        found = through_identities(graph, node)
        if found and graph.kind(node) != "identity" and all(_is_depthwise(graph, n) for n in found):
            readers[node] = found
    ranges: dict[Node, Tensor] = {}

    def widest(node: Node, value: Tensor) -> None:
        own = value.abs().amax(dim=[axis for axis in range(value.dim()) if axis != 1])
        ranges[node] = torch.maximum(ranges[node], own) if node in ranges else own

    for _ in each_value(graph, batches, readers, widest):
        pass
    levelled = []
    for node, depthwise in readers.items():
        largest = ranges[node].max()
        factor = (largest / ranges[node]).clamp(max=LIMIT).double()
        factor = torch.where(ranges[node] > 0, factor, torch.ones_like(factor))
        change = Change()
        if not spread(graph, node, factor, None, change, users=len(graph.users(node))):
            continue
        for layer, own in change.factors.items():
            scale_layer(model.get_submodule(layer), own, None)
        for reader in depthwise:
            scale_inputs(model.get_submodule(str(reader.target)), 1 / factor)
        levelled.append(graph.names[node])
    return tuple(levelled)


def _is_depthwise(graph: NetworkGraph, node: Node) -> bool:
    if graph.kind(node) != "conv" or graph.calls(str(node.target)) != 1:
        return False
    layer: Any = graph.layer(node)
    return bool(layer.groups == layer.in_channels)


@torch.no_grad()
def correct_biases(
    graph: NetworkGraph,
    reference: NetworkGraph,
    layers: Mapping[str, Node],
    batches: Sequence[Tensor],
) -> tuple[str, ...]:
    """Shift biases until each layer's mean output is that of the float network, in place.

    Layer by layer in the order of the network, each on the outputs of those already corrected.

    Args:
        graph: the network with rounded weights.
        reference: the same with its float weights.
        layers: the layers to correct and their nodes in `graph`; those without a bias are left.
        batches: calibration batches; the first 32 clips are used.

    Returns:
        The corrected layers.
    """
    clips = torch.cat([batch[:CORRECTION_CLIPS] for batch in batches])[:CORRECTION_CLIPS]
    twins = dict(zip(reference.nodes, graph.nodes, strict=True))
    chosen = {
        node: layer
        for layer, node in layers.items()
        if getattr(graph.layer(node), "bias", None) is not None
    }
    means: dict[Node, Tensor] = {}

    def keep(node: Node, value: Tensor) -> None:
        means[twins[node]] = _channel_means(value)

    def shift(node: Node, value: Tensor) -> Tensor:
        missing = means[node] - _channel_means(value)
        layer: Any = graph.layer(node)
        layer.bias.add_(missing)
        return value + missing.reshape(1, -1, *[1] * (value.dim() - 2))

    for _ in each_value(reference, [clips], [n for n in twins if twins[n] in chosen], keep):
        pass
    for _ in each_value(graph, [clips], chosen, shift):
        pass
    return tuple(chosen.values())


def _channel_means(value: Tensor) -> Tensor:
    """Means of (N, C, ...) for each channel, (C,)."""
    return value.mean(dim=[axis for axis in range(value.dim()) if axis != 1])
