"""Small builds of every network, so that the tests over the registry stay quick."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import zoo

# sizes at which each family is still itself; a family that is not here is built as published
SMALL: dict[str, dict[str, int]] = {
    "seresnet": {"frames": 24, "mels": 16},
    "dsmn": {"frames": 34, "mels": 32},
    "cp_resnet": {"frames": 66, "mels": 65, "width": 12},
    "mbconv_deepsound": {"frames": 33, "mels": 16},
    "sepcnn": {"frames": 20, "mels": 34},
    "dcase_baseline": {"frames": 27, "mels": 40},
    "cp_mobile": {"frames": 33, "mels": 48},
}
CLASSES = 4


def small_arguments(name: str) -> dict[str, int]:
    return SMALL.get(zoo.entry(name).family, {})


def small_input(name: str, batch: int = 5, seed: int = 1) -> Tensor:
    """Features (batch, C, M, T) or (batch, C, T, M); the clips differ in level and spread."""
    arguments = small_arguments(name)
    shape = zoo.entry(name).shape(frames=arguments.get("frames"), mels=arguments.get("mels"))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *shape, generator=generator)
    level = torch.linspace(-1, 1, batch).view(-1, 1, 1, 1)
    return x * (1.5 + level) + level


def small_network(name: str, seed: int = 0) -> nn.Module:
    """Network in eval mode with trained-looking BatchNorm: scales, shifts and statistics set."""
    torch.manual_seed(seed)
    network = zoo.build(name, CLASSES, **small_arguments(name))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # plain average of the batches below
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
    with torch.no_grad():
        for batch in range(3):
            network(small_input(name, 8, seed=10 + batch))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return network.eval()


Small = Callable[[str], tuple[nn.Module, Tensor]]


@pytest.fixture
def small() -> Small:
    """`small(name)` -> (network in eval mode, input of five clips)."""
    return lambda name: (small_network(name), small_input(name))


@pytest.fixture
def small_arguments_of() -> Callable[[str], dict[str, int]]:
    """Arguments of the small build of a network."""
    return small_arguments
