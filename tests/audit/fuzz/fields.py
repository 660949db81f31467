"""Changes that keep the frame of a binary format whole: protobuf, pickle, and files of words."""

from __future__ import annotations

import pickletools
import random
import struct
from typing import Any

__all__ = ["mutate_pickle", "mutate_protobuf", "mutate_words"]

NUMBERS = (0, 1, 2, 3, 7, 127, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 40)
NUMBERS += ((1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 7)
NAMES = (b"", b"x", b"y", b"a\nb", b"a\x1b[2J", b"<script>", b"::error::", b"\xe2\x80\xae", b"\xff")
NAMES += (b"../x", b"/etc/passwd", b"w" * 3000, b"Conv", b"Loop", b"If", b"Einsum", b"Constant")
NAMES += (b"GRU", b"Scan", b"ConstantOfShape", b"Tile", b"Range", b"Expand", b"Resize", b"Gather")
NAMES += (b"SequenceInsert", b"TopK", b"NonZero", b"QLinearConv", b"MatMulNBits", b"Reshape")

Field = tuple[int, int, Any]  # number, wire type, value (int, bytes, or a list of fields)


# -- protobuf, without its schema --


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]  # IndexError: cut off
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise IndexError


def parse(data: bytes, depth: int = 0) -> list[Field] | None:
    """Fields of a message, messages in them read likewise; None for what is no message."""
    fields: list[Field] = []
    at = 0
    try:
        while at < len(data):
            tag, at = _read_varint(data, at)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 100 or wire not in {0, 1, 2, 5}:
                return None
            if wire == 0:
                value, at = _read_varint(data, at)
                fields.append((number, 0, value))
                continue
            length = 8 if wire == 1 else 4
            if wire == 2:
                length, at = _read_varint(data, at)
            if at + length > len(data):
                return None
            part = data[at : at + length]
            at += length
            inner = parse(part, depth + 1) if wire == 2 and length > 1 and depth < 12 else None
            fields.append((number, wire, part if inner is None else inner))
    except IndexError:
        return None
    return fields


def encode(fields: list[Field]) -> bytes:
    out = bytearray()
    for number, wire, value in fields:
        out += _varint(number << 3 | wire)
        if wire == 0:
            out += _varint(value)
        else:
            data = encode(value) if isinstance(value, list) else value
            out += _varint(len(data)) + data if wire == 2 else data
    return bytes(out)


def mutate_protobuf(data: bytes, rng: random.Random) -> bytes:
    """Changes fields and writes every length anew, so that the change reaches the meaning."""
    tree = parse(data) or []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        lists = [tree]
        for group in lists:
            lists += [value for _, _, value in group if isinstance(value, list)]
        lists = [group for group in lists if group]
        if not lists:
            break
        group = rng.choice(lists)
        at = rng.randrange(len(group))
        number, wire, value = group[at]
        other = rng.choice(rng.choice(lists))
        if isinstance(other[2], list):  # a copy, so that no tree ends up within itself
            other = (other[0], 2, encode(other[2]))
        what = rng.randrange(8)
        if what == 0:
            del group[at]
        elif what == 1:
            group[at:at] = [group[at]] * rng.choice((1, 1, 2, 300))
        elif what == 2:
            group[at] = (number, *other[1:])
        elif what == 3:
            group.insert(at, other)
        elif what == 4:
            group[at] = (rng.randrange(1, 24), wire, value)
        elif what == 5:
            rng.shuffle(group)
        elif wire == 0:
            group[at] = (number, 0, rng.choice((*NUMBERS, value + 1, value - 1, -value)))
        elif wire == 2:
            group[at] = (number, 2, _payload(value, rng))
        tree = parse(encode(tree)) or tree
    return encode(tree)


def _payload(value: Any, rng: random.Random) -> bytes:
    """Another content of a text, a message or packed numbers."""
    data = encode(value) if isinstance(value, list) else value
    what = rng.randrange(4)
    if what == 0:
        return rng.choice(NAMES)
    if what == 1:
        return data[: rng.randrange(len(data) + 1)]
    if what == 2:
        return b"".join(_varint(rng.choice(NUMBERS)) for _ in range(rng.choice((1, 2, 40))))
    out = bytearray(data)
    if out:
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


# -- pickle, by its opcodes --

OPCODES = (
    *(b"(", b"t", b"R", b"b", b"s", b"u", b"e", b"a", b"0", b"1", b"2", b"N", b"}", b"]", b")"),
    *(b"\x85", b"\x86", b"\x87", b"\x93", b"\x81", b"\x92", b"Q", b"o", b"\x88", b"\x8f", b"\x94"),
    *(b"cos\nmkdir\n", b"cbuiltins\neval\n", b"ccollections\nOrderedDict\n", b"X\x01\0\0\0a"),
    *(
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"K\x00",
        b"J\xff\xff\xff",
    ),
    *(b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"h\x00", b"q\x00", b"G\x7f\xf8" + bytes(6), b"S'a'\n"),
    *(b"\x8c\x06CANARY", b"\x8c\x02os\x8c\x05mkdir\x93\x8c\x06CANARY\x85R", b"P1\n", b"\x82\x01"),
)


def _opcodes(data: bytes) -> list[bytes]:
    """The opcodes of a pickle with their arguments; one piece where it is damaged."""
    try:
        places = [place for _, _, place in pickletools.genops(data) if place is not None]
    except ValueError:
        return [data]
    return [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]


def mutate_pickle(data: bytes, rng: random.Random) -> bytes:
    """Opcodes gone, doubled, exchanged, inserted, or with another number in them."""
    parts = _opcodes(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(parts))
        what = rng.randrange(7)
        if what == 0 and len(parts) > 1:
            del parts[at]
        elif what == 1:
            parts[at:at] = [parts[at]] * rng.choice((1, 1, 3, 200))
        elif what == 2:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif what == 3:
            parts[at:at] = [rng.choice(OPCODES)]
        elif what == 4:
            parts[at] = rng.choice((rng.choice(OPCODES), rng.choice(parts)))
        else:  # a number: sizes, strides, offsets, names of records
            ints = [i for i, part in enumerate(parts) if part[:1] in b"KMJ" and len(part) > 1]
            if ints:
                value = rng.choice((0, 1, 3, 5, 255, 65535, (1 << 31) - 1, -1, -2))
                parts[rng.choice(ints)] = b"J" + struct.pack("<i", value)
    return b"".join(parts)


# -- words: flatbuffers and HDF5 are offsets, lengths and numbers at even places --


def mutate_words(data: bytes, rng: random.Random) -> bytes:
    """Numbers at aligned places: extremes, neighbours, and each other's values."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        width = rng.choice((1, 2, 4, 4, 8))
        at = rng.randrange((len(out) - width) // width) * width
        here = int.from_bytes(out[at : at + width], "little")
        there = rng.randrange((len(out) - width) // width) * width
        value = rng.choice(
            (
                *(here + 1, here - 1, here + width, here - width, here ^ 1 << rng.randrange(8)),
                *(int.from_bytes(out[there : there + width], "little"), there, there - at),
                *(rng.choice(NUMBERS), len(out), len(out) - at, rng.randrange(256)),
            )
        )
        if rng.random() < 0.1:  # a texts's bytes become a hostile name
            name = rng.choice(NAMES)[:64]
            out[at : at + len(name)] = name[: len(out) - at]
        else:
            out[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    return bytes(out)
