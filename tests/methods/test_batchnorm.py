"""Re-estimated BatchNorm statistics against hand arithmetic; nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compressor.errors import PruneError
from compressor.methods import reestimate


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(2, momentum=0.3)
        self.drop = nn.Dropout(0.5)
        self.fixed = nn.BatchNorm1d(2, track_running_stats=False)
        self.after = nn.BatchNorm1d(2, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.fixed(self.drop(self.bn(x))))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_statistics_are_plain_averages_over_batches() -> None:
    model = Small().train()
    model.bn.running_mean.fill_(9.0)
    model.drop.eval()
    batches = [torch.tensor([[1.0, 0.0], [3.0, 8.0]]), torch.tensor([[5.0, 2.0], [5.0, 4.0]])]
    reestimate(model, iter(batches))
    # means 2, 4 and 5, 3; unbiased variances 2, 32 and 0, 2
    assert torch.allclose(model.bn.running_mean, torch.tensor([3.5, 3.5]))
    assert torch.allclose(model.bn.running_var, torch.tensor([1.0, 17.0]))
    assert model.bn.num_batches_tracked == 2
    assert model.bn.momentum == 0.3
    assert model.after.momentum is None
    assert model.training
    assert model.bn.training
    assert not model.drop.training


def test_dropout_and_gradients_stay_off() -> None:
    model = Small().eval()
    batch = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    model.after.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    reestimate(model, [batch])
    assert not seen[0].requires_grad
    assert (seen[0] != 0).all()  # dropout would zero half of them
    assert not any(m.training for m in model.modules())


def test_failures_leave_the_old_statistics() -> None:
    model = Small().train()
    model(torch.randn(8, 2))
    before = state(model)
    bad = [
        ([], "at least one batch"),
        ([torch.randn(8, 2), torch.randn(8, 3)], r"batch 1 of shape \(8, 3\)"),
        ([torch.randn(1, 2)], r"batch 0 of shape \(1, 2\)"),
        ([torch.full((4, 2), float("nan"))], "layer 'bn' are not finite"),
    ]
    for batches, message in bad:
        with pytest.raises(PruneError, match=message):
            reestimate(model, batches)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert model.training
        assert model.bn.momentum == 0.3

    def broken():
        yield torch.randn(8, 2)
        raise KeyError("reader failed")

    with pytest.raises(KeyError):
        reestimate(model, broken())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_network_without_batchnorm_is_left_alone() -> None:
    model = nn.Linear(2, 2)
    before = state(model)
    reestimate(model, [])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_repairs_a_network_whose_input_scale_moved() -> None:
    """The purpose: after a shift in front of it, BatchNorm normalises again."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4))
    data = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model[0].weight.mul_(10)
    reestimate(model.eval(), data.split(4))
    out = model(data)
    assert out.mean((0, 2, 3)).abs().max() < 0.05
    assert (out.std((0, 2, 3)) - 1).abs().max() < 0.1
