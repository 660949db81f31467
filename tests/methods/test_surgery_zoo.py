"""Every network of the zoo: sliced equals masked, sizes are as predicted, order is monotone."""

from __future__ import annotations

from functools import cache
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import Phase, given, settings
from torch import Tensor, nn

import zoo
from compressor.methods import Slimming, mask_channels, slim
from compressor.methods.slimming import select
from compressor.methods.surgery import PrunePlan, channel_groups, count_planned, slice_channels

RATIOS = (0.3, 0.5, 0.65, 0.8)
MODELS = zoo.list_models()


@cache
def prepared(make_small: Any, name: str) -> tuple[nn.Module, Tensor, Any, Any]:
    network = make_small(name)
    model = network.build(seed=3)
    x = network.example()
    return model, x, channel_groups(model, x, network.ignored), network


def masked_by_hooks(model: nn.Module, plan: PrunePlan, x: Tensor) -> Tensor:
    """Oracle: the untouched network, the outputs of removed channels set to zero as they appear."""

    def silence(removed: tuple[int, ...]) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, list(removed)] = 0
            return output

        return hook

    handles = [
        model.get_submodule(c.layer).register_forward_hook(silence(c.removed)) for c in plan.outputs
    ]
    try:
        with torch.no_grad():
            return model(x)
    finally:
        for handle in handles:
            handle.remove()


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", MODELS)
def test_sliced_equals_masked(make_small: Any, name: str, ratio: float) -> None:
    model, x, groups, _ = prepared(make_small, name)
    choice = select(model, groups, Slimming(ratio))
    small = slice_channels(model, x, choice.plan, groups=groups)
    expected = masked_by_hooks(model, choice.plan, x)
    with torch.no_grad():
        assert relative(small(x), expected) < 1e-5
        assert relative(mask_channels(model, x, choice.plan)(x), expected) < 1e-5
    assert expected.std() > 0  # the comparison has something to compare
    size = sum(p.numel() for p in small.parameters())
    assert size == choice.params_after == count_planned(model, choice.plan) < choice.params_before
    assert not small.training


@pytest.mark.parametrize("name", MODELS)
def test_groups_without_batchnorm_are_exact_too(make_small: Any, name: str) -> None:
    """Half of every group, also of those that slimming has no scales for (hidden layers)."""
    model, x, groups, _ = prepared(make_small, name)
    from compressor.methods.surgery import plan_removal

    plan = plan_removal(model, groups, {g.index: range(g.size // 2) for g in groups})
    small = slice_channels(model, x, plan, groups=groups)
    with torch.no_grad():
        assert relative(small(x), masked_by_hooks(model, plan, x)) < 1e-5


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    seed=st.integers(0, 10**6),
    ratios=st.lists(st.floats(0, 0.999), min_size=2, max_size=5),
    reduction=st.sampled_from(["max", "mean"]),
    levels=st.sampled_from([1, 2, 7, 10**6]),  # few levels make many ties
    floor=st.integers(1, 6),
)
def test_larger_ratios_remove_more(
    make_small: Any,
    name: str,
    seed: int,
    ratios: list[float],
    reduction: Any,
    levels: int,
    floor: int,
) -> None:
    base, _, groups, _ = prepared(make_small, name)
    generator = torch.Generator().manual_seed(seed)
    old = {k: v.clone() for k, v in base.state_dict().items()}
    try:
        with torch.no_grad():
            for layer in base.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    draw = torch.rand(layer.weight.shape, generator=generator)
                    layer.weight.copy_((draw * levels).ceil() / levels)
        removed: set[tuple[str, int]] = set()
        size = sum(p.numel() for p in base.parameters())
        for ratio in sorted(ratios):
            try:
                config = Slimming(ratio, reduction=reduction, min_channels=floor)
                choice = select(base, groups, config)
            except Exception as error:
                assert "removes nothing" in str(error)
                assert not removed
                continue
            now = {(c.layer, i) for c in choice.plan.outputs for i in c.removed}
            assert removed <= now
            assert choice.params_after <= size
            assert choice.channels_under_threshold == int(choice.channels_total * ratio + 1e-9)
            removed, size = now, choice.params_after
            for layer, kept, total in choice.plan.groups:
                assert kept >= min(floor, total), layer
    finally:
        base.load_state_dict(old)


@pytest.mark.parametrize("name", ["dsmn", "dsmn_seg", "seresnet18", "mbconv_deepsound"])
def test_a_slimmed_network_can_be_slimmed_again(make_small: Any, name: str) -> None:
    """ECA keeps the original places over two rounds; the second is as exact as the first."""
    model, x, _, network = prepared(make_small, name)
    once = slim(model, x, Slimming(0.3), ignored=network.ignored)
    twice = slim(once.model, x, Slimming(0.3), ignored=network.ignored)
    with torch.no_grad():
        assert relative(twice.model(x), masked_by_hooks(once.model, twice.plan, x)) < 1e-5
    assert twice.params_after < once.params_after == twice.params_before


@pytest.mark.parametrize("name", MODELS)
def test_ignored_layers_keep_their_outputs(make_small: Any, name: str) -> None:
    _, _, groups, network = prepared(make_small, name)
    touched = {s.layer for g in groups for s in g.layers if s.side != "in"}
    assert not touched & set(network.ignored)
    assert network.ignored  # at least the classifier
