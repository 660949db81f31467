"""A quantised network: its integers, its float twin, its simulation and its ONNX form."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.fx import Node

from compressor.methods.dataflow import NetworkGraph, each_value, trace
from compressor.methods.quant.integers import (
    Activation,
    IntegerBias,
    IntegerWeight,
)
from compressor.methods.quant.plan import Plan, make_plan

__all__ = ["QuantizedNetwork", "Simulation"]


@dataclass(frozen=True, eq=False)
class QuantizedNetwork:
    """A network whose layers are integers.

    Attributes:
        model: of the original class, BatchNorm folded, weights and biases on their grids, float32.
        example: (1, ...) zeros, the shape of one input.
        weights: integer weights by layer.
        biases: integer biases by layer, for the layers that have one.
        activations: grid of every rounded activation, by readable name ("layers.0.relu1").
        folded: BatchNorms that are identities now.
        keep_float: layers and modules that stay in float32.
        float_compute: layers and modules with integer weights that compute in float32.
        operators: operators between layers that compute on integers.
        sqnr: signal-to-quantisation-noise ratio of each rounded activation in dB, if measured.
        settings: the settings it was made with, plain values.
    """

    model: nn.Module
    example: Tensor
    weights: Mapping[str, IntegerWeight]
    biases: Mapping[str, IntegerBias]
    activations: Mapping[str, Activation]
    folded: tuple[str, ...]
    keep_float: tuple[str, ...] = ()
    float_compute: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    sqnr: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def graph(self) -> NetworkGraph:
        """The float twin, traced."""
        return trace(self.model.eval(), self.example)

    def plan(self, graph: NetworkGraph) -> Plan:
        """The sites of `graph`."""
        return make_plan(
            graph,
            keep_float=self.keep_float,
            float_compute=self.float_compute,
            operators=self.operators,
        )

    def simulate(self, x: Tensor) -> Tensor:
        """Logits with every activation rounded as integer kernels round it: (N, ...) -> (N, K)."""
        logits: Tensor = Simulation(self)(x)
        return logits

    def simulated(self) -> Simulation:
        """The network that `simulate` runs, as a module; traced once."""
        return Simulation(self)

    @property
    def nbytes(self) -> int:
        """Deployed bytes: a weight 1 (up to 4 bits: half a one), a bias 4, what stays float32 4."""
        stored = self.tensors()
        total = sum(w.nbytes for w in self.weights.values())
        taken = {f"{layer}.weight" for layer in self.weights}
        parameters = {name for name, _ in self.model.named_parameters()}
        return total + sum(
            tensor.numel() * tensor.element_size()
            for name, tensor in stored.items()
            if name in parameters and name not in taken
        )

    @property
    def scale_bytes(self) -> int:
        """Bytes of scales and zero points in the exported file, listed apart.

        Scales are float32; a zero point has the width of its integers (a bias: 4 bytes). Layers
        that compute in float32 have no zero points. Averages that are written as convolutions add
        5 bytes each to the file, for the scale of their ones.
        """
        total = 5 * len(self.activations)
        for layer, weight in self.weights.items():
            count = weight.scale.numel()
            floats = any(f"{layer}.".startswith(f"{name}.") for name in self.float_compute)
            total += 4 * count + (0 if floats else (count * weight.stored_bits + 7) // 8)
        return total + sum(8 * bias.scale.numel() for bias in self.biases.values())

    def tensors(self) -> dict[str, Tensor]:
        """The state dict with the integers of quantised layers: weights int8, biases int32."""
        stored = {name: tensor.detach() for name, tensor in self.model.state_dict().items()}
        for layer, weight in self.weights.items():
            stored[f"{layer}.weight"] = weight.values
        for layer, bias in self.biases.items():
            stored[f"{layer}.bias"] = bias.values
        return stored

    def record(self) -> dict[str, Any]:
        """Everything that is not in `tensors`, as plain values: what a model file stores."""
        return {
            "scheme": "int8",
            "weights": {
                layer: {"scale": w.scale.tolist(), "zero_point": w.zero_point, "bits": w.bits}
                for layer, w in self.weights.items()
            },
            "biases": {layer: {"scale": b.scale.tolist()} for layer, b in self.biases.items()},
            "activations": {name: list(grid) for name, grid in self.activations.items()},
            "folded": list(self.folded),
            "keep_float": list(self.keep_float),
            "float_compute": list(self.float_compute),
            "integer_operators": list(self.operators),
            "sqnr_db": dict(self.sqnr),
            "settings": dict(self.settings),
        }

    def to_onnx(self, path: str | Path | None = None) -> bytes:
        """The quantise-dequantise ONNX file; written to `path` if one is given.

        Raises:
            QuantizeError: an operator that has no ONNX form; the message names the layer.
        """
        from compressor.methods.quant.lower import Integers, lower

        graph = self.graph()
        plan = self.plan(graph)
        integers = Integers(plan.grids, plan.integer, self.activations, self.weights, self.biases)
        content: bytes = lower(graph, integers).SerializeToString(deterministic=True)
        if path is not None:
            Path(path).write_bytes(content)
        return content


class Simulation(nn.Module):
    """Float arithmetic with every activation rounded: what the integer kernels compute.

    Weights and biases of the float twin lie on their grids already.

    Attributes:
        graph: the float twin, traced.
        grids: the grid of every site in it.
    """

    def __init__(self, network: QuantizedNetwork) -> None:
        super().__init__()
        self.graph = network.graph()
        self.layers = self.graph.module  # so that its parameters are found
        self.grids: dict[Node, Activation] = {
            node: network.activations[self.graph.names[node]]
            for node in network.plan(self.graph).sites
        }
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> logits (N, K)."""
        return self.watch(x, self.grids, _see_nothing)

    def watch(
        self, x: Tensor, nodes: Collection[Node], see: Callable[[Node, Tensor], None]
    ) -> Tensor:
        """`forward` that shows the rounded values of `nodes` to `see`."""
        wanted = frozenset(nodes)

        def round_and_show(node: Node, value: Tensor) -> Tensor:
            if node in self.grids:
                value = self.grids[node].round(value)
            if node in wanted:
                see(node, value)
            return value

        return next(iter(each_value(self.graph, [x], wanted | self.grids.keys(), round_and_show)))


def _see_nothing(node: Node, value: Tensor) -> None:
    del node, value
