from __future__ import annotations

import numpy as np
import pytest
import torch

from compressor.audio.mixstyle import mixstyle, random_mixstyle


def maps(n: int = 4) -> torch.Tensor:
    x = torch.randn(n, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    return x * torch.arange(1.0, 6.0).view(1, 1, 5, 1) + torch.arange(n).view(n, 1, 1, 1)


def test_statistics_of_each_band_are_mixed() -> None:
    x = maps()
    weights, partners = torch.tensor([1.0, 0.0, 0.25, 0.5]), torch.tensor([3, 2, 1, 0])
    y = mixstyle(x, weights, partners)
    for clip, (w, other) in enumerate(zip(weights.tolist(), partners.tolist(), strict=True)):
        for band in range(5):
            own, theirs, found = (
                t.numpy() for t in (x[clip, :, band], x[other, :, band], y[clip, :, band])
            )
            assert found.mean() == pytest.approx(w * own.mean() + (1 - w) * theirs.mean(), abs=1e-5)
            assert found.std() == pytest.approx(w * own.std() + (1 - w) * theirs.std(), rel=1e-4)
            shape = (own - own.mean()) / own.std()
            assert (found - found.mean()) / found.std() == pytest.approx(shape, abs=1e-4)
    assert torch.allclose(y[0], x[0], atol=1e-5), "all of its own statistics"


def test_a_band_that_never_changes_stays_finite() -> None:
    x = torch.zeros(2, 1, 3, 4)
    x[1] = 5
    y = mixstyle(x, torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))
    assert torch.allclose(y, torch.full_like(y, 2.5))


def test_as_often_as_asked() -> None:
    x, rng = maps(), np.random.default_rng(0)
    mixed = sum(random_mixstyle(x, rng, 0.4, 0.3) is not x for _ in range(1000))
    assert mixed == pytest.approx(400, abs=60)  # four deviations
    assert random_mixstyle(x, rng, 0.0, 0.3) is x
    before = np.random.default_rng(1)
    random_mixstyle(x, before, 0.0, 0.3)
    assert before.random() == np.random.default_rng(1).random(), "off draws nothing"
