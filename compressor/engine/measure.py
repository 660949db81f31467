"""Results of an artifact on clips: floats measured in torch, integers in onnxruntime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.artifact import Artifact
from compressor.training import Evaluation, evaluate

if TYPE_CHECKING:
    from compressor.data.features import Features

__all__ = ["evaluate_artifact"]


def evaluate_artifact(
    artifact: Artifact, data: Features, *, device: str = "auto"
) -> tuple[Evaluation, str]:
    """Results of the stored network on the test part, and what computed them.

    Args:
        artifact: what would be written.
        data: clips that fit it.
        device: for torch.
    """
    if artifact.quantization:
        from compressor.deploy.session import evaluate_onnx
        from compressor.export import export

        with tempfile.TemporaryDirectory(prefix="compressor-") as folder:
            path = Path(folder) / "step.onnx"
            export(artifact, path, to="onnx")
            return evaluate_onnx(path, data.test), "onnxruntime"
    found = evaluate(
        artifact.build(),
        data.test,
        standardizer=data.standardizer,
        layout=artifact.layout,
        device=device,
    )
    return found, "torch"
