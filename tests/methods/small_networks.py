"""Networks of the zoo, small and with every BatchNorm value random, shared by the pruning tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from compressor.errors import CompressorError


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Give every norm random scales of both signs, shifts and statistics; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                uniform(layer.weight, -1, 1)
                uniform(layer.bias, -1, 1)
                uniform(layer.running_mean, -1, 1)
                uniform(layer.running_var, 0.5, 2)
    return model.eval()


@dataclass(frozen=True)
class Small:
    """A network of the zoo at the smallest of a few input sizes that it takes."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, int, int] = (0, 0, 0)

    @property
    def ignored(self) -> tuple[str, ...]:
        return zoo.entry(self.name).ignored_layers

    def build(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return randomise(zoo.build(self.name, **self.args), seed)

    def example(self, batch: int = 2, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, *self.shape, generator=generator)


@cache
def small(name: str) -> Small:
    entry = zoo.entry(name)
    planes = entry.input_shape[0]
    mels, frames = entry.input_shape[1:] if entry.layout == "CFT" else entry.input_shape[:0:-1]
    for share in (8, 5, 4, 2):
        args = {"mels": mels // share, "frames": max(32, frames // share)}
        pair = (args["mels"], args["frames"])
        shape = (planes, *(pair if entry.layout == "CFT" else pair[::-1]))
        try:
            model = zoo.build(name, **args).eval()
            with torch.no_grad():
                model(torch.zeros(1, *shape))
        except (CompressorError, RuntimeError):
            continue
        return Small(name, args, shape)
    return Small(name, {}, entry.input_shape)
