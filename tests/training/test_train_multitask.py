from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressor.errors import DataError, ShapeError
from compressor.training import TrainSettings, evaluate, fit, predict
from compressor.training.evaluation import class_logits
from compressor.training.multitask import (
    backward_projected,
    combine_logits,
    groups_of,
    membership,
)
from compressor.training.optimizers import make_optimizer

Make = Callable[..., Any]
TAU = (
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
)
GROUPS = (0, 2, 2, 0, 1, 1, 0, 1, 1, 2)  # Table 1 of the report: indoor, outdoor, transport
TWO = TrainSettings(epochs=3, batch_size=20, validation_share=0.0, tasks="scene+group")


def test_conflicting_gradients_by_hand() -> None:
    """g1 = (1, 0), g2 = (-1, 1): g1·g2 = -1, |g1|^2 = 1, |g2|^2 = 2.

    g1' = (1, 0) + 1/2·(-1, 1) = (1/2, 1/2); g2' = (-1, 1) + (1, 0) = (0, 1); sum (1/2, 3/2).
    """
    w = nn.Parameter(torch.zeros(2))
    w.grad = torch.full((2,), 9.0)  # of the step before
    backward_projected((w[0], w[1] - w[0]), [w])
    assert w.grad is not None
    assert w.grad.tolist() == pytest.approx([0.5, 1.5])


def test_gradients_in_agreement_are_added() -> None:
    w = nn.Parameter(torch.zeros(2))
    backward_projected((w[0] + w[1], 3 * w[0] - w[1]), [w])
    assert w.grad is not None
    assert w.grad.tolist() == [4.0, 0.0]


def test_the_conflict_is_that_of_all_shared_parameters_together() -> None:
    """a: 2 against -1, b: 1 against 1: together -1, |g1|^2 = 5, |g2|^2 = 2."""
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    backward_projected(((2 * a + b).sum(), (b - a).sum()), [a, b])
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.item() == pytest.approx(2 * (1 + 1 / 5) - (1 + 1 / 2))
    assert b.grad.item() == pytest.approx(1 * (1 + 1 / 5) + (1 + 1 / 2))


def test_parameters_of_one_task_and_the_last_layer_keep_their_gradients() -> None:
    shared, mine = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    unused = nn.Parameter(torch.zeros(1))
    layer = nn.Linear(1, 2, bias=False)
    x = torch.ones(1, 1)
    first = shared[0] + 5 * mine[0] + layer(x)[0, 0]
    second = shared[1] - shared[0] + 7 * layer(x)[0, 1] - layer(x)[0, 0]
    backward_projected((first, second), [shared, mine, unused, *layer.parameters()], layer)
    assert shared.grad is not None
    assert mine.grad is not None
    assert layer.weight.grad is not None
    assert shared.grad.tolist() == pytest.approx([0.5, 1.5])
    assert mine.grad.tolist() == [5.0]
    assert layer.weight.grad.flatten().tolist() == [0.0, 7.0]
    assert unused.grad is None


def test_a_task_without_slope_changes_nothing() -> None:
    w = nn.Parameter(torch.zeros(2))
    backward_projected((w[0] * 3, w[1] * 0), [w])
    assert w.grad is not None
    assert w.grad.tolist() == [3.0, 0.0]


def test_projected_gradients_suit_fused_steps_in_channels_last(make_network: Make) -> None:
    """The fused optimiser reads memory in order: the same step as unfused in plain order."""
    x = torch.randn(8, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    weights = []
    for order in (torch.channels_last, torch.contiguous_format):
        network = make_network(extra=2).to(memory_format=order)
        network[9].p = 0.0
        optimizer: torch.optim.Optimizer = make_optimizer(network, TrainSettings(lr=0.01))
        if order == torch.contiguous_format:
            groups = [{k: g[k] for k in ("params", "weight_decay")} for g in optimizer.param_groups]
            optimizer = torch.optim.AdamW(groups, lr=0.01, foreach=False, fused=False)
        for _ in range(3):
            outputs = network(x.contiguous(memory_format=order))
            losses = outputs[:, :3].square().sum(), (outputs[:, 3:] - outputs[:, :2]).exp().sum()
            backward_projected(losses, network.parameters(), network[-1])
            for p in network.parameters():
                assert p.grad is not None
                assert p.grad.stride() == p.stride()
            optimizer.step()
        weights.append([p.detach().clone() for p in network.parameters()])
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*weights, strict=True))


def test_combined_logits_by_hand() -> None:
    outputs = torch.tensor([[1.0, 2.0, 3.0, 10.0, -5.0]])
    members = membership((1, 0, 1))
    assert members.tolist() == [[0, 1], [1, 0], [0, 1]]
    # 0.8·(1, 2, 3) + 0.2·(-5, 10, -5)
    found = combine_logits(outputs, members, 0.2)
    assert found[0].tolist() == pytest.approx([-0.2, 3.6, 1.4])


def test_groups_are_those_of_the_report() -> None:
    assert groups_of(TAU) == GROUPS
    with pytest.raises(DataError, match=r"needs the ten scenes of TAU.*3 classes"):
        groups_of(("a", "b", "c"))


@pytest.fixture
def tau_part(make_part: Make) -> Any:
    part = make_part(60, (1, 20, 10), 10, groups_of=1)
    return dataclasses.replace(part, classes=TAU)


@pytest.fixture
def tau_network() -> Make:
    def make(outputs: int = 13) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.AvgPool2d((1, 10)), nn.Flatten(), nn.Linear(20, outputs))

    return make


def test_both_tasks_are_learnt(tau_part: Any, tau_network: Make, make_standardizer: Make) -> None:
    standardizer = make_standardizer(tau_part)
    settings = dataclasses.replace(TWO, epochs=30, lr=0.05, freq_masks=0)
    plain = {"standardizer": standardizer, "device": "cpu"}
    for pcgrad in (False, True):
        network = tau_network()
        fit(network, tau_part, dataclasses.replace(settings, pcgrad=pcgrad), **plain)
        outputs = predict(network, tau_part, num_classes=13, **plain)
        groups = np.array(GROUPS)[tau_part.y]
        assert (outputs[:, :10].argmax(1) == tau_part.y).mean() > 0.9
        assert (outputs[:, 10:].argmax(1) == groups).mean() > 0.9


def test_evaluation_combines_as_the_settings_say(
    tau_part: Any, tau_network: Make, make_standardizer: Make
) -> None:
    plain = {"standardizer": make_standardizer(tau_part), "device": "cpu", "num_classes": 10}
    network = tau_network()
    outputs = predict(network, tau_part, **(plain | {"num_classes": 13}))
    found = predict(network, tau_part, settings=TWO, **plain)
    expected = 0.8 * outputs[:, :10] + 0.2 * outputs[:, 10:][:, list(GROUPS)]
    assert found == pytest.approx(expected, abs=1e-5)
    off = dataclasses.replace(TWO, group_logit_share=0.0)
    assert predict(network, tau_part, settings=off, **plain) == pytest.approx(outputs[:, :10])


def test_validation_is_of_the_combined_logits(
    tau_part: Any, tau_network: Make, make_standardizer: Make
) -> None:
    from compressor.training.validation import split_rows

    standardizer = make_standardizer(tau_part)
    settings = dataclasses.replace(TWO, validation_share=0.3, ema_decay=0.0)
    network = tau_network()
    result = fit(network, tau_part, settings, standardizer=standardizer, device="cpu")
    held = tau_part.subset(split_rows(tau_part, 0.3)[1])
    plain = {"standardizer": standardizer, "device": "cpu"}
    again = evaluate(network, held, settings=settings, **plain)
    assert result.validation is not None
    assert again.log_loss == pytest.approx(result.validation.log_loss, rel=1e-5)
    assert evaluate(network, held, **plain).log_loss != pytest.approx(again.log_loss, rel=1e-3)


def test_networks_and_data_that_cannot(
    tau_part: Any, tau_network: Make, make_standardizer: Make
) -> None:
    plain = {"standardizer": make_standardizer(tau_part), "device": "cpu"}
    with pytest.raises(ShapeError, match=r"needs 10 \+ 3 outputs.*group_classes=3"):
        fit(tau_network(10), tau_part, TWO, **plain)
    other = dataclasses.replace(tau_part, classes=tuple("abcdefghij"))
    with pytest.raises(DataError, match="set tasks = 'scene'"):
        fit(tau_network(), other, TWO, **plain)
    assert class_logits(torch.zeros(2, 13), 10).shape == (2, 10)
