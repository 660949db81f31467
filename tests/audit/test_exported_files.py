"""`.pt2` archives and live exported programs: every figure by hand, without torch on our side."""

from __future__ import annotations

import resource
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from exported_helpers import export, rewritten
from torch import Tensor, nn
from torch.nn.utils import prune

import compressor
import zoo
from compressor.audit import AuditResult
from compressor.errors import UsageError


def audit(path: Path, **options: Any) -> AuditResult:
    result = compressor.audit(path, **options)
    assert sum(layer.macs for layer in result.layers) == result.macs
    assert sum(layer.params for layer in result.layers) == result.params
    assert sum(result.bytes_by_dtype.values()) == result.param_bytes
    return result


class Mixed(nn.Module):
    """Composite operators, views, buffers, constants, ties, a dead layer, zeros, two calls."""

    mel: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose1d(8, 8, 2, stride=2, groups=2, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.act = nn.ReLU(inplace=True)
        self.twice = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8, bias=False)
        self.tied.weight = self.twice.weight
        self.dead = nn.Conv2d(3, 5, 3)
        self.frozen = nn.Linear(8, 4).requires_grad_(False)
        self.register_buffer("mel", torch.rand(4, 6))
        self.register_buffer("window", torch.ones(4, 1), persistent=False)
        self.plain = torch.randn(5, 4)
        with torch.no_grad():
            self.frozen.weight[0] = 0  # 8 zeros

    def forward(self, x: Tensor) -> Tensor:
        y = self.mel @ x * self.window  # (4, 6) @ (N, 6, 10)
        y = self.act(self.norm(self.up(self.conv(y))))  # (N, 8, 10), (N, 8, 20)
        y = self.tied(self.twice(self.twice(y.transpose(1, 2))))  # (N, 20, 8)
        return torch.einsum("nti,oi->nto", self.frozen(y), self.plain).flatten(1)


# batch 1: mel 4 x 6 x 10; conv 10 x 96; transposed from its 10 inputs x 8 x 4 x 2;
# three products of 20 x 64; frozen 20 x 32; einsum 20 x 4 x 5
MIXED_MACS = 240 + 960 + 640 + 3 * 1280 + 640 + 400
MIXED_PARAMS = (96 + 8) + 64 + 16 + (64 + 8) + (135 + 5) + (32 + 4)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("pt2") / "mixed.pt2"
    batch = torch.export.Dim("batch", min=1, max=32)
    return export(Mixed(), path, torch.randn(2, 6, 10), dynamic=({0: batch},))


def test_every_figure_of_an_exported_program(mixed: Path) -> None:
    result = audit(mixed)
    assert (result.format, result.input_shape) == ("torch-export", (1, 6, 10))
    assert (result.macs, result.params) == (MIXED_MACS, MIXED_PARAMS)
    assert result.nonzero_params == MIXED_PARAMS - 8 - 8  # frozen row; a fresh BatchNorm's beta
    assert result.bytes_by_dtype == {"float32": 4 * MIXED_PARAMS}
    # running mean and variance, counter, mel, window
    assert result.buffer_bytes == 32 + 32 + 8 + 4 * 24 + 16
    assert result.statuses["macs"] == "exact"
    assert result.details["tied"] == {"tied.weight": "twice.weight"}
    assert result.details["never_called"] == ["dead"]
    assert result.details["frozen"] == ["frozen.weight", "frozen.bias"]
    assert result.details["weights_in_buffers"] == {"mel": 24, "plain": 20}
    calls = {layer.name: layer.calls for layer in result.layers if layer.kind == "Linear"}
    assert calls == {"twice": 2, "tied": 1, "frozen": 1}


def test_it_equals_the_live_module_in_both_conventions(mixed: Path) -> None:
    torch.manual_seed(0)
    live = compressor.audit(Mixed(), input_shape=(1, 6, 10))
    file = audit(mixed)
    assert file.macs_by_convention == live.macs_by_convention
    assert file.params_by_convention == live.params_by_convention
    assert file.nonzero_by_convention == live.nonzero_by_convention
    ours = {layer.name: layer for layer in file.layers}
    for layer in live.layers:
        if layer.params or layer.macs:
            # a file does not know the class of what was never called
            assert ours[layer.name] == replace(layer, kind=layer.kind if layer.calls else "")


def test_an_open_batch_takes_another_size(mixed: Path) -> None:
    assert audit(mixed, input_shape=(3, 6, 10)).macs == 3 * MIXED_MACS
    assert audit(mixed, input_shape=[(1, 6, 10)]).macs == MIXED_MACS
    with pytest.raises(UsageError, match=r"axis 0 of 33: the program was exported for 1 to 32"):
        audit(mixed, input_shape=(33, 6, 10))
    with pytest.raises(UsageError, match=r"exported for \(1, 6, 10\)"):
        audit(mixed, input_shape=(1, 6, 11))
    with pytest.raises(UsageError, match="expected 3 axes"):
        audit(mixed, input_shape=(1, 6))
    with pytest.raises(UsageError, match="2 input shapes, the program has 1 inputs"):
        audit(mixed, input_shape=[(1, 6, 10), (1, 6, 10)])
    with pytest.raises(UsageError, match="leave arch="):
        audit(mixed, arch="seresnet18")


def test_a_live_program_answers_alike(mixed: Path) -> None:
    program = torch.export.load(mixed)  # our own file, made above
    nodes = [str(node) for node in program.graph.nodes]
    result = compressor.audit(program)
    plain, file = result.to_dict(), audit(mixed).to_dict()
    assert plain.pop("source") == "ExportedProgram"
    file.pop("source")
    assert plain == file
    assert compressor.audit(program, input_shape=(2, 6, 10)).macs == 2 * MIXED_MACS
    assert [str(node) for node in program.graph.nodes] == nodes
    with pytest.raises(UsageError, match="carries its own inputs"):
        compressor.audit(program, inputs=torch.zeros(1, 6, 10))


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.cell = nn.GRUCell(6, 3)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(6, 3, dim_feedforward=10, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.gru(x)[0])
        h = y.new_zeros(y.shape[0], 3)
        for step in range(2):
            h = self.cell(y[:, step], h)
        y = self.layer(self.attention(y, y, y)[0])
        q = F.scaled_dot_product_attention(y, y, y)
        return torch.matmul(q, h.new_ones(6)) + torch.bmm(q, q.transpose(1, 2)).sum(1)


def test_recurrent_layers_and_attention(tmp_path: Path) -> None:
    path = export(Sequences(), tmp_path / "s.pt2", torch.randn(1, 7, 5))
    gru = 7 * 2 * (12 * (5 + 4) + 12 * (8 + 4))
    lstm = 7 * 24 * (8 + 6)
    cells = 2 * 9 * (6 + 3)
    attention = 7 * 6 * 18 + 2 * 7 * 7 * 6 + 7 * 6 * 6
    layer = attention + 2 * 7 * 6 * 10
    products = 2 * 7 * 7 * 6 + 7 * 6 + 7 * 7 * 6
    result = audit(path)
    assert (result.macs, result.status) == (
        gru + lstm + cells + attention + layer + products,
        "exact",
    )
    rows = {row.name: row.macs for row in result.layers}
    assert (rows["gru"], rows["lstm"], rows["cell"]) == (gru, lstm, cells)
    live = compressor.audit(Sequences(), input_shape=(1, 7, 5))
    assert (result.macs, result.macs_by_convention["nessi"], result.params) == (
        live.macs,
        live.macs_by_convention["nessi"],
        live.params,
    )


def test_half_precision_masks_and_weight_norm(tmp_path: Path) -> None:
    half = export(nn.Linear(6, 4).half(), tmp_path / "h.pt2", torch.randn(2, 6).half())
    assert audit(half).bytes_by_dtype == {"float16": 2 * 28}
    masked = nn.Linear(4, 4, bias=False)
    prune.l1_unstructured(masked, "weight", 6)
    result = audit(export(masked, tmp_path / "m.pt2", torch.randn(1, 4)))
    assert (result.macs, result.params, result.nonzero_params) == (16, 16, 10)
    assert result.details["masked"]["weight_orig"] == {
        "stored_nonzero": 16,
        "effective_nonzero": 10,
    }
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    result = audit(export(normed, tmp_path / "w.pt2", torch.randn(1, 4)))
    assert (result.macs, result.params) == (16, 16 + 4 + 4)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.small(x)

        def more(x: Tensor) -> Tensor:
            out: Tensor = self.large(self.large(x))
            return out

        def less(x: Tensor) -> Tensor:
            out: Tensor = self.small(x)
            return out

        out: Tensor = torch.cond(x.sum() > 0, more, less, (x,))
        return out


def test_graphs_inside_the_graph(tmp_path: Path) -> None:
    result = audit(export(Branches(), tmp_path / "b.pt2", torch.randn(3, 4)))
    assert result.macs == 3 * 16 + 2 * 3 * 16  # under no_grad, then the larger branch
    assert result.statuses["macs"] == "partial"
    assert any("larger branch is counted (96 MACs, the other has 48)" in n for n in result.notes)


class Derived(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(2, 3, 4, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


def test_open_sizes_inside_expressions(tmp_path: Path) -> None:
    axis = torch.export.Dim("frames", min=6, max=1000)
    path = export(Derived(), tmp_path / "d.pt2", torch.randn(1, 2, 20), dynamic=({2: axis},))
    # (frames - 4) // 2 + 1 positions; an open axis that is no batch has the example's size
    assert audit(path).macs == 9 * 24
    assert audit(path, input_shape=(1, 2, 31)).macs == 14 * 24


def test_an_operator_without_a_rule_is_named(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft(x).abs()

    result = audit(export(Odd(), tmp_path / "o.pt2", torch.randn(2, 8)))
    assert (result.macs, result.statuses["macs"]) == (0, "partial")
    assert result.uncounted == ("aten.fft_rfft",)


@pytest.mark.parametrize(
    "name",
    [
        "dcase2024_baseline",
        *(
            pytest.param(name, marks=pytest.mark.slow)  # some seconds of exporting each
            for name in zoo.list_models()
            if name != "dcase2024_baseline"
        ),
    ],
)
def test_networks_of_the_zoo_as_files(name: str, tmp_path: Path) -> None:
    model, shape = zoo.build(name), (1, *zoo.entry(name).input_shape)
    file = audit(export(model, tmp_path / "z.pt2", torch.randn(shape)))
    live = compressor.audit(model, input_shape=shape)
    for field in (
        "macs_by_convention",
        "params_by_convention",
        "nonzero_by_convention",
        "bytes_by_dtype",
        "buffer_bytes",
        "peak_activation_bytes",
        "statuses",
    ):
        assert getattr(file, field) == getattr(live, field), field


def test_no_torch_and_little_time(tmp_path: Path) -> None:
    """61,148 parameters: no torch, and 0.3 s of CPU for the whole command."""
    path = export(zoo.build("dcase2024_baseline"), tmp_path / "b.pt2", torch.randn(1, 1, 256, 65))
    code = (
        "import sys\n"
        "from compressor.audit import audit, verdicts\n"
        f"r = audit({str(path)!r}); verdicts(r)\n"
        "print(r.macs, 'torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    for _ in range(2):  # the first writes bytecode
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.split() == ["29416448", "False", "False"]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_sample_inputs_are_not_opened(mixed: Path, tmp_path: Path) -> None:
    """torch.export.save always pickles the example inputs: whatever stands there is left alone."""

    def poison(name: str, data: bytes) -> bytes:
        return b"cos\nsystem\n(S'touch CANARY'\ntR." if "sample_inputs" in name else data

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert audit(rewritten(mixed, tmp_path / "p.pt2", member=poison)).macs == MIXED_MACS
    assert not Path("CANARY").exists()
