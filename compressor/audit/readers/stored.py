"""From tensor records of any torch container to counted tensors: ties, masks, roles, packing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from compressor.audit.graph import Shape
from compressor.audit.inventory import Role, StoredTensor
from compressor.audit.readers.safecalls import TensorRef
from compressor.audit.readers.tensors import StorageReader
from compressor.audit.readers.widths import WIDTHS
from compressor.audit.shown import shown_name, shown_value
from compressor.errors import ModelFileError

__all__ = ["count_tensors", "packed_shapes", "roles_by_name"]

_STORED_AS = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
_BUFFER_ENDINGS = ("running_mean", "running_var", "num_batches_tracked", "_mask")


def roles_by_name(stored: Mapping[str, TensorRef]) -> dict[str, Role]:
    """Without a graph: what BatchNorm and pruning call their buffers, and whole numbers."""
    return {
        name: "buffer"
        if name.endswith(_BUFFER_ENDINGS) or ref.storage.dtype in {"int64", "bool"}
        else "parameter"
        for name, ref in stored.items()
    }


def packed_shapes(declared: Any, stored: Mapping[str, TensorRef], name: str) -> dict[str, Shape]:
    """Shapes of tensors that hold two numbers of 4 bits in each byte, as a file declares them.

    Args:
        declared: name -> shape, or None where nothing is packed.
        stored: the records by name.
        name: what messages call the file.

    Raises:
        ModelFileError: no such table, or a record that cannot hold those numbers.
    """
    if declared is None:
        return {}
    if not isinstance(declared, Mapping):
        raise ModelFileError(f"{name}: 'packed' is {shown_value(declared)}, no table of shapes")
    found: dict[str, Shape] = {}
    for key, shape in declared.items():
        ref = stored.get(key)
        good = isinstance(shape, (list, tuple)) and 0 < len(shape) <= 8
        if not good or not all(type(size) is int and 0 < size < 1 << 32 for size in shape):
            raise ModelFileError(f"{name}: packed {shown_value(key)} has a shape that is none")
        held = None if ref is None or ref.storage.dtype != "uint8" else (ref.shape, ref.stride)
        if held != (((prod(shape) + 1) // 2,), (1,)):
            raise ModelFileError(
                f"{name}: contradicts itself: packed {shown_name(str(key))} is said to hold "
                f"{tuple(shape)} numbers of 4 bits, but is not stored as so many bytes"
            )
        found[key] = tuple(shape)
    return found


def count_tensors(
    stored: Mapping[str, TensorRef],
    roles: Mapping[str, Role],
    reader: StorageReader,
    packed: Mapping[str, Shape] | None = None,
) -> tuple[StoredTensor, ...]:
    """Counts every record once; one that repeats the bytes of another is tied to it.

    Args:
        stored: the records by name, in the order of the file or the graph.
        roles: what each of them is; a buffer where not said.
        reader: gives their bytes.
        packed: shapes of those with two numbers of 4 bits a byte (`packed_shapes`).

    Raises:
        ModelFileError: a record that lies about its bytes.
    """
    firsts: dict[tuple[Any, ...], str] = {}
    found: dict[str, StoredTensor] = {}
    for name, ref in stored.items():
        identity = (ref.storage.key, ref.offset, ref.shape, ref.stride)
        first = firsts.setdefault(identity, name)
        role = roles.get(name, "buffer")
        if first != name:
            found[name] = replace(found[first], name=name, role=role, first=first)
            continue
        if packed and name in packed:
            nonzero = reader.count_nibbles(ref, shown_name(name), prod(packed[name]))
            found[name] = StoredTensor(
                name=name,
                shape=packed[name],
                dtype="int4",
                role=role,
                numel=prod(packed[name]),
                nonzero=nonzero,
                effective_nonzero=nonzero,
                nbytes=ref.shape[0],
                first=first,
            )
            continue
        mask = stored.get(name.removesuffix("_orig") + "_mask") if name.endswith("_orig") else None
        counted = reader.count(ref, shown_name(name), mask)
        found[name] = StoredTensor(
            name=name,
            shape=ref.shape,
            dtype=_STORED_AS.get(ref.storage.dtype, ref.storage.dtype),
            role=role,
            numel=counted.numel,
            nonzero=counted.nonzero,
            effective_nonzero=counted.effective,
            nbytes=counted.numel * WIDTHS[ref.storage.dtype],
            first=first,
        )
    return tuple(found.values())
