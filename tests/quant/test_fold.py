"""BatchNorm folding: the same function, by hand and for every network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from compressor.errors import MeasureError, ShapeError
from compressor.methods.fold import fold, fold_batchnorm, fold_scalings

MODELS = zoo.list_models()
QUICK = ("seresnet18", "dsmn_seg", "sepcnn_coordatt")


def stir(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                for tensor, low in ((layer.weight, -1.0), (layer.bias, -1.0)):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * 2 + low)
                shape = layer.running_mean.shape
                layer.running_mean.copy_(torch.randn(shape, generator=generator))
                layer.running_var.copy_(torch.rand(shape, generator=generator) + 0.1)
    return model.eval()


def error(model: nn.Module, folded: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        expected, found = model(x), folded(x)
    return float((found - expected).abs().max() / expected.abs().max())


def norms(model: nn.Module) -> list[str]:
    kinds = nn.modules.batchnorm._BatchNorm
    return [name for name, layer in model.named_modules() if isinstance(layer, kinds)]


def test_by_hand() -> None:
    """gamma 2, beta 1, mean 3, var 4, eps 0: y = 2 (w x + b - 3) / 2 + 1 = w x + b - 2."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)).eval()
    with torch.no_grad():
        model[0].weight.fill_(0.75)
        model[0].bias.fill_(0.5)
        model[1].weight.fill_(2)
        model[1].bias.fill_(1)
        model[1].running_mean.fill_(3)
        model[1].running_var.fill_(4)
    result = fold(model, torch.zeros(1, 1, 2, 2))
    assert result.model[0].weight.item() == 0.75
    assert result.model[0].bias.item() == -1.5
    assert isinstance(result.model[1], nn.Identity)
    assert (result.folded, result.kept) == (("1",), ())
    assert result.factors["0"].item() == 1.0
    assert isinstance(model[1], nn.BatchNorm2d)  # the input is untouched


class Patterns(nn.Module):
    """Every place where a BatchNorm can go backwards, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn_a = nn.BatchNorm2d(4)
        self.depth = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.grouped = nn.Conv2d(4, 4, 1, groups=2, bias=False)
        self.bn_sum = nn.BatchNorm2d(4)
        self.left = nn.Conv2d(4, 3, 1)
        self.right = nn.Conv2d(4, 5, 1, bias=False)
        self.bn_cat = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 6, 1)
        self.pool = nn.AvgPool2d(2)
        self.bn_pool = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)
        self.bn_fc = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn_a(self.a(x)))
        x = torch.relu(self.bn_sum(self.depth(x) + self.grouped(x)))
        x = torch.relu(self.bn_cat(torch.cat([self.left(x), self.right(x)], dim=1)))
        x = self.bn_pool(self.pool(self.last(x)))
        return self.bn_fc(self.fc(x.mean((2, 3))))


def test_sums_concatenations_groups_poolings_and_linear_layers() -> None:
    model = stir(Patterns())
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    result = fold(model, x)
    assert norms(result.model) == []
    assert error(model, result.model, x) <= 1e-5
    # the shift of a sum goes into one of its terms only
    assert result.model.grouped.bias is None
    assert result.model.right.bias is not None


class Refused(nn.Module):
    """A BatchNorm that must stay, for one reason at a time."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason
        self.conv = nn.Conv2d(2, 2, 1)
        self.bn = nn.BatchNorm2d(2, track_running_stats=reason != "batch statistics")
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.reason == "activation":
            return self.bn(torch.relu(y))
        if self.reason == "second reader":
            return self.bn(y) + y
        if self.reason == "called twice":
            return self.bn(self.conv(torch.relu(y)))
        if self.reason == "norm called twice":
            return self.bn(torch.relu(self.bn(y)))
        if self.reason == "padded pooling":
            return self.bn(self.pool(y))
        if self.reason == "sum with the input":
            return self.bn(y + x)
        if self.reason == "other axis":
            return self.bn(y.transpose(1, 2))
        return self.bn(y)


@pytest.mark.parametrize(
    "reason",
    [
        "activation",
        "second reader",
        "called twice",
        "norm called twice",
        "padded pooling",
        "sum with the input",
        "other axis",
        "batch statistics",
    ],
)
def test_a_batchnorm_that_must_stay_stays(reason: str) -> None:
    model = Refused(reason)
    if reason != "batch statistics":
        stir(model)
    model.eval()
    x = torch.randn(4, 2, 2, 5, generator=torch.Generator().manual_seed(1))
    result = fold(model, x)
    assert result.folded == ()
    assert set(result.kept) == {"bn"}
    assert error(model, result.model, x) == 0


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_every_network(name: str, make: Callable[[str], Any]) -> None:
    """All BatchNorms go but those on the input; outputs are equal to 1e-5."""
    case = make(name)
    model = fold_batchnorm(case.model, case.x)
    assert norms(model) == (["bn0"] if hasattr(case.model, "bn0") else [])
    assert type(model) is type(case.model)
    assert error(case.model, model, case.x) <= 1e-5


def test_training_mode_does_not_matter_and_comes_out_as_evaluation() -> None:
    model = stir(Patterns())
    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold_batchnorm(model.train(), x)
    assert model.training
    assert not folded.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert error(model.eval(), folded, x) <= 1e-5


def test_scalings_go_into_the_convolutions_behind_them() -> None:
    """1x1 depthwise: y_c = s_c x_c, so its readers' weights of input c are multiplied by s_c."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Conv2d(2, 2, 1, groups=2, bias=False)
            self.depth = nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False)
            self.dense = nn.Conv2d(2, 3, 1, bias=False)
            self.kept = nn.Conv2d(2, 2, 1, groups=2, bias=False)  # read by a sum

        def forward(self, x: Tensor) -> Tensor:
            x = self.scale(x)
            y = self.dense(x)[:, :2] + self.depth(x)
            return y + self.kept(y)

    model = Scaled().eval()
    with torch.no_grad():
        model.scale.weight.copy_(torch.tensor([2.0, -3.0]).reshape(2, 1, 1, 1))
    depth, dense = model.depth.weight.clone(), model.dense.weight.clone()
    x = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(x)
    assert fold_scalings(model, x) == ("scale",)
    assert torch.allclose(model.depth.weight[1], -3 * depth[1])
    assert torch.allclose(model.dense.weight[:, 0], 2 * dense[:, 0])
    with torch.no_grad():
        assert torch.allclose(model(x), expected, atol=1e-6)


def test_bad_input() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    x = torch.zeros(1, 2, 8, 8)
    with pytest.raises(MeasureError, match="Branching cannot be traced"):
        fold_batchnorm(Branching(), x)
    model = stir(Patterns())
    with pytest.raises(ShapeError, match="layer 'a' does not run on the example"):
        fold_batchnorm(model, torch.zeros(1, 3, 8, 8))
    with torch.no_grad():
        model.grouped.weight[0] = float("nan")
    with pytest.raises(MeasureError, match="layer 'grouped': weight holds values"):
        fold_batchnorm(model, x)
