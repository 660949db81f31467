"""The PyTorch network whose outputs an exported file must give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from compressor.artifact import Artifact

__all__ = ["reference_network"]


def reference_network(artifact: Artifact) -> nn.Module:
    """The network as it runs: a quantised one with its activations rounded as integers are.

    Raises:
        ArtifactError: the stored tensors do not fit the architecture, or each other.
    """
    if not artifact.quantization:
        return artifact.build()
    from compressor.methods.quant import restore

    return restore(artifact).simulated()
