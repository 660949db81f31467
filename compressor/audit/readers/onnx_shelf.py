"""The stored tensors of an ONNX file, each registered once, however many names it has."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from compressor.audit.inventory import Role
from compressor.audit.readers.onnx_payload import DTYPES, FLOATS, Payload
from compressor.audit.readers.onnx_records import GraphDef, SparseTensor, Tensor
from compressor.audit.readers.onnx_values import MAX_CONST, Site, Stored, Val
from compressor.errors import ModelFileError

__all__ = ["Shelf", "tensors_in"]

_FEW_FLOATS = 64  # real numbers that shapes are computed from: scales of a Resize, a Range
_STRENGTH: Mapping[Role | None, int] = {
    None: 0,
    "constant": 1,
    "scale": 2,
    "buffer": 3,
    "parameter": 4,
}


class Shelf:
    """Initializers and Constant nodes, by the record that holds them."""

    def __init__(self, payload: Payload, name: str) -> None:
        """Takes the reader of the file's numbers and what messages call the file."""
        self.payload = payload
        self.stored: dict[int, Stored] = {}  # by id of the record, which the model keeps alive
        self._name = name

    def tensor(
        self, tensor: Tensor | SparseTensor, label: str = "", *, inline: bool = False
    ) -> Val:
        """Registers a tensor and returns it as a value.

        Args:
            tensor: the record.
            label: its name where the record has none.
            inline: whether it stands in a Constant node.

        Raises:
            ModelFileError: what is stored does not fit what is declared.
        """
        sparse = tensor if isinstance(tensor, SparseTensor) else None
        held = sparse.values if sparse is not None else tensor
        assert isinstance(held, Tensor)
        known = self.stored.get(id(held))
        if known is None:
            label = held.name or label or f"constant_{len(self.stored)}"
            region = self.payload.check(held, label)
            dtype, bits = DTYPES[held.dtype]
            known = Stored(label, tensor.dims, dtype, bits, held, region, len(self.stored))
            known.inline = inline
            if sparse is not None:
                known.index_bytes = self._indices(sparse, label)
            few = _FEW_FLOATS if dtype in FLOATS else MAX_CONST
            if sparse is None and prod(known.shape) <= few:
                known.const = self.payload.small(held, region, few)
            self.stored[id(held)] = known
        return self._value(known)

    def _value(self, known: Stored) -> Val:
        return Val(
            known.dtype,
            known.shape,
            known.const,
            fixed=True,
            origins=(known,),
            direct=known,
            home=known,
        )

    def _indices(self, tensor: SparseTensor, label: str) -> int:
        """Checks where the values of a sparse tensor stand; returns the bytes that takes."""
        self.payload.check(tensor.indices, f"{label} (indices)")
        stored, rank = prod(tensor.values.dims), len(tensor.dims)
        places = tensor.indices.dims
        fits = places in {(stored,), (stored, rank)} and stored <= prod(tensor.dims)
        if len(tensor.values.dims) != 1 or not fits or tensor.indices.dtype != 7:
            raise ModelFileError(
                f"{self._name}: sparse tensor {label!r} contradicts itself: values "
                f"{tensor.values.dims}, indices {places} for a shape {tensor.dims}"
            )
        return 8 * prod(places)

    def constant(self, attrs: Mapping[str, Any], label: str) -> Val:
        """Returns the value of a Constant node."""
        for key in ("value", "sparse_value"):
            if isinstance(attrs.get(key), (Tensor, SparseTensor)):
                return self.tensor(attrs[key], label, inline=True)
        for key, dtype in (("value_int", "int64"), ("value_float", "float32")):
            if isinstance(attrs.get(key), (int, float)):
                return Val(dtype, (), (attrs[key],), fixed=True)
        for key, dtype in (("value_ints", "int64"), ("value_floats", "float32")):
            found = attrs.get(key)
            if isinstance(found, list) and all(isinstance(n, (int, float)) for n in found):
                return self._listed(found, dtype, label)
        return Val("string", (), fixed=True)

    def _listed(self, numbers: list[Any], dtype: str, label: str) -> Val:
        """A list attribute is a stored tensor like any other where it holds real numbers."""
        if dtype == "int64":
            small = tuple(numbers) if len(numbers) <= MAX_CONST else None
            return Val(dtype, (len(numbers),), small, fixed=True)
        known = self.stored.get(id(numbers))
        if known is None:
            data = struct.pack(f"<{len(numbers)}f", *numbers)
            held = Tensor(label, (len(numbers),), dtype=1, data=data)
            known = Stored(label, held.dims, dtype, 32, held, None, len(self.stored))
            known.inline = True
            known.const = tuple(numbers) if len(numbers) <= _FEW_FLOATS else None
            self.stored[id(numbers)] = known
        return self._value(known)

    def assign(self, stored: Stored, role: Role, site: Site) -> None:
        """Notes a use of a tensor; the strongest one decides what it is."""
        if _STRENGTH[role] > _STRENGTH[stored.role]:
            stored.role, stored.owner = role, site

    def filled(self, stored: Stored, number: int) -> bool:
        """Tells whether a tensor is filled with 0, or if it is small with another number."""
        if number not in stored.filled:
            if number:
                few = self.payload.small(stored.tensor, stored.region, MAX_CONST)
                stored.filled[number] = few is not None and set(few) == {number}
            else:
                stored.filled[0] = not self.payload.nonzero(stored.tensor, stored.region)
        return stored.filled[number]


def tensors_in(graph: GraphDef) -> Iterator[Tensor | SparseTensor]:
    """Yields the stored tensors of a graph that is not walked, its inner graphs included."""
    yield from graph.initializers
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, GraphDef):
                yield from tensors_in(value)
            elif node.op == "Constant" and isinstance(value, (Tensor, SparseTensor)):
                yield value
