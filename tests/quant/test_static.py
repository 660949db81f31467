"""Static int8: the simulation is onnxruntime, the integers are one, the bytes are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import zoo
from compressor.export.quantized import integers_of, write_qdq
from compressor.methods.quant import StaticInt8, quantize_static, worst
from compressor.methods.quant.lower import lower

MODELS = zoo.list_models()
QUICK = ("seresnet18", "dsmn_seg", "sepcnn_coordatt", "dcase2022_baseline")
SOME = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]


@pytest.mark.parametrize("name", SOME)
def test_float_network_in_onnx(
    name: str, make: Callable[[str], Any], run_onnx: Callable[..., np.ndarray]
) -> None:
    """The writer's float32 form computes what torch does, for any batch size."""
    from compressor.methods.dataflow import trace

    case = make(name)
    proto = lower(trace(case.model, case.x[:2]))
    onnx.checker.check_model(proto, full_check=True)
    with torch.no_grad():
        for x in (case.x[:1], case.x):
            expected = case.model(x).numpy()
            found = run_onnx(proto.SerializeToString(), x)
            assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", SOME)
def test_integers_in_the_file_are_those_of_the_network(
    name: str,
    make: Callable[[str], Any],
    run_onnx: Callable[..., np.ndarray],
    tmp_path: Path,
) -> None:
    case = make(name)
    before = {key: value.clone() for key, value in case.model.state_dict().items()}
    network = quantize_static(case.model, case.x, [case.x])
    assert all(torch.equal(v, before[k]) for k, v in case.model.state_dict().items())
    path = write_qdq(network, tmp_path / "int8.onnx")
    stored = integers_of(path)
    assert len(network.weights) == len(list(_layers(network.model)))
    for layer, weight in network.weights.items():
        assert np.array_equal(stored[f"{layer}.weight"], weight.values.numpy())
        assert weight.values.abs().max() <= 127
        own = network.model.get_submodule(layer).weight
        assert torch.equal(own, weight.float())  # the float twin is on the grid
    for layer, bias in network.biases.items():
        assert np.array_equal(stored[f"{layer}.bias"], bias.values.numpy())
    # a deep random network amplifies single roundings; most logits agree to a fraction of a step
    expected = network.simulate(case.x).numpy()
    found = run_onnx(path, case.x)
    assert np.median(np.abs(found - expected)) <= 0.02 * np.abs(expected).max()
    assert not onnx.load(path, load_external_data=False).graph.initializer[0].external_data


def _layers(model: nn.Module) -> Any:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
    return (m for m in model.modules() if isinstance(m, kinds))


def test_arg_max_in_onnxruntime(
    trained: nn.Module, clips: Any, run_onnx: Callable[..., np.ndarray]
) -> None:
    """At least 99.5 % of 400 clips get the class of the simulation; accuracy within a point."""
    x, _ = clips(64, 70)
    test, y = clips(400, 71)
    network = quantize_static(trained, x, [x])
    simulated = network.simulate(test).argmax(1).numpy()
    found = run_onnx(network.to_onnx(), test).argmax(1)
    assert (found == simulated).mean() >= 0.995
    with torch.no_grad():
        float_accuracy = (trained(test).argmax(1) == y).float().mean().item()
    assert (found == y.numpy()).mean() >= float_accuracy - 0.01


def test_bytes_by_hand() -> None:
    """conv 1->2 3x3 with bias, linear 2->3 with bias: 18 + 6 weights at one byte, 2 + 3 biases at
    four; folding gives the bias of the convolution."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    ).eval()
    x = torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    network = quantize_static(model, x, [x])
    assert network.nbytes == 18 + 6 + 4 * 2 + 4 * 3
    # scales: (2 + 3) x (4 + 1) of the weights, (2 + 3) x (4 + 4) of the biases, 3 activations x 5
    assert list(network.activations) == ["input", "2", "3"]
    assert network.scale_bytes == 25 + 40 + 15
    narrow = quantize_static(model, x, [x], StaticInt8(weight_bits=4, mixed={"5": 8}))
    assert narrow.nbytes == 9 + 6 + 20
    assert narrow.weights["0"].values.abs().max() <= 7
    assert narrow.weights["5"].values.abs().max() == 127
    kept = quantize_static(model, x, [x], StaticInt8(keep_float=("5",)))
    assert kept.nbytes == 18 + 8 + 4 * (6 + 3)
    computed = quantize_static(model, x, [x], StaticInt8(float_compute=("5",)))
    assert computed.nbytes == network.nbytes
    assert list(computed.weights) == ["0", "5"]
    assert list(computed.biases) == ["0"]  # a layer that computes in float adds a float bias


@pytest.mark.parametrize(
    "settings",
    [
        {"keep_float": ("layers.0", "fc")},
        {"float_compute": ("stem.0", "layers.1")},
        {"integer_operators": ()},
        {"per_channel": False},
        {"weight_bits": 5},
        {"rescale": False},
    ],
)
def test_every_setting_runs_and_is_simulated(
    settings: dict[str, Any],
    trained: nn.Module,
    clips: Any,
    run_onnx: Callable[..., np.ndarray],
) -> None:
    x, _ = clips(32, 80)
    test, _ = clips(200, 81)
    network = quantize_static(trained, x, [x], StaticInt8(**settings))
    content = network.to_onnx()
    onnx.checker.check_model(content, full_check=True)
    expected = network.simulate(test).argmax(1).numpy()
    assert (run_onnx(content, test).argmax(1) == expected).mean() >= 0.995


def test_four_bits_take_half_a_byte(
    trained: nn.Module, clips: Any, run_onnx: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    """Counted from the file by the auditor: the network's own figure, whatever the widths."""
    import compressor

    x, _ = clips(32, 80)
    test, _ = clips(200, 81)
    settings = StaticInt8(mixed={"layers.1.conv1": 4, "layers.1.conv2": 3})
    network = quantize_static(trained, x, [x], settings)
    path = write_qdq(network, tmp_path / "mixed.onnx")
    whole = quantize_static(trained, x, [x])
    halved = sum(network.weights[f"layers.1.conv{i}"].values.numel() for i in (1, 2)) // 2
    assert network.nbytes == whole.nbytes - halved
    assert compressor.audit(path).param_bytes == network.nbytes
    stored = integers_of(path)["layers.1.conv1.weight"]
    assert np.array_equal(
        np.asarray(stored).astype(np.int8), network.weights["layers.1.conv1"].values.numpy()
    )
    expected = network.simulate(test).argmax(1).numpy()
    assert (run_onnx(path, test).argmax(1) == expected).mean() >= 0.995


def test_integer_kernels_are_used(trained: nn.Module, clips: Any, tmp_path: Path) -> None:
    """What onnxruntime makes of the file: no float convolution, sum, product or pooling is left."""
    onnxruntime = pytest.importorskip("onnxruntime")
    x, _ = clips(32, 80)
    path = write_qdq(quantize_static(trained, x, [x]), tmp_path / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert {"QLinearConv", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QGemm"} <= kinds
    assert not kinds & {"Conv", "Gemm", "Add", "Mul", "Sigmoid", "DequantizeLinear"}


def test_signal_to_noise_by_hand() -> None:
    """One layer, weight 1: the only error at the input is its rounding."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0.0]]))
    # range 0 to 2.55, step 0.01: 0.996 becomes 1.00, so the noise is 0.004^2 + 0^2
    x = torch.tensor([[[2.55, 0.0]], [[0.996, 0.0]]])
    network = quantize_static(model, x, [x])
    expected = 10 * np.log10((2.55**2 + 0.996**2) / 0.004**2)
    assert network.sqnr["input"] == pytest.approx(expected, abs=0.1)
    assert network.sqnr["logits"] == pytest.approx(expected, abs=0.1)


def test_the_worst_layer_is_found(trained: nn.Module, clips: Any) -> None:
    x, _ = clips(32, 80)
    network = quantize_static(trained, x, [x], StaticInt8(mixed={"layers.1.conv1": 2}))
    names = [name for name, _ in worst(network.sqnr, 2)]
    assert "layers.1.relu1" in names  # where the 2-bit layer's values are rounded
    better = quantize_static(trained, x, [x], StaticInt8(mixed={"layers.1.conv1": 8}))
    assert better.sqnr["layers.1.relu1"] > network.sqnr["layers.1.relu1"] + 6


def test_pruned_networks_quantise(make: Callable[[str], Any], run_onnx: Any) -> None:
    from compressor.methods import Slimming, slim

    case = make("dsmn_seg")
    ignored = zoo.entry("dsmn_seg").ignored_layers
    small = slim(case.model, case.x, Slimming(0.5), ignored=ignored).model
    network = quantize_static(small, case.x, [case.x])
    found = run_onnx(network.to_onnx(), case.x)
    assert np.isfinite(found).all()
    expected: Tensor = network.simulate(case.x)
    assert np.median(np.abs(found - expected.numpy())) <= 0.05 * expected.abs().max()
