"""The written form that onnxruntime is fast on: the same numbers, integers and counts as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import compressor
from compressor.artifact import from_quantized, save
from compressor.errors import QuantizeError
from compressor.export.quantized import integers_of, write_qdq
from compressor.methods.quant import QuantizedNetwork, StaticInt8, quantize_static

onnxruntime = pytest.importorskip("onnxruntime")


class Averages(nn.Module):
    """Averages over windows, with padding and along one axis, and a gate for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.pool = nn.AvgPool2d(3, stride=(1, 2), padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.sigmoid = nn.Sigmoid()
        self.shrink = nn.AvgPool2d(2)
        self.mix = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.stem(x)))
        x = x * self.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = self.mix(self.shrink(x))
        x = x * torch.sigmoid(self.mix_gate(x))
        return self.head(x.mean((2, 3)))

    def mix_gate(self, x: Tensor) -> Tensor:
        return x.mean(2, keepdim=True) + x.mean(3, keepdim=True)


def make(model: nn.Module, **settings: Any) -> tuple[QuantizedNetwork, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(16, 1, 12, 20, generator=generator)
    return quantize_static(model.eval(), x, [x], StaticInt8(**settings)), x


def seeded(kind: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind()


def ran(path: Path) -> list[onnx.NodeProto]:
    """The nodes that are left when onnxruntime has optimised the file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimised.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(onnx.load(options.optimized_model_filepath).graph.node)


def test_averages_are_depthwise_convolutions(run_onnx: Any, tmp_path: Path) -> None:
    network, x = make(seeded(Averages))
    path = write_qdq(network, tmp_path / "int8.onnx")
    kinds = [node.op_type for node in ran(path)]
    assert "QLinearAveragePool" not in kinds
    assert not {"AveragePool", "ReduceMean"} & set(kinds)
    # 3 convolutions, 2 poolings, 2 averages along an axis
    assert kinds.count("QLinearConv") == 7
    expected = network.simulate(x).numpy()
    assert np.abs(run_onnx(path, x) - expected).max() <= 0.02 * np.abs(expected).max()


def test_nothing_more_is_stored(tmp_path: Path) -> None:
    """No weights but those of the network: the ones of an average are made at loading."""
    network, _ = make(seeded(Averages))
    path = write_qdq(network, tmp_path / "int8.onnx")
    stored = integers_of(path)
    for layer, weight in network.weights.items():
        assert np.array_equal(np.asarray(stored[f"{layer}.weight"]), weight.values.numpy())
    sizes = {name: np.asarray(value).size for name, value in stored.items()}
    largest = {name for name, size in sizes.items() if size > 8}
    assert largest == {f"{name}.weight" for name in ("stem", "gate", "mix", "head")}


def test_a_gate_is_repeated_along_a_row(tmp_path: Path) -> None:
    network, _ = make(seeded(Averages))
    model = onnx.load(write_qdq(network, tmp_path / "int8.onnx"))
    expands = [node for node in model.graph.node if node.op_type == "Expand"]
    assert len(expands) == 1  # of the gate (N, C, 1, 1); the other one is a map already
    sizes = next(t for t in model.graph.initializer if t.name == expands[0].input[1])
    assert onnx.numpy_helper.to_array(sizes).tolist() == [1, 1, 1, 10]  # 20 frames at stride 2
    read = {name for node in model.graph.node for name in node.input}
    made = [name for node in model.graph.node for name in node.output]
    assert [name for name in made if name not in read] == ["logits"]  # nothing runs for nothing


class Padded(nn.Module):
    """An average that leaves the padding out: no convolution can do that."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.mix = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.pool(self.stem(x))).mean((2, 3))


def test_averages_that_no_convolution_gives_stay(run_onnx: Any, tmp_path: Path) -> None:
    network, x = make(seeded(Padded))
    path = write_qdq(network, tmp_path / "int8.onnx")
    assert "AveragePool" in {node.op_type for node in onnx.load(path).graph.node}
    expected = network.simulate(x).numpy()
    assert np.abs(run_onnx(path, x) - expected).max() <= 0.02 * np.abs(expected).max()


class Pooled(nn.Sequential):
    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
        layers += [nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()]
        super().__init__(*layers, nn.Linear(8 * 4 * 8, 3))


def test_maximum_of_a_float_layer_comes_before_rounding(run_onnx: Any, tmp_path: Path) -> None:
    network, x = make(seeded(Pooled), float_compute=("0",))
    path = write_qdq(network, tmp_path / "int8.onnx")
    nodes = ran(path)
    quantised = {name for n in nodes if n.op_type == "QuantizeLinear" for name in n.output}
    pools = [node for node in nodes if node.op_type.endswith("MaxPool")]
    assert len(pools) == 1
    assert not quantised & set(pools[0].input)
    # the grid is that of the ReLU all the same: as in the simulation
    expected = network.simulate(x).numpy()
    assert np.abs(run_onnx(path, x) - expected).max() <= 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("float_compute", [(), ("body.0",)])
def test_counts_are_those_of_the_model_file(
    float_compute: tuple[str, ...], make: Callable[[str], Any], tmp_path: Path
) -> None:
    """Coordinate attention, averages and layers that compute in float32: the same in both files."""
    case = make("sepcnn_coordatt")
    config = StaticInt8(float_compute=float_compute)
    network = quantize_static(case.model, case.x, [case.x], config)
    artifact = tmp_path / "int8.pt"
    save(from_quantized(network, case.artifact()), artifact)
    shape = (1, *case.x.shape[1:])
    ours = compressor.audit(artifact, input_shape=shape)
    theirs = compressor.audit(write_qdq(network, tmp_path / "int8.onnx"), input_shape=shape)
    assert theirs.params == ours.params
    assert theirs.param_bytes == ours.param_bytes == network.nbytes
    assert theirs.macs == ours.macs
    assert theirs.status == "exact"


@pytest.mark.parametrize(
    "layer",
    [
        nn.GELU(),
        nn.GELU("tanh"),
        nn.Softplus(),
        nn.ELU(0.7),
        nn.SELU(),
        nn.Mish(),
        nn.LeakyReLU(0.2),
        nn.PReLU(4),
        nn.ReLU6(),
        nn.GroupNorm(2, 4),
        nn.GroupNorm(4, 4, affine=False),
    ],
    ids=repr,
)
def test_what_the_error_advises_works(layer: nn.Module, tmp_path: Path) -> None:
    """Kept in float, the layer is written; onnxruntime gives what the rounded network does."""
    torch.manual_seed(0)
    first, last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 3)
    model = nn.Sequential(first, layer, last, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x = 3 * torch.randn(8, 1, 9, 9)
    with pytest.raises(QuantizeError, match=r"--keep-float 1, or keep_float = \['1'\]"):
        quantize_static(model, x, [x])
    network = quantize_static(model, x, [x], StaticInt8(keep_float=("1",)))
    network.to_onnx(tmp_path / "kept.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "kept.onnx", providers=["CPUExecutionProvider"]
    )
    with torch.no_grad():
        expected = network.simulate(x)
    found = torch.from_numpy(session.run(None, {"features": x.numpy()})[0])
    step = float(expected.max() - expected.min()) / 50  # a value may round the other way
    assert float((found - expected).abs().max()) < step


def test_the_error_names_the_layer() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GELU(), nn.Conv2d(2, 2, 1)).eval()
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(QuantizeError, match=r"layer '1': GELU cannot be quantised") as caught:
        quantize_static(model, x, [x])
    assert caught.value.layer == "1"
    assert caught.value.exit_code == 3
    odd = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Softshrink(), nn.Conv2d(2, 2, 1)).eval()
    with pytest.raises(QuantizeError, match="Softshrink cannot be quantised, nor written in float"):
        quantize_static(odd, x, [x])
    with pytest.raises(QuantizeError, match="no layer is left") as caught:
        quantize_static(nn.Sequential(nn.ReLU()).eval(), x, [x])
    assert caught.value.layer == ""
