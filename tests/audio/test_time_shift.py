from __future__ import annotations

import numpy as np
import pytest
import torch

from compressor.audio.time_shift import random_time_shift


def test_distances_are_rounded_normal_and_the_clip_goes_round() -> None:
    n, total = 4000, 400
    x = torch.arange(float(total)).expand(n, 1, 1, total)
    rolled = random_time_shift(x, np.random.default_rng(0), 10)
    assert torch.equal(rolled.sort(dim=3).values, x)
    eta = (rolled[:, 0, 0, 0] + total / 2) % total - total / 2
    assert torch.equal(rolled[5, 0, 0], torch.roll(x[5, 0, 0], -int(eta[5])))
    assert eta.mean().item() == pytest.approx(0, abs=0.5)
    assert eta.std().item() == pytest.approx(np.sqrt(10**2 + 1 / 12), rel=0.03)
    within = (eta.abs() <= 10).float().mean().item()
    assert within == pytest.approx(0.7063, abs=0.02)  # P(|N(0, 10)| < 10.5)


def test_seeded_longer_than_the_clip_and_off_at_zero() -> None:
    x = torch.randn(8, 2, 3, 5)
    first, again = (random_time_shift(x, np.random.default_rng(1), 50) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first.sort(dim=3).values, x.sort(dim=3).values)
    assert random_time_shift(x, np.random.default_rng(1), 0) is x
