"""How much each layer loses: signal over quantisation noise in dB, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.fx import Node

from compressor.methods.dataflow import each_value, trace
from compressor.methods.quant.network import QuantizedNetwork

__all__ = ["measure_sqnr", "worst"]

OUTPUT = "logits"
CAP_DB = 150.0  # for a layer without any error: rounding of float32 itself is near


def measure_sqnr(
    network: QuantizedNetwork, reference: nn.Module, batches: Sequence[Tensor]
) -> dict[str, float]:
    """10 log10(sum of squares / sum of squared differences) at every site and at the output.

    The error at a site is what has piled up on the way to it, so the layer at fault is the first
    with a low figure and not the lowest.

    Args:
        network: quantised.
        reference: the float network, of the same structure with its BatchNorms folded.
        batches: inputs.

    Returns:
        dB by readable name, in the order of the network; "logits" is the output.
    """
    simulated = network.simulated()
    own, other = simulated.graph, trace(reference.eval(), network.example)
    nodes = tuple(dict.fromkeys((*simulated.grids, own.output)))
    twins = dict(zip(own.nodes, other.nodes, strict=True))
    watched = {twins[node]: node for node in nodes}
    signal = dict.fromkeys(nodes, 0.0)
    noise = dict.fromkeys(nodes, 0.0)
    expected: dict[Node, Tensor] = {}

    def keep(node: Node, value: Tensor) -> None:
        expected[watched[node]] = value.double()

    def compare(node: Node, value: Tensor) -> None:
        wanted = expected[node]
        signal[node] += float(wanted.square().sum())
        noise[node] += float((value.double() - wanted).square().sum())

    for batch in batches:
        for _ in each_value(other, [batch], watched, keep):
            pass
        simulated.watch(batch, nodes, compare)
    return {
        own.names[node] if node in simulated.grids else OUTPUT: _decibels(signal[node], noise[node])
        for node in nodes
    }


def _decibels(signal: float, noise: float) -> float:
    if noise <= 0 or signal <= 0:
        return CAP_DB if noise <= 0 else -CAP_DB
    return min(10 * math.log10(signal / noise), CAP_DB)


def worst(sqnr: Mapping[str, float], count: int = 5) -> list[tuple[str, float]]:
    """The `count` steepest falls: sites whose figure is furthest below all before them."""
    falls: list[tuple[float, str, float]] = []
    lowest = CAP_DB
    for name, value in sqnr.items():
        if value < lowest:
            falls.append((lowest - value, name, value))
            lowest = value
    return [(name, value) for _, name, value in sorted(falls, reverse=True)[:count]]
