"""An exported file on a data set's test part, beside the PyTorch network it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.deploy.session import onnx_logits
from compressor.errors import UsageError
from compressor.training.metrics import Evaluation, score

if TYPE_CHECKING:
    from compressor.artifact import Artifact
    from compressor.data.dataset import Progress
    from compressor.data.features import Features

__all__ = ["Verified", "features_for", "verify"]


@dataclass(frozen=True)
class Verified:
    """Results of a file in onnxruntime and of its network in PyTorch, on the same clips.

    Attributes:
        onnx: results in onnxruntime.
        torch: results in PyTorch.
        agreement: share of clips with the same highest output.
        title: the data set; `split`: the split in words.
        synthetic: generated sounds instead of recordings.
    """

    onnx: Evaluation
    torch: Evaluation
    agreement: float
    title: str
    split: str
    synthetic: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "onnxruntime": self.onnx.to_dict(),
            "torch": self.torch.to_dict(),
            "agreement": self.agreement,
            "data": {"title": self.title, "split": self.split, "synthetic": self.synthetic},
        }


def features_for(
    artifact: Artifact,
    data: str | None,
    *,
    fold: int | None = None,
    cache: Path | None = None,
    on_progress: Progress | None = None,
) -> Features:
    """Features of a data set with a network's own front-end.

    Raises:
        DataError: the data cannot be read.
        UsageError: it has other classes than the network, or clips of another length.
    """
    from compressor.audio.logmel import LogMel
    from compressor.data import open_dataset
    from compressor.data.features import extract

    dataset = open_dataset(data, fold=fold, cache=cache)
    if artifact.classes and dataset.classes != artifact.classes:
        raise UsageError(
            f"{dataset.title} has the classes {', '.join(dataset.classes)}, the network "
            f"{', '.join(artifact.classes)}; give the data the network was trained on"
        )
    front_end = LogMel.from_dict(artifact.front_end)
    features = extract(dataset, front_end, cache=cache, on_progress=on_progress)
    channels, bands, frames = (int(size) for size in features.test.x.shape[1:])
    shape = (channels, bands, frames)
    if artifact.layout == "CTF":
        shape = (channels, frames, bands)
    if shape != artifact.input_shape:
        raise UsageError(
            f"clips of {dataset.title} give features {shape}, the network takes "
            f"{artifact.input_shape}; give the data the network was trained on"
        )
    return features


def verify(artifact: Artifact, path: Path, features: Features, *, threads: int = 1) -> Verified:
    """Evaluate `path`, which was exported from `artifact`, on the test part of `features`.

    Both use the artifact's own standardizer. A quantised network is run in PyTorch with its
    activations rounded.

    Raises:
        ModelFileError, MeasureError: the file cannot be run.
    """
    from compressor.data.features import Standardizer
    from compressor.export.reference import reference_network
    from compressor.training.evaluation import predict

    standardizer = Standardizer.from_dict(artifact.standardizer)
    part = features.test
    found = onnx_logits(
        path, part, standardizer=standardizer, layout=artifact.layout, threads=threads
    )
    expected = predict(
        reference_network(artifact),
        part,
        standardizer=standardizer,
        layout=artifact.layout,
        num_classes=len(part.classes),
        device="cpu",
    )
    return Verified(
        onnx=score(found, part.y, part.classes, part.devices),
        torch=score(expected, part.y, part.classes, part.devices),
        agreement=float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        title=features.dataset.title,
        split=features.dataset.split,
        synthetic=features.dataset.synthetic,
    )
