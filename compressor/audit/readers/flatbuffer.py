"""A flatbuffer read with suspicion: every offset, vtable and length is checked against the file.

Layout (little-endian; flatbuffers.dev, "Internals"): a table starts with a signed offset back to
its vtable; the vtable holds its own size, the size of the table and, for each field, the offset of
the field inside the table (0: absent, the default holds). Strings, vectors and tables are reached
through unsigned forward offsets. Nothing forces those offsets to be honest, acyclic or aligned, so
nothing is followed further than the caller's own schema goes, and every step is charged to one
budget that bounds the work on a file whose tables point at each other.
"""

from __future__ import annotations

import struct
from typing import Literal

from compressor.audit.shown import one_line
from compressor.errors import ModelFileError

__all__ = ["Buffer", "Table"]

Scalar = Literal["b", "B", "h", "H", "i", "I", "q", "Q", "f"]

_WIDTHS = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8, "f": 4}
_BUDGET = 1_000_000  # steps: a table costs some, an unpacked element 1; a network takes thousands
_TABLE_STEPS = 4  # opening a table takes about as long as unpacking many numbers


class Buffer:
    """The bytes of one flatbuffer.

    Args:
        data: the file, as bytes or a read-only map of it.
        name: what messages call it.
        kind: what the file claims to be ("TFLite"), for messages.
    """

    def __init__(self, data: memoryview, name: str, kind: str) -> None:
        """Takes the whole file."""
        self.data = data
        self.size = len(data)
        self._what = f"{name}: a damaged {kind} file"
        self._budget = _BUDGET

    def fail(self, reason: str) -> ModelFileError:
        """Makes the error for something wrong inside the file."""
        return ModelFileError(f"{self._what}: {reason}")

    def charge(self, steps: int) -> None:
        """Counts work.

        Raises:
            ModelFileError: more than any model needs: tables that refer to each other.
        """
        self._budget -= steps
        if self._budget < 0:
            raise self.fail("more records than any network has, or records that repeat each other")

    def number(self, at: int, kind: Scalar) -> int:
        """Returns the whole number at a position.

        Raises:
            ModelFileError: it lies outside the file.
        """
        if at < 0 or at + _WIDTHS[kind] > self.size:
            raise self.fail(f"an offset points to byte {at:,} of {self.size:,}")
        (value,) = struct.unpack_from("<" + kind, self.data, at)
        return int(value)

    def root(self) -> Table:
        """Returns the table that the first four bytes point at."""
        return Table(self, self.number(0, "I"))


class Table:
    """One table; fields are named by their number in the schema, counted from 0."""

    __slots__ = ("_at", "_buffer", "_length", "_size", "_vtable")

    def __init__(self, buffer: Buffer, at: int) -> None:
        """Checks a table and its vtable.

        Raises:
            ModelFileError: either lies outside the file or lies about its size.
        """
        buffer.charge(_TABLE_STEPS)
        vtable = at - buffer.number(at, "i")
        length = buffer.number(vtable, "H")
        size = buffer.number(vtable + 2, "H")
        if length < 4 or length % 2 or vtable + length > buffer.size:
            raise buffer.fail(f"the vtable at byte {vtable:,} says it has {length:,} B")
        if size < 4 or at + size > buffer.size:
            raise buffer.fail(f"the table at byte {at:,} says it has {size:,} B")
        self._buffer = buffer
        self._at = at
        self._vtable = vtable
        self._length = length
        self._size = size

    def _field(self, number: int, width: int) -> int:
        """Returns the position of a field; 0 where it is absent."""
        slot = 4 + 2 * number
        if slot + 2 > self._length:
            return 0
        offset = self._buffer.number(self._vtable + slot, "H")
        if offset == 0:
            return 0
        if offset < 4 or offset + width > self._size:
            raise self._buffer.fail(
                f"field {number} of the table at byte {self._at:,} lies outside the table"
            )
        return self._at + offset

    def has(self, number: int) -> bool:
        """Tells whether a field is present."""
        return self._field(number, 1) != 0

    def integer(self, number: int, kind: Scalar, default: int = 0) -> int:
        """Returns a scalar field."""
        at = self._field(number, _WIDTHS[kind])
        return self._buffer.number(at, kind) if at else default

    def _target(self, number: int) -> int:
        at = self._field(number, 4)
        if not at:
            return 0
        offset = self._buffer.number(at, "I")
        if offset == 0:
            raise self._buffer.fail(f"field {number} of the table at byte {self._at:,} is null")
        return at + offset

    def table(self, number: int) -> Table | None:
        """Returns a sub-table; None where it is absent."""
        at = self._target(number)
        return Table(self._buffer, at) if at else None

    def _vector(self, number: int, width: int) -> tuple[int, int]:
        """Returns the start and the number of elements of a vector; (0, 0) where it is absent."""
        at = self._target(number)
        if not at:
            return 0, 0
        count = self._buffer.number(at, "I")
        if at + 4 + count * width > self._buffer.size:
            raise self._buffer.fail(
                f"a vector at byte {at:,} says it has {count:,} elements, the file has "
                f"{self._buffer.size:,} B"
            )
        return at + 4, count

    def raw(self, number: int, width: int) -> memoryview:
        """Returns the bytes of a vector whose elements have `width` bytes, not looking at them."""
        start, count = self._vector(number, width)
        return self._buffer.data[start : start + count * width]

    def tables(self, number: int) -> list[Table]:
        """Returns a vector of tables."""
        start, count = self._vector(number, 4)
        self._buffer.charge(count)
        places = range(start, start + 4 * count, 4)
        return [Table(self._buffer, at + self._buffer.number(at, "I")) for at in places]

    def integers(self, number: int, kind: Scalar) -> tuple[int, ...]:
        """Returns a vector of whole numbers."""
        start, count = self._vector(number, _WIDTHS[kind])
        self._buffer.charge(count)
        return struct.unpack_from(f"<{count}{kind}", self._buffer.data, start)

    def text(self, number: int, most: int = 512) -> str:
        """Returns a string made harmless: printable, at most `most` characters."""
        raw = bytes(self.raw(number, 1)[: 4 * most])
        return one_line(raw.decode("utf-8", "replace")[:most])
