"""From tensor records of any torch container to counted tensors: ties, masks, roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compressor.audit.inventory import Role, StoredTensor
from compressor.audit.readers.safecalls import TensorRef
from compressor.audit.readers.tensors import StorageReader
from compressor.audit.readers.widths import WIDTHS
from compressor.audit.shown import shown_name

__all__ = ["count_tensors", "roles_by_name"]

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


def count_tensors(
    stored: Mapping[str, TensorRef], roles: Mapping[str, Role], reader: StorageReader
) -> tuple[StoredTensor, ...]:
    """Counts every record once; one that repeats the bytes of another is tied to it.

    Args:
        stored: the records by name, in the order of the file or the graph.
        roles: what each of them is; a buffer where not said.
        reader: gives their bytes.

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
