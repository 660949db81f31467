"""What each importance measures, by hand and against autograd; all give ratios one meaning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.errors import ConfigError, PruneError, UnknownNameError
from compressor.methods import IMPORTANCES, Slimming, slim
from compressor.methods.importance import channel_scales
from compressor.methods.kinds import filters
from compressor.methods.surgery import channel_groups

X = torch.randn(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


class Chain(nn.Module):
    """Convolutions of 3 and 4 channels with BatchNorm, a linear layer behind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(self.bn2(self.conv2(x)).relu().mean((2, 3)))


class Plain(nn.Module):
    """Without BatchNorm: only filters can decide."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


def chain(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = Chain()
    with torch.no_grad():
        for norm in (model.bn1, model.bn2):
            norm.weight.uniform_(-1, 1)
            norm.bias.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
    return model.eval()


def scales(model: nn.Module, importance: str, **options: Any) -> dict[str, list[float]]:
    """Scores by the name of the group, one channel a unit here."""
    groups = channel_groups(model, X)
    found = channel_scales(model, groups, importance, **options)
    return {g.name: [score for unit in found[g.index] for score in unit] for g in groups}


def test_filter_norms_by_hand() -> None:
    model = Plain().eval()
    with torch.no_grad():
        model.conv.weight.copy_(
            torch.tensor([[1.0, -1.0], [3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
            .repeat_interleave(torch.tensor([1, 8]), dim=1)
            .reshape(4, 1, 3, 3)
        )
    # filters: 1 and eight times -1; 3 and eight times 4; zeros; 0 and eight times -2
    assert scales(model, "l1", normalize=False) == {"conv": [9.0, 35.0, 0.0, 16.0]}
    expected = [3.0, (9 + 8 * 16) ** 0.5, 0.0, (8 * 4) ** 0.5]
    assert scales(model, "l2", normalize=False)["conv"] == pytest.approx(expected)
    # by default over the mean of the layer: (9 + 35 + 0 + 16) / 4 = 15
    assert scales(model, "l1")["conv"] == pytest.approx([9 / 15, 35 / 15, 0.0, 16 / 15])


def test_gamma_is_the_magnitude_of_the_scale() -> None:
    model = chain()
    assert scales(model, "gamma") == {
        "conv1": pytest.approx(model.bn1.weight.abs().tolist()),
        "conv2": pytest.approx(model.bn2.weight.abs().tolist()),
    }


def test_filters_of_a_transposed_convolution_are_those_of_its_outputs() -> None:
    layer = nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False)
    rows = filters(layer)
    assert rows.shape == (6, 2 * 4)
    x = torch.randn(1, 4, 1, 1)
    with torch.no_grad():
        for channel in range(6):
            quiet = nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False)
            quiet.load_state_dict(layer.state_dict())
            # doubling the output channel's own weights doubles its row and its output only
            per = 3
            group = channel // per
            quiet.weight[2 * group : 2 * group + 2, channel % per] *= 2
            ratio = filters(quiet) / rows
            assert torch.allclose(ratio[channel], torch.full((8,), 2.0, dtype=torch.float64))
            assert torch.allclose(quiet(x)[:, channel], 2 * layer(x)[:, channel])


def test_taylor_is_the_change_of_the_loss_when_a_gate_closes() -> None:
    """Oracle: a gate behind each BatchNorm channel, its gradient by autograd, two batches."""
    model, given = chain(), chain()
    batches = [(X[:4], Y[:4]), (X[4:], Y[4:])]
    total1, total2 = torch.zeros(3), torch.zeros(4)
    for x, y in batches:
        gate1 = torch.ones(3, requires_grad=True)
        gate2 = torch.ones(4, requires_grad=True)
        h = (model.bn1(model.conv1(x)) * gate1[None, :, None, None]).relu()
        h = (model.bn2(model.conv2(h)) * gate2[None, :, None, None]).relu()
        F.cross_entropy(model.fc(h.mean((2, 3))), y).backward()
        total1 += gate1.grad.square() / 2
        total2 += gate2.grad.square() / 2
    found = scales(given, "taylor", batches=batches)
    assert found["conv1"] == pytest.approx(total1.tolist(), rel=1e-4)
    assert found["conv2"] == pytest.approx(total2.tolist(), rel=1e-4)
    assert all(p.grad is None for p in given.parameters())


def test_taylor_without_batchnorm_uses_the_filter_and_its_bias() -> None:
    torch.manual_seed(1)
    model = Plain().eval()
    gate = torch.ones(4, requires_grad=True)
    out = (model.conv(X) * gate[None, :, None, None]).relu().mean((2, 3))
    F.cross_entropy(model.fc(out), Y).backward()
    found = scales(model, "taylor", batches=[(X, Y)])
    assert found["conv"] == pytest.approx(gate.grad.square().tolist(), rel=1e-4)


def test_random_depends_on_the_seed_alone() -> None:
    model = chain()
    first, again, other = (scales(model, "random", seed=s) for s in (3, 3, 4))
    assert first == again != other
    assert scales(chain(seed=9), "random", seed=3) == first  # not on the weights
    assert all(0 <= score < 1 for scores in first.values() for score in scores)


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_a_ratio_is_a_share_of_the_channels_whatever_the_importance(importance: str) -> None:
    config = Slimming(3 / 7, importance=importance, min_channels=1)  # type: ignore[arg-type]
    result = slim(chain(), X, config, batches=[(X, Y)])
    assert (result.channels_under_threshold, result.channels_total) == (3, 7)
    removed = sum(total - left for left, total in result.kept.values())
    # the floor of one channel may hold one back
    assert removed in (2, 3)
    assert result.params_after == sum(p.numel() for p in result.model.parameters())


def test_the_least_important_filters_go() -> None:
    torch.manual_seed(0)
    model = Plain().eval()
    with torch.no_grad():
        model.conv.weight.copy_(
            torch.ones(4, 1, 3, 3) * torch.tensor([3, 1, 4, 2]).reshape(-1, 1, 1, 1)
        )
    plan = slim(model, X, Slimming(0.5, importance="l1", min_channels=1)).plan
    assert {c.layer: c.kept for c in plan.outputs} == {"conv": (0, 2)}


def test_bad_importances_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean l1"):
        Slimming(0.5, importance="l11")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'taylor' needs labelled clips"):
        slim(chain(), X, Slimming(0.5, importance="taylor"))
    with pytest.raises(PruneError, match="at least one batch"):
        slim(chain(), X, Slimming(0.5, importance="taylor"), batches=[])
    with pytest.raises(PruneError, match=r"labels up to 7"):
        slim(chain(), X, Slimming(0.5, importance="taylor"), batches=[(X, Y + 5)])
    with pytest.raises(PruneError, match="no BatchNorm scale"):
        slim(Plain().eval(), X, Slimming(0.5))
    broken = chain()
    with torch.no_grad():
        broken.conv2.weight[0, 0, 0, 0] = float("nan")
    for importance in ("gamma", "l1", "random"):
        with pytest.raises(PruneError, match=r"'conv2.weight' holds values that are not finite"):
            slim(broken, X, Slimming(0.5, importance=importance))  # type: ignore[arg-type]
