"""Decodes the messages of an ONNX file, every list and every nesting bounded.

Only what counting needs is kept; the numbers of tensors stay in the file's bytes (`onnx_payload`).
A message field given twice, which protobuf would merge, is refused: two programs must not read two
networks from one file. Source: the field numbers of onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from compressor.audit.readers.onnx_records import (
    Axes,
    FunctionDef,
    GraphDef,
    ModelDef,
    Node,
    Reference,
    SparseTensor,
    Tensor,
    ValueInfo,
)
from compressor.audit.readers.onnx_wire import FIXED32, LENGTH, VARINT, Field, Wire, signed
from compressor.errors import ModelFileError

__all__ = ["read_model"]

MAX_NAME = 1024
MAX_RANK = 32
MAX_NESTING = 24  # of graphs in attributes
MAX_NODES = 50_000  # ten times the largest language models; bounds the time of the whole audit
MAX_TENSORS = 50_000
MAX_ITEMS = 1 << 20  # numbers in one list attribute
MAX_DIM = 1 << 62


def read_model(wire: Wire) -> ModelDef:
    """Reads a whole file.

    Raises:
        ModelFileError: no ONNX model, damaged, or beyond the bounds; the message says where.
    """
    return _Messages(wire).model()


class _Messages:
    """One method a message."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.nodes = 0
        self.tensors = 0

    def model(self) -> ModelDef:
        graph: list[Field] = []
        opsets: dict[str, int] = {}
        functions: list[Field] = []
        producer, version = "", None
        for item in self.wire.fields(0, len(self.wire.data)):
            number, _, start, _ = item
            if number == 1:
                version = self.integer(item)
            elif number == 2:
                producer = self.string(item)
            elif number == 7:
                self.once(graph, item, "graph")
            elif number == 8:
                self.opset(item, opsets)
            elif number == 25:
                functions.append(item)
            elif number > 100:  # the message has fields 1 to 26: this is another kind of file
                raise self.wire.damaged(start, f"field {number} of a model")
        if not graph:
            raise ModelFileError(f"{self.wire.name}: not an ONNX model: it holds no graph")
        if not opsets:
            raise ModelFileError(
                f"{self.wire.name}: no opset_import{'' if version else ' and no ir_version'}: an "
                "ONNX model must say which operators it was written for; export it again"
            )
        table: dict[tuple[str, str], FunctionDef] = {}
        for item in functions:
            key, function = self.function(item)
            if key in table:
                raise ModelFileError(f"{self.wire.name}: function {key[0]!r} appears twice")
            table[key] = function
        return ModelDef(self.graph(graph[0], 0), opsets, table, producer)

    def graph(self, item: Field, depth: int) -> GraphDef:
        if depth > MAX_NESTING:
            raise ModelFileError(
                f"{self.wire.name}: graphs nested more than {MAX_NESTING} deep: refused"
            )
        graph = GraphDef()
        for part in self.inside(item):
            number = part[0]
            if number == 1:
                graph.nodes.append(self.node(part, depth))
            elif number == 5:
                graph.initializers.append(self.tensor(part))
            elif number == 15:
                graph.initializers.append(self.sparse(part))
            elif number == 11:
                graph.inputs.append(self.info(part))
            elif number == 12:
                graph.outputs.append(self.info(part))
            elif number == 13:
                graph.infos.append(self.info(part))
        return graph

    def function(self, item: Field) -> tuple[tuple[str, str], FunctionDef]:
        name = domain = overload = ""
        found = FunctionDef("", [], [], {}, [], {})
        for part in self.inside(item):
            number = part[0]
            if number == 1:
                name = self.string(part)
            elif number == 10:
                domain = self.string(part)
            elif number == 13:
                overload = self.string(part)
            elif number == 4:
                found.inputs.append(self.string(part))
            elif number == 5:
                found.outputs.append(self.string(part))
            elif number == 7:
                found.nodes.append(self.node(part, 0))
            elif number == 9:
                self.opset(part, found.opsets)
            elif number == 11:
                key, value = self.attribute(part, 0)
                found.defaults[key] = value
        found.name = _qualified(domain, name)
        return (found.name, overload), found

    def node(self, item: Field, depth: int) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise ModelFileError(
                f"{self.wire.name}: more than {MAX_NODES:,} operators, far above any network of "
                "this kind: refused"
            )
        inputs: list[str] = []
        outputs: list[str] = []
        attrs: dict[str, Any] = {}
        name = kind = domain = overload = ""
        for part in self.inside(item):
            number = part[0]
            if number == 1:
                inputs.append(self.string(part))
            elif number == 2:
                outputs.append(self.string(part))
            elif number == 3:
                name = self.string(part)
            elif number == 4:
                kind = self.string(part)
            elif number == 5:
                key, value = self.attribute(part, depth)
                if key in attrs:
                    raise ModelFileError(
                        f"{self.wire.name}: operator {name or kind!r} has attribute {key!r} twice"
                    )
                attrs[key] = value
            elif number == 7:
                domain = self.string(part)
            elif number == 8:
                overload = self.string(part)
        if not kind:
            raise ModelFileError(f"{self.wire.name}: operator {name!r} does not say what it does")
        standard = "" if domain == "ai.onnx" else domain
        op = _qualified(standard, kind)
        return Node(name, op, standard, overload, tuple(inputs), tuple(outputs), attrs)

    def attribute(self, item: Field, depth: int) -> tuple[str, Any]:
        """Returns name and value: a plain value, a list, Tensor, SparseTensor, GraphDef, None."""
        name = reference = ""
        kind = 0
        single: dict[int, Any] = {}
        lists: dict[int, list[Any]] = {7: [], 8: [], 9: [], 10: [], 11: [], 23: []}
        for part in self.inside(item):
            number, wire, start, end = part
            if number == 1:
                name = self.string(part)
            elif number == 20:
                kind = self.integer(part)
            elif number == 21:
                reference = self.string(part)
            elif number == 3:
                single[3] = signed(self.integer(part))
            elif number == 2 and wire == FIXED32:
                single[2] = struct.unpack_from("<f", self.wire.data, start)[0]
            elif number == 4 and wire == LENGTH:
                single[4] = self.wire.data[start : min(end, start + 4096)].decode(errors="replace")
            elif number in {5, 6, 22} and number in single:
                raise self.wire.damaged(start, f"attribute {name!r} given twice")
            elif number == 5:
                single[5] = self.tensor(part)
            elif number == 6:
                single[6] = self.graph(part, depth + 1)
            elif number == 22:
                single[22] = self.sparse(part)
            elif number == 7:
                lists[7] += self.floats(part)
            elif number == 8:
                lists[8] += map(signed, self.wire.varints(part, MAX_ITEMS))
            elif number == 9 and wire == LENGTH:
                lists[9].append(self.wire.data[start : min(end, start + 4096)])
            elif number == 10:
                lists[10].append(self.tensor(part))
            elif number == 11:
                lists[11].append(self.graph(part, depth + 1))
            elif number == 23:
                lists[23].append(self.sparse(part))
        if reference:
            return name, Reference(reference)
        found = _KINDS.get(kind)
        if found is not None:
            return name, single.get(found, lists.get(found))
        return name, next(iter(single.values()), next((v for v in lists.values() if v), None))

    def floats(self, item: Field) -> tuple[float, ...]:
        _, wire, start, end = item
        if wire not in {LENGTH, FIXED32} or (end - start) % 4 or end - start > 4 * MAX_ITEMS:
            raise self.wire.damaged(start, "a list of numbers")
        return struct.unpack_from(f"<{(end - start) // 4}f", self.wire.data, start)

    def tensor(self, item: Field) -> Tensor:
        self.tensors += 1
        if self.tensors > MAX_TENSORS:
            raise ModelFileError(
                f"{self.wire.name}: more than {MAX_TENSORS:,} tensors, far above any network of "
                "this kind: refused"
            )
        tensor = Tensor()
        dims: list[int] = []
        external = False
        entries: dict[str, str] = {}
        for part in self.inside(item):
            number, wire, start, end = part
            if number == 1:
                dims += map(signed, self.wire.varints(part, MAX_RANK))
            elif number == 2:
                tensor.dtype = self.integer(part)
            elif number in {4, 5, 7, 10, 11}:
                tensor.typed.append(part)
            elif number == 6 and wire == LENGTH:
                tensor.strings = (tensor.strings[0] + 1, tensor.strings[1] + end - start)
            elif number == 8:
                tensor.name = self.string(part)
            elif number == 9 and wire == LENGTH:
                if tensor.raw is not None:
                    raise self.wire.damaged(start, f"tensor {tensor.name!r} holds two raw_data")
                tensor.raw = (start, end)
            elif number == 13:
                self.entry(part, entries)
            elif number == 14:
                external = self.integer(part) == 1
        tensor.dims = self.shape(dims, tensor.name)
        tensor.external = entries if external else None
        return tensor

    def sparse(self, item: Field) -> SparseTensor:
        values: list[Field] = []
        indices: list[Field] = []
        dims: list[int] = []
        for part in self.inside(item):
            if part[0] == 1:
                self.once(values, part, "values")
            elif part[0] == 2:
                self.once(indices, part, "indices")
            elif part[0] == 3:
                dims += map(signed, self.wire.varints(part, MAX_RANK))
        if not values or not indices:
            raise ModelFileError(f"{self.wire.name}: a sparse tensor without values or indices")
        held = self.tensor(values[0])
        return SparseTensor(held, self.tensor(indices[0]), self.shape(dims, held.name))

    def shape(self, dims: list[int], name: str) -> tuple[int, ...]:
        if len(dims) > MAX_RANK:
            raise ModelFileError(
                f"{self.wire.name}: tensor {name!r} has {len(dims)} axes, at most {MAX_RANK} are "
                "read"
            )
        for size in dims:
            if not 0 <= size < MAX_DIM:
                raise ModelFileError(
                    f"{self.wire.name}: tensor {name!r} has an axis of size {size}: not a size"
                )
        return tuple(dims)

    def info(self, item: Field) -> ValueInfo:
        found = ValueInfo("", 0, None)
        for number, wire, start, end in self.inside(item):
            if number == 1:
                found.name = self.string((number, wire, start, end))
            elif number == 2 and wire == LENGTH:
                for kind, held, first, last in self.wire.fields(start, end):
                    if kind == 1 and held == LENGTH:  # tensor_type
                        found.dtype, found.axes = self.tensor_type(first, last, found.name)
        return found

    def tensor_type(self, start: int, end: int, name: str) -> tuple[int, Axes | None]:
        dtype, axes = 0, None
        for part in self.wire.fields(start, end):
            if part[0] == 1:
                dtype = self.integer(part)
            elif part[0] == 2:
                axes = tuple(self.axis(item, name) for item in self.inside(part) if item[0] == 1)
                if len(axes) > MAX_RANK:
                    raise ModelFileError(
                        f"{self.wire.name}: {name!r} has {len(axes)} axes, at most {MAX_RANK} are "
                        "read"
                    )
        return dtype, axes

    def axis(self, item: Field, name: str) -> int | str | None:
        found: int | str | None = None
        for part in self.inside(item):
            if part[0] == 1:
                size = signed(self.integer(part))
                if size >= MAX_DIM or size < -1:
                    raise ModelFileError(
                        f"{self.wire.name}: {name!r} has an axis of size {size}: not a size"
                    )
                found = None if size == -1 else size
            elif part[0] == 2:
                found = self.string(part) or None
        return found

    def opset(self, item: Field, opsets: dict[str, int]) -> None:
        domain, version = "", 0
        for part in self.inside(item):
            if part[0] == 1:
                domain = self.string(part)
            elif part[0] == 2:
                version = self.integer(part)
        opsets["" if domain == "ai.onnx" else domain] = version

    def entry(self, item: Field, entries: dict[str, str]) -> None:
        key = value = ""
        for part in self.inside(item):
            if part[0] == 1:
                key = self.string(part)
            elif part[0] == 2:
                value = self.string(part)
        if key in entries:
            raise ModelFileError(f"{self.wire.name}: external data with two entries {key!r}")
        entries[key] = value

    def inside(self, item: Field) -> Iterator[Field]:
        """Yields the fields of a message that stands in a field."""
        _, wire, start, end = item
        if wire != LENGTH:
            raise self.wire.damaged(start, "a number where a message belongs")
        return self.wire.fields(start, end)

    def once(self, found: list[Field], item: Field, what: str) -> None:
        if found or item[1] != LENGTH:
            raise self.wire.damaged(item[2], f"a second {what}")
        found.append(item)

    def string(self, item: Field) -> str:
        if item[1] != LENGTH:
            raise self.wire.damaged(item[2], "a number where a name belongs")
        return self.wire.text(item[2], item[3], MAX_NAME)

    def integer(self, item: Field) -> int:
        if item[1] != VARINT:
            raise self.wire.damaged(item[2], "a message where a number belongs")
        return item[2]


def _qualified(domain: str, name: str) -> str:
    standard = domain in {"", "ai.onnx"} and "." not in name  # a dot would feign another domain
    return name if standard else f"{domain or 'ai.onnx'}.{name}"


# AttributeProto.type -> number of the field that holds the value
_KINDS = {1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 8: 9, 9: 10, 10: 11, 11: 22, 12: 23}
