"""ONNX files that would grow without bound: nesting, functions, loops, floods of records."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import compressor
from compressor.errors import ModelFileError

Node = onnx.NodeProto


def node(kind: str, inputs: str, outputs: str = "y", **attrs: Any) -> Node:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attrs)


def tensor(name: str, shape: tuple[int, ...] = (4, 4)) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def model(
    nodes: list[Node] | None = None,
    weights: list[onnx.TensorProto] | None = None,
    inputs: dict[str, Any] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes or [node("MatMul", "x w")],
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (inputs or {"x": [1, 4]}).items()
        ],
        [helper.make_empty_tensor_value_info("y")],
        [tensor("w")] if weights is None else weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def write(folder: Path, made: onnx.ModelProto | bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def refused(path: Path, match: str) -> str:
    before = sorted(path.parent.rglob("*"))
    start = time.process_time()
    with pytest.raises(ModelFileError, match=match) as caught:
        compressor.audit(path)
    assert time.process_time() - start < 5
    text = str(caught.value)
    assert text.isprintable()  # so that it is one line without escapes
    assert len(text) < 600
    assert caught.value.exit_code == 3
    assert sorted(path.parent.rglob("*")) == before
    return text


def nested(depth: int) -> onnx.ModelProto:
    inner = helper.make_graph(
        [node("Relu", "x")], "g", [], [helper.make_empty_tensor_value_info("y")]
    )
    for _ in range(depth):
        branch = node("If", "c", then_branch=inner, else_branch=inner)
        inner = helper.make_graph([branch], "g", [], [helper.make_empty_tensor_value_info("y")])
    return model(list(inner.node), [numpy_helper.from_array(np.array(True), "c")])


def test_deep_nesting(tmp_path: Path) -> None:
    assert compressor.audit(write(tmp_path, nested(8))).status == "exact"
    part = _field(1, _field(1, b"x") + _field(4, b"Relu"))
    for _ in range(5_000):  # by hand: protobuf itself stops at 100
        graph = _field(5, _field(1, b"g") + _field(6, part))
        part = _field(1, _field(4, b"If") + graph)
    refused(write(tmp_path, _flood(part, 1)), "nested more than 24 deep")


def functions(count: int, last: str, calls: int) -> onnx.ModelProto:
    """Functions f0, f1, ...: each calls the next `calls` times, the last one calls `last`."""
    made = model([helper.make_node("f0", ["x"], ["y"], domain="my")])
    made.opset_import.append(helper.make_opsetid("my", 1))
    for place in range(count):
        name = f"f{place + 1}" if place + 1 < count else last
        domain = "" if name == "Relu" else "my"
        names = ["a", *(f"h{i}" for i in range(calls - 1)), "b"]
        nodes = [
            helper.make_node(name, [names[i]], [names[i + 1]], domain=domain) for i in range(calls)
        ]
        made.functions.append(
            helper.make_function("my", f"f{place}", ["a"], ["b"], nodes, made.opset_import)
        )
    return made


def test_functions_that_never_end(tmp_path: Path) -> None:
    assert compressor.audit(write(tmp_path, functions(5, "Relu", 2))).status == "exact"
    refused(write(tmp_path, functions(3, "f0", 1)), "function 'my.f0' calls itself")
    refused(write(tmp_path, functions(1, "f0", 1)), "function 'my.f0' calls itself")
    refused(write(tmp_path, functions(30, "Relu", 2)), "more than 50,000 operators")  # 2^30
    refused(write(tmp_path, functions(60, "Relu", 1)), "nested more than 48 deep")


def test_loops_in_loops_that_never_end(tmp_path: Path) -> None:
    """2^40 passes in 2^40 passes: refused instead of a number of no meaning."""
    body = helper.make_graph([node("Relu", "h")], "g", [], [])
    for level in range(3):
        inputs = [
            helper.make_tensor_value_info(f"i{level}", TensorProto.INT64, []),
            helper.make_tensor_value_info(f"go{level}", TensorProto.BOOL, []),
        ]
        inner = [node("Relu", "x", "r")] if not level else [node("Loop", "n -", "", body=body)]
        inner.append(node("Identity", f"go{level}", f"out{level}"))
        outputs = [helper.make_empty_tensor_value_info(f"out{level}")]
        body = helper.make_graph(inner, "g", inputs, outputs)
    nodes = [node("Loop", "n -", "", body=body), node("MatMul", "x w")]
    weights = [tensor("w"), numpy_helper.from_array(np.int64(2**40), "n")]
    refused(write(tmp_path, model(nodes, weights)), "never end in practice")


# -- size --

_MEASURE = """
import sys, time
from compressor.audit import audit
from compressor.errors import CompressorError
start = time.process_time()
try:
    print("counted", audit(sys.argv[1]).status)
except CompressorError as error:
    print("refused", error)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.process_time() - start, int(peak.split()[1]) * 1024)
"""


def measured(path: Path) -> tuple[str, float, int]:
    """Audits in a process of its own: answer, CPU seconds, peak bytes."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answer, figures = done.stdout.strip().splitlines()
    seconds, peak = figures.split()
    return answer, float(seconds), int(peak)


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, length = len(payload), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    tag = number << 3 | 2
    head = bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7])
    return head + length + bytes([size]) + payload


def _flood(part: bytes, count: int) -> bytes:
    """A valid model with the same bytes again and again in its graph."""
    graph = model().graph.SerializeToString()
    return b"\x08\x0a" + _field(7, graph + part * count) + _field(8, b"\x10\x15")


RELU = _field(1, b"x") + _field(4, b"Relu")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("part", "count", "match"),
    [
        (_field(1, b""), 5_000_000, "does not say what it does"),
        (b"\x98\x06\x00", 3_000_000, "more than 2,500,000 fields"),  # unknown fields
        pytest.param(_field(13, b""), 3_000_000, "more than 2,500,000", marks=pytest.mark.slow),
        (_field(5, b""), 5_000_000, "more than 50,000 tensors"),
        (_field(1, RELU), 60_000, "more than 50,000 operators"),
        pytest.param(_field(1, RELU), 49_999, "counted exact", marks=pytest.mark.slow),
        (_field(1, RELU + _field(5, _field(8, b"\x01" * 10**6))), 4, "more than 2,500,000"),
    ],
    ids=["operators", "unknown", "declarations", "tensors", "nodes", "most-nodes", "lists"],
)
def test_floods(part: bytes, count: int, match: str, tmp_path: Path) -> None:
    """Millions of tiny records: time and memory stay bounded whatever they would become."""
    path = write(tmp_path, _flood(part, count))
    answer, seconds, peak = measured(path)
    assert match in answer
    assert seconds < 5
    assert peak < path.stat().st_size + (1 << 30)


def test_a_file_above_two_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as stream:
        stream.write(b"\x08\x0a")
        stream.truncate((1 << 31) + 1)  # sparse: takes no space
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "external data")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
