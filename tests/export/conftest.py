"""Small artifacts with fresh weights: what is exported need not be trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from compressor.artifact import Artifact, from_model
from compressor.audio.logmel import preset

# sizes at which each family is still itself
SMALL: dict[str, dict[str, int]] = {
    "seresnet": {"frames": 24, "mels": 16},
    "dsmn": {"frames": 34, "mels": 32},
    "cp_resnet": {"frames": 66, "mels": 65, "width": 12},
    "mbconv_deepsound": {"frames": 33, "mels": 16},
    "sepcnn": {"frames": 20, "mels": 34},
    "dcase_baseline": {"frames": 27, "mels": 40},
    "cp_mobile": {"frames": 33, "mels": 48},
}


def make_artifact(name: str = "dcase2022_baseline", **fields: Any) -> Artifact:
    """A network of the zoo at a small size, with BatchNorm statistics as after training."""
    entry = zoo.entry(name)
    arguments = SMALL[entry.family]
    shape = entry.shape(frames=arguments["frames"], mels=arguments["mels"])
    torch.manual_seed(3)
    model = zoo.build(name, 4, **arguments)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.3)
    with torch.no_grad():
        model(torch.randn(8, *shape))
    channels, bands = shape[0], arguments["mels"]
    facts: dict[str, Any] = {
        "arch": name,
        "arch_args": arguments,
        "num_classes": 4,
        "classes": ("bus", "metro", "park", "tram"),
        "input_shape": shape,
        "layout": entry.layout,
        "front_end": preset(entry.front_end).to_dict(),
        "standardizer": {"mean": [[0.5] * bands] * channels, "std": [[2.0] * bands] * channels},
        **fields,
    }
    return from_model(model.eval(), **facts)


@pytest.fixture(scope="session")
def artifact() -> Artifact:
    return make_artifact()


@pytest.fixture(scope="session")
def make() -> Callable[..., Artifact]:
    return make_artifact
