"""A file on a data set beside its PyTorch network: the same clips, the same figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import zoo
from compressor.artifact import Artifact, from_model
from compressor.audio.logmel import preset
from compressor.data.features import Standardizer
from compressor.deploy.predict import open_network, predict_files
from compressor.deploy.verify import features_for, verify
from compressor.errors import UsageError
from compressor.export import export
from compressor.training import evaluate

RATE_HZ = 16_000
CLASSES = ("high", "low")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels of ten noisy tones of 0.4 s, a fold of each in a test part."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(4)
    time = np.arange(round(0.4 * RATE_HZ)) / RATE_HZ
    for label, pitch_hz in (("low", 300.0), ("high", 4000.0)):
        for i in range(10):
            folder = root / ("test" if i % 2 else "train") / label
            folder.mkdir(parents=True, exist_ok=True)
            tone = np.sin(2 * np.pi * pitch_hz * time + rng.uniform(0, 6))
            sound = rng.uniform(0.01, 0.3) * tone + 0.05 * rng.standard_normal(len(time))
            soundfile.write(folder / f"{label}{i}.wav", sound, RATE_HZ)
    return root


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    """0.4 s at 16 kHz; features are about -5 with a deviation of 3."""
    entry = zoo.entry("seresnet18")
    front_end = preset(entry.front_end).at_rate(RATE_HZ)
    _, mels, frames = front_end.shape(0.4)
    torch.manual_seed(1)
    model = zoo.build("seresnet18", 2, mels=mels, frames=frames)
    with torch.no_grad():
        model(torch.randn(8, 1, mels, frames))
    return from_model(
        model.eval(),
        arch="seresnet18",
        arch_args={"mels": mels, "frames": frames},
        num_classes=2,
        classes=CLASSES,
        input_shape=(1, mels, frames),
        layout="CFT",
        front_end=front_end.to_dict(),
        standardizer={"mean": [[-5.0] * mels], "std": [[3.0] * mels]},
    )


def test_figures_are_those_of_the_training_package(
    artifact: Artifact, data: Path, tmp_path: Path
) -> None:
    """Also: predictions of single files have the classes that the evaluation counted."""
    features = features_for(artifact, str(data), cache=tmp_path / "cache")
    export(artifact, tmp_path / "n.onnx")
    found = verify(artifact, tmp_path / "n.onnx", features)
    expected = evaluate(
        artifact.build(),
        features.test,
        standardizer=Standardizer.from_dict(artifact.standardizer),
    )
    assert found.torch.to_dict() == expected.to_dict()
    assert found.onnx.n == 10
    assert found.onnx.log_loss == pytest.approx(expected.log_loss, abs=1e-5)
    assert found.agreement >= 0.9  # a tie may fall either way
    assert not found.synthetic

    network = open_network(tmp_path / "n.onnx")
    clips = features.dataset.test
    predictions = list(predict_files(network, [clip.path for clip in clips]))
    right = [one.label == clip.label for one, clip in zip(predictions, clips, strict=True)]
    assert sum(right) / len(right) == pytest.approx(found.onnx.accuracy)


def test_data_that_does_not_fit(artifact: Artifact, data: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(artifact, classes=("bus", "tram"))
    with pytest.raises(UsageError, match=r"has the classes high, low, the network bus, tram"):
        features_for(other, str(data), cache=tmp_path)
    longer = dataclasses.replace(artifact, input_shape=(1, 40, 999))
    with pytest.raises(UsageError, match=r"the network takes \(1, 40, 999\)"):
        features_for(longer, str(data), cache=tmp_path)
