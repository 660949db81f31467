"""Peak activation memory, worked out by hand on small networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import compressor
from compressor.audit.graph import read_graph
from compressor.audit.memory import peak_activation


def test_residual_network() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(4, 8, 3, padding=1)
            self.b = nn.Conv2d(8, 4, 3, padding=1)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)  # x 1,600 B, y 3,200 B
            y = self.relu(y)  # x is still needed: 1,600 + 3,200 + 3,200 = 8,000 B, the peak
            y = self.b(y)  # 1,600 + 3,200 + 1,600 = 6,400 B
            return x + y  # 1,600 x 3 = 4,800 B

    result = compressor.audit(Net(), input_shape=(1, 4, 10, 10))
    assert result.peak_activation_bytes == 8_000
    assert result.peak_activation_layer == "relu (aten.relu)"


def test_chain_lets_its_input_go() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 16, 1), nn.AdaptiveAvgPool2d(1))
    # positions 100: 400, 800, 6,400, 64 B; the input is gone when the third layer runs
    result = compressor.audit(net, input_shape=(1, 1, 10, 10))
    assert result.peak_activation_bytes == 800 + 6_400
    assert result.peak_activation_layer == "1 (aten.convolution)"


def test_in_place_and_views_take_nothing() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2  # 400 + 400
            y.add_(1).relu_()
            return y.view(10, 10).t()[2:5]

    assert compressor.audit(Net(), input_shape=(1, 100)).peak_activation_bytes == 800


def test_a_view_keeps_its_buffer_alive() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2  # x 400 B, y 400 B
            part = y[:, :10]
            z = torch.cat([x, x, x], 1)  # y lives on behind `part`: 400 + 400 + 1,200
            return z[:, :10] + part

    assert compressor.audit(Net(), input_shape=(1, 100)).peak_activation_bytes == 2_000


def test_concatenation_needs_all_branches() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x.relu(), x.sigmoid(), x.tanh()], 1)

    # x 400 until tanh; three branches 1,200 + result 1,200 = 2,400
    assert compressor.audit(Net(), input_shape=(1, 100)).peak_activation_bytes == 2_400


def test_half_precision_takes_half() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3))
    full = compressor.audit(net, input_shape=(1, 1, 12, 12)).peak_activation_bytes
    half = compressor.audit(net.half(), input_shape=(1, 1, 12, 12)).peak_activation_bytes
    assert full == 4 * (4 * 100 + 4 * 64)
    assert half == 2 * (4 * 100 + 4 * 64)


def test_recurrent_layer_holds_input_and_outputs() -> None:
    gru = nn.GRU(3, 4)
    result = compressor.audit(gru, input_shape=(5, 1, 3))
    # input 60 B and outputs 80 + 16 B are alive beside whatever one step needs
    assert result.peak_activation_bytes is not None
    assert result.peak_activation_bytes >= 60 + 80 + 16


def graph(ops: list[dict[str, object]], sizes: list[int], outputs: list[int]) -> dict[str, object]:
    """Value i lives in buffer i; value 0 is the input."""
    return {
        "version": 1,
        "modules": [{"path": "", "type": "Net", "leaf": True, "parameters": []}],
        "calls": [],
        "parameters": {},
        "buffers": {},
        "constants": {},
        "packed": {},
        "unsaved": [],
        "tied": {},
        "frozen": [],
        "storage_bytes": sizes,
        "values": [[[size], "uint8", home] for home, size in enumerate(sizes)],
        "inputs": [0],
        "outputs": outputs,
        "ops": [{"module": 0, "attrs": {}, **op} for op in ops],
    }


def test_liveness_on_a_written_graph() -> None:
    ops: list[dict[str, object]] = [
        {"op": "aten.relu", "in": [0], "out": [1]},  # 10 + 20
        {"op": "aten.relu", "in": [1], "out": [2]},  # 20 + 30 (the input is gone)
        {"op": "aten.relu", "in": [2], "out": [3], "attrs": {"scratch_bytes": 15}},  # 30 + 5 + 15
        {"op": "aten.cat", "in": [2, 3], "out": [4]},  # 30 + 5 + 35 = 70
    ]
    peak = peak_activation(read_graph(graph(ops, [10, 20, 30, 5, 35], [4])))
    assert (peak.bytes, peak.layer) == (70, "aten.cat")
    kept = peak_activation(read_graph(graph(ops, [10, 20, 30, 5, 35], [4, 1])))
    assert kept.bytes == 90  # an output is kept to the end
    big = peak_activation(read_graph(graph(ops, [100, 20, 30, 5, 35], [4])))
    assert big.bytes == 120


def test_an_input_that_nothing_reads() -> None:
    peak = peak_activation(read_graph(graph([], [64], [0])))
    assert (peak.bytes, peak.layer) == (64, "input")
