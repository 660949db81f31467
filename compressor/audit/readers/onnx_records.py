"""The messages of an ONNX file as plain records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from compressor.audit.readers.onnx_wire import Field

__all__ = [
    "Axes",
    "FunctionDef",
    "GraphDef",
    "ModelDef",
    "Node",
    "Reference",
    "SparseTensor",
    "Tensor",
    "ValueInfo",
]

Axes = tuple["int | str | None", ...]  # a size, the name of an open axis, or an open axis


@dataclass(slots=True, eq=False)
class Tensor:
    """A TensorProto: its header, and where its numbers stand.

    Attributes:
        name: as the file says; dims: shape; dtype: number of its type.
        raw: (start, end) of `raw_data` in the file.
        typed: (field number, wire type, start, end) of each piece of `float_data` and so on.
        strings: elements of `string_data` and their bytes.
        external: the entries of `external_data`, None where the numbers are in the file.
        data: numbers of a list attribute, which is no TensorProto.
    """

    name: str = ""
    dims: tuple[int, ...] = ()
    dtype: int = 0
    raw: tuple[int, int] | None = None
    typed: list[Field] = field(default_factory=list)
    strings: tuple[int, int] = (0, 0)
    external: dict[str, str] | None = None
    data: bytes | None = None


@dataclass(slots=True, eq=False)
class SparseTensor:
    """A SparseTensorProto: the values that are not zero, where they stand, and the dense shape."""

    values: Tensor
    indices: Tensor
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """An attribute inside a function that takes its value from the call."""

    name: str


@dataclass(slots=True, eq=False)
class ValueInfo:
    """Name, number of the element type (0: no tensor) and declared axes (None: not declared)."""

    name: str
    dtype: int
    axes: Axes | None


@dataclass(slots=True, eq=False)
class Node:
    """A NodeProto; `op` is "Conv" in the standard domain, "com.microsoft.X" in another one."""

    name: str
    op: str
    domain: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]


@dataclass(slots=True, eq=False)
class GraphDef:
    """A GraphProto."""

    nodes: list[Node] = field(default_factory=list)
    initializers: list[Tensor | SparseTensor] = field(default_factory=list)
    inputs: list[ValueInfo] = field(default_factory=list)
    outputs: list[ValueInfo] = field(default_factory=list)
    infos: list[ValueInfo] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class FunctionDef:
    """A FunctionProto: a part of the graph that nodes call by its name."""

    name: str
    inputs: list[str]
    outputs: list[str]
    defaults: dict[str, Any]
    nodes: list[Node]
    opsets: dict[str, int]


@dataclass(slots=True, eq=False)
class ModelDef:
    """A ModelProto."""

    graph: GraphDef
    opsets: dict[str, int]
    functions: dict[tuple[str, str], FunctionDef]  # by ("domain.Name", overload)
    producer: str
