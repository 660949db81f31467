"""Every kind of hostile or broken file, through the command line, in one bounded process.

Each is refused in one clear line with exit code 3: nothing executed, nothing written, under 5 s of
CPU and 1 GiB above the file, and torch is never imported. More cases of each kind, by the reader:

| kind | here | more |
|---|---|---|
| pickles with a global that is not allowed | global | test_hostile_files: poisoned, dangerous |
| legacy and bare pickles | legacy, bare | test_hostile_files: legacy_bare_script |
| a pickled module | module | test_hostile_files: pickled_module |
| `.pt2` with pickles | pt2-weight, test_a_pickle_that_nothing_needs | test_exported_hostile |
| TorchScript | script | test_child_process: time, memory and file-size limits |
| zip bombs | ratio, total, members | test_hostile_files: zip_bombs |
| member names | parent, absolute, twice, encrypted, nameless | test_hostile_files |
| lies about storage | short, beyond | test_hostile_files, test_exported_hostile |
| stride 0 | test_stride_zero_counts_by_its_storage | test_model_files: expanded |
| meta tensors | meta | |
| safetensors | st-header, st-overlap, st-twice, st-shape | test_safetensors_files |
| ONNX external data | out, root, link, none | test_onnx_hostile: external |
| ONNX sizes, cycles, nesting, constants | dims, cycle, deep, giant | test_onnx_hostile |
| ONNX Loop without an end | test_a_loop_without_an_end_is_in_doubt | test_onnx_control |
| TFLite offsets | tfl-root, tfl-vector | test_tflite_hostile |
| HDF5 and Keras | h5-cut, keras-config | test_keras_hostile |
| empty, truncated, text | empty, cut, text | each reader's tests |
| size before anything else | size | test_onnx_hostile: two_gigabytes |
| magic bytes, never the extension | test_content_decides | test_hostile_files |
| names in every output | test_hostile_names | tests/gate/test_gate_formats |
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exported_helpers import export, rewritten
from onnx import TensorProto, helper, numpy_helper
from tflite_helpers import G, O, T, model
from torch import nn

import compressor
from compressor.errors import ModelFileError

CANARY = "CANARY"


class Payload:
    """Makes a folder in the working directory when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (CANARY,)


def saved(tree: Any, **options: Any) -> bytes:
    data = io.BytesIO()
    torch.save(tree, data, **options)
    return data.getvalue()


def state() -> bytes:
    return saved({"weight": torch.ones(4, 4), "bias": torch.ones(4)})


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(content: dict[str, bytes], *more: tuple[str, bytes], how: int = 0) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", how) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of members that stand twice
        for name, part in (*content.items(), *more):
            archive.writestr(name, part)
    return data.getvalue()


def script() -> bytes:
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is leaving TorchScript
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), data)  # type: ignore[no-untyped-call]
    return data.getvalue()


def claimed() -> bytes:
    """Three members of 1 MB that say they unpack to 190 MB each: 190 to 1, within the ratio."""
    noise = np.random.default_rng(1).bytes(1_000_000)
    data = bytearray(zipped({f"archive/data/{i}": noise for i in range(3)}, how=8))
    at = data.find(b"PK\x01\x02")
    while at >= 0:  # 24: the size unpacked, in each entry of the directory
        struct.pack_into("<I", data, at + 24, 190_000_000)
        at = data.find(b"PK\x01\x02", at + 4)
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(state())
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def nameless() -> bytes:
    """A member whose name is cut off at its first byte by a null."""
    return zipped(members(state()), ("QQQ", b"")).replace(b"QQQ", b"\0QQ")


def changed(ending: str, change: Callable[[bytes], bytes]) -> bytes:
    parts = members(state())
    return zipped({n: change(d) if n.endswith(ending) else d for n, d in parts.items()})


def safetensors(header: bytes, body: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def entry(shape: list[int], start: int, end: int) -> bytes:
    return json.dumps({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}).encode()


def network(nodes: list[onnx.NodeProto] | None = None, *weights: onnx.TensorProto) -> bytes:
    graph = helper.make_graph(
        nodes or [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_empty_tensor_value_info("y")],
        list(weights),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    data: bytes = made.SerializeToString()
    return data


def weight(*dims: int) -> onnx.TensorProto:
    made = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    made.dims[:] = dims or (4, 4)
    return made


def outside(location: str) -> bytes:
    made = weight()
    made.ClearField("raw_data")
    made.data_location = TensorProto.EXTERNAL
    made.external_data.add(key="location", value=location)
    return network(None, made)


def nested() -> bytes:
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [],
        [helper.make_empty_tensor_value_info("y")],
    )
    for _ in range(30):
        branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
        del branch.attribute[1]  # one branch: two would double with each level
        inner = helper.make_graph([branch], "g", [], [helper.make_empty_tensor_value_info("y")])
    return network(list(inner.node), numpy_helper.from_array(np.array(True), "c"))


def giant() -> bytes:
    nodes = [
        helper.make_node("ConstantOfShape", ["big"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    big = numpy_helper.from_array(np.array([2**40, 2**40]), "big")
    return network(nodes, big, weight())


def dense() -> bytes:
    tensors = [T("x", (1, 6)), T("w", (4, 6), data=[1.0] * 24), T("y", (1, 4))]
    return model(G(tensors, [O("FULLY_CONNECTED", ["x", "w", None], ["y"])], ["x"], ["y"]))


def at(data: bytes, place: int, value: int) -> bytes:
    out = bytearray(data)
    struct.pack_into("<I", out, place, value)
    return bytes(out)


def cycle() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]


HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(88)
ONE = b'{"a": %b}' % entry([2], 0, 8)

# kind -> name of the file, its bytes, and what the line says
CASES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "global": ("a.pt", lambda: saved({"w": torch.ones(2), "x": Payload()}), "posix.mkdir"),
    "legacy": (
        "a.pt",
        lambda: saved({"x": Payload()}, _use_new_zipfile_serialization=False),
        "bare or legacy pickle",
    ),
    "bare": ("a.pt", lambda: pickle.dumps(Payload()), "bare or legacy pickle"),
    "module": ("a.pt", lambda: saved(nn.Sequential(nn.Linear(2, 2))), "state_dict"),
    "script": ("a.pt", script, "TorchScript archive, which holds code: refused"),
    "meta": ("a.pt", lambda: saved({"w": torch.ones(2, device="meta")}), "refused"),
    "ratio": ("a.pt", lambda: zipped({"archive/data.pkl": bytes(30_000_000)}, how=8), "suspicious"),
    "total": ("a.pt", claimed, "unpacks to 570,000,000 B"),
    "members": (
        "a.pt",
        lambda: at(state(), state().rfind(b"PK\x05\x06") + 12, 9 << 20),
        "directory",
    ),
    "parent": ("a.pt", lambda: zipped(members(state()), ("../x", b"")), "points outside"),
    "absolute": ("a.pt", lambda: zipped(members(state()), ("/etc/x", b"")), "points outside"),
    "twice": (
        "a.pt",
        lambda: zipped(members(state()), ("archive/data/0", bytes(64))),
        "appears twice",
    ),
    "encrypted": ("a.pt", encrypted, "encrypted"),
    "nameless": ("a.pt", nameless, "has no name"),
    "short": ("a.pt", lambda: changed("/data/0", lambda d: d[:-4]), "lies about its storage"),
    "beyond": (
        "a.pt",
        lambda: changed("pkl", lambda d: d.replace(b"K\x04K\x04\x86", b"K\x04K\x05\x86")),
        "reaches beyond its storage",
    ),
    "st-header": (
        "a.safetensors",
        lambda: safetensors(ONE, bytes(8), 90_000_000),
        "header of 90,000,000 B",
    ),
    "st-overlap": (
        "a.safetensors",
        lambda: safetensors(
            b'{"a": %b, "b": %b}' % (entry([2], 0, 8), entry([2], 4, 12)), bytes(12)
        ),
        "overlaps",
    ),
    "st-twice": (
        "a.safetensors",
        lambda: safetensors(b'{"a": %b, "a": %b}' % ((entry([2], 0, 8),) * 2), bytes(8)),
        "stands twice",
    ),
    "st-shape": (
        "a.safetensors",
        lambda: safetensors(b'{"a": %b}' % entry([1 << 40, 3], 0, 8), bytes(8)),
        "lies about its size",
    ),
    "out": ("a.onnx", lambda: outside("../secret.bin"), "outside the model's folder"),
    "root": ("a.onnx", lambda: outside("/etc/passwd"), "outside the model's folder"),
    "link": ("a.onnx", lambda: outside("link.bin"), "symbolic link"),
    "none": ("a.onnx", lambda: outside("none.bin"), "cannot be read"),
    "dims": ("a.onnx", lambda: network(None, weight(2**40, 2**21)), "lies about its size"),
    "cycle": ("a.onnx", lambda: network(cycle(), weight()), "a cycle"),
    "deep": ("a.onnx", nested, "nested more than 24 deep"),
    "giant": ("a.onnx", giant, "memory holds|far too much"),
    "tfl-root": ("a.tflite", lambda: at(dense(), 0, 0x7FFF_FFF0), "an offset points"),
    "tfl-vector": ("a.tflite", lambda: dense()[:200], "damaged TFLite"),
    "h5-cut": ("a.h5", lambda: HDF5, "not an HDF5 file as Keras writes it"),
    "keras-config": (
        "a.keras",
        lambda: zipped({"config.json": b"[" * 100_000, "model.weights.h5": HDF5}),
        "",
    ),
    "empty": ("a.pt", lambda: b"", "empty"),
    "cut": ("a.pt", lambda: state()[:900], "truncated"),
    "text": ("a.pt", lambda: b"just some text\n", "a text file"),
    "size": ("a.pt", lambda: b"PK\x03\x04", "at most 8,589,934,592 B are read"),
}

# the command line on each file in turn, inside bounds; what it said and took comes out as JSON
RUN = """
import contextlib, io, json, resource, sys, time
from compressor.cli.main import main
import numpy
lines = open("/proc/self/status").read().splitlines()
here = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (here + (1 << 30), here + (1 << 30)))
for name in sys.argv[1:]:
    out, err, start, code = io.StringIO(), io.StringIO(), time.process_time(), None
    sys.argv = ["compressor", "audit", name]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    seconds = time.process_time() - start
    torch = "torch" in sys.modules
    print(json.dumps([name, code, out.getvalue(), err.getvalue(), seconds, torch]))
"""


def audited(home: Path, paths: list[Path]) -> list[list[Any]]:
    """Runs the command line on files, in a process of its own with an empty working directory."""
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, paths)],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(compressor.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []  # nothing executed (the canary) and nothing written
    return [json.loads(line) for line in done.stdout.splitlines()]


def write(folder: Path, kind: str) -> Path:
    name, make, _ = CASES[kind]
    path = folder / kind / name
    path.parent.mkdir()
    path.write_bytes(make())
    if kind == "size":
        with path.open("r+b") as stream:
            stream.truncate((8 << 30) + 1)  # sparse: takes no space
    if kind == "link":
        (folder / "secret.bin").write_bytes(bytes(64))
        (path.parent / "link.bin").symlink_to(folder / "secret.bin")
    return path


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the command line says to every file; the files stay as they were."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = {kind: write(folder, kind) for kind in CASES}
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    found = audited(tmp_path_factory.mktemp("home"), list(paths.values()))
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before
    return dict(zip(paths, found, strict=True))


@pytest.mark.parametrize("kind", CASES)
def test_refused_in_one_line(kind: str, answers: dict[str, list[Any]]) -> None:
    name, code, out, err, seconds, has_torch = answers[kind]
    assert code == 3
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith(f"error: {Path(name).name}: ")
    assert lines[0].isprintable()
    assert len(lines[0]) < 600
    assert any(part in lines[0] for part in CASES[kind][2].split("|")), lines[0]
    assert "Traceback" not in out
    assert seconds < 5
    assert not has_torch


def test_pickles_of_an_exported_program(tmp_path: Path) -> None:
    """A weight in a pickle is refused; a poisoned one that nothing needs is never opened."""
    good = export(nn.Linear(4, 3), tmp_path / "good.pt2", torch.ones(1, 4))
    payload = pickle.dumps(Payload())

    def pickled(table: dict[str, Any]) -> None:
        for item in table["config"].values():
            item["use_pickle"] = True

    def poison(name: str, data: bytes) -> bytes:
        return payload if name.endswith("model.pt") else data

    weights = rewritten(good, tmp_path / "weights.pt2", weights=pickled)
    inputs = rewritten(good, tmp_path / "inputs.pt2", member=poison)
    refused, counted = audited(tmp_path / "home", [weights, inputs])
    assert refused[1] == 3
    assert "is stored as a pickle, which is never opened" in refused[3]
    assert counted[1] == 0
    assert compressor.audit(inputs).macs == 12  # 4 x 3
    assert not counted[5]


@pytest.mark.parametrize(
    ("table", "key", "match"),
    [("config", "dtype", "unknown number type a"), ("schema_version", "major", "schema a")],
)
def test_texts_where_numbers_belong_are_shown_harmless(
    table: str, key: str, match: str, tmp_path: Path
) -> None:
    good = export(nn.Linear(4, 3), tmp_path / "good.pt2", torch.ones(1, 4))

    def change(tree: dict[str, Any]) -> None:
        if table in tree:
            part = tree[table]
            (part["weight"]["tensor_meta"] if table == "config" else part)[key] = "a\x1b[2J\nb"

    bad = rewritten(good, tmp_path / "bad.pt2", model=change, weights=change)
    with pytest.raises(ModelFileError, match=match) as caught:
        compressor.audit(bad)
    assert str(caught.value).isprintable()


def test_stride_zero_counts_by_its_storage(tmp_path: Path) -> None:
    """One stored number that claims to be 2^40 of them: bytes as stored, and no endless scan."""
    path = tmp_path / "wide.pt"
    torch.save({"w": torch.ones(1).expand(1 << 20, 1 << 20)}, path)
    ((_, code, out, err, seconds, _),) = audited(tmp_path / "home", [path])
    assert (code, err) == (0, "")
    assert seconds < 5
    assert "Traceback" not in out
    result = compressor.audit(path)
    assert (result.params, result.nonzero_params, result.param_bytes) == (1, 1, 4)


def test_a_loop_without_an_end_is_in_doubt(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go2"]),
            helper.make_node("MatMul", ["h", "w"], ["o"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 4]),
        ],
        [helper.make_empty_tensor_value_info(name) for name in ("go2", "o")],
    )
    path = tmp_path / "loop.onnx"
    path.write_bytes(network([helper.make_node("Loop", ["", "", "x"], ["y"], body=body)], weight()))
    result = compressor.audit(path)
    assert result.statuses["macs"] == "partial"
    assert any("Loop" in note for note in result.notes)


def test_content_decides(tmp_path: Path) -> None:
    """A file is what its first bytes say, whatever it is called."""
    for name, data, kind in (
        ("a.pt", network(None, weight()), "onnx"),
        ("a.onnx", state(), "state-dict"),
        ("a.h5", dense(), "tflite"),
        ("a.txt", safetensors(ONE, bytes(8)), "safetensors"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        assert compressor.audit(path).format == kind
