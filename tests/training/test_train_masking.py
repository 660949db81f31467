"""Masks in training: zeros stay, sparsity rises to its end, averages and best epochs respect it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from compressor.errors import ConfigError
from compressor.methods.magnitude import (
    Magnitude,
    count_sparsity,
    cubic_sparsity,
    masks_of_zeros,
    prune_weights,
)
from compressor.training import FixedMasks, GradualMasks, TrainSettings, fit

Make = Callable[..., Any]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("validation_share", [0.0, 0.25])
def test_pruned_weights_stay_zero(
    make_part: Make,
    make_standardizer: Make,
    make_network: Make,
    ema_decay: float,
    validation_share: float,
) -> None:
    part = make_part()
    result = prune_weights(make_network(), Magnitude(0.6))
    network = result.model
    before = [p.detach().clone() for p in network.parameters()]
    settings = TrainSettings(
        epochs=3, batch_size=16, ema_decay=ema_decay, validation_share=validation_share
    )
    fit(
        network,
        part,
        settings,
        standardizer=make_standardizer(part),
        device="cpu",
        masks=FixedMasks(result.masks),
    )
    for name, mask in result.masks.items():
        weight = network.get_parameter(name)
        assert not weight[~mask].any()
        assert (weight[mask] != 0).all()
    assert not all(map(torch.equal, before, network.parameters()))  # the others were trained
    # without masks the zeros are lost: the test above can fail
    free = prune_weights(make_network(), Magnitude(0.6)).model
    fit(free, part, settings, standardizer=make_standardizer(part), device="cpu")
    assert count_sparsity(free).share < 0.1


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_gradual_pruning_ends_at_the_sparsity(
    make_part: Make, make_standardizer: Make, make_network: Make, ema_decay: float
) -> None:
    part, network = make_part(), make_network()
    settings = TrainSettings(
        epochs=4, batch_size=16, ema_decay=ema_decay, validation_share=0.25, lr=0.3
    )
    keeper = GradualMasks(Magnitude(0.8), ramp_share=0.7)
    result = fit(
        network,
        part,
        settings,
        standardizer=make_standardizer(part),
        device="cpu",
        masks=keeper,
    )
    total = count_sparsity(network).total
    assert count_sparsity(network).zeros == int(total * 0.8)
    # the ramp ends after 0.7 of 4 epochs, in the third: no earlier epoch may be chosen
    assert result.best_epoch >= 3


def test_sparsity_follows_the_cubic() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 16, 3), nn.Conv2d(16, 16, 3))
    total = count_sparsity(network).total  # 576 + 2304
    keeper = GradualMasks(Magnitude(0.9, scope="layer"), ramp_share=0.5, updates=10)
    seen = []
    for done in range(1, 41):
        with torch.no_grad():  # an optimiser that moves everything
            for weight in network.parameters():
                weight.add_(0.01 * torch.randn_like(weight))
        keeper.after_step(network, done, 40)
        seen.append(count_sparsity(network).zeros)
        assert keeper.is_final(done, 40) == (done >= 20)
    assert seen == sorted(seen)
    for done in (2, 10, 20, 40):  # updates at every second step of the ramp of 20
        share = cubic_sparsity(min(done, 20) / 20, 0.9)
        assert seen[done - 1] == pytest.approx(share * total, abs=2)


def test_an_already_sparse_network_begins_there() -> None:
    network = prune_weights(nn.Sequential(nn.Conv2d(4, 16, 3)), Magnitude(0.5)).model
    keeper = GradualMasks(Magnitude(0.9), start=0.5, ramp_share=1.0)
    keeper.after_step(network, 1, 1000)
    assert 0.5 <= count_sparsity(network).share < 0.52
    with pytest.raises(ConfigError, match=r"50\.0% sparse already, more than the 40\.0%"):
        GradualMasks(Magnitude(0.4), start=0.5)


def test_bad_schedules_are_refused() -> None:
    with pytest.raises(ConfigError, match="ramp_share is 0"):
        GradualMasks(Magnitude(0.5), ramp_share=0.0)
    with pytest.raises(ConfigError, match="pattern 2:4 cannot be reached gradually"):
        GradualMasks(Magnitude(pattern="2:4"))


def test_zeros_are_read_back_as_masks(make_network: Make) -> None:
    result = prune_weights(make_network(), Magnitude(0.3))
    assert all(
        torch.equal(mask, result.masks[name]) for name, mask in masks_of_zeros(result.model).items()
    )
