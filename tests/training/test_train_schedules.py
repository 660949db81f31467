from __future__ import annotations

import math

import pytest
import torch

from compressor.training import TrainSettings
from compressor.training.schedules import make_scheduler


def rates(settings: TrainSettings, steps: int) -> tuple[list[float], list[float]]:
    """Learning rate and momentum at each step of a run."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=settings.lr, momentum=settings.momentum)
    scheduler = make_scheduler(optimizer, settings, steps)
    lrs, momenta = [], []
    for _ in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        parameter.grad = torch.zeros(1)
        optimizer.step()
        scheduler.step()
    return lrs, momenta


def test_onecycle_by_its_formula() -> None:
    lr, steps = 0.01, 101
    lrs, momenta = rates(TrainSettings(lr=lr, optimizer="sgd", warmup_share=0.2), steps)
    peak = 0.2 * steps - 1  # torch counts the rise from step 0 to share·steps - 1

    def cosine(start: float, end: float, part: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * part))

    for step in range(steps):
        if step <= peak:
            expected, swing = cosine(lr / 25, lr, step / peak), cosine(0.95, 0.85, step / peak)
        else:
            part = (step - peak) / (steps - 1 - peak)
            expected, swing = cosine(lr, lr / 25e4, part), cosine(0.85, 0.95, part)
        assert lrs[step] == pytest.approx(expected)
        assert momenta[step] == pytest.approx(swing)
    assert lrs[0] == pytest.approx(lr / 25)
    assert lrs[-1] == pytest.approx(lr / 250_000)


def test_cosine_with_linear_warmup_by_hand() -> None:
    settings = TrainSettings(lr=1.0, schedule="cosine", warmup_share=0.2)
    lrs, momenta = rates(settings, 20)
    warmup = [1 / 5, 2 / 5, 3 / 5, 4 / 5]
    fall = [(1 + math.cos(math.pi * step / 16)) / 2 for step in range(16)]
    assert lrs == pytest.approx(warmup + fall)
    assert set(momenta) == {0.9}


def test_a_cosine_ends_where_it_is_told() -> None:
    """From 1e-3 towards 1e-5: 1e-5 + (1e-3 - 1e-5)·(1 + cos(pi·step/8))/2."""
    settings = TrainSettings(lr=1e-3, lr_final=1e-5, schedule="cosine", warmup_share=0.0)
    lrs, _ = rates(settings, 8)
    expected = [1e-5 + 0.99e-3 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert lrs == pytest.approx(expected)


def test_constant_after_a_linear_warmup() -> None:
    lrs, momenta = rates(TrainSettings(lr=1.0, schedule="constant", warmup_share=0.2), 20)
    assert lrs == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5] + [1.0] * 16)
    assert set(momenta) == {0.9}
    lrs, _ = rates(TrainSettings(lr=0.3, schedule="constant", warmup_share=0.0), 10)
    assert lrs == [0.3] * 10


def test_cosine_without_warmup_starts_at_the_top() -> None:
    lrs, _ = rates(TrainSettings(lr=0.3, schedule="cosine", warmup_share=0.0), 10)
    assert lrs[0] == pytest.approx(0.3)
    assert lrs == sorted(lrs, reverse=True)


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 10])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.5, 0.99])
def test_short_runs_have_a_usable_rate_at_every_step(
    schedule: str, steps: int, share: float
) -> None:
    settings = TrainSettings.from_dict({"schedule": schedule, "warmup_share": share, "lr": 0.1})
    lrs, _ = rates(settings, steps)
    assert all(0 < lr <= 0.1 + 1e-12 for lr in lrs)


@pytest.mark.parametrize("momentum", [0.0, 0.02, 0.98])
def test_onecycle_keeps_the_momentum_valid(momentum: float) -> None:
    _, momenta = rates(TrainSettings(optimizer="sgd", momentum=momentum), 30)
    assert all(0 <= m < 1 for m in momenta)
    assert min(momenta) <= momentum <= max(momenta)
