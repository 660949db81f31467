"""What an ONNX graph is made of while it is walked: values, stored tensors, one operator call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from compressor.audit.graph import Shape
from compressor.audit.inventory import Role
from compressor.audit.readers.onnx_external import Region
from compressor.audit.readers.onnx_records import Tensor

__all__ = ["MAX_CONST", "Buffer", "Call", "Site", "Stored", "UnknownShape", "Val"]

MAX_CONST = 4096  # numbers of a value that are followed, to compute shapes from
MAX_LIST = 512  # whole numbers in one list that a shape is computed from
MAX_AXES = 64
MAX_ELEMENTS = 1 << 62


class UnknownShape(Exception):  # noqa: N818 - not an error: the answer is "not known"
    """A shape depends on data."""


class Packed(NamedTuple):
    """Weights (columns, rows) of MatMulNBits: `bits` each, in blocks along the rows."""

    columns: int
    rows: int
    bits: int
    block: int


class ZeroPoint(NamedTuple):
    """What number means zero: a stored tensor or None for 0, per axis or per block of it."""

    tensor: Stored | None
    axis: int
    block: int


@dataclass(slots=True, eq=False)
class Site:
    """The operator that decides what a stored tensor is: its layer's path and kind, its place."""

    path: str
    kind: str
    key: object
    local: str


@dataclass(slots=True, eq=False)
class Stored:
    """A stored tensor (one TensorProto) and what became known of it.

    Attributes:
        label: its name in the file; shape, dtype, bits: of one element as stored.
        tensor, region: where its numbers are.
        role: the strongest use that was seen; None before the first one.
        owner: the use that decided the role.
        zero: what number means zero (quantised weights).
        packed: the true matrix inside packed bytes.
        inline: whether it stands in a Constant node.
        const: its numbers, where few.
        filled: number -> whether it is filled with that, once that was asked for.
        index_bytes: what a sparse tensor stores beside its values.
        order: position in the file, to list tensors in the file's order.
        name: qualified name, given at the end ("layers.0.conv.weight").
    """

    label: str
    shape: Shape
    dtype: str
    bits: int
    tensor: Tensor
    region: Region | None
    order: int
    role: Role | None = None
    owner: Site | None = None
    zero: ZeroPoint | None = None
    packed: Packed | None = None
    const: tuple[Any, ...] | None = None
    inline: bool = False
    filled: dict[int, bool] = field(default_factory=dict)
    index_bytes: int = 0
    name: str = ""


@dataclass(slots=True, eq=False)
class Buffer:
    """Activation memory, shared by a value and its views."""

    nbytes: int
    index: int = -1


@dataclass(slots=True, eq=False)
class Val:
    """A value of the graph.

    Attributes:
        dtype: as torch names it; "" where unknown.
        shape: None where it depends on data.
        const: its numbers, row by row, where few and known before anything runs.
        fixed: known when the model is loaded: stored, or computed from stored tensors only.
        origins: stored tensors it is a rearrangement of, whose role its reader decides.
        direct: the stored tensor it is, unchanged.
        home: activation memory or stored tensor; None for numbers that shapes are made of.
        tag: "scale" or "accumulator" on the way from whole numbers back to real ones; "uniform"
            for a tensor of one number that is made when the model is loaded.
        items: the values of a sequence.
    """

    dtype: str
    shape: Shape | None
    const: tuple[Any, ...] | None = None
    fixed: bool = False
    origins: tuple[Stored, ...] = ()
    direct: Stored | None = None
    home: Buffer | Stored | None = None
    tag: str = ""
    items: tuple[Val, ...] | None = None
    index: int = -1


@dataclass(slots=True, eq=False)
class Call:
    """One operator on given values, as shape functions see it."""

    op: str
    version: int
    inputs: tuple[Val | None, ...]
    attrs: Mapping[str, Any]
    outputs: int
    folding: bool = True  # whether numbers may still be computed from
    state: dict[str, Any] = field(default_factory=dict)

    def given(self, index: int) -> Val | None:
        """Returns an input, None where it was left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def value(self, index: int) -> Val:
        """Returns an input that must be there."""
        found = self.given(index)
        if found is None:
            raise ValueError(f"input {index} is missing")
        return found

    def shape(self, index: int = 0) -> Shape:
        """Returns the shape of an input.

        Raises:
            UnknownShape: it depends on data.
        """
        found = self.value(index).shape
        if found is None:
            raise UnknownShape
        return found

    def dtype(self, index: int = 0) -> str:
        """Returns the number type of an input."""
        return self.value(index).dtype

    def numbers(self, index: int) -> tuple[Any, ...] | None:
        """Returns the known numbers of an input; None where it was left out.

        Raises:
            UnknownShape: they depend on data.
        """
        found = self.given(index)
        if found is None:
            return None
        if found.const is None or not self.folding:
            raise UnknownShape
        return found.const

    def ints(self, name: str, index: int) -> tuple[int, ...] | None:
        """Returns whole numbers that are an attribute in old operator sets and an input in new."""
        held = self.numbers(index)
        found = held if held is not None else self.attrs.get(name)
        if found is None:
            return None
        if isinstance(found, int):
            found = (found,)
        if len(found) > MAX_LIST:
            raise ValueError(f"a list of {len(found):,} numbers")
        return tuple(int(number) for number in found)

    def integer(self, name: str, default: int) -> int:
        """Returns a whole number of the attributes."""
        found = self.attrs.get(name, default)
        if not isinstance(found, int):
            raise ValueError(f"attribute {name!r} is no whole number")  # noqa: TRY004
        return found

    def text(self, name: str, default: str) -> str:
        """Returns a text of the attributes."""
        found = self.attrs.get(name, default)
        if not isinstance(found, str):
            raise ValueError(f"attribute {name!r} is no text")  # noqa: TRY004
        return found

    def list(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Returns whole numbers of the attributes."""
        found = self.attrs.get(name)
        if found is None:
            return default
        if not isinstance(found, list) or len(found) > MAX_LIST:
            raise ValueError(f"attribute {name!r} is no list of at most {MAX_LIST} numbers")
        if not all(isinstance(number, int) for number in found):
            raise ValueError(f"attribute {name!r} is no list of whole numbers")
        return tuple(found)


def axis_of(axis: int, rank: int) -> int:
    """Returns an axis counted from the front.

    Raises:
        ValueError: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank}")
    return axis % rank


def checked(shape: tuple[int, ...]) -> Shape:
    """Returns a computed shape.

    Raises:
        ValueError: too many axes, a size below zero, or more elements than can be addressed.
    """
    if len(shape) > MAX_AXES:
        raise ValueError(f"{len(shape)} axes")
    for size in shape:
        if not 0 <= size < MAX_ELEMENTS:
            raise ValueError(f"a size of {size if abs(size) < MAX_ELEMENTS else 'far too much'}")
    if prod(shape) >= MAX_ELEMENTS:
        raise ValueError("more elements than any memory holds")
    return shape
