"""A small writer of TFLite files for tests: records in, a flatbuffer out.

Independent of the reader: it was checked with TensorFlow's own interpreter, which allocates and
runs what it writes. Field numbers follow the public schema.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TYPES = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "bool": 6,
    "int16": 7,
    "int8": 9,
    "int4": 17,
}
_CODES = {"float32": "f", "float16": "e", "int32": "i", "uint8": "B", "int64": "q", "int16": "h"}
_CODES |= {"int8": "b", "bool": "?"}
# operator -> (code, kind of its options)
OPS = {
    "ADD": (0, 11),
    "AVERAGE_POOL_2D": (1, 5),
    "CONCATENATION": (2, 10),
    "CONV_2D": (3, 1),
    "DEPTHWISE_CONV_2D": (4, 2),
    "DEQUANTIZE": (6, 38),
    "FULLY_CONNECTED": (9, 8),
    "LSTM": (16, 14),
    "MAX_POOL_2D": (17, 5),
    "MUL": (18, 21),
    "RELU": (19, 0),
    "RESHAPE": (22, 17),
    "RNN": (24, 7),
    "SOFTMAX": (25, 9),
    "SVDF": (27, 6),
    "CUSTOM": (32, 0),
    "PAD": (34, 22),
    "GATHER": (36, 23),
    "MEAN": (40, 27),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (44, 71),
    "LESS": (58, 41),
    "TRANSPOSE_CONV": (67, 49),
    "IF": (118, 92),
    "WHILE": (119, 93),
    "BATCH_MATMUL": (126, 101),
    "CONV_3D": (132, 106),
    "CONV_3D_TRANSPOSE": (141, 106),
    "RFFT2D": (131, 105),
    "STABLEHLO_DOT_GENERAL": (197, 0),
}


class Table(dict[int, Any]):
    """A table: field number -> value. Numbers go in as ("i", 3); the rest are references."""


@dataclass
class Vector:
    """A vector of numbers of one struct code, kept as bytes."""

    count: int
    data: bytes
    width: int


def ints(values: Sequence[int], code: str = "i") -> Vector:
    return Vector(len(values), struct.pack(f"<{len(values)}{code}", *values), struct.calcsize(code))


def raw(data: bytes) -> Vector:
    return Vector(len(data), data, 1)


class Writer:
    """Writes parents before children, so that every reference points forward."""

    def __init__(self) -> None:
        self.out = bytearray(8)
        self.out[4:8] = b"TFL3"

    def finish(self, root: Table) -> bytes:
        struct.pack_into("<I", self.out, 0, self.put(root))
        return bytes(self.out)

    def align(self, to: int, ahead: int = 0) -> None:
        while (len(self.out) + ahead) % to:
            self.out.append(0)

    def put(self, item: Any) -> int:
        if isinstance(item, Table):
            return self.table(item)
        if isinstance(item, str):
            data = item.encode()
            self.align(4)
            at = len(self.out)
            self.out += struct.pack("<I", len(data)) + data + b"\0"
            return at
        if isinstance(item, Vector):
            self.align(max(4, item.width), 4)
            if item.width == 1:
                self.align(16, 4)
            at = len(self.out)
            self.out += struct.pack("<I", item.count) + item.data
            return at
        self.align(4)
        at = len(self.out)
        self.out += struct.pack("<I", len(item)) + bytes(4 * len(item))
        for i, child in enumerate(item):
            place = at + 4 + 4 * i
            struct.pack_into("<I", self.out, place, self.put(child) - place)
        return at

    def table(self, fields: Table) -> int:
        offsets: dict[int, int] = {}
        size = 4
        widths = {
            n: struct.calcsize(v[0]) if isinstance(v, tuple) else 4 for n, v in fields.items()
        }
        for number in sorted(fields, key=lambda n: (-widths[n], n)):
            size += -(size + 4) % widths[number] if widths[number] == 8 else 0
            offsets[number] = size
            size += widths[number]
        slots = max(fields, default=-1) + 1
        vtable = struct.pack("<HH", 4 + 2 * slots, size)
        vtable += b"".join(struct.pack("<H", offsets.get(n, 0)) for n in range(slots))
        self.align(2)
        while (len(self.out) + len(vtable)) % 8 != 4:  # 8-byte fields stand 4 behind the table
            self.out.append(0)
        start = len(self.out)
        self.out += vtable
        at = len(self.out)
        self.out += struct.pack("<i", at - start) + bytes(size - 4)
        for number, value in fields.items():
            place = at + offsets[number]
            if isinstance(value, tuple):
                struct.pack_into(f"<{value[0]}", self.out, place, value[1])
        for number, value in fields.items():
            if not isinstance(value, tuple):
                place = at + offsets[number]
                struct.pack_into("<I", self.out, place, self.put(value) - place)
        return at


@dataclass
class T:
    """A tensor. `data` are its numbers (bytes for packed ones); None: an activation."""

    name: str
    shape: Sequence[int]
    dtype: str = "float32"
    data: Sequence[float] | bytes | None = None
    scale: Sequence[float] = ()
    zero: Sequence[int] = ()
    axis: int = 0
    signature: Sequence[int] | None = None
    variable: bool = False
    shares: str = ""  # name of the tensor whose buffer it uses

    def payload(self) -> bytes:
        if isinstance(self.data, bytes):
            return self.data
        values = self.data or ()
        return struct.pack(f"<{len(values)}{_CODES[self.dtype]}", *values)


@dataclass
class O:  # noqa: E742
    """An operator on tensors by name; None is an operand left out."""

    kind: str
    inputs: Sequence[str | None]
    outputs: Sequence[str]
    options: Mapping[int, Any] = field(default_factory=dict)
    custom: str = ""


@dataclass
class G:
    """A subgraph."""

    tensors: Sequence[T]
    ops: Sequence[O]
    inputs: Sequence[str]
    outputs: Sequence[str]


def model(*graphs: G, outside: bool = False, version: int = 3) -> bytes:
    """Writes a model; `outside` puts the buffers behind the flatbuffer, as files above 2 GB do."""
    kinds = list(dict.fromkeys((op.kind, op.custom) for g in graphs for op in g.ops))
    codes = []
    for kind, custom in kinds:
        code = OPS[kind][0]
        fields = Table({0: ("b", min(code, 127)), 2: ("i", 1), 3: ("i", code)})
        if custom:
            fields[1] = custom
        codes.append(fields)
    payloads: list[bytes] = [b""]
    where: dict[tuple[int, str], int] = {}
    subgraphs = []
    for g, graph in enumerate(graphs):
        number = {tensor.name: i for i, tensor in enumerate(graph.tensors)}
        tensors = []
        for tensor in graph.tensors:
            buffer = where.get((g, tensor.shares), 0)
            if tensor.data is not None and not tensor.shares:
                buffer = len(payloads)
                payloads.append(tensor.payload())
            where[g, tensor.name] = buffer
            item = Table({0: ints(tensor.shape), 1: ("b", TYPES[tensor.dtype]), 3: tensor.name})
            item[2] = ("I", buffer)
            if tensor.scale:
                zero = tensor.zero or [0] * len(tensor.scale)
                scale = Vector(
                    len(tensor.scale), struct.pack(f"<{len(tensor.scale)}f", *tensor.scale), 4
                )
                item[4] = Table({2: scale, 3: ints(zero, "q"), 6: ("i", tensor.axis)})
            if tensor.variable:
                item[5] = ("B", 1)
            if tensor.signature is not None:
                item[7] = ints(tensor.signature)
            tensors.append(item)
        ops = []
        for op in graph.ops:
            options = OPS[op.kind][1]
            item = Table(
                {
                    0: ("I", kinds.index((op.kind, op.custom))),
                    1: ints([number[n] if n is not None else -1 for n in op.inputs]),
                    2: ints([number[n] for n in op.outputs]),
                }
            )
            if options:
                item[3] = ("B", options)
                item[4] = Table(op.options)
            ops.append(item)
        subgraphs.append(
            Table(
                {
                    0: tensors,
                    1: ints([number[n] for n in graph.inputs]),
                    2: ints([number[n] for n in graph.outputs]),
                    3: ops,
                    4: f"graph{g}",
                }
            )
        )
    root = Table({0: ("I", version), 1: codes, 2: subgraphs, 3: "made by a test"})
    if not outside:
        root[4] = [Table({0: raw(data)}) if data else Table() for data in payloads]
        return Writer().finish(root)
    places = [0] * len(payloads)
    data = b""
    for _ in range(2):  # the flatbuffer's size does not depend on the offsets it holds
        root[4] = [
            Table({1: ("Q", place), 2: ("Q", len(payload))}) if payload else Table()
            for place, payload in zip(places, payloads, strict=True)
        ]
        data = Writer().finish(root)
        at = len(data)
        for i, payload in enumerate(payloads):
            places[i] = at
            at += len(payload)
    return data + b"".join(payloads)


def pool(height: int, width: int) -> dict[int, Any]:
    """Options of a pooling operator whose stride is its window."""
    sizes = {1: width, 2: height, 3: width, 4: height}
    return {0: ("b", 1)} | {number: ("i", size) for number, size in sizes.items()}


def conv(stride: int = 1) -> dict[int, Any]:
    """Options of a convolution with SAME padding."""
    return {0: ("b", 0), 1: ("i", stride), 2: ("i", stride)}


def baseline() -> bytes:
    """The int8 file of the DCASE 2022 baseline: int8 weights, int32 biases, no zero among them.

    The first fully connected layer takes the image as it is, (1, 2, 1, 32), as in the official one.
    """
    quant = {"scale": [0.5], "zero": [3]}
    tensors = [T("serving_default_input_1:0", (1, 40, 51, 1), "int8", **quant)]
    ops: list[O] = []
    last = tensors[0].name

    def weighted(kind: str, name: str, weight: tuple[int, ...], out: tuple[int, ...]) -> None:
        nonlocal last
        count, channels = 1, weight[0]
        for size in weight:
            count *= size
        tensors.append(T(f"{name}/w", weight, "int8", bytes([1]) * count, [0.1] * channels, axis=0))
        tensors.append(T(f"{name}/b", (channels,), "int32", [7] * channels, [0.01] * channels))
        tensors.append(T(f"model/{name}/BiasAdd", out, "int8", **quant))
        options = conv() if kind == "CONV_2D" else {}
        ops.append(O(kind, [last, f"{name}/w", f"{name}/b"], [tensors[-1].name], options))
        last = tensors[-1].name

    def pooled(name: str, window: tuple[int, int], out: tuple[int, ...]) -> None:
        nonlocal last
        tensors.append(T(f"model/{name}/MaxPool", out, "int8", **quant))
        ops.append(O("MAX_POOL_2D", [last], [tensors[-1].name], pool(*window)))
        last = tensors[-1].name

    weighted("CONV_2D", "conv2d", (16, 7, 7, 1), (1, 40, 51, 16))
    weighted("CONV_2D", "conv2d_1", (16, 7, 7, 16), (1, 40, 51, 16))
    pooled("max_pooling2d", (5, 5), (1, 8, 10, 16))
    weighted("CONV_2D", "conv2d_2", (32, 7, 7, 16), (1, 8, 10, 32))
    pooled("max_pooling2d_1", (4, 10), (1, 2, 1, 32))
    weighted("FULLY_CONNECTED", "dense", (100, 64), (1, 100))
    weighted("FULLY_CONNECTED", "dense_1", (10, 100), (1, 10))
    tensors.append(T("StatefulPartitionedCall:0", (1, 10), "int8", scale=[1 / 256], zero=[-128]))
    ops.append(O("SOFTMAX", [last], [tensors[-1].name], {0: ("f", 1.0)}))
    return model(G(tensors, ops, [tensors[0].name], [tensors[-1].name]))


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
