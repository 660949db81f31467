from __future__ import annotations

import pytest
import torch
from torch import nn

from compressor.training.ema import WeightAverage, decay_at, start_left, tensors_of


def test_two_steps_by_hand() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    average = WeightAverage(layer, decay=0.9)
    layer.weight.data.fill_(2.0)
    average.update()  # d = min(0.9, 2/11): 2/11·1 + 9/11·2 = 20/11
    layer.weight.data.fill_(4.0)
    average.update()  # d = 3/12: 1/4·20/11 + 3/4·4 = 38/11
    average.swap()
    assert layer.weight.item() == pytest.approx(38 / 11)
    average.swap()
    assert layer.weight.item() == 4.0


def test_decay_caps_the_warmup() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.zero_()
    average = WeightAverage(layer, decay=0.1)
    layer.weight.data.fill_(1.0)
    average.update()  # 2/11 > 0.1
    average.swap()
    assert layer.weight.item() == pytest.approx(0.9)


def test_what_is_left_of_the_start_by_hand() -> None:
    """Three steps: 2/11 · 3/12 · 4/13. Of a few hundred nothing is left, whatever the decay."""
    assert start_left(3, 0.999) == pytest.approx(24 / 1716)
    assert start_left(300, 0.999) < 1e-12
    assert start_left(3, 0.1) == pytest.approx(0.001)
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    average = WeightAverage(layer, decay=0.999)
    layer.weight.data.zero_()
    for _ in range(3):
        average.update()
    average.swap()
    assert layer.weight.item() == pytest.approx(start_left(3, 0.999))


def test_decay_of_a_step_by_hand() -> None:
    assert decay_at(90, 0.999) == pytest.approx(91 / 100)
    assert decay_at(8_990, 0.999) == 0.999 > decay_at(8_989, 0.999)


def test_batchnorm_statistics_are_averaged_and_counters_copied() -> None:
    norm = nn.BatchNorm1d(2)
    average = WeightAverage(norm, decay=0.9)
    norm(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))  # running mean 0.1·(1, 20)
    average.update()
    average.swap()
    assert norm.running_mean is not None
    assert norm.num_batches_tracked is not None
    assert norm.running_mean.tolist() == pytest.approx([0.1 * 9 / 11, 2.0 * 9 / 11])
    assert norm.num_batches_tracked.item() == 1


def test_swapping_twice_changes_no_bit() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    average = WeightAverage(network, decay=0.99)
    for parameter in network.parameters():
        parameter.data.normal_()
    before = [tensor.clone() for tensor in tensors_of(network)]
    average.update()
    average.swap()
    assert not torch.equal(before[0], tensors_of(network)[0])
    average.swap()
    assert all(map(torch.equal, before, tensors_of(network)))
