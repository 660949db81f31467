"""A tiny network of the zoo with clips it can tell apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "methods"))
sys.path.insert(0, str(Path(__file__).resolve().parent))  # tests import by name
from raised_bands import ARGS, CLASSES, FRAMES, MELS, make_features

import zoo
from compressor.artifact import Artifact, from_model
from compressor.data.features import Features
from compressor.training import TrainSettings, fit

QUICK = TrainSettings(epochs=4, batch_size=16, lr=0.02, validation_share=0.0, ema_decay=0.0)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def features() -> Features:
    return make_features("seresnet18")


@pytest.fixture(scope="session")
def dense(features: Features) -> Artifact:
    """A trained seresnet18 of 54,000 parameters on inputs of 1 x 12 x 20."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = zoo.build("seresnet18", len(CLASSES), **ARGS)
    fit(model, features.train, QUICK, standardizer=features.standardizer)
    return from_model(
        model,
        arch="seresnet18",
        arch_args=ARGS,
        num_classes=len(CLASSES),
        classes=CLASSES,
        input_shape=(1, MELS, FRAMES),
        layout="CFT",
        front_end=features.front_end.to_dict(),
        standardizer=features.standardizer.to_dict(),
        history=({"step": "train", "settings": QUICK.to_dict()},),
    )


@pytest.fixture
def dense_file(dense: Artifact, tmp_path: Path) -> Path:
    from compressor.artifact import save

    path = tmp_path / "dense.pt"
    save(dense, path)
    return path
