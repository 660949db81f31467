"""Files: the same figures as the live module, from stored tensors and graph, without torch."""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import compressor
import zoo
from compressor import artifact
from compressor.audit import AuditResult
from compressor.audit.readers.files import read_file
from compressor.audit.readers.safecalls import StorageRef, TensorRef
from compressor.audit.readers.tensors import StorageReader
from compressor.audit.trace import graph_of
from compressor.errors import ModelFileError, UsageError


def record(model: nn.Module, shape: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    """A model file's dict, as the artifact writes it, for any module."""
    return {
        "format": "compressor-model",
        "format_version": 1,
        "arch": "test",
        "input_shape": tuple(shape[1:]),
        "state_dict": dict(model.state_dict()),
        "graph": graph_of(model, torch.zeros(shape, dtype=next(model.parameters()).dtype)),
        **changes,
    }


def saved(tmp_path: Path, tree: object) -> Path:
    path = tmp_path / "model.pt"
    torch.save(tree, path)
    return path


def figures(result: AuditResult) -> dict[str, Any]:
    plain = result.to_dict()
    return {key: value for key, value in plain.items() if key not in {"source", "format", "meta"}}


@pytest.mark.parametrize("name", ["seresnet18", "dsmn_seg", "mbconv_deepsound", "cp_resnet"])
def test_file_equals_live_module(name: str, tmp_path: Path) -> None:
    model, shape = zoo.build(name), (1, *zoo.entry(name).input_shape)
    path = saved(tmp_path, record(model, shape))
    assert figures(compressor.audit(path)) == figures(compressor.audit(model, input_shape=shape))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_artifact_of_the_project(dtype: str, tmp_path: Path) -> None:
    entry = zoo.entry("dcase2024_baseline")
    made = artifact.from_model(
        zoo.build("dcase2024_baseline"),
        arch="dcase2024_baseline",
        arch_args={},
        num_classes=10,
        classes=[f"c{i}" for i in range(10)],
        input_shape=entry.input_shape,
        layout=entry.layout,
        front_end={"name": "dcase2024_baseline"},
        standardizer={},
        dtype=dtype,
    )
    path = tmp_path / "m.pt"
    artifact.save(made, path)
    result = compressor.audit(path)
    width = 4 if dtype == "float32" else 2
    assert result.format == "compressor-model"
    assert result.meta["arch"] == "dcase2024_baseline"
    assert (result.params, result.param_bytes) == (61_148, 61_148 * width)
    assert result.bytes_by_dtype == {dtype: 61_148 * width}
    assert (result.macs, result.macs_by_convention["nessi"]) == (29_416_448, 29_419_156)
    assert (result.status, result.input_shape) == ("exact", (1, 1, 256, 65))


class Everything(nn.Module):
    """Tied, masked, dead, frozen, unsaved buffer, plain attribute, zeros, several types."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6, bias=False)
        self.b = nn.Linear(6, 6, bias=False)
        self.b.weight = self.a.weight
        self.masked = nn.Linear(6, 6)
        prune.l1_unstructured(self.masked, "weight", 10)
        self.dead = nn.Conv2d(3, 4, 3)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.register_buffer("table", torch.eye(6), persistent=False)
        self.plain = torch.ones(6, 6)
        self.gru = nn.GRU(6, 3, batch_first=True)
        with torch.no_grad():
            self.frozen.weight[:3] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.frozen(self.masked(self.b(self.a(x)))) @ self.table @ self.plain
        out: torch.Tensor = self.gru(x[:, None])[0]
        return out


def test_file_equals_live_module_in_every_corner(tmp_path: Path) -> None:
    model = Everything()
    path = saved(tmp_path, record(model, (1, 6)))
    live, file = compressor.audit(model, input_shape=(1, 6)), compressor.audit(path)
    assert figures(file) == figures(live)
    assert set(live.details) == {
        "buffers",
        "tied",
        "masked",
        "constants",
        "never_called",
        "frozen",
        "weights_in_buffers",
    }
    assert live.nonzero_params == live.params - 10 - 18


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.complex64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.uint8,
    ],
)
@pytest.mark.parametrize("numpy_from", [0, 10**9])
def test_zeros_are_counted_in_every_number_type(
    dtype: torch.dtype, numpy_from: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of counting, with and without numpy."""
    from compressor.audit.readers import torchfile

    class Reader(StorageReader):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, numpy_from=numpy_from)

    monkeypatch.setattr(torchfile, "StorageReader", Reader)
    values = torch.tensor([0.0, -0.0, 1.0, 2.0, 0.0, 3.0, -1.0 if dtype.is_signed else 4.0])
    tensor = values.to(dtype)
    expected = 4
    path = saved(tmp_path, {"w": tensor, "grid": tensor[:6].reshape(2, 3).t()})
    result = compressor.audit(path)
    assert result.params == 7 + 6
    assert result.nonzero_params == expected + 3
    assert result.param_bytes == 13 * dtype.itemsize
    assert result.bytes_by_dtype == {str(dtype).removeprefix("torch."): 13 * dtype.itemsize}


def test_big_endian_bytes() -> None:
    class Fake:
        name = "file"

        def read(self, member: str, most: int) -> bytes:
            return b"\x80\x00\x00\x00" + b"\x00\x00\x00\x80" + b"\x00" * 4

    ref = TensorRef(StorageRef("0", "float32", 3), 0, (3,), (1,))
    for numpy_from in (0, 100):
        big = StorageReader(Fake(), "x/", "big", numpy_from)  # type: ignore[arg-type]
        assert big.count(ref, "w") == (3, 1, 1)  # -0.0, a subnormal, 0.0
        little = StorageReader(Fake(), "x/", "little", numpy_from)  # type: ignore[arg-type]
        assert little.count(ref, "w") == (3, 1, 1)  # a subnormal, -0.0, 0.0


def test_plain_state_dict(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    for tree in (model.state_dict(), {"epoch": 3, "model": model.state_dict(), "optimizer": {}}):
        result = compressor.audit(saved(tmp_path, tree))
        assert (result.format, result.params) == ("state-dict", 4 * 9 + 4 + 8)
        assert result.buffer_bytes == 16 + 16 + 8
        assert result.macs is None
        assert result.peak_activation_bytes is None
        assert result.params_by_convention["keras-2020"] == 40  # BatchNorm told by its statistics
        assert result.params_by_convention["keras-2021"] == 56
        assert result.statuses["macs"] == "unknown"
        assert result.statuses["params"] == "partial"
        assert any("MACs" in note for note in result.notes)


def test_shared_strided_and_expanded_tensors(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    tree = {
        "whole": base,
        "again": base,
        "part": base[2:5],
        "strided": base[::3],
        "expanded": torch.ones(1).expand(1000, 1000),
        "channels_last": torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    tensors = {t.name: t for t in read_file(saved(tmp_path, tree)).tensors}
    assert tensors["again"].first == "whole"
    assert (tensors["whole"].numel, tensors["whole"].nonzero) == (12, 11)
    assert (tensors["part"].numel, tensors["part"].nonzero) == (3, 3)
    assert (tensors["strided"].numel, tensors["strided"].nonzero) == (4, 3)
    assert (tensors["expanded"].numel, tensors["expanded"].nbytes) == (1, 4)  # by storage
    assert (tensors["channels_last"].numel, tensors["channels_last"].nonzero) == (96, 96)


def test_a_file_without_graph_and_one_of_the_future(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    tree = record(model, (1, 3))
    result = compressor.audit(saved(tmp_path, {**tree, "graph": {}}))
    assert (result.params, result.macs, result.status) == (8, None, "unknown")
    with pytest.raises(ModelFileError, match="written by a newer compressor"):
        compressor.audit(saved(tmp_path, {**tree, "format_version": 4}))
    newer = {**tree["graph"], "version": 2}
    with pytest.raises(ModelFileError, match="graph: version 2 is not supported"):
        compressor.audit(saved(tmp_path, {**tree, "graph": newer}))


def lying(change: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
    tree = record(model, (1, 2, 10, 10))
    tree["graph"] = copy.deepcopy(tree["graph"])
    change(tree)
    return tree


def shrink_weight(tree: dict[str, Any]) -> None:
    tree["state_dict"]["2.weight"] = torch.zeros(8, 4, 3, 3)


def hide_a_weight(tree: dict[str, Any]) -> None:
    del tree["graph"]["parameters"]["2.bias"]
    tree["graph"]["modules"][3]["parameters"].remove("2.bias")
    for value in tree["graph"]["values"]:
        if value[2] == "2.bias":
            value[2] = "2.weight"


def lose_a_tensor(tree: dict[str, Any]) -> None:
    del tree["state_dict"]["0.bias"]


def shrink_a_map(tree: dict[str, Any]) -> None:
    first = next(op for op in tree["graph"]["ops"] if op["op"] == "aten.convolution")
    tree["graph"]["values"][first["out"][0]][0] = [1, 4, 1, 1]


def move_the_input(tree: dict[str, Any]) -> None:
    tree["input_shape"] = (2, 20, 20)


def read_nothing(tree: dict[str, Any]) -> None:
    tree["graph"]["ops"].pop(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shrink_weight, r"2\.weight is stored as \(8, 4, 3, 3\), the graph says \(4, 4, 3, 3\)"),
        (hide_a_weight, r"does not know the stored 2\.bias"),
        (lose_a_tensor, r"0\.bias of the graph is not stored"),
        (shrink_a_map, r"0 \(aten\.convolution\) cannot make \(1, 4, 1, 1\)"),
        (move_the_input, r"input_shape is \(2, 20, 20\), the graph was traced on"),
        (read_nothing, "reads what nothing wrote"),
    ],
)
def test_a_graph_that_lies_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        compressor.audit(saved(tmp_path, lying(change)))


def test_a_graph_that_leaves_a_layer_out_is_partial(tmp_path: Path) -> None:
    def skip(tree: dict[str, Any]) -> None:
        graph = tree["graph"]
        last = graph["ops"].pop()  # the second convolution
        graph["outputs"] = [graph["ops"][-1]["out"][0]]
        assert last["op"] == "aten.convolution"

    result = compressor.audit(saved(tmp_path, lying(skip)))
    assert result.statuses["macs"] == "partial"
    assert any("2.weight is read by no operator although 2 was called" in n for n in result.notes)
    verdict = compressor.audit.verdicts(result, 2023)[0]
    assert verdict.status == "unknown"


def test_a_graph_that_reads_half_a_weight_is_partial(tmp_path: Path) -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 8, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.fc.weight[:2].t()

    result = compressor.audit(saved(tmp_path, record(Half(), (1, 4))))
    assert result.macs == 8
    assert result.statuses["macs"] == "partial"
    assert any("reads 8 of 32 numbers of fc.weight" in note for note in result.notes)


def test_a_file_is_counted_on_its_own_input(tmp_path: Path) -> None:
    path = saved(tmp_path, record(nn.Sequential(nn.Linear(3, 2)), (1, 3)))
    for shape in ((1, 3), [(1, 3)], [[1, 3]]):
        assert compressor.audit(path, input_shape=shape).macs == 6
    with pytest.raises(UsageError, match="counted on a shape, not on values"):
        compressor.audit(path, inputs=torch.zeros(1, 3))
    with pytest.raises(UsageError, match="says itself what network it holds"):
        compressor.audit(path, arch="seresnet18")
    for shape in ((), (0, 3), "ab", [(1, 3), (-1,)], 7):
        with pytest.raises(UsageError, match="expected positive sizes"):
            compressor.audit(path, input_shape=shape)


def test_another_input_builds_the_network_again(tmp_path: Path) -> None:
    entry = zoo.entry("dcase2024_baseline")
    made = artifact.from_model(
        zoo.build("dcase2024_baseline"),
        arch="dcase2024_baseline",
        arch_args={},
        num_classes=10,
        classes=[f"c{i}" for i in range(10)],
        input_shape=entry.input_shape,
        layout=entry.layout,
        front_end={"name": "dcase2024_baseline"},
        standardizer={},
        dtype="float16",
    )
    path = tmp_path / "m.pt"
    artifact.save(made, path)
    result = compressor.audit(path, input_shape=(1, 1, 256, 130))
    live = compressor.audit(made.build().half(), input_shape=(1, 1, 256, 130))
    assert (result.macs, result.macs_by_convention) == (live.macs, live.macs_by_convention)
    assert (result.params, result.nonzero_params) == (live.params, live.nonzero_params)
    assert result.bytes_by_dtype == {"float16": 2 * 61_148}
    assert (result.input_shape, result.status) == ((1, 1, 256, 130), "exact")
    assert result.peak_activation_bytes == live.peak_activation_bytes


def test_a_state_dict_with_its_network(tmp_path: Path) -> None:
    model = zoo.build("dcase2024_baseline")
    with torch.no_grad():
        next(model.parameters())[0] = 0  # 1 x 3 x 3
    path = saved(tmp_path, model.state_dict())
    result = compressor.audit(path, arch="dcase2024_baseline")
    live = compressor.audit(model, input_shape=(1, 1, 256, 65))
    own, wanted = figures(result), figures(live)
    assert own == wanted
    assert (result.format, result.meta["arch"]) == ("state-dict", "dcase2024_baseline")


@pytest.mark.slow  # a process with torch each
@pytest.mark.parametrize(
    ("arch", "error", "match"),
    [
        (
            "dcase2024_baseline(num_classes=5)",
            ModelFileError,
            r"not the weights of .*head\.0\.weight is \(10, 104, 1, 1\) in the file, "
            r"\(5, 104, 1, 1\) in the network; .* and 2 more; give the network",
        ),
        ("dcase2024_baselin", UsageError, "did you mean dcase2024_baseline"),
        ("dcase2022_baseline", ModelFileError, "is not in the (network|file)"),
        ("dcase2024_baseline(nonsense=1)", UsageError, "unknown argument .*nonsense"),
    ],
)
def test_a_state_dict_with_a_wrong_network(
    arch: str, error: type[Exception], match: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, zoo.build("dcase2024_baseline").state_dict())
    with pytest.raises(error, match=match):
        compressor.audit(path, arch=arch)


def test_no_torch_and_little_time(tmp_path: Path) -> None:
    """A file of 61,148 parameters: no torch, and 0.3 s of CPU for the whole command."""
    path = saved(tmp_path, record(zoo.build("dcase2024_baseline"), (1, 1, 256, 65)))
    code = (
        "import sys\n"
        "from compressor.audit import audit, verdicts\n"
        f"r = audit({str(path)!r}); verdicts(r)\n"
        "print(r.macs, 'torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["29416448", "False", "False"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 0.3


def test_the_result_is_plain_json(tmp_path: Path) -> None:
    plain = compressor.audit(saved(tmp_path, record(Everything(), (1, 6)))).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["schema"] == 1
