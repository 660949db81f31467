from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from compressor.data.features import FeatureSet, Standardizer

Part = Callable[..., FeatureSet]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One torch thread for the test: sums in another order are other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_part() -> Part:
    """A part of noise whose class is a raised block of bands: separable, but not by one value."""

    def make(
        n: int = 96,
        shape: tuple[int, int, int] = (1, 12, 10),
        classes: int = 3,
        *,
        seed: int = 0,
        groups_of: int = 4,
        devices: tuple[str, ...] = ("a", "b"),
        spare: int = 5,
    ) -> FeatureSet:
        rng = np.random.default_rng(seed)
        y = np.arange(n) % classes
        x = rng.normal(size=(n + spare, *shape))
        index = rng.permutation(n + spare)[:n]  # the cache holds clips of other parts as well
        block = shape[1] // classes
        for row, label in zip(index, y, strict=True):
            x[row, :, label * block : (label + 1) * block] += 2.0
        return FeatureSet(
            x=(3 * x + 1).astype(np.float16),
            index=index,
            y=y.astype(np.int64),
            devices=tuple(devices[i % len(devices)] for i in range(n)) if devices else ("",) * n,
            groups=tuple(f"g{i // (classes * groups_of)}-{y[i]}" for i in range(n)),
            classes=tuple(f"class{k}" for k in range(classes)),
        )

    return make


@pytest.fixture
def make_standardizer() -> Callable[[FeatureSet], Standardizer]:
    """Mean and deviation of each band of a part."""

    def make(part: FeatureSet) -> Standardizer:
        x = part.array().astype(np.float64)
        return Standardizer(
            mean=tuple(map(tuple, x.mean(axis=(0, 3)).tolist())),
            std=tuple(map(tuple, x.std(axis=(0, 3)).tolist())),
        )

    return make


@pytest.fixture
def make_network() -> Callable[..., nn.Module]:
    """A small convolutional network with BatchNorm and dropout, its start fixed by a seed."""

    def make(
        classes: int = 3, channels: int = 1, *, width: int = 8, extra: int = 0, seed: int = 0
    ) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.AvgPool2d((2, 2)),
                nn.Conv2d(width, 2 * width, (6, 3), padding=(0, 1), bias=False),
                nn.BatchNorm2d(2 * width),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Dropout(0.1),
                nn.Linear(2 * width, classes + extra),
            )

    return make
