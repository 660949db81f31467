"""Small networks: of the zoo with random BatchNorms, and one trained on clips that differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from compressor.artifact import Artifact, from_model
from compressor.methods.batchnorm import reestimate

CLASSES = 4


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    """A network, inputs of it, and how it was built."""

    name: str
    model: nn.Module
    x: Tensor
    args: dict[str, int]

    def artifact(self) -> Artifact:
        return from_model(
            self.model,
            arch=self.name,
            arch_args=self.args,
            num_classes=CLASSES,
            classes=("a", "b", "c", "d"),
            input_shape=tuple(self.x.shape[1:]),
            layout=zoo.entry(self.name).layout,
            front_end={},
            standardizer={},
            history=({"step": "train"},),
        )


def build(name: str, seed: int = 0) -> Case:
    """A network whose BatchNorms have scales of both signs and statistics of its inputs."""
    entry = zoo.entry(name)
    planes = entry.input_shape[0]
    args = (
        {"mels": 40, "frames": 40}
        if entry.family == "dcase_baseline"
        else {
            "mels": 64 if entry.family in ("cp_resnet", "dsmn") else 32,
            "frames": 65 if entry.family == "cp_resnet" else 32,
        }
    )
    if entry.family == "cp_resnet":
        args["mels"] = 65
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = zoo.build(name, CLASSES, **args)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            with torch.no_grad():
                size = layer.weight.shape
                sign = torch.randint(0, 2, size, generator=generator) * 2 - 1
                layer.weight.copy_((torch.rand(size, generator=generator) + 0.5) * sign)
                layer.bias.copy_(torch.randn(size, generator=generator) * 0.2)
    pair = (args["mels"], args["frames"])
    shape = (planes, *(pair if entry.layout == "CFT" else pair[::-1]))
    x = torch.randn(8, *shape, generator=generator)
    reestimate(model, [x])
    return Case(name, model.eval(), x, args)


@pytest.fixture(scope="session")
def make() -> Callable[[str], Case]:
    made: dict[str, Case] = {}

    def get(name: str) -> Case:
        if name not in made:
            made[name] = build(name)
        return made[name]

    return get


def clips(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with a raised band: (count, 1, 16, 24) and the number of the band, 0 to 3."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, CLASSES, (count,), generator=generator)
    x = torch.randn(count, 1, 16, 24, generator=generator)
    for band in range(CLASSES):
        x[y == band, :, 4 * band : 4 * band + 4] += 0.7
    return x, y


def train(model: nn.Module, steps: int, lr: float, seed: int = 0) -> float:
    """SGD on fresh clips; returns the last loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    model.train()
    loss = torch.zeros(())
    for step in range(steps):
        x, y = clips(32, seed * 1000 + step)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.fixture(scope="session", name="clips")
def give_clips() -> Callable[[int, int], tuple[Tensor, Tensor]]:
    return clips


@pytest.fixture(scope="session", name="train")
def give_train() -> Callable[..., float]:
    return train


ARGS = {"mels": 16, "frames": 24, "blocks": (1, 1, 1, 1), "strides": (1, 2, 2, 2)}


@pytest.fixture(scope="session")
def trained() -> nn.Module:
    """SE-ResNet of four blocks, trained for a few seconds until it tells the bands apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = zoo.build("seresnet18", CLASSES, **ARGS)
    train(model, 40, 0.05)
    return model.eval()


@pytest.fixture(scope="session")
def run_onnx() -> Callable[[bytes | Path, Tensor], np.ndarray]:
    """Logits of an ONNX file in onnxruntime, one thread."""
    onnxruntime = pytest.importorskip("onnxruntime")

    def run(model: bytes | Path, x: Tensor) -> np.ndarray:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])
        return np.asarray(session.run(["logits"], {"features": x.numpy()})[0])

    return run
