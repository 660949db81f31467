"""Networks exported by torch: the same figures from the file as from the live module."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import compressor
import zoo
from compressor.audit.onnxops import RULES

SMALL = ("dcase2024_baseline", "seresnet_107k", "sepcnn_coordatt")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Both exporters of torch 2.13 warn of their own insides."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(level)


def export(module: nn.Module, args: tuple[Tensor, ...], path: Path, **options: Any) -> Path:
    """Writes the file with the exporter that traces; `dynamo=True` takes the newer one."""
    options = {"dynamo": False} | options
    if options["dynamo"]:
        options |= {"external_data": False, "verbose": False}
    torch.onnx.export(module.eval(), args, path, **options)
    return path


def unfolded(module: nn.Module, args: tuple[Tensor, ...], path: Path) -> Path:
    """The same without folding BatchNorm into the convolutions."""
    return export(
        module,
        args,
        path,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )


def lively(network: nn.Module) -> nn.Module:
    """Gives BatchNorm statistics and biases that a real training leaves, so that none is zero."""
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for held in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                assert held is not None
                held.data.uniform_(0.5, 1.5, generator=generator)
    return network


def float_initializers(path: Path) -> int:
    """Counts numbers with the onnx package: every real tensor that is no running statistic."""
    graph = onnx.load(path).graph
    statistics = {
        name
        for node in graph.node
        if node.op_type == "BatchNormalization"
        for name in node.input[3:]
    }
    return sum(
        prod(held.dims)
        for held in graph.initializer
        if held.data_type == onnx.TensorProto.FLOAT and held.dims and held.name not in statistics
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in SMALL else pytest.mark.slow)
        for name in zoo.list_models()
    ],
)
def test_zoo_network(name: str, tmp_path: Path) -> None:
    shape = (1, *zoo.entry(name).input_shape)
    network = lively(zoo.build(name).eval())
    live = compressor.audit(network, input_shape=shape)
    x = torch.zeros(shape)
    kept = compressor.audit(unfolded(network, (x,), tmp_path / "kept.onnx"))
    assert kept.macs == live.macs
    assert (kept.params, kept.nonzero_params) == (live.params, live.nonzero_params)
    assert kept.bytes_by_dtype == live.bytes_by_dtype
    assert kept.macs_by_convention["nessi"] == live.macs_by_convention["nessi"]
    assert kept.params_by_convention == live.params_by_convention
    assert kept.status == "exact"
    folded_path = export(network, (x,), tmp_path / "folded.onnx")
    folded = compressor.audit(folded_path)
    assert (folded.macs, folded.status) == (live.macs, "exact")
    assert folded.params == float_initializers(folded_path)
    # scale and shift of a folded BatchNorm become one bias
    assert folded.params < live.params


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models())
def test_zoo_network_with_the_newer_exporter(name: str, tmp_path: Path) -> None:
    shape = (1, *zoo.entry(name).input_shape)
    network = lively(zoo.build(name).eval())
    live = compressor.audit(network, input_shape=shape)
    path = export(
        network,
        (torch.zeros(shape),),
        tmp_path / "new.onnx",
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},) if name in SMALL else None,
    )
    file = compressor.audit(path)
    assert (file.macs, file.status, file.input_shape) == (live.macs, "exact", shape)
    assert file.params == float_initializers(path)
    assert file.params < live.params


# -- layers --


class Attention(nn.Module):
    """Self-attention from its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.all(x).reshape(1, 6, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        held = F.scaled_dot_product_attention(query, key, value)
        return self.out(held.transpose(1, 2).reshape(1, 6, 16))


class Tied(nn.Module):
    """An embedding and an output layer that share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.table.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.table(words))


class Twice(nn.Module):
    """One layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.conv(x)))


class Resized(nn.Module):
    """Shapes computed on the way: interpolation to the input's size, flatten, chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Linear(2 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.down(x))
        y = F.interpolate(y, size=(x.shape[2] // 2, x.shape[3] // 2), mode="nearest")
        y = torch.cat(y.chunk(2, dim=1), dim=0)[:1]
        return self.head(y.reshape(y.shape[0], -1))


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv1d": (nn.Sequential(nn.Conv1d(4, 8, 5, dilation=2, groups=2), nn.ReLU()), (2, 4, 30)),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, groups=2), (1, 6, 7, 9)),
    "linear-3d": (nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 3)), (2, 7, 12)),
    "norms": (
        nn.Sequential(nn.Conv2d(4, 8, 1), nn.GroupNorm(2, 8), nn.Hardswish(), nn.PReLU(8)),
        (1, 4, 5, 5),
    ),
    "layer-norm": (nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 4)), (3, 5, 12)),
    "attention": (Attention(), (1, 6, 16)),
    "twice": (Twice(), (1, 4, 6, 6)),
    "resized": (Resized(), (1, 3, 16, 16)),
    "pooled": (
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        (1, 1, 10, 13),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, tmp_path: Path) -> None:
    """MACs, parameters and the figure of the official counter, from the file and live."""
    module, shape = LAYERS[name]
    live = compressor.audit(module, input_shape=shape)
    file = compressor.audit(unfolded(module, (torch.zeros(shape),), tmp_path / "m.onnx"))
    assert (file.macs, file.params, file.status) == (live.macs, live.params, "exact")
    if name != "attention":  # its matrix products are functional there too
        assert file.macs_by_convention["nessi"] == live.macs_by_convention["nessi"]


@pytest.mark.parametrize(
    ("kind", "gates"), [(nn.GRU, 3), (nn.LSTM, 4), (nn.RNN, 1)], ids=["gru", "lstm", "rnn"]
)
@pytest.mark.parametrize("sides", [1, 2])
def test_recurrent(kind: type[nn.RNNBase], gates: int, sides: int, tmp_path: Path) -> None:
    """Two layers: T x (I + H) x gates x H, then T x (sides x H + H) x gates x H, each side."""
    module = kind(10, 6, num_layers=2, bidirectional=sides == 2)
    path = unfolded(module, (torch.zeros(7, 3, 10),), tmp_path / "m.onnx")
    file = compressor.audit(path)
    rows = gates * 6
    assert file.macs == 7 * 3 * sides * rows * ((10 + 6) + (sides * 6 + 6))
    assert file.params == sides * rows * ((10 + 6 + 2) + (sides * 6 + 6 + 2))
    assert file.status == "exact"
    live = compressor.audit(module, input_shape=(7, 3, 10))
    assert (file.macs, file.params) == (live.macs, live.params)
    assert file.macs_by_convention["nessi"] == live.macs_by_convention["nessi"]


def test_tied_weights(tmp_path: Path) -> None:
    path = unfolded(Tied(), (torch.zeros(1, 7, dtype=torch.long),), tmp_path / "m.onnx")
    file = compressor.audit(path)
    assert (file.params, file.macs) == (800, 7 * 16 * 50)
    assert file.status == "exact"


def test_half_precision(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU()).half()
    path = export(module, (torch.zeros(1, 1, 9, 9, dtype=torch.float16),), tmp_path / "m.onnx")
    file = compressor.audit(path)
    assert (file.macs, file.bytes_by_dtype) == (72 * 49, {"float16": 160})


def test_counting_leaves_torch_and_onnx_alone(tmp_path: Path) -> None:
    """The reader needs neither; the operator names of the rules are those of the file format."""
    import subprocess
    import sys

    path = export(nn.Linear(4, 2), (torch.zeros(1, 4),), tmp_path / "m.onnx")
    code = (
        "import sys, compressor; print(compressor.audit(sys.argv[1]).macs, "
        "[name for name in ('torch', 'onnx', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "8 []"
    assert all(name.startswith("onnx.") for name in RULES)
