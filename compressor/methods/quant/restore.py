"""A quantised network from the model file that stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from compressor.errors import ArtifactError, UsageError
from compressor.methods.quant.integers import Activation, IntegerBias, IntegerWeight
from compressor.methods.quant.network import QuantizedNetwork

if TYPE_CHECKING:
    from compressor.artifact import Artifact

__all__ = ["restore"]


def restore(artifact: Artifact) -> QuantizedNetwork:
    """The integers, scales and float twin of a quantised artifact.

    Raises:
        UsageError: a float network.
        ArtifactError: fields are missing, or do not fit one another.
    """
    stored = artifact.quantization
    if not stored:
        raise UsageError(
            f"network {artifact.arch!r} is stored as {artifact.dtype}; quantise it first"
        )
    model = artifact.build()
    try:
        weights = {
            layer: IntegerWeight(
                artifact.state_dict[f"{layer}.weight"],
                torch.tensor(entry["scale"], dtype=torch.float32),
                int(entry["zero_point"]),
                int(entry["bits"]),
            )
            for layer, entry in stored["weights"].items()
        }
        biases = {
            layer: IntegerBias(
                artifact.state_dict[f"{layer}.bias"],
                torch.tensor(entry["scale"], dtype=torch.float32),
            )
            for layer, entry in stored["biases"].items()
        }
        network = QuantizedNetwork(
            model=model,
            example=torch.zeros(1, *artifact.input_shape),
            weights=weights,
            biases=biases,
            activations={
                name: Activation(float(grid[0]), int(grid[1]), str(grid[2]))
                for name, grid in stored["activations"].items()
            },
            folded=tuple(stored["folded"]),
            keep_float=tuple(stored["keep_float"]),
            float_compute=tuple(stored["float_compute"]),
            operators=tuple(stored["integer_operators"]),
            sqnr=dict(stored["sqnr_db"]),
            settings=dict(stored["settings"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(
            f"the quantised network {artifact.arch!r} is damaged: "
            f"{type(error).__name__} {error} in the field 'quantization'"
        ) from error
    graph = network.graph()
    missing = [
        graph.names[node]
        for node in network.plan(graph).sites
        if graph.names[node] not in network.activations
    ]
    if missing:
        raise ArtifactError(
            f"the quantised network {artifact.arch!r} is damaged: no activation range for layer "
            f"{missing[0]!r} and {len(missing) - 1} others; quantise it again"
        )
    return network
