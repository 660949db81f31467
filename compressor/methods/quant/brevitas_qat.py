"""The Brevitas QAT engine: its quantised layers and activation quantisers at the sites of the plan.

Weights are int8 (or narrower) per channel, narrow range, with scales from their statistics;
activations are unsigned with a zero point whose scale is learned after a phase of collecting
statistics. Brevitas' own ONNX export is not used: the integers are read out and written by this
project. Imports Brevitas, which takes seconds.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from compressor.errors import QuantizeError
from compressor.methods.quant.integers import (
    ACTIVATION_LEVELS,
    SMALLEST_SCALE,
    Activation,
    IntegerWeight,
    top,
)

__all__ = ["BrevitasEngine"]

COLLECT_SHARE = 0.1  # of the training steps in which activation statistics are collected
COLLECT_STEPS = 300  # Brevitas' own number, for long trainings


class BrevitasEngine:
    """Makes Brevitas layers and quantisers."""

    def __init__(self, steps: int | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside Brevitas, none of them ours
            from brevitas.quant import (
                Int8WeightPerChannelFloat,
                Int8WeightPerTensorFloat,
                ShiftedUint8ActPerTensorFloat,
            )
        self._weights: dict[bool, Any] = {
            True: Int8WeightPerChannelFloat,
            False: Int8WeightPerTensorFloat,
        }
        collect = COLLECT_STEPS
        if steps is not None:
            collect = max(1, min(COLLECT_STEPS, round(steps * COLLECT_SHARE)))
        self._activation: Any = ShiftedUint8ActPerTensorFloat.let(collect_stats_steps=collect)

    def layer(self, layer: nn.Module, bits: int, per_channel: bool) -> nn.Module:
        """A Brevitas layer that shares the parameters of `layer`."""
        settings: dict[str, Any] = {
            "bias": layer.bias is not None,
            "weight_quant": self._weights[per_channel],
            "weight_bit_width": bits,
        }
        twin: Any
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import brevitas.nn as qnn

            if isinstance(layer, nn.Linear):
                twin = qnn.QuantLinear(layer.in_features, layer.out_features, **settings)
            else:
                assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
                kind = "QuantConv2d" if isinstance(layer, nn.Conv2d) else "QuantConv1d"
                twin = getattr(qnn, kind)(
                    layer.in_channels,
                    layer.out_channels,
                    layer.kernel_size,
                    stride=layer.stride,
                    padding=layer.padding,
                    dilation=layer.dilation,
                    groups=layer.groups,
                    **settings,
                )
        twin.weight = layer.weight
        twin.bias = layer.bias
        made: nn.Module = twin
        return made

    def activation(self) -> nn.Module:
        """A quantiser for one site."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import brevitas.nn as qnn

            made: nn.Module = qnn.QuantIdentity(act_quant=self._activation)
        return made

    def weight(self, layer: nn.Module) -> IntegerWeight:
        """The integers of a layer, as Brevitas states them."""
        module: Any = layer
        with torch.no_grad():
            found = module.quant_weight()
            values = found.int(float_datatype=False).to(torch.int8)
            scale = found.scale.detach().float().reshape(-1).clone()
            bits = int(found.bit_width)
        if int(values.abs().max()) > top(bits):
            raise QuantizeError(f"Brevitas gave integers beyond {top(bits)} for {bits} bits")
        return IntegerWeight(values.contiguous(), scale, 0, bits)

    def grid(self, activation: nn.Module, name: str) -> Activation:
        """The grid that a quantiser learned."""
        module: Any = activation
        with torch.no_grad():
            module.eval()
            scale = float(module.act_quant.scale())
            zero_point = round(float(module.act_quant.zero_point()))
        if not SMALLEST_SCALE < scale < float("inf"):
            raise QuantizeError(
                f" has the activation scale {scale}: train the prepared network for at least one "
                "step on finite inputs before it is finished",
                name,
            )
        return Activation(scale, min(max(zero_point, 0), ACTIVATION_LEVELS))

    def freeze(self, activation: nn.Module) -> None:
        """Scales are parameters that training may still refine; nothing has to stand still."""
