"""Reader for `.safetensors`: a JSON header and raw bytes. No torch.

The rules are those of the format's own library: the header is at most 100 MB, the tensors lie one
behind the other without gap or overlap and fill the file, and each takes exactly the bytes that
its shape and number type say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from compressor.audit.inventory import Inventory
from compressor.audit.readers.safecalls import StorageRef, TensorRef
from compressor.audit.readers.stored import count_tensors, packed_shapes, roles_by_name
from compressor.audit.readers.tensors import StorageReader
from compressor.audit.shown import shown_name, shown_value
from compressor.errors import ModelFileError

__all__ = ["read_safetensors_file"]

MAX_HEADER_BYTES = 16 << 20  # 100,000 tensors; parsed Python takes up to 30 times as much
MAX_TENSORS = 100_000
MAX_NAME = 512
_PACKED = "compressor.packed"  # name -> shape of tensors with two numbers of 4 bits a byte
_Span = tuple[str, tuple[int, ...], int, int]  # number type, shape, begin, end
# name in the file -> (torch's name, bits of one element)
_DTYPES: Mapping[str, tuple[str, int]] = {
    "F64": ("float64", 64),
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "C64": ("complex64", 64),
    "I64": ("int64", 64),
    "I32": ("int32", 32),
    "I16": ("int16", 16),
    "I8": ("int8", 8),
    "U64": ("uint64", 64),
    "U32": ("uint32", 32),
    "U16": ("uint16", 16),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
}


def read_safetensors_file(file: Path, name: str, size: int) -> Inventory:
    """Reads a `.safetensors` file.

    Args:
        file: the file.
        name: what messages call it.
        size: its bytes.

    Raises:
        ModelFileError: broken, or a header that lies about what follows.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ModelFileError(
                f"{name}: a safetensors header of {length:,} B, at most {MAX_HEADER_BYTES:,} are "
                "read"
            )
        if 8 + length > size:
            raise ModelFileError(
                f"{name}: a truncated safetensors file: a header of {length:,} B in {size:,}"
            )
        header, metadata = _header(stream.read(length), name)
        spans = _spans(header, name, size - 8 - length)
        records = {key: _record(key, span) for key, span in spans.items()}
        reader = StorageReader(_Bytes(stream, name, 8 + length, spans), "")
        packed = packed_shapes(_packed(metadata, name), records, name)
        tensors = count_tensors(records, roles_by_name(records), reader, packed)
    shown = {shown_name(key): shown_name(value, 200) for key, value in list(metadata.items())[:50]}
    return Inventory(
        source=name,
        format="safetensors",
        tensors=tensors,
        graph=None,
        roles_certain=False,
        meta={"metadata": shown} if shown else {},
    )


def _packed(metadata: Mapping[str, str], name: str) -> Any:
    """What the project's own files say of numbers of 4 bits; None in others."""
    if _PACKED not in metadata:
        return None
    try:
        return json.loads(metadata[_PACKED])
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{name}: '{_PACKED}' of the metadata is no JSON") from error


def _header(data: bytes, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Parses the header; a name that stands in it twice is refused."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in table if names.count(key) > 1)
            raise ModelFileError(f"{name}: {shown_value(twice)} stands twice in the header")
        return table

    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ModelFileError(f"{name}: the safetensors header is no JSON") from error
    if not isinstance(header, dict):
        raise ModelFileError(f"{name}: the safetensors header is no table")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ModelFileError(f"{name}: '__metadata__' is no table of texts")
    if not header:
        raise ModelFileError(f"{name}: holds no tensors")
    if len(header) > MAX_TENSORS:
        raise ModelFileError(f"{name}: {len(header):,} tensors, at most {MAX_TENSORS:,} are read")
    return header, metadata


def _spans(header: Mapping[str, Any], name: str, room: int) -> dict[str, _Span]:
    """Checks every entry and that the entries fill the file; returns (type, shape, begin, end)."""
    spans = {}
    for key, entry in header.items():
        if len(key) > MAX_NAME or not key.isprintable() or not key:
            raise ModelFileError(f"{name}: {shown_value(key)} is not the name of a tensor")
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ModelFileError(
                f"{name}: {shown_value(key)} has no 'dtype', 'shape' and 'data_offsets' alone"
            )
        kind, shape, ends = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(kind, str) or kind not in _DTYPES:
            raise ModelFileError(
                f"{name}: {shown_value(key)} has the number type {shown_value(kind)}; known are "
                + ", ".join(_DTYPES)
            )
        if not _sizes(shape, 32) or not _sizes(ends, 2) or len(ends) != 2:
            raise ModelFileError(f"{name}: {shown_value(key)} has a shape or offsets that are none")
        dtype, bits = _DTYPES[kind]
        numel, stored = prod(shape), ends[1] - ends[0]
        if stored < 0 or ends[1] > room:
            raise ModelFileError(
                f"{name}: {shown_value(key)} lies at {ends[0]:,} to {ends[1]:,} of {room:,} B"
            )
        if numel * bits != stored * 8:
            raise ModelFileError(
                f"{name}: {shown_value(key)} lies about its size: {numel:,} x {dtype} in "
                f"{stored:,} B"
            )
        spans[key] = (dtype, tuple(shape), ends[0], ends[1])
    at = 0
    for key, (_, _, begin, end) in sorted(spans.items(), key=lambda item: item[1][2:]):
        if begin != at:
            what = "overlaps another tensor" if begin < at else f"leaves a gap of {begin - at:,} B"
            raise ModelFileError(f"{name}: {shown_value(key)} {what}")
        at = end
    if at != room:
        raise ModelFileError(f"{name}: {room - at:,} B at the end belong to no tensor")
    return spans


def _sizes(value: object, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(size) is int and 0 <= size < 1 << 48 for size in value)
    )


class _Bytes:
    """Hands out the bytes of one tensor after the other, as an archive does its members."""

    def __init__(self, stream: BinaryIO, name: str, start: int, spans: Mapping[str, _Span]) -> None:
        self.name = name
        self._stream = stream
        self._start = start
        self._spans = {f"data/{key}": span for key, span in spans.items()}

    def read(self, member: str, most: int) -> bytes:
        _, _, begin, end = self._spans[member]
        if end - begin > most:
            raise ModelFileError(
                f"{self.name}: a tensor of {end - begin:,} B, at most {most:,} allowed"
            )
        self._stream.seek(self._start + begin)
        return self._stream.read(end - begin)


def _record(key: str, span: _Span) -> TensorRef:
    dtype, shape, _, _ = span
    strides = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return TensorRef(StorageRef(key, dtype, prod(shape)), 0, shape, strides)
