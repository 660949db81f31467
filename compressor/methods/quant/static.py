"""int8 after training: fold, calibrate, round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from compressor.errors import ConfigError, UnknownNameError
from compressor.methods.dataflow import trace
from compressor.methods.equalize import correct_biases, equalize, level_channels
from compressor.methods.fold import fold, fold_scalings
from compressor.methods.grouping import bare_copy
from compressor.methods.quant.build import assemble
from compressor.methods.quant.calibrate import calibrate, check_clips
from compressor.methods.quant.config import StaticInt8
from compressor.methods.quant.integers import quantize_weight
from compressor.methods.quant.network import QuantizedNetwork
from compressor.methods.quant.plan import make_plan
from compressor.methods.quant.sqnr import measure_sqnr

__all__ = ["quantize_static"]

SQNR_CLIPS = 16


def quantize_static(
    model: nn.Module,
    example: Tensor,
    batches: Iterable[Tensor],
    config: StaticInt8 | None = None,
    *,
    ignored: Sequence[str] = (),
) -> QuantizedNetwork:
    """Quantise a trained network without training it.

    Args:
        model: float network; left as it is.
        example: (N, ...) an input that it takes.
        batches: inputs of the training part, no labels; `config.calibration_clips` are used.
        config: settings; the defaults are 8 bits per channel and min-max ranges.
        ignored: further layers to keep in float.

    Returns:
        Integers, scales and the signal-to-noise ratio of every layer.

    Raises:
        QuantizeError: a layer or operator that cannot be quantised, values that are not finite; the
            message names the layer.
        ShapeError: clips of another shape than the example.
        UnknownNameError: a layer in `keep_float`, `float_compute` or `mixed` that does not exist.
        ConfigError: no clip.
    """
    config = StaticInt8() if config is None else config
    if not isinstance(config, StaticInt8):
        raise ConfigError(f"static int8 takes StaticInt8 settings, found {type(config).__name__}")
    config = replace(config, keep_float=tuple(dict.fromkeys((*config.keep_float, *ignored))))
    folding = fold(model, example)
    clips = check_clips(batches, example, config.calibration_clips)
    network = folding.model
    gone = folding.folded
    if config.rescale:
        gone += fold_scalings(network, example)
        if config.per_channel:
            level_channels(network, example, clips)
    if config.equalize:
        equalize(network, example)
    reference = bare_copy(network)
    graph = trace(network, example)
    plan = make_plan(
        graph,
        keep_float=config.keep_float,
        float_compute=config.float_compute,
        operators=config.integer_operators,
    )
    for layer in config.mixed:
        if layer not in plan.weights:
            raise UnknownNameError("quantised layer in mixed", layer, plan.weights)
    weights = {
        layer: quantize_weight(
            graph.layer(node).get_parameter("weight"),
            config.bits_of(layer),
            per_channel=config.per_channel,
        )
        for layer, node in plan.weights.items()
    }
    with torch.no_grad():
        for layer, node in plan.weights.items():
            graph.layer(node).get_parameter("weight").copy_(weights[layer].float())
    if config.bias_correction:
        correct_biases(graph, trace(reference, example), plan.weights, clips)
    activations = calibrate(graph, plan.sites, clips, config.calibration, config.percentile)
    settings = config.to_dict() | {"clips_used": sum(map(len, clips)), "method": "static"}
    made = assemble(
        graph,
        plan,
        weights,
        activations,
        model=network,
        example=example,
        folded=gone,
        settings=settings,
    )
    return replace(made, sqnr=measure_sqnr(made, reference, _first(clips, SQNR_CLIPS)))


def _first(batches: Sequence[Tensor], limit: int) -> list[Tensor]:
    kept: list[Tensor] = []
    for batch in batches:
        if limit <= 0:
            break
        kept.append(batch[:limit])
        limit -= len(kept[-1])
    return kept
