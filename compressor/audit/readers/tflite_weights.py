"""Stored numbers of a TFLite buffer against the shape that claims them: checked and counted.

A quantised number counts as zero where it equals its zero point. A network of challenge size is
counted without numpy (importing it costs more than the counting).
"""

from __future__ import annotations

import struct
from math import prod

from compressor.audit.readers.flatbuffer import Buffer
from compressor.audit.readers.tflite_schema import BITS, TensorRecord

__all__ = ["ZeroCounter", "count_zeros"]

_NUMPY_PAYS_OFF = 300_000  # elements; below, plain Python has counted before numpy is imported
_CHUNK = 1 << 22  # elements: bounds the temporaries
_CODES = {16: "H", 32: "I", 64: "Q"}
_SIGNED_ZERO = ("float64", "float32", "float16", "bfloat16")


class ZeroCounter:
    """Checks and counts the stored tensors of one file; a buffer is looked at a bounded often."""

    def __init__(self, source: Buffer) -> None:
        """Takes the file."""
        self._source = source
        self._room = 4 * source.size + (64 << 20)  # bytes that may be scanned in all
        self._known: dict[tuple[object, ...], int] = {}

    def stored_bytes(self, tensor: TensorRecord, data: memoryview) -> int:
        """Returns the bytes that a stored tensor takes.

        Raises:
            ModelFileError: its buffer does not hold what its shape and number type say.
        """
        bits = BITS.get(tensor.dtype)
        if bits is None:  # strings and resources
            return len(data)
        expected = -(-tensor.numel * bits // 8)
        if tensor.index_bytes is not None and len(data) <= expected and len(data) * 8 % bits == 0:
            return len(data)
        if len(data) != expected:
            raise self._source.fail(
                f"tensor {tensor.name[:80]!r} lies about its size: {list(tensor.shape)} of "
                f"{tensor.dtype} is {expected:,} B, {len(data):,} B are stored"
            )
        return expected

    def nonzero(self, tensor: TensorRecord, data: memoryview) -> int:
        """Counts the stored elements that are not zero (quantised: not at their zero point).

        Args:
            tensor: the record.
            data: its bytes, as `stored_bytes` has checked them.

        Raises:
            ModelFileError: zero points that do not fit the tensor, or one buffer that many tensors
                read in different ways.
        """
        bits = BITS.get(tensor.dtype)
        if bits is None:
            return 0
        points = self._zero_points(tensor)
        key = (tensor.buffer, tensor.dtype, points, tensor.axis, tensor.shape)
        if key not in self._known:
            self._room -= len(data)
            if self._room < 0:
                raise self._source.fail("one buffer is read in too many ways")
            self._known[key] = _nonzero(tensor, data, bits, points)
        return self._known[key]

    def _zero_points(self, tensor: TensorRecord) -> tuple[int, ...]:
        """Returns the one zero point, or one a channel where those differ."""
        raw = tensor.zero_points
        self._room -= len(raw)
        if self._room < 0 or len(raw) // 8 not in {0, 1, tensor.scales}:
            raise self._source.fail(
                f"tensor {tensor.name[:80]!r} has {len(raw) // 8:,} zero points for "
                f"{tensor.scales:,} scales"
            )
        if not raw or bytes(raw).count(0) == len(raw):
            return (0,)
        points = struct.unpack(f"<{len(raw) // 8}q", raw)
        if len(set(points)) == 1:
            return points[:1]
        axis = tensor.axis
        if not 0 <= axis < len(tensor.shape) or tensor.shape[axis] != len(points):
            raise self._source.fail(
                f"tensor {tensor.name[:80]!r} has {len(points):,} zero points for the shape "
                f"{list(tensor.shape)} along axis {axis}"
            )
        return points


def _nonzero(tensor: TensorRecord, data: memoryview, bits: int, points: tuple[int, ...]) -> int:
    count = len(data) * 8 // bits if tensor.index_bytes is not None else tensor.numel
    if tensor.dtype.startswith("complex"):
        return _complex(data, bits)
    if len(points) > 1:
        return _per_channel(tensor, data, points)
    if tensor.dtype in _SIGNED_ZERO:
        return count - count_zeros(data, tensor.dtype, count)
    if not _fits(points[0], tensor.dtype, bits):
        return count
    return count - _count(data, bits, count, points[0] & ((1 << bits) - 1))


def count_zeros(data: memoryview, dtype: str, count: int, big: bool = False) -> int:
    """Counts zeros (and minus zeros) of plain numbers.

    Args:
        data: the numbers.
        dtype: their type, as torch names it.
        count: how many there are.
        big: whether the most significant byte comes first.
    """
    bits = BITS[dtype]
    patterns = [0]
    if dtype in _SIGNED_ZERO:
        patterns.append(1 << (7 if big else bits - 1))
    return sum(_count(data, bits, count, pattern) for pattern in patterns)


def _fits(point: int, dtype: str, bits: int) -> bool:
    least = 0 if dtype.startswith(("u", "bool")) else -(1 << (bits - 1))
    return least <= point < least + (1 << bits)


def _count(data: memoryview, bits: int, count: int, pattern: int) -> int:
    """Counts the elements of a bit pattern."""
    if bits < 8:
        return _packed(data, bits, count, pattern)
    if bits == 8:
        wanted = bytes([pattern])
        return sum(
            bytes(data[at : at + _CHUNK]).count(wanted) for at in range(0, len(data), _CHUNK)
        )
    if count <= _NUMPY_PAYS_OFF:
        return struct.unpack(f"<{count}{_CODES[bits]}", data).count(pattern)
    import numpy as np

    flat = np.frombuffer(data, dtype=f"<u{bits // 8}")
    return sum(
        int(np.count_nonzero(flat[at : at + _CHUNK] == pattern))
        for at in range(0, flat.size, _CHUNK)
    )


def _packed(data: memoryview, bits: int, count: int, pattern: int) -> int:
    """Several elements a byte, the first in the lowest bits; the last byte may have some to spare.

    Each byte is replaced by how many of its elements match, so that all work is done in C.
    """
    each, mask = 8 // bits, (1 << bits) - 1

    def matches(byte: int, elements: int = each) -> int:
        return sum((byte >> (bits * i)) & mask == pattern for i in range(elements))

    table = bytes(matches(byte) for byte in range(256))
    whole = count // each
    found = 0
    for at in range(0, whole, _CHUNK):
        piece = bytes(data[at : min(at + _CHUNK, whole)]).translate(table)
        found += sum(n * piece.count(bytes([n])) for n in range(1, each + 1))
    return found + (matches(data[whole], count % each) if count % each else 0)


def _complex(data: memoryview, bits: int) -> int:
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(data, dtype=f"<c{bits // 8}")))


def _per_channel(tensor: TensorRecord, data: memoryview, points: tuple[int, ...]) -> int:
    """Zero points that differ from channel to channel: whole bytes only, and with numpy."""
    import numpy as np

    bits = BITS[tensor.dtype]
    if bits < 8 or tensor.index_bytes is not None:  # no converter writes this: all are in use
        return tensor.numel
    kind = "u" if tensor.dtype.startswith(("u", "bool")) else "i"
    shape = tensor.shape
    inner = prod(shape[tensor.axis + 1 :])
    values = np.frombuffer(data, dtype=f"<{kind}{bits // 8}").reshape(-1, len(points), inner)
    zeros = sum(
        int(np.count_nonzero(values[:, channel, :] == point))
        for channel, point in enumerate(points)
    )
    return tensor.numel - zeros
