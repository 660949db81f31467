"""Scale moved between layers: the function stays, the ranges change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from compressor.methods.dataflow import trace
from compressor.methods.equalize import correct_biases, equalize, level_channels, neighbours
from compressor.methods.fold import fold_batchnorm
from compressor.methods.quant import StaticInt8, quantize_static
from compressor.methods.quant.integers import quantize_weight


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(3, 3, 3, padding=1, groups=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()


X = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def test_ranges_meet_in_the_middle() -> None:
    model = chain()
    with torch.no_grad():
        model[0].weight[1] *= 100
        expected = model(X)
    pairs = equalize(model, X)
    assert pairs == (("0", "2"), ("2", "5"), ("5", "9"))
    with torch.no_grad():
        assert torch.allclose(model(X), expected, rtol=1e-4, atol=1e-5)
    # at the fixed point output range i of a layer is input range i of the next
    rows = model[2].weight.abs().amax(dim=(1, 2, 3))
    assert torch.allclose(model[0].weight.abs().amax(dim=(1, 2, 3)), rows, rtol=0.02)
    columns = model[9].weight.abs().amax(dim=0)
    assert torch.allclose(model[5].weight.abs().amax(dim=(1, 2, 3)), columns, rtol=0.02)


def test_only_homogeneous_neighbours() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sigmoid(), nn.Conv2d(2, 2, 1)).eval()
    assert neighbours(trace(model, X)) == []
    assert equalize(model, X) == ()


def test_levelled_channels_have_one_range() -> None:
    model = chain()
    with torch.no_grad():
        model[0].weight[1] *= 50
        expected = model(X)
        silent = model[0].weight[2].clone()
    assert level_channels(model, X, [X]) == ("1",)
    with torch.no_grad():
        assert torch.allclose(model(X), expected, rtol=1e-4, atol=1e-5)
        ranges = torch.relu(model[0](X)).amax(dim=(0, 2, 3))
    assert torch.allclose(ranges, ranges.max().expand(3), rtol=1e-4)
    assert not torch.equal(model[0].weight[2], silent)


def test_levelling_helps_where_factors_differ(make: Callable[[str], Any]) -> None:
    """DSMN scales channels one by one in front of depthwise convolutions: one widest channel sets
    the step of all, unless the factors move on."""
    case = make("dsmn_seg")
    ratios = {
        rescale: quantize_static(case.model, case.x, [case.x], StaticInt8(rescale=rescale)).sqnr[
            "blocks.0.relu"
        ]
        for rescale in (False, True)
    }
    assert ratios[True] > ratios[False] + 3  # dB


def test_bias_correction_takes_the_mean_error_back() -> None:
    model = fold_batchnorm(chain(), X)
    reference, rounded = trace(model, X), trace(fold_batchnorm(model, X), X)
    layers = dict(rounded.weighted())
    with torch.no_grad():
        for node in layers.values():
            layer = rounded.layer(node)
            layer.weight.copy_(quantize_weight(layer.weight, 3).float())
        expected = reference.module(X).mean(0)
        before = (rounded.module(X).mean(0) - expected).abs().max()
    assert correct_biases(rounded, reference, layers, [X]) == tuple(layers)
    with torch.no_grad():
        after = (rounded.module(X).mean(0) - expected).abs().max()
    assert before > 1e-3
    assert after < 1e-5  # the last layer's mean is met exactly on these clips


@pytest.mark.parametrize("option", ["bias_correction", "equalize"])
def test_options_keep_a_good_network_good(option: str, trained: nn.Module, clips: Any) -> None:
    x, _ = clips(64, 60)
    test, y = clips(256, 61)
    network = quantize_static(trained, x, [x], StaticInt8(**{option: True}))
    assert (network.simulate(test).argmax(1) == y).float().mean() > 0.9
