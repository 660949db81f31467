"""Network slimming: what a ratio means, by hand and against brute force; L1 on the scales."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressor.errors import ConfigError, PruneError
from compressor.methods import Slimming, add_gamma_l1, slim
from compressor.methods.slimming import select
from compressor.methods.surgery import channel_groups, plan_removal, slice_channels

X = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Chain(nn.Module):
    """Two convolutions of 4 and 6 channels. Parameters by hand:

    conv1 1*4*9 = 36, bn1 8, conv2 4*6*9 = 216, bn2 12, fc 6*3 + 3 = 21; sum 293.
    With a and b channels: 9a + 2a + 9ab + 2b + 3b + 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.relu(self.bn2(self.conv2(x))).mean((2, 3)))


def size(a: int, b: int) -> int:
    return 9 * a + 2 * a + 9 * a * b + 2 * b + 3 * b + 3


class Residual(nn.Module):
    """A residual sum that ties two BatchNorms of 4 channels together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.fc((x + self.bn2(self.conv2(x))).relu().mean((2, 3)))


def with_scales(model: Any, first: list[float], second: list[float]) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        model.bn1.weight.copy_(torch.tensor(first))
        model.bn2.weight.copy_(torch.tensor(second))
    return model.eval()


def chain() -> Chain:
    return with_scales(Chain(), [0.1, -0.9, 0.3, -0.5], [0.2, 0.8, -0.4, 1.0, 0.6, 0.7])


def kept(model: nn.Module, config: Slimming, **options: Any) -> dict[str, tuple[int, ...]]:
    plan = slim(model, X, config, **options).plan
    return {c.layer: c.kept for c in plan.outputs}


def test_chain_has_the_size_worked_out_by_hand() -> None:
    assert sum(p.numel() for p in Chain().parameters()) == size(4, 6) == 293


def test_ratio_is_the_share_of_scales_under_a_global_threshold() -> None:
    # sorted |gamma|: .1 .2 .3 .4 .5 .6 .7 .8 .9 1; the threshold at 0.4 is the fifth, 0.5
    result = slim(chain(), X, Slimming(0.4, min_channels=1))
    assert result.threshold == pytest.approx(0.5)
    assert (result.channels_under_threshold, result.channels_total) == (4, 10)
    assert result.kept == {"conv1": (2, 4), "conv2": (4, 6)}
    assert {c.layer: c.kept for c in result.plan.outputs} == {
        "conv1": (1, 3),
        "bn1": (1, 3),
        "conv2": (1, 3, 4, 5),
        "bn2": (1, 3, 4, 5),
    }
    assert {c.layer: c.kept for c in result.plan.inputs} == {
        "conv2": (1, 3),
        "fc": (1, 3, 4, 5),
    }
    assert result.params_after == size(2, 4)
    assert (result.params_before, result.requested) == (293, 0.4)
    assert torch.equal(result.model.bn1.weight, torch.tensor([-0.9, -0.5]))


@pytest.mark.parametrize(("ratio", "under"), [(0.0, 0), (0.1, 1), (0.29, 2), (0.3, 3), (0.7, 7)])
def test_share_is_exact(ratio: float, under: int) -> None:
    result = slim(chain(), X, Slimming(ratio, min_channels=1))
    assert result.channels_under_threshold == under
    removed = sum(total - left for left, total in result.kept.values())
    assert removed == under


def test_floor_keeps_the_best_channels_of_each_group() -> None:
    # everything but the largest scale is under the threshold; two of each group stay
    assert kept(chain(), Slimming(0.95)) == {
        "conv1": (1, 3),
        "bn1": (1, 3),
        "conv2": (1, 3),
        "bn2": (1, 3),
    }
    result = slim(chain(), X, Slimming(0.95, min_channels=1, min_share=0.5))
    assert result.kept == {"conv1": (2, 4), "conv2": (3, 6)}


def test_tied_channels_are_scored_together() -> None:
    first, second = [0.1, 0.6, 0.2, 0.9], [0.2, 0.3, 0.7, 0.8]
    model = with_scales(Residual(), first, second)
    # scores: max .2 .6 .7 .9, mean .15 .45 .45 .85; sorted scales .1 .2 .2 .3 .6 .7 .8 .9
    by_max = slim(model, X, Slimming(0.7, reduction="max", min_channels=1))
    assert by_max.threshold == pytest.approx(0.7)  # place int(8 * 0.7) = 5
    assert by_max.kept == {"conv1": (2, 4), "conv2": (2, 4)}
    by_mean = slim(model, X, Slimming(0.5, reduction="mean", min_channels=1))
    assert by_mean.threshold == pytest.approx(0.6)
    assert by_mean.kept == {"conv1": (1, 4), "conv2": (1, 4)}
    assert by_mean.plan.groups == (("conv1", 1, 4),)


def test_equal_scales_thin_every_layer_by_the_same_share() -> None:
    model = Chain().eval()  # fresh: all scales are one
    result = slim(model, X, Slimming(0.5, min_channels=1))
    assert result.kept == {"conv1": (2, 4), "conv2": (3, 6)}
    assert {c.layer: c.kept for c in result.plan.outputs if "conv" in c.layer} == {
        "conv1": (0, 1),
        "conv2": (0, 1, 2),
    }
    for ratio, under in ((0.1, 1), (0.2, 2), (0.9, 9)):
        config = Slimming(ratio, min_channels=1)
        assert slim(model, X, config).channels_under_threshold == under
        assert slim(model, X, config).plan == slim(model, X, config).plan
    tied = slim(Residual().eval(), X, Slimming(0.5, min_channels=1))
    assert tied.kept == {"conv1": (2, 4), "conv2": (2, 4)}
    assert tied.channels_under_threshold == 4


def nested_sizes(model: nn.Module) -> list[int]:
    """Oracle: sizes of the real networks along the removal order, one more unit each time."""
    scales = {"conv1": model.bn1.weight.tolist(), "conv2": model.bn2.weight.tolist()}
    order = sorted((abs(g), name, i) for name, w in scales.items() for i, g in enumerate(w))
    gone: dict[str, list[int]] = {"conv1": [], "conv2": []}
    widths = {"conv1": 4, "conv2": 6}
    sizes = [sum(p.numel() for p in model.parameters())]
    groups = {g.name: g.index for g in channel_groups(model, X)}
    for _, name, i in order:
        best_two = sorted(range(widths[name]), key=lambda c: abs(scales[name][c]))[-2:]
        if i in best_two:
            continue
        gone[name].append(i)
        plan = plan_removal(
            model, channel_groups(model, X), {groups[n]: units for n, units in gone.items()}
        )
        sizes.append(sum(p.numel() for p in slice_channels(model, X, plan).parameters()))
    return sizes


def test_parameter_targets_against_brute_force() -> None:
    model = chain()
    sizes = nested_sizes(model)
    assert sizes == sorted(sizes, reverse=True)
    groups = channel_groups(model, X)
    for target in range(sizes[-1], sizes[0] + 20):
        best = max(s for s in sizes if s <= target)
        assert select(model, groups, Slimming(None, target_params=target)).params_after == best
    for ratio in (0.25, 0.35, 0.5, 0.7):
        best = min(s for s in sizes if s >= 293 * (1 - ratio))
        result = slim(model, X, Slimming(ratio, by="params"))
        assert result.params_after == best
        assert 1 - result.params_after / 293 <= ratio
    whole = slim(model, X, Slimming(None, target_params=293))
    assert whole.params_after == 293
    assert whole.plan.groups == ()
    assert slim(model, X, Slimming(target_params=200)).requested == 200


def test_impossible_targets_say_what_can_be_reached() -> None:
    smallest = size(2, 2)
    with pytest.raises(PruneError, match=rf"50 parameters cannot be reached.*has {smallest};"):
        slim(chain(), X, Slimming(target_params=50))
    assert slim(chain(), X, Slimming(target_params=smallest)).params_after == smallest
    with pytest.raises(PruneError, match=rf"90\.00% of 293 parameters.*has {smallest} "):
        slim(chain(), X, Slimming(0.9, by="params"))


def test_removing_nothing_is_an_error_that_tells_the_first_ratio() -> None:
    with pytest.raises(PruneError, match=r"0\.05 .* removes nothing: the first .* ratio 0\.100"):
        slim(chain(), X, Slimming(0.05))
    assert slim(chain(), X, Slimming(0.1)).channels_under_threshold == 1
    with pytest.raises(PruneError, match="only its floor of channels"):
        slim(chain(), X, Slimming(0.5, min_channels=6))
    with pytest.raises(PruneError, match="the least important channel alone holds"):
        slim(chain(), X, Slimming(0.001, by="params"))
    untouched = slim(chain(), X, Slimming(0.0))
    assert untouched.params_after == 293
    assert untouched.plan.outputs == ()


def test_network_without_batchnorm_is_refused() -> None:
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(PruneError, match="no BatchNorm scale"):
        slim(plain, X, Slimming(0.5))
    with pytest.raises(PruneError, match="no BatchNorm scale"):
        slim(chain(), X, Slimming(0.5), ignored=["conv1", "conv2"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1.0}, "prune ratio is 1.0"),
        ({"ratio": -0.1}, "prune ratio is -0.1"),
        ({"ratio": math.nan}, "prune ratio is nan"),
        ({"ratio": None}, "needs a ratio"),
        ({"by": "weights"}, "by is 'weights'"),
        ({"reduction": "sum"}, "reduction is 'sum'"),
        ({"target_params": 0}, "target_params is 0"),
        ({"min_channels": 0}, "min_channels is 0"),
        ({"min_share": 1.5}, "min_share is 1.5"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Slimming(**settings)


def test_gamma_l1_is_the_gradient_of_the_penalty() -> None:
    """Against autograd on loss + strength * sum |gamma| (equation 3)."""
    strength = 0.37
    model, oracle = chain().train(), chain().train()
    oracle.load_state_dict(model.state_dict())
    with torch.no_grad():
        for m in (model, oracle):
            m.bn1.weight[2] = 0  # the penalty has no slope there
    model(X).square().sum().backward()
    add_gamma_l1(model, strength)
    scales = (oracle.bn1.weight, oracle.bn2.weight)
    (oracle(X).square().sum() + strength * sum(w.abs().sum() for w in scales)).backward()
    for (name, mine), theirs in zip(model.named_parameters(), oracle.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-5, atol=1e-6), name


def test_gamma_l1_needs_a_sensible_strength_and_a_gradient() -> None:
    model = chain()
    add_gamma_l1(model, 0.1)  # no gradients yet: nothing to add to
    assert model.bn1.weight.grad is None
    for strength in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="gamma_l1"):
            add_gamma_l1(model, strength)
