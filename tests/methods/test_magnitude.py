"""Unstructured magnitude pruning: counts by hand, N:M by brute force, layers that collapse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from compressor.errors import ConfigError, PruneError, UnknownNameError
from compressor.methods import Magnitude, prune_weights
from compressor.methods.magnitude import (
    apply_masks,
    count_sparsity,
    cubic_sparsity,
    make_masks,
    masks_of_zeros,
)


def network() -> Any:
    """Weights 1 to 8 in the convolution, 9 to 16 in the linear layer, alternating signs."""
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    signs = torch.tensor([1.0, -1.0]).repeat(4)
    with torch.no_grad():
        model[0].weight.copy_((torch.arange(1.0, 9.0) * signs).reshape(4, 2, 1, 1))
        model[3].weight.copy_((torch.arange(9.0, 17.0) * signs).reshape(2, 4))
    return model


def test_global_scope_takes_the_smallest_of_all() -> None:
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    # 16 weights, int(16 * 0.4) = 6 go: 1 to 6, all in the convolution
    result = prune_weights(model, Magnitude(0.4))
    assert result.model[0].weight.flatten().tolist() == [0, 0, 0, 0, 0, 0, 7, -8]
    assert torch.equal(result.model[3].weight, model[3].weight)
    assert (result.sparsity.zeros, result.sparsity.total) == (6, 16)
    assert result.sparsity.share == pytest.approx(6 / 16)
    assert result.sparsity.layers == {"0": (6, 8), "3": (0, 8)}
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_layer_scope_takes_the_share_from_each() -> None:
    result = prune_weights(network(), Magnitude(0.4, scope="layer"))  # int(8 * 0.4) = 3 each
    assert result.model[0].weight.flatten().tolist() == [0, 0, 0, -4, 5, -6, 7, -8]
    assert result.model[3].weight.flatten().tolist() == [0, 0, 0, -12, 13, -14, 15, -16]


def test_zeros_that_are_there_count() -> None:
    model = network()
    with torch.no_grad():
        model[3].weight[0, 0] = 0.0
    # int(16 * 0.25) = 4: the zero, then 1, 2 and 3
    result = prune_weights(model, Magnitude(0.25))
    assert result.sparsity.layers == {"0": (3, 8), "3": (1, 8)}


def test_equal_weights_still_give_the_exact_share() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[3].weight.fill_(1.0)
    assert prune_weights(model, Magnitude(0.29, scope="layer")).sparsity.zeros == 4  # 2 each
    assert prune_weights(model, Magnitude(0.29)).sparsity.zeros == 4  # int(4.64)


def test_biases_and_batchnorm_stay() -> None:
    result = prune_weights(network(), Magnitude(0.6, scope="layer"))
    for name, tensor in network().state_dict().items():
        if name not in ("0.weight", "3.weight", "0.bias", "3.bias"):
            assert torch.equal(result.model.state_dict()[name], tensor)
    assert (result.model[0].bias != 0).all()


def test_masks_are_baked_in() -> None:
    result = prune_weights(network(), Magnitude(0.4))
    names = {name for name, _ in result.model.named_parameters()}
    assert names == {name for name, _ in network().named_parameters()}
    assert not any(m._forward_pre_hooks for m in result.model.modules())
    assert masks_of_zeros(result.model).keys() == result.masks.keys()
    for name, mask in masks_of_zeros(result.model).items():
        assert torch.equal(mask, result.masks[name])


def test_a_layer_that_would_collapse_is_named() -> None:
    # int(16 * 0.5) = 8 takes all of the convolution, whose weights are the smallest
    with pytest.raises(PruneError, match=r"layer '0' would lose all its 8 weights at sparsity 0.5"):
        prune_weights(network(), Magnitude(0.5))
    assert prune_weights(network(), Magnitude(0.5, scope="layer")).sparsity.zeros == 8
    kept = prune_weights(network(), Magnitude(0.5, keep=("0",)))
    assert kept.sparsity.layers == {"0": (0, 8), "3": (4, 8)}


def test_bad_settings_are_refused() -> None:
    for settings, message in [
        ({"sparsity": 1.0}, "sparsity is 1.0"),
        ({"sparsity": math.nan}, "sparsity is nan"),
        ({"scope": "all"}, "scope is 'all'"),
        ({"pattern": "4:2"}, "pattern is '4:2'"),
        ({"pattern": "2/4"}, "pattern is '2/4'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Magnitude(**settings)
    with pytest.raises(UnknownNameError, match="layer to keep dense '9'"):
        prune_weights(network(), Magnitude(0.5, keep=("9",)))
    with pytest.raises(PruneError, match="no weight"):
        prune_weights(nn.Sequential(nn.ReLU()), Magnitude(0.5))
    broken = network()
    with torch.no_grad():
        broken[3].weight[1, 1] = math.inf
    with pytest.raises(PruneError, match=r"'3.weight' holds values that are not finite"):
        prune_weights(broken, Magnitude(0.5))
    with pytest.raises(PruneError, match=r"mask of '0.weight' has shape \(4, 2, 1, 1\)"):
        apply_masks(nn.Sequential(nn.Conv2d(2, 5, 1)), {"0.weight": torch.ones(4, 2, 1, 1) > 0})


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (1, 4), (1, 2), (4, 8)])
def test_patterns_keep_the_largest_of_every_block(keep: int, of: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 16, 3, groups=2), nn.Conv2d(16, 8, 2)
    )
    result = prune_weights(model, Magnitude(pattern=f"{keep}:{of}"))
    # inputs of a filter: 3, 8 / 2 = 4 and 16
    dense = tuple(n for n, inputs in (("0", 3), ("1", 4), ("2", 16)) if inputs % of)
    assert result.dense_layers == dense
    for name in ("1", "2"):
        if name in dense:
            continue
        before, after = (net[int(name)].weight.detach() for net in (model, result.model))
        out, inputs, height, width = before.shape
        for o in range(out):
            for h in range(height):
                for w in range(width):
                    for start in range(0, inputs, of):
                        block = before[o, start : start + of, h, w].abs()
                        found = after[o, start : start + of, h, w]
                        assert int((found != 0).sum()) == keep
                        best = block.sort(descending=True).values[:keep].sum()
                        assert torch.allclose(found.abs().sum(), best)


def test_a_pattern_that_fits_no_layer_is_refused() -> None:
    with pytest.raises(PruneError, match="no layer has a number of inputs that 4 divides"):
        prune_weights(nn.Sequential(nn.Conv2d(3, 8, 3)), Magnitude(pattern="2:4"))


def test_the_cubic_schedule() -> None:
    # s(t) = 0.8 + (0 - 0.8) (1 - t)^3: half way 0.8 - 0.8 / 8 = 0.7
    assert cubic_sparsity(0.0, 0.8) == 0.0
    assert cubic_sparsity(0.5, 0.8) == pytest.approx(0.7)
    assert cubic_sparsity(1.0, 0.8) == 0.8
    # a ramp over half of the training is over at one half, and half way up at a quarter
    assert cubic_sparsity(0.25, 0.8, ramp_share=0.5) == pytest.approx(0.7)
    assert cubic_sparsity(0.6, 0.8, ramp_share=0.5) == 0.8
    # from 0.4: 0.8 - 0.4 / 8 = 0.75
    assert cubic_sparsity(0.5, 0.8, start=0.4) == pytest.approx(0.75)
    shares = [cubic_sparsity(t / 50, 0.9, start=0.2, ramp_share=0.7) for t in range(51)]
    assert shares == sorted(shares)


def test_masks_of_a_rising_sparsity_are_nested() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    config = Magnitude(0.9, scope="layer")
    previous: dict[str, torch.Tensor] = {}
    for share in (0.2, 0.5, 0.6, 0.9):
        masks, _ = make_masks(model, config, sparsity=share)
        for name, mask in previous.items():
            assert not (masks[name] & ~mask).any()  # none comes back
        apply_masks(model, masks)
        previous = masks
    assert count_sparsity(model).share == pytest.approx(0.9, abs=2 / 792)


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_network_of_the_zoo(make_small: Any, name: str) -> None:
    model = make_small(name).build(seed=1)
    total = sum(
        m.weight.numel()
        for m in model.modules()
        if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear))
    )
    result = prune_weights(model, Magnitude(0.5))
    assert result.sparsity.total == total
    counted = sum(
        int((m.weight == 0).sum())
        for m in result.model.modules()
        if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear))
    )
    assert counted == result.sparsity.zeros == int(total * 0.5)
    with torch.no_grad():
        assert result.model(make_small(name).example()).isfinite().all()
