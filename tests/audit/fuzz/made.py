"""Structures made by hypothesis: files that are well formed in their frame and wild in meaning."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from .corpus import zipped
from .fields import OPCODES, encode

__all__ = ["MADE"]

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

INTS = st.integers(-3, 9) | st.integers() | st.sampled_from([2**31, 2**63 - 1, 2**64, -(2**63)])
NAMES = st.sampled_from(["w", "x", "y", "0.weight", "layers", "a\x1b[2J", "<script>"]) | st.text(
    max_size=8
)
LEAVES = st.none() | st.booleans() | INTS | st.floats() | NAMES


def trees(*keys: str) -> st.SearchStrategy[Any]:
    """JSON whose tables mostly have the keys that a reader looks for."""
    names = st.sampled_from(keys) | NAMES
    return st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=6),
        max_leaves=12,
    )


# -- safetensors: headers that are right in part --

WIDTHS = {"F32": 4, "F16": 2, "I64": 8, "U8": 1, "BOOL": 1, "F8_E4M3": 1}


@st.composite
def safetensors(draw: st.DrawFn) -> bytes:
    header: dict[str, Any] = {}
    at = 0
    for name in draw(st.lists(NAMES, max_size=5, unique=True)):
        kind = draw(st.sampled_from(sorted(WIDTHS)))
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        size = WIDTHS[kind]
        for count in shape:
            size *= count
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    if header and draw(st.booleans()):
        victim = header[draw(st.sampled_from(sorted(header)))]
        victim[draw(st.sampled_from(["dtype", "shape", "data_offsets", "other"]))] = draw(
            trees("dtype", "shape")
        )
    text = json.dumps(header).encode()
    length = len(text) if draw(st.integers(0, 9)) else draw(st.integers(0, 2**64 - 1))
    return struct.pack("<Q", length) + text + bytes(at)


# -- ONNX: graphs of operators on each other's values --

KINDS = (
    *("Conv", "MatMul", "Gemm", "Add", "Relu", "Reshape", "Transpose", "Concat", "Slice", "Pad"),
    *("Einsum", "GRU", "LSTM", "Loop", "If", "Scan", "Constant", "ConstantOfShape", "Expand"),
    *("Gather", "Squeeze", "Unsqueeze", "ReduceMean", "Range", "Tile", "Cast", "QLinearConv"),
    *("Resize", "Split", "TopK", "Where", "Shape", "Flatten", "MaxPool", "ConvTranspose"),
)
ATTRIBUTES = ("axis", "perm", "to", "kernel_shape", "pads", "strides", "group", "equation", "axes")
ATTRIBUTES += ("hidden_size", "body", "then_branch", "else_branch", "value", "num_outputs")
VALUES = st.sampled_from(["", "x", "y", "w", "a", "b"])


def _number(value: int) -> int:
    return value & (1 << 64) - 1


@st.composite
def _tensor(draw: st.DrawFn) -> list[Any]:
    dims = draw(st.lists(st.integers(0, 4), max_size=4))
    kind, width = draw(st.sampled_from([(1, 4), (7, 8), (6, 4), (3, 1), (9, 1)]))
    size = width
    for count in dims:
        size *= count
    if draw(st.integers(0, 9)) == 0:
        dims = draw(st.lists(INTS, max_size=4))
    data = draw(st.binary(min_size=min(size, 2048), max_size=min(size, 2048)))
    return [*((1, 0, _number(n)) for n in dims), (2, 0, kind), (9, 2, data)]


@st.composite
def _node(draw: st.DrawFn, depth: int) -> list[Any]:
    fields: list[Any] = [(1, 2, n.encode()) for n in draw(st.lists(VALUES, max_size=4))]
    fields += [(2, 2, n.encode()) for n in draw(st.lists(VALUES, min_size=1, max_size=2))]
    fields.append((4, 2, draw(st.sampled_from(KINDS)).encode()))
    for name in draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=3)):
        kind = draw(st.sampled_from([2, 3, 4, 5, 7] if depth < 2 else [2, 3, 4, 7]))
        value: list[Any]
        if kind == 2:
            value = [(3, 0, _number(draw(INTS)))]
        elif kind == 3:
            value = [(4, 2, draw(st.sampled_from([b"ij,jk->ik", b"...", b"SAME_UPPER", b""])))]
        elif kind == 4:
            value = [(5, 2, draw(_tensor()))]
        elif kind == 5:
            value = [(6, 2, draw(_graph(depth + 1)))]
        else:
            value = [(8, 0, _number(n)) for n in draw(st.lists(INTS, max_size=4))]
        fields.append((5, 2, [(1, 2, name.encode()), *value, (20, 0, kind)]))
    return fields


@st.composite
def _graph(draw: st.DrawFn, depth: int = 0) -> list[Any]:
    fields: list[Any] = [(1, 2, draw(_node(depth))) for _ in range(draw(st.integers(1, 3)))]
    weights = draw(st.lists(VALUES, max_size=2, unique=True))
    fields += [(5, 2, [*draw(_tensor()), (8, 2, name.encode())]) for name in weights]
    for number, most in ((11, 2), (12, 1)):
        for name in draw(st.lists(VALUES, max_size=most, unique=True)):
            dims = [(1, 2, [(1, 0, n)]) for n in draw(st.lists(st.integers(0, 8), max_size=4))]
            kind = [(1, 2, [(1, 0, 1), (2, 2, dims)])]
            fields.append((number, 2, [(1, 2, name.encode()), (2, 2, kind)]))
    return fields


@st.composite
def onnx(draw: st.DrawFn) -> bytes:
    opset = [(2, 0, draw(st.integers(1, 25)))]
    return encode([(1, 0, 10), (7, 2, draw(_graph())), (8, 2, opset)])


# -- pickles, Keras configurations, and tables of TFLite --


@st.composite
def pickles(draw: st.DrawFn) -> bytes:
    parts = draw(st.lists(st.sampled_from(OPCODES) | st.binary(max_size=3), max_size=30))
    return zipped({"a/data.pkl": b"\x80\x02" + b"".join(parts) + b".", "a/data/0": bytes(16)})


@st.composite
def keras(draw: st.DrawFn) -> bytes:
    kind = st.sampled_from(["Dense", "Conv2D", "InputLayer", "GRU", "Functional", "Flatten", "x"])
    inner = trees("units", "filters", "kernel_size", "strides", "batch_shape", "layers", "name")
    config = {
        "class_name": draw(st.sampled_from(["Sequential", "Functional", "Model"])),
        "config": {
            "name": "m",
            "layers": [
                {
                    "class_name": draw(kind),
                    "config": draw(st.dictionaries(NAMES, inner, max_size=3))
                    | {"name": draw(NAMES), "units": draw(INTS), "batch_shape": draw(inner)},
                    "inbound_nodes": draw(inner),
                }
                for _ in range(draw(st.integers(0, 3)))
            ],
            "input_layers": draw(inner),
        },
    }
    return zipped({"config.json": json.dumps(config).encode(), "model.weights.h5": WEIGHTS})


WEIGHTS = b"\x89HDF\r\n\x1a\n" + bytes(88)


@st.composite
def tflite(draw: st.DrawFn) -> bytes:
    from tflite_helpers import OPS, Table, Writer, ints, raw

    numbers = st.integers(-2, 6) | st.sampled_from([2**31 - 1, -(2**31)])
    lists = st.lists(numbers, max_size=4)
    small = st.integers(-1, 3)
    tensors = [
        Table({0: ints(draw(lists)), 1: ("b", draw(st.integers(0, 19))), 2: ("I", i), 3: f"t{i}"})
        for i in range(draw(st.integers(0, 4)))
    ]
    ops = []
    for _ in range(draw(st.integers(0, 3))):
        places = [draw(st.lists(small, max_size=4)) for _ in range(2)]
        ops.append(Table({0: ("I", 0), 1: ints(places[0]), 2: ints(places[1])}))
        if draw(st.booleans()):
            fields = {n: ("i", draw(numbers)) for n in range(draw(st.integers(0, 5)))}
            ops[-1] |= {3: ("B", draw(st.integers(0, 127))), 4: Table(fields)}
    ends = [ints(draw(st.lists(small, max_size=2))) for _ in range(2)]
    graph = Table({0: tensors, 1: ends[0], 2: ends[1], 3: ops, 4: "main"})
    code = draw(st.sampled_from(sorted(code for code, _ in OPS.values())))
    root = Table({0: ("I", 3), 1: [Table({0: ("b", min(code, 127)), 3: ("i", code)})], 2: [graph]})
    root[4] = [Table({0: raw(draw(st.binary(max_size=64)))}) for _ in range(5)]
    return Writer().finish(root)


def packed(member: str, content: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """An exported archive with this JSON in a member."""
    return content.map(
        lambda tree: zipped({"m/archive_format": b"pt2", member: json.dumps(tree).encode()})
    )


PROGRAM = ("graph_module", "graph", "nodes", "inputs", "outputs", "target", "as_tensor", "sizes")
PROGRAM += ("tensor_values", "signature", "input_specs", "parameter", "schema_version", "major")

# format -> files of it
MADE: dict[str, st.SearchStrategy[bytes]] = {
    "safetensors": safetensors(),
    "onnx": onnx(),
    "state": pickles(),
    "keras": keras(),
    "tflite": tflite(),
    "pt2": packed("m/models/model.json", trees(*PROGRAM)),
    "meta": trees("submission", "system", "complexity", "label", "results").map(
        lambda tree: json.dumps(tree).encode()
    ),
}
