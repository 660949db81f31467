from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compressor.errors import ConfigError
from compressor.training import TrainSettings, evaluate, fit
from compressor.training.classifier import Classifier
from compressor.training.margin import MarginHead, cm_softmax

Make = Callable[..., Any]
PAPER = {"scale": 30.0, "angular_margin": 0.2, "additive_margin": 0.1}


def test_two_classes_by_hand() -> None:
    """L = ln(1 + exp(s·cos(theta_2) - s·(cos(theta_1 + 0.2) - 0.1)))."""
    held = math.cos(math.acos(0.4) + 0.2) - 0.1
    expected = math.log(1 + math.exp(30 * 0.1 - 30 * held))
    loss = cm_softmax(torch.tensor([[0.4, 0.1]]), torch.tensor([[1.0, 0.0]]), **PAPER)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert expected > 0.5, "the case must be one where the margins cost something"


def test_without_margins_it_is_cross_entropy() -> None:
    cosines = torch.rand(7, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.arange(7) % 4
    loss = cm_softmax(
        cosines, F.one_hot(labels, 4).float(), scale=5.0, angular_margin=0.0, additive_margin=0.0
    )
    assert loss.item() == pytest.approx(F.cross_entropy(5 * cosines, labels).item(), rel=1e-5)


def test_smoothing_is_torchs_on_the_logits_with_margins() -> None:
    cosines = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    labels = torch.arange(6) % 3
    logits = 30 * cosines.clone()
    for clip, label in enumerate(labels.tolist()):
        angle = math.acos(float(cosines[clip, label])) + 0.2
        logits[clip, label] = 30 * (math.cos(angle) - 0.1)
    loss = cm_softmax(cosines, F.one_hot(labels, 3).float(), **PAPER, smoothing=0.1)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_mixed_target_costs_the_mixture_of_its_losses() -> None:
    cosines = torch.tensor([[0.5, 0.3, -0.2]])
    pure = [
        cm_softmax(cosines, F.one_hot(torch.tensor([k]), 3).float(), **PAPER).item()
        for k in range(3)
    ]
    mixed = cm_softmax(cosines, torch.tensor([[0.7, 0.3, 0.0]]), **PAPER).item()
    assert mixed == pytest.approx(0.7 * pure[0] + 0.3 * pure[1], rel=1e-5)


def test_the_loss_falls_with_the_cosine_everywhere_and_has_finite_slopes() -> None:
    own = torch.linspace(-1, 1, 401, requires_grad=True)
    cosines = torch.stack([own, torch.zeros_like(own)], dim=1)
    target = torch.tensor([[1.0, 0.0]])
    losses = torch.stack([cm_softmax(row[None], target, **PAPER) for row in cosines])
    falls = losses[:-1] - losses[1:]
    assert bool((falls > -1e-6).all())
    assert float(falls[:250].detach().min()) > 0, "where the loss is not yet 0 in float32"
    losses.sum().backward()
    assert bool(torch.isfinite(own.grad).all())


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_the_layer_gives_scaled_cosines_at_inference(kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4) if kind == "linear" else nn.Conv2d(6, 4, 1)
    head = MarginHead(Classifier(layer), 30.0)
    x = 3 * torch.randn(50, 6)
    x[:, 0] += 2
    shaped = x if kind == "linear" else x[:, :, None, None]
    layer(shaped)
    weight = layer.weight.detach().flatten(1)
    expected = (x @ weight.T) / (x.norm(dim=1)[:, None] * weight.norm(dim=1))
    cosines = head.cosines()
    assert torch.allclose(cosines, expected, atol=1e-6)
    before = [p.detach().clone() for p in layer.parameters()]
    with head.for_inference():
        outputs = layer.eval()(shaped).flatten(1).detach()
    lengths = x.norm(dim=1, keepdim=True) / x.norm(dim=1).mean()
    assert torch.allclose(outputs, 30 * expected * lengths, atol=1e-3)
    assert torch.equal(outputs.argmax(1), expected.argmax(1))
    assert all(map(torch.equal, before, layer.parameters()))
    head.close()
    layer.train()(shaped)
    with pytest.raises(AssertionError):
        head.cosines()


def test_mean_length_by_hand() -> None:
    """First step: 5. Second: d = 1/11, 1/11·5 + 10/11·10. What evaluation sees does not count."""
    layer = nn.Linear(2, 3)
    head = MarginHead(Classifier(layer), 1.0)
    for value, training in ((1.0, True), (100.0, False), (2.0, True)):
        layer.train(training)
        layer(value * torch.tensor([[3.0, 4.0]]))
        if training:
            head.cosines()
    assert head.state_dict()["norm"].item() == pytest.approx(5 / 11 + 100 / 11)


def test_a_network_is_trained_and_keeps_its_shape(
    make_part: Make, make_standardizer: Make, make_network: Make
) -> None:
    part, network = make_part(), make_network()
    shapes = [p.shape for p in network.parameters()]
    start = network[-1].bias.detach().clone()
    settings = TrainSettings(
        epochs=12, batch_size=16, lr=0.01, loss="cm_softmax", label_smoothing=0.0
    )
    standardizer = make_standardizer(part)
    result = fit(network, part, settings, standardizer=standardizer, device="cpu")
    assert [p.shape for p in network.parameters()] == shapes
    found = evaluate(network, make_part(seed=1), standardizer=standardizer, device="cpu")
    assert found.macro_accuracy > 0.9  # chance is a third
    assert found.log_loss < 0.4, "the outputs must be probabilities of a usable size"
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    rows = network[-1].weight.norm(dim=1)
    assert torch.allclose(rows, rows.mean().expand(3), rtol=1e-5)
    assert not torch.equal(network[-1].bias, start)
    assert torch.equal(network[-1].bias, torch.zeros(3))
    assert not network[-1]._forward_pre_hooks


def pooled_head(bias: bool) -> nn.Sequential:
    """1x1 convolution of weights (2, 0) and (3, 4), BatchNorm, mean over positions."""
    layer = nn.Conv2d(2, 2, 1, bias=bias)
    layer.weight.data = torch.tensor([[2.0, 0.0], [3.0, 4.0]]).view(2, 2, 1, 1)
    return nn.Sequential(layer, nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("bias", [False, True])
def test_cosines_of_the_pooled_embedding_by_hand(bias: bool) -> None:
    """Two positions (3, 0) and (3, 8): their mean (3, 4) has the length 5.

    Cosines: with (2, 0) 3/5; with (3, 4) 1. At inference 10 times that, the length being the mean
    one; a clip of the mean embedding (4, 0) has 10 · 4/5 · (1, 3/5).
    """
    network = pooled_head(bias)
    head = MarginHead(Classifier(network[0], network[1]), 10.0)
    x = torch.tensor([[[[3.0, 3.0]], [[0.0, 8.0]]]])
    network(x)
    assert head.cosines().tolist()[0] == pytest.approx([0.6, 1.0])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()
    other = torch.tensor([[[[8.0, 0.0]], [[0.0, 0.0]]]])
    with head.for_inference():
        assert network(x).tolist()[0] == pytest.approx([6.0, 10.0], rel=1e-5)
        assert network(other).tolist()[0] == pytest.approx([8.0, 4.8], rel=1e-5)
        now = network.state_dict()
        same = [name for name in before if torch.equal(before[name], now[name])]
        assert sorted(set(before) - set(same)) == ["1.bias", "1.weight"]
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    head.close()


@pytest.mark.usefixtures("one_thread")
def test_a_pooled_network_is_trained(make_part: Make, make_standardizer: Make) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 3, 1, bias=False),
        nn.BatchNorm2d(3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    part = make_part()
    settings = TrainSettings(
        epochs=30, batch_size=16, lr=0.02, loss="cm_softmax", label_smoothing=0.0, ema_decay=0.9
    )
    standardizer = make_standardizer(part)
    fit(network, part, settings, standardizer=standardizer, device="cpu")
    found = evaluate(network, make_part(seed=1), standardizer=standardizer, device="cpu")
    assert found.macro_accuracy > 0.9  # chance is a third
    assert found.log_loss < 0.4, "the outputs must be probabilities of a usable size"
    norm = network[4]
    assert norm.running_var is not None
    lengths = network[3].weight.flatten(1).norm(dim=1)
    factors = norm.weight / (norm.running_var + norm.eps).sqrt() * lengths
    assert torch.allclose(factors, factors.mean().expand(3), rtol=1e-4)


def test_a_network_without_a_last_layer_is_refused(
    make_part: Make, make_standardizer: Make
) -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.AvgPool2d((12, 10)), nn.Flatten())
    part = make_part()
    settings = TrainSettings(epochs=1, loss="cm_softmax")
    with pytest.raises(ConfigError, match="are not made of: let the network end in a linear layer"):
        fit(network, part, settings, standardizer=make_standardizer(part), device="cpu")
