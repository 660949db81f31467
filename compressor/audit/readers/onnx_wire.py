"""Protobuf wire format, read with suspicion: the fields of nested messages, one after the other.

An ONNX file is one protobuf message. It is decoded here and not by the protobuf library for three
reasons. A field of two bytes becomes an object of some hundred there, so that a file of 100 MB can
take many gigabytes; here one budget of fields bounds time and memory before anything is built. The
weights stay where they are in the file's bytes instead of being copied. And `import onnx` alone
takes more CPU time than the whole audit of a small network may.

Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator

from compressor.errors import ModelFileError

__all__ = ["FIXED32", "FIXED64", "LENGTH", "VARINT", "Field", "Wire", "signed"]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
MAX_FIELDS = 2_500_000  # of all messages together; a ResNet-50 has some 8,000

# Number, wire type, and for a varint (value, 0), otherwise (start, end) of the bytes.
Field = tuple[int, int, int, int]


def signed(value: int) -> int:
    """Returns an int64 or int32 from the 64 bits of its varint."""
    return value - (1 << 64) if value >> 63 else value


class Wire:
    """The bytes of one file and what may still be decoded of them."""

    def __init__(self, data: bytes, name: str) -> None:
        """Takes the file's bytes and what messages call the file."""
        self.data = data
        self.name = name
        self._left = MAX_FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yields the fields of the message in data[start:end], those nobody knows included.

        Raises:
            ModelFileError: not a message, or more fields than are read.
        """
        data, at = self.data, start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ModelFileError(
                    f"{self.name}: more than {MAX_FIELDS:,} fields, far above any network: refused"
                )
            tag = data[at]
            at += 1
            if tag >= 0x80:
                tag, at = self._varint(at - 1, end)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                raise self.damaged(at - 1, "a field without a number")
            if wire == LENGTH:
                if at >= end:
                    raise self.damaged(at, "a field is cut off")
                size = data[at]
                at += 1
                if size >= 0x80:
                    size, at = self._varint(at - 1, end)
                stop = at + size
            elif wire == VARINT:
                if at >= end:
                    raise self.damaged(at, "a field is cut off")
                value = data[at]
                at += 1
                if value >= 0x80:
                    value, at = self._varint(at - 1, end)
                yield number, wire, value, 0
                continue
            elif wire == FIXED32:
                stop = at + 4
            elif wire == FIXED64:
                stop = at + 8
            else:
                raise self.damaged(at - 1, f"wire type {wire}")
            if stop > end:
                raise self.damaged(at, f"a field of {stop - at:,} B where {end - at:,} are left")
            yield number, wire, at, stop
            at = stop

    def text(self, start: int, end: int, most: int) -> str:
        """Returns a name.

        Raises:
            ModelFileError: too long, not UTF-8, or with characters that steer a terminal.
        """
        if end - start > most:
            raise ModelFileError(
                f"{self.name}: a name of {end - start:,} B, at most {most} allowed"
            )
        try:
            text = self.data[start:end].decode()
        except UnicodeDecodeError as error:
            raise self.damaged(start, "a name that is not UTF-8") from error
        if not text.isprintable():
            raise ModelFileError(
                f"{self.name}: the name {text[:60]!a} holds control characters: refused"
            )
        return text

    def varints(self, field: Field, most: int) -> list[int]:
        """Returns the integers of one field of a repeated integer, packed or not, as 64 bits each.

        Raises:
            ModelFileError: more than `most`, or damaged.
        """
        _, wire, start, end = field
        if wire == VARINT:
            return [start]
        if wire != LENGTH:
            raise self.damaged(start, "a list of integers of another type")
        if end - start > 10 * most or self._left < 0:
            raise ModelFileError(f"{self.name}: a list of more than {most:,} integers: refused")
        values = []
        at = start
        while at < end:
            value, at = self._varint(at, end)
            values.append(value)
        self._left -= len(values)
        return values

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        for here in range(at, min(at + 10, end)):
            byte = self.data[here]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, here + 1
            shift += 7
        raise self.damaged(at, "an integer is cut off")

    def damaged(self, at: int, what: str) -> ModelFileError:
        """Returns the error for bytes that are no message."""
        return ModelFileError(
            f"{self.name}: not an ONNX model, or damaged or truncated: {what} at byte {at:,} of "
            f"{len(self.data):,}; export the model again"
        )
