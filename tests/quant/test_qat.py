"""QAT: rounding while training, statistics that freeze, integers that survive folding."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from compressor.errors import ConfigError, MeasureError, UnknownNameError, UsageError
from compressor.export.quantized import integers_of, write_qdq
from compressor.methods.quant import QatInt8, StaticInt8, finish_qat, prepare_qat, quantize_static
from compressor.methods.quant.light import LightActivation, LightConv2d, LightEngine

MODELS = zoo.list_models()
QUICK = ("seresnet18", "dsmn_seg", "sepcnn_coordatt")
SOME = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
ENGINES = ["light", pytest.param("brevitas", marks=pytest.mark.slow)]


def a_few_steps(network: nn.Module, x: Tensor, steps: int = 3, lr: float = 1e-3) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr)
    network.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout
        for _ in range(steps):
            loss = network(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()


def mismatch(network: Any, result: Any, x: Tensor) -> list[float]:
    """Share of values that lie on another grid point in training than deployed, site by site.

    Early sites tell: a wrong grid or place shows at once, while at the end of a deep network with
    random weights single roundings have grown to several percent of the logits.
    """
    trained: dict[str, Tensor] = {}
    hooks = [
        rounding.register_forward_hook(
            lambda _module, _inputs, out, name=name: trained.__setitem__(name, out)
        )
        for name, rounding in zip(network.sites, network.roundings, strict=True)
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    simulated = result.simulated()
    deployed: dict[str, Tensor] = {}
    names = simulated.graph.names
    simulated.watch(
        x, list(simulated.grids), lambda node, value: deployed.__setitem__(names[node], value)
    )
    return [
        float(
            ((trained[name] - deployed[name]).abs() > result.activations[name].scale / 2)
            .float()
            .mean()
        )
        for name in network.sites
    ]


def test_weight_rounding_by_hand() -> None:
    """Scale 1.27 / 127 = 0.01: forward gives the grid, backward the plain gradient."""
    conv = nn.Conv2d(1, 1, (1, 3), bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.27, 0.504, -0.308]).reshape(1, 1, 1, 3))
    layer = LightEngine(0.1).layer(conv, 8, True)
    assert isinstance(layer, LightConv2d)
    assert layer.weight is conv.weight
    x = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
    y = layer(x)
    assert y.item() == pytest.approx(1.27 + 2 * 0.50 - 3 * 0.31)
    y.backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.flatten().tolist() == [1.0, 2.0, 3.0]
    assert layer.integers().values.flatten().tolist() == [127, 50, -31]


def test_activation_rounding_by_hand() -> None:
    """Extremes 0 and 2.55, step 0.01: values outside are clipped and get no gradient."""
    rounding = LightActivation(momentum=0.5)
    rounding(torch.tensor([0.0, 2.55]))
    rounding.eval()
    x = torch.tensor([-1.0, 0.014, 1.236, 2.553, 4.0], requires_grad=True)
    y = rounding(x)
    assert y.tolist() == pytest.approx([0.0, 0.01, 1.24, 2.55, 2.55])
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]  # half a step outside still counts
    rounding.train()
    rounding(torch.tensor([-1.0, 4.55]))  # half way: -0.5 and 3.55
    assert (rounding.low.item(), rounding.high.item()) == pytest.approx((-0.5, 3.55))
    rounding.frozen = True
    rounding(torch.tensor([-9.0, 9.0]))
    assert rounding.high.item() == pytest.approx(3.55)


@pytest.mark.parametrize("name", SOME)
def test_integers_survive_folding_and_export(
    name: str, make: Callable[[str], Any], run_onnx: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    """Trained with BatchNorms of both signs; the file holds the same magnitudes, sign by sign."""
    case = make(name)
    before = {key: value.clone() for key, value in case.model.state_dict().items()}
    network = prepare_qat(case.model, case.x, batches=[case.x], steps=3)
    assert all(torch.equal(v, before[k]) for k, v in case.model.state_dict().items())
    a_few_steps(network, case.x)
    found = finish_qat(network, case.x, [case.x])
    stored = integers_of(write_qdq(found, tmp_path / "qat.onnx"))
    parameters = dict(network.named_parameters())
    signs = set()
    for layer, weight in found.weights.items():
        values = stored[f"{layer}.weight"]
        assert np.array_equal(values, weight.values.numpy())
        # by hand: what training rounded to is w / (max |w| / 127), whatever folding did to scales
        raw = parameters[f"net.{layer}.weight"].detach().double()
        flat = raw.reshape(len(raw), -1)
        largest = flat.abs().amax(dim=1, keepdim=True).clamp_min(1e-30)
        trained = torch.round(flat / largest * 127).numpy()
        mine = np.asarray(values, dtype=np.float64).reshape(len(raw), -1)
        for row, expected in zip(mine, trained, strict=True):
            sign = 1 if (row * expected).sum() >= 0 else -1
            signs.add(sign)
            # exact ties (k + 1/2) may go either way: float32 scales
            assert np.abs(row - sign * expected).max() <= 1
            assert (row != sign * expected).mean() <= 0.01 or np.abs(expected).max() == 0
    if name == "seresnet18":
        assert signs == {1, -1}  # negative BatchNorm scales were met
    differing = mismatch(network, found, case.x)
    assert differing[0] == 0  # the rounded input
    assert max(differing[:3]) <= 0.02  # biases are rounded now: neighbouring grid points
    # measured: at most 0.16 where it is right, at least 0.96 with one rounding before a BatchNorm
    assert max(differing[:6]) <= 0.3
    assert np.isfinite(run_onnx(tmp_path / "qat.onnx", case.x)).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_training_with_rounding(
    engine: str, trained: nn.Module, clips: Any, train: Any, run_onnx: Any
) -> None:
    """3-bit weights break the network; training with them in place repairs it, in onnxruntime."""
    x, _ = clips(64, 90)
    test, y = clips(400, 91)
    config = QatInt8(engine=engine, weight_bits=3, mixed={"fc": 8})  # type: ignore[arg-type]
    network = prepare_qat(trained, x, config, batches=[x], steps=40)
    train(network, 40, 0.01, seed=5)
    assert network.frozen
    network.eval()
    result = finish_qat(network, x, [x])
    assert result.weights["layers.0.conv1"].values.abs().max() <= 3
    assert result.weights["fc"].bits == 8
    onnx_classes = run_onnx(result.to_onnx(), test).argmax(1)
    assert (onnx_classes == result.simulate(test).argmax(1).numpy()).mean() >= 0.995
    after = (onnx_classes == y.numpy()).mean()
    static = quantize_static(trained, x, [x], StaticInt8(weight_bits=3, mixed={"fc": 8}))
    before = (static.simulate(test).argmax(1) == y).float().mean().item()
    with torch.no_grad():
        dense = (trained(test).argmax(1) == y).float().mean().item()
    assert after >= max(before, dense - 0.03)
    assert result.sqnr["logits"] > 5


def test_training_network_is_the_deployed_one(trained: nn.Module, clips: Any, train: Any) -> None:
    """After training, evaluation of the QAT network and of the finished one agree in arg-max."""
    x, _ = clips(64, 92)
    test, _ = clips(400, 93)
    network = prepare_qat(trained, x, batches=[x], steps=5)
    train(network, 5, 0.005, seed=6)
    network.eval()
    with torch.no_grad():
        expected = network(test).argmax(1)
    result = finish_qat(network, x)
    assert (result.simulate(test).argmax(1) == expected).float().mean() >= 0.995
    assert dict(result.sqnr) == {}  # no clips, nothing measured


def test_statistics_freeze_towards_the_end(trained: nn.Module, clips: Any) -> None:
    x, _ = clips(16, 94)
    network = prepare_qat(trained, x, QatInt8(freeze_after=0.5), batches=[x], steps=4).train()
    norm = network.get_submodule("net.stem.1")
    assert isinstance(norm, nn.BatchNorm2d)
    means, highs = [], []
    for step in range(4):
        network(x + step)
        means.append(norm.running_mean.clone())  # type: ignore[union-attr]
        highs.append(network.roundings[0].high.item())
    assert not torch.equal(means[0], means[1])
    assert torch.equal(means[1], means[2])
    assert torch.equal(means[1], means[3])
    assert highs[0] != highs[1] == highs[2] == highs[3]
    network.eval()
    network.train()  # as a training loop does every epoch
    assert not norm.training
    assert network.net.training


def test_batchnorm_behind_a_sum_is_folded_before_training(make: Callable[[str], Any]) -> None:
    """DSMN: the terms of a sum are rounded one by one, with the scales they are deployed in."""
    case = make("dsmn_seg")
    network = prepare_qat(case.model, case.x)
    assert "blocks.0.c1.bn" in network.folded
    assert "blocks.0.c1.pw" in network.folded  # a factor for each channel
    assert "blocks.0.bn" not in network.folded
    assert isinstance(network.get_submodule("net.blocks.0.bn"), nn.BatchNorm2d)
    assert {"blocks.0.c1.dw_t", "blocks.0.eca.gate", "blocks.0.eca (mul)"} <= set(network.sites)


def test_training_tools_can_copy_and_store_it(trained: nn.Module, clips: Any) -> None:
    x, _ = clips(8, 95)
    network = prepare_qat(trained, x, batches=[x])
    twin = copy.deepcopy(network)
    state = {k: v.clone() for k, v in network.state_dict().items()}
    a_few_steps(network, x, lr=0.1)
    assert any(not torch.equal(v, state[k]) for k, v in network.state_dict().items())
    with torch.no_grad():
        first = twin(x)
    network.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(network(x), first)
    assert finish_qat(twin, x).weights.keys() == finish_qat(network, x).weights.keys()


def test_misuse(trained: nn.Module, clips: Any) -> None:
    x, _ = clips(8, 96)
    with pytest.raises(ConfigError, match="QAT takes QatInt8 settings, found StaticInt8"):
        prepare_qat(trained, x, StaticInt8())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="static int8 takes StaticInt8 settings, found QatInt8"):
        quantize_static(trained, x, [x], QatInt8())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes a network from prepare_qat, found a SEResNet"):
        finish_qat(trained, x)
    with pytest.raises(MeasureError, match="layer 'input' has no activation range: train"):
        finish_qat(prepare_qat(trained, x), x)
    with pytest.raises(UnknownNameError, match="quantised layer in mixed 'conv'"):
        prepare_qat(trained, x, QatInt8(mixed={"conv": 4}))
    with pytest.raises(UnknownNameError, match="layer in keep_float"):
        prepare_qat(trained, x, QatInt8(keep_float=("nothing",)))
    network = prepare_qat(trained, x, batches=[x])
    with torch.no_grad():
        network.get_parameter("net.fc.weight")[0, 0] = float("nan")
    with pytest.raises(MeasureError, match="layer 'fc': weight holds values that are not finite"):
        finish_qat(network, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_brevitas_takes_the_same_networks(
    name: str, make: Callable[[str], Any], run_onnx: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    case = make(name)
    config = QatInt8(engine="brevitas")
    network = prepare_qat(case.model, case.x, config, batches=[case.x], steps=3)
    a_few_steps(network, case.x)
    result = finish_qat(network, case.x, [case.x])
    stored = integers_of(write_qdq(result, tmp_path / "brevitas.onnx"))
    for layer, weight in result.weights.items():
        own = network.net.get_submodule(layer).quant_weight().int()  # type: ignore[operator]
        assert torch.equal(own.abs().to(torch.int8), weight.values.abs())
        assert np.array_equal(stored[f"{layer}.weight"], weight.values.numpy())
    differing = mismatch(network, result, case.x)
    assert differing[0] == 0
    assert max(differing[:3]) <= 0.02
    assert max(differing[:6]) <= 0.3
    assert np.isfinite(run_onnx(tmp_path / "brevitas.onnx", case.x)).all()
