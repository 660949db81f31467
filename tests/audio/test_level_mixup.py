from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from compressor.audio.augment import random_mixup
from compressor.audio.level_mixup import level_aware_mixup, level_weights, mix_levels
from compressor.audio.logmel import preset


def test_weights_by_hand() -> None:
    """r = 1/2 and 20 dB more: p = 1 / (1 + 10 · 1) = 1/11; the quieter one gets 10/11."""
    r = torch.tensor([0.5, 0.5, 0.25, 0.0, 1.0])
    own = torch.tensor([-10.0, -30.0, -20.0, 0.0, -70.0])
    partner = torch.tensor([-30.0, -10.0, -20.0, -60.0, 0.0])
    expected = [1 / 11, 10 / 11, 0.25, 0.0, 1.0]
    assert level_weights(r, own, partner).tolist() == pytest.approx(expected)


def test_equal_levels_are_plain_mixup() -> None:
    x = torch.randn(16, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.nn.functional.one_hot(torch.arange(16) % 5, 5).float()
    plain = random_mixup(x, targets, 0.6, np.random.default_rng(3))
    level = level_aware_mixup(x, targets, torch.full((16,), -31.0), 0.6, np.random.default_rng(3))
    for one, other in zip(plain, level, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_features_follow_the_levels_and_targets_do_not() -> None:
    """Clips that hold their own target show p, the targets show r."""
    n, rng = 64, np.random.default_rng(1)
    levels = rng.uniform(-60, -10, n).astype(np.float32)
    targets = torch.eye(n)
    mixed, soft = level_aware_mixup(
        targets.view(n, 1, n, 1), targets, levels, 2.0, np.random.default_rng(5)
    )
    r = soft.diagonal()
    pairs = [(row, int(p)) for row, other in enumerate(soft) for p in other.nonzero() if p != row]
    assert len(pairs) > n - 8
    assert max(float(r[row]) - float(r[pairs[0][0]]) for row, _ in pairs) < 1e-6  # one a batch
    for row, partner in pairs:
        share = float(r[row])
        gain = 10 ** ((levels[row] - levels[partner]) / 20)
        p = 1 / (1 + gain * (1 - share) / share)
        assert float(mixed[row, 0, row, 0]) == pytest.approx(p, rel=1e-4)
        assert float(mixed[row, 0, partner, 0]) == pytest.approx(1 - p, rel=1e-4)
        assert float(soft[row, partner]) == pytest.approx(1 - share, rel=1e-5)


def test_powers_by_hand() -> None:
    """Powers 4 and 16, p = 1/4: (4/16 + 16·9/16) / (1/16 + 9/16) = (4 + 144) / 10."""
    x = torch.tensor([4.0, 16.0]).log().view(2, 1, 1, 1)
    weights, partners = torch.tensor([0.25, 1.0]), torch.tensor([1, 0])
    mixed = mix_levels(x, partners, weights, log_unit=1.0)
    assert mixed.exp().flatten().tolist() == pytest.approx([14.8, 16.0])
    unit = 10 / math.log(10)  # the same in decibels
    assert mix_levels(x * unit, partners, weights, unit).div(unit).exp().flatten().tolist() == (
        pytest.approx([14.8, 16.0])
    )


@pytest.mark.parametrize("name", ["deepsound2021_64", "scut2023:deltas=false,standardize=none"])
def test_mixed_powers_are_those_of_mixed_waveforms(name: str) -> None:
    """Two independent noises, mixed as sound by the paper's formula and as log-mels."""
    front_end = preset(name)
    rng = np.random.default_rng(0)
    sounds = np.array([[0.01], [0.2]]) * rng.standard_normal((2, 44_100 * 4))
    weight = 0.9
    together = (weight * sounds[0] + (1 - weight) * sounds[1]) / np.hypot(weight, 1 - weight)
    expected = front_end(together).mean(axis=2)[0]
    x = torch.from_numpy(np.stack([front_end(sound) for sound in sounds]))
    mixed = mix_levels(
        x, torch.tensor([1, 0]), torch.tensor([weight, 1.0]), log_unit=front_end.log_unit
    )
    unit_db = front_end.log_unit * math.log(10) / 10
    difference_db = (mixed[0, 0].mean(dim=1).numpy() - expected) / unit_db
    assert abs(difference_db).mean() < 1.0  # noise of a random phase between the two remains
    lerped = mix_levels(x, torch.tensor([1, 0]), torch.tensor([weight, 1.0]))
    assert abs((lerped[0, 0].mean(dim=1).numpy() - expected) / unit_db).mean() > 3.0


def test_seeded() -> None:
    x, targets = torch.randn(4, 1, 2, 2), torch.eye(4)
    levels = torch.tensor([0.0, -10.0, -20.0, -5.0])
    first, again = (
        level_aware_mixup(x, targets, levels, 0.4, np.random.default_rng(2)) for _ in range(2)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
