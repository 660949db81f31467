"""Every network of the zoo through every step and every sensible pair of steps.

Each run ends in an ONNX file that executes and in a model file that audits.
"""

from __future__ import annotations

import inspect
import itertools
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from raised_bands import CLASSES, make_features
from small_networks import Small, randomise, small

import zoo
from compressor.artifact import Artifact, from_model, save
from compressor.audit import audit
from compressor.data.features import Features
from compressor.engine import compress
from compressor.recipe import Cast, Export, Finetune, Prune, Quantize, Recipe, Slim, Step

TRAIN = {"batch_size": 8, "validation_share": 0.0, "lr": 1e-3}
STEPS: dict[str, Step] = {
    "slim": Slim(ratio=0.4),
    "slim-l1": Slim(ratio=0.4, importance="l1"),
    "prune": Prune(sparsity=0.4, scope="layer"),
    "gradual": Prune(sparsity=0.4, scope="layer", schedule="gradual", epochs=1, settings=TRAIN),
    "finetune": Finetune(epochs=1, settings=TRAIN, teacher="self"),
    "float16": Cast(),
    "int8-ptq": Quantize(calibration_clips=8),
    "int8-qat": Quantize(scheme="int8-qat", epochs=1, calibration_clips=8, settings=TRAIN),
}
ENDS = {"float16", "int8-ptq", "int8-qat"}
PAIRS = [
    (one, two)
    for one, two in itertools.permutations(STEPS, 2)
    if one not in ENDS and {one, two} not in ({"slim", "slim-l1"}, {"prune", "gradual"})
]


@cache
def prepared(name: str) -> tuple[Artifact, Features]:
    network: Small = small(name)
    entry = zoo.entry(name)
    planes, second, third = network.shape
    shape = (planes, third, second) if entry.layout == "CTF" else network.shape
    features = make_features(name, shape, clips=(16, 9))
    args = dict(network.args)
    if "group_classes" in inspect.signature(entry.builder).parameters:
        args["group_classes"] = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = randomise(zoo.build(name, len(CLASSES), **args), 1)
    artifact = from_model(
        model,
        arch=name,
        arch_args=args,
        num_classes=len(CLASSES),
        classes=CLASSES,
        input_shape=network.shape,
        layout=entry.layout,
        front_end=features.front_end.to_dict(),
        standardizer=features.standardizer.to_dict(),
    )
    return artifact, features


def check(name: str, kinds: tuple[str, ...], folder: Path) -> None:
    artifact, features = prepared(name)
    path = folder / "net.onnx"
    steps = (*(STEPS[kind] for kind in kinds), Export(path=str(path)))
    records: list[Any] = []
    result = compress(artifact, Recipe(steps), features, on_step=records.append)
    save(result, folder / "net.pt")
    counted = audit(folder / "net.pt")
    assert counted.params == records[-1].audit_after["params"]
    assert counted.status == "exact"
    assert 0 <= records[-1].accuracy_after["accuracy"] <= 1
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.zeros((2, *artifact.input_shape), dtype=np.float32)
    (logits,) = session.run(None, {session.get_inputs()[0].name: x})
    assert logits.shape == (2, len(CLASSES))
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("dsmn_seg", ("slim", "int8-qat")), ("dcase2022_baseline", ("prune", "int8-ptq"))],
)
def test_some(name: str, kinds: tuple[str, ...], tmp_path: Path) -> None:
    check(name, kinds, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("name", zoo.list_models())
def test_every_step(name: str, kind: str, tmp_path: Path) -> None:
    check(name, (kind,), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
@pytest.mark.parametrize("name", zoo.list_models())
def test_every_pair(name: str, kinds: tuple[str, ...], tmp_path: Path) -> None:
    check(name, kinds, tmp_path)
