"""The numbers of ONNX tensors: where they are stored, whether they fit, and how many are not zero.

Sizes are checked against the declared shape before anything is read. Zeros are counted on the
bits, so that types numpy lacks (bfloat16, float8, int4) need nothing special; a network of
challenge size is counted without numpy, whose import costs more than the counting.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Literal

from compressor.audit.readers.onnx_external import External, Region
from compressor.audit.readers.onnx_records import Tensor
from compressor.audit.readers.onnx_wire import FIXED32, FIXED64, LENGTH, VARINT, Field, Wire
from compressor.errors import ModelFileError

__all__ = ["BITS", "DTYPES", "FLOATS", "QUANTISED", "Payload"]

# Number of the type in a file -> its name as torch has it, and bits of one element.
DTYPES: dict[int, tuple[str, int]] = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8),
    19: ("float8_e5m2", 8),
    20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4_e2m1", 4),
    24: ("float8_e8m0", 8),
    25: ("uint2", 2),
    26: ("int2", 2),
}
BITS = dict(DTYPES.values())
FLOATS = frozenset(name for name, _ in DTYPES.values() if "float" in name or "complex" in name)
QUANTISED = frozenset({"int8", "uint8", "int4", "uint4", "int2", "uint2"})

_SIGNED_ZERO = frozenset(
    {"float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1"}
)
_TYPED = {  # field of a TensorProto -> wire type of one element that is not packed
    4: FIXED32,
    10: FIXED64,
    5: VARINT,
    7: VARINT,
    11: VARINT,
}
_UNSIGNED: dict[int, Literal["B", "H", "I", "Q"]] = {8: "B", 16: "H", 32: "I", 64: "Q"}
_CODES = {  # for the few numbers that shapes are computed from
    "float32": "f",
    "float64": "d",
    "float16": "e",
    "bfloat16": "f",
    "int64": "q",
    "uint64": "Q",
    "int32": "i",
    "uint32": "I",
    "int16": "h",
    "uint16": "H",
    "int8": "b",
    "uint8": "B",
    "bool": "?",
}
_NUMPY_PAYS_OFF = 300_000  # elements; below, plain Python has counted before numpy is imported
MAX_RUNS = 1 << 21  # stretches with a zero point of their own, of all tensors together
_CHUNK = 1 << 24  # bytes: bounds the temporaries
_VARINT_CHUNK = 1 << 20  # the same for encoded integers, which grow eightfold


class Payload:
    """Reads the numbers of all tensors of one file."""

    def __init__(self, wire: Wire, folder: Path) -> None:
        """Takes the file's bytes, and the folder in which external data may lie."""
        self._wire = wire
        self.external = External(folder, wire.name)
        self._seen = 0
        self._runs = MAX_RUNS

    def check(self, tensor: Tensor, label: str) -> Region | None:
        """Compares the stored bytes with the declared shape and type.

        Returns:
            Where external numbers stand; None where they are in the file itself.

        Raises:
            ModelFileError: they do not fit, or are not there, or outside the folder.
        """
        name = self._wire.name
        if tensor.dtype not in DTYPES:
            raise ModelFileError(f"{name}: tensor {label!r} has the unknown type {tensor.dtype}")
        numel = prod(tensor.dims)
        dtype, bits = DTYPES[tensor.dtype]
        wanted = (numel * bits + 7) // 8
        if dtype == "string":
            if tensor.strings[0] != numel:
                raise self._lie(label, numel, f"{tensor.strings[0]:,} strings")
            return None
        if tensor.external is not None:
            return self.external.place(tensor.external, label, wanted)
        if tensor.raw is not None:
            held = tensor.raw[1] - tensor.raw[0]
            if held != wanted or tensor.typed:
                raise self._lie(label, numel, f"{held:,} B where {wanted:,} belong")
            return None
        if not tensor.typed and numel:
            raise ModelFileError(f"{name}: tensor {label!r} of {numel:,} elements holds no data")
        field = tensor.typed[0][0] if tensor.typed else 0
        if any(part[0] != field for part in tensor.typed) or (
            field and field != _typed_field(dtype)
        ):
            raise ModelFileError(f"{name}: tensor {label!r} ({dtype}) holds data of another type")
        if field and (count := self._typed_count(tensor, field)) != (
            expected := numel * 2 if "complex" in dtype else -(-numel // max(8 // bits, 1))
        ):
            raise self._lie(label, numel, f"{count:,} entries where {expected:,} belong")
        return None

    def small(
        self, tensor: Tensor, region: Region | None, most: int
    ) -> tuple[int | float, ...] | None:
        """Returns the numbers of a tensor of at most `most` elements; None where it is none."""
        dtype, _ = DTYPES[tensor.dtype]
        code, numel = _CODES.get(dtype), prod(tensor.dims)
        if code is None or numel > most:
            return None
        data = b"".join(self.chunks(tensor, region))
        if dtype == "bfloat16":  # the upper half of a float32
            data = b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
        return struct.unpack(f"<{numel}{code}", data)

    def chunks(self, tensor: Tensor, region: Region | None) -> Iterator[bytes]:
        """Yields the stored bytes, little-endian, in pieces that hold whole elements."""
        if region is None:
            yield from self._pieces(tensor)
            return
        yield from self.external.read(region, _CHUNK)

    def nonzero(self, tensor: Tensor, region: Region | None, zero: int = 0) -> int:
        """Counts the elements that are not zero, or for whole numbers not the zero point."""
        dtype, bits = DTYPES[tensor.dtype]
        numel = prod(tensor.dims)
        if dtype in {"string", "float8_e8m0"}:  # the latter is a power of two, never zero
            return numel
        self._seen += numel
        zeros = 0
        if bits < 8:
            per, table = 8 // bits, _nibble_table(bits, _zero_codes(dtype, bits, zero))
            last = b""
            for data in self.chunks(tensor, region):
                found = _histogram(data) if self._seen > _NUMPY_PAYS_OFF else None
                zeros += sum(
                    (data.count(byte) if found is None else found[byte]) * hits
                    for byte, hits in table.items()
                )
                last = data[-1:]
            if numel % per and last:  # the padding of the last byte is no element
                kept = _expand(last, bits)[: numel % per]
                codes = _zero_codes(dtype, bits, zero)
                zeros += sum(code in codes for code in kept) - table.get(last[0], 0)
            return numel - zeros
        if "complex" in dtype:
            return numel - _complex_zeros(b"".join(self.chunks(tensor, region)), bits)
        count = self._counter(dtype, bits, zero)
        return numel - sum(count(data) for data in self.chunks(tensor, region))

    def codes(self, tensor: Tensor, region: Region | None, most: int) -> bytes | None:
        """Returns one byte for each element of a tensor of at most eight bits; None if too large.

        Signed elements keep their bits: -1 in eight bits is 255, in four 15.
        """
        bits = DTYPES[tensor.dtype][1]
        numel = prod(tensor.dims)
        if not 0 < bits <= 8 or numel > most:
            return None
        return _expand(b"".join(self.chunks(tensor, region)), bits)[:numel]

    def afford(self, runs: int) -> bool:
        """Takes stretches off the budget for zero points that vary; False where it is spent."""
        self._runs -= runs
        return self._runs >= 0

    @staticmethod
    def expand(data: bytes, bits: int) -> bytes:
        """Unpacks elements of two or four bits into one byte each, lowest bits first."""
        return _expand(data, bits)

    def same(self, one: Tensor, other: Tensor) -> bool:
        """Tells whether two tensors with the same header hold the same raw bytes."""
        if one.raw is None or other.raw is None:
            return False
        view = memoryview(self._wire.data)
        return view[slice(*one.raw)] == view[slice(*other.raw)]

    def _counter(self, dtype: str, bits: int, zero: int) -> Callable[[bytes], int]:
        codes = _zero_codes(dtype, bits, zero)
        if bits == 8:
            return lambda data: sum(data.count(code) for code in codes)
        if self._seen > _NUMPY_PAYS_OFF:
            return lambda data: _numpy_zeros(data, bits, codes)

        def plain(data: bytes) -> int:
            values: list[int] = memoryview(_native(data, bits)).cast(_UNSIGNED[bits]).tolist()
            return sum(values.count(code) for code in codes)

        return plain

    def _pieces(self, tensor: Tensor) -> Iterator[bytes]:
        if tensor.data is not None:
            yield tensor.data
            return
        if tensor.raw is not None:
            start, end = tensor.raw
            for at in range(start, end, _CHUNK):
                yield self._wire.data[at : min(at + _CHUNK, end)]
            return
        width = max(DTYPES[tensor.dtype][1], 8)
        for part in tensor.typed:
            if part[0] in {4, 10}:
                yield self._wire.data[part[2] : part[3]]
                continue
            if part[1] == VARINT:
                yield (part[2] & ((1 << width) - 1)).to_bytes(width // 8, "little")
                continue
            at = part[2]
            while at < part[3]:
                stop = min(at + _VARINT_CHUNK, part[3])
                while stop > at and self._wire.data[stop - 1] >= 0x80:  # in the middle of one
                    stop -= 1
                if stop == at:
                    raise self._wire.damaged(at, "an integer is cut off")
                yield self._decoded((LENGTH, LENGTH, at, stop), width)
                at = stop

    def _decoded(self, part: Field, width: int) -> bytes:
        """Turns packed varints into the bytes of elements of `width` bits, little-endian."""
        if self._seen > _NUMPY_PAYS_OFF:
            return _numpy_varints(self._wire.data[part[2] : part[3]], width)
        mask = (1 << width) - 1
        values = self._wire.varints(part, _VARINT_CHUNK)
        narrow = array(_UNSIGNED[width], [value & mask for value in values])
        if sys.byteorder == "big":
            narrow.byteswap()
        return narrow.tobytes()

    def _typed_count(self, tensor: Tensor, field: int) -> int:
        count = 0
        unit = _TYPED[field]
        for _, wire, start, end in tensor.typed:
            if wire == VARINT and unit == VARINT:
                count += 1
            elif wire == LENGTH and unit == VARINT:  # the last byte of each is below 128
                count += len(self._wire.data[start:end].translate(None, _CONTINUED))
            elif wire in {unit, LENGTH}:
                width = 4 if unit == FIXED32 else 8
                if (end - start) % width:
                    raise self._wire.damaged(start, "a list of numbers")
                count += (end - start) // width
            else:
                raise self._wire.damaged(start, "a list of numbers of another type")
        return count

    def _lie(self, label: str, numel: int, what: str) -> ModelFileError:
        return ModelFileError(
            f"{self._wire.name}: tensor {label!r} lies about its size: {numel:,} elements "
            f"declared, it holds {what}"
        )


_CONTINUED = bytes(range(128, 256))


def _typed_field(dtype: str) -> int:
    if dtype in {"float32", "complex64"}:
        return 4
    if dtype in {"float64", "complex128"}:
        return 10
    if dtype == "int64":
        return 7
    return 11 if dtype in {"uint32", "uint64"} else 5


def _zero_codes(dtype: str, bits: int, zero: int) -> tuple[int, ...]:
    """Returns the bits that mean zero: plus and minus zero, or the zero point."""
    if dtype in _SIGNED_ZERO:
        return 0, 1 << (bits - 1)
    return (zero & ((1 << bits) - 1),)


def _nibble_table(bits: int, codes: tuple[int, ...]) -> dict[int, int]:
    """Byte -> how many of the elements packed in it are zero; bytes without any left out."""
    hits = {
        byte: sum(part in codes for part in _expand(bytes([byte]), bits)) for byte in range(256)
    }
    return {byte: count for byte, count in hits.items() if count}


def _expand(data: bytes, bits: int) -> bytes:
    """Unpacks elements of two or four bits into one byte each, lowest bits first."""
    if bits == 8:
        return data
    per, mask = 8 // bits, (1 << bits) - 1
    out = bytearray(len(data) * per)
    for place in range(per):
        table = bytes((byte >> (place * bits)) & mask for byte in range(256))
        out[place::per] = data.translate(table)
    return bytes(out)


def _native(data: bytes, bits: int) -> bytes:
    if sys.byteorder == "little":
        return data
    swapped = array(_UNSIGNED[bits], data)
    swapped.byteswap()
    return swapped.tobytes()


def _complex_zeros(data: bytes, bits: int) -> int:
    """A complex number is zero where both its parts are, of either sign."""
    import numpy as np

    parts = np.frombuffer(data, dtype="<f4" if bits == 64 else "<f8").reshape(-1, 2)
    return int((parts == 0).all(axis=1).sum())


def _numpy_zeros(data: bytes, bits: int, codes: tuple[int, ...]) -> int:
    import numpy as np

    values = np.frombuffer(data, dtype=f"<u{bits // 8}")
    return sum(int(np.count_nonzero(values == code)) for code in codes)


def _histogram(data: bytes) -> list[int]:
    """How often each byte occurs: one pass where `bytes.count` takes one for each byte."""
    import numpy as np

    counts: list[int] = np.bincount(np.frombuffer(data, np.uint8), minlength=256).tolist()
    return counts


def _numpy_varints(data: bytes, width: int) -> bytes:
    import numpy as np

    encoded = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(encoded < 0x80)
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(encoded.size) - np.repeat(starts, ends - starts + 1)
    parts = (encoded & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(parts, starts).astype(f"<u{width // 8}").tobytes()
