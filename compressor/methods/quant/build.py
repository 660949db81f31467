"""The last step of both ways to int8: integers for every layer, a float twin on their grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compressor.methods.dataflow import NetworkGraph
from compressor.methods.quant.integers import (
    BIAS_LIMIT,
    Activation,
    IntegerBias,
    IntegerWeight,
    quantize_bias,
    widen_for_bias,
)
from compressor.methods.quant.network import QuantizedNetwork
from compressor.methods.quant.plan import Plan

__all__ = ["assemble", "input_scale"]

SOUND = 2.0**-10  # of the layer's largest weight scale


def input_scale(
    graph: NetworkGraph, plan: Plan, layer: str, activations: Mapping[str, Activation]
) -> float:
    """Scale of the activation that an integer layer reads."""
    source = plan.weights[layer].all_input_nodes[0]
    return activations[graph.names[plan.grids[source]]].scale


def _wide_enough(
    graph: NetworkGraph,
    plan: Plan,
    weights: Mapping[str, IntegerWeight],
    activations: Mapping[str, Activation],
) -> dict[str, Activation]:
    """The grids, coarser where a tensor is so silent that the biases behind it need over 32 bits.

    Coarsening the tensor and not the weights keeps the weights' integers as they were trained.
    """
    wide = dict(activations)
    for layer, node in plan.weights.items():
        bias = getattr(graph.layer(node), "bias", None)
        if node not in plan.integer or bias is None:
            continue
        name = graph.names[plan.grids[node.all_input_nodes[0]]]
        scale = weights[layer].scale
        sound = scale >= scale.max() * SOUND  # a channel of tiny weights is its own fault
        needed = bias.detach().abs() / (BIAS_LIMIT * scale)
        lowest = float((needed * sound).max())
        if lowest > wide[name].scale:
            wide[name] = wide[name]._replace(scale=lowest)
    return wide


def assemble(
    graph: NetworkGraph,
    plan: Plan,
    weights: Mapping[str, IntegerWeight],
    activations: Mapping[str, Activation],
    *,
    model: nn.Module,
    example: Tensor,
    folded: Sequence[str],
    settings: Mapping[str, Any],
) -> QuantizedNetwork:
    """Write integer weights back into `model`, in place, and make the integer biases.

    Args:
        graph: of `model`.
        plan: of `graph`.
        weights: integers of every layer in the plan.
        activations: grids of all sites.
        model: folded float network; its biases are read and rounded.
        example: (N, ...) an input.
        folded: names of its folded BatchNorms.
        settings: of the configuration, plain; "keep_float" and others are taken from it.
    """
    activations = _wide_enough(graph, plan, weights, activations)
    final: dict[str, IntegerWeight] = {}
    biases: dict[str, IntegerBias] = {}
    for layer, node in plan.weights.items():
        own: Any = model.get_submodule(layer)
        weight = weights[layer]
        if own.bias is not None and node in plan.integer:
            scale = input_scale(graph, plan, layer, activations)
            weight = widen_for_bias(weight, own.bias, scale)
            biases[layer] = quantize_bias(own.bias, weight, scale)
        final[layer] = weight
        with torch.no_grad():
            own.weight.copy_(weight.float())
            if layer in biases:
                own.bias.copy_(biases[layer].float())
    return QuantizedNetwork(
        model=model,
        example=torch.zeros_like(example[:1]),
        weights=final,
        biases=biases,
        activations=dict(activations),
        folded=tuple(folded),
        keep_float=tuple(settings["keep_float"]),
        float_compute=tuple(settings["float_compute"]),
        operators=tuple(settings["integer_operators"]),
        settings=dict(settings),
    )
