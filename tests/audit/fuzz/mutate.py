"""Breaks files in ways that reach the parsers: bytes, structures, and containers around them.

Only the standard library: it runs in the process whose imports and memory are watched. A mutation
is a pure function of the sound files and of its seed.
"""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

from .fields import mutate_pickle, mutate_protobuf, mutate_words

__all__ = ["mutate"]

EXTREMES = (0, 1, 2, -1, 127, 128, 255, 256, 1 << 15, 0xFFFF, 1 << 16, (1 << 31) - 1, 1 << 31)
EXTREMES += (0xFFFF_FFFF, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
HOSTILE = (
    *("", " ", "\x00", "a\x1b[2Jb", "::error::x", "\u202egpj", "a\nb", "<script>", "../../etc/x"),
    *("/etc/passwd", "C:x", "x" * 2000, "__class__", "0", "-1", "1e999", "\ud800", "é" * 300),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 7, 1 << 31, 1 << 63, 1 << 70, -(1 << 70), 1.5, 1e308, "", "x"),
    *([], {}, [[]], [None], {"a": 1}, [1] * 50, float("nan"), float("inf")),
)


def mutate(kind: str, files: Mapping[str, bytes], seed: int, index: int) -> bytes:
    """Breaks one of the files of a format; the same arguments give the same bytes.

    Args:
        kind: the format, a key of `corpus.FORMATS`.
        files: its files by name, mostly the sound ones are taken; parts of one may end up in
            another.
        seed: of the run.
        index: number of the mutation.
    """
    rng = random.Random(f"{seed} {kind} {index}")
    seeds = list(files.values())
    (data,) = rng.choices(seeds, [1 if name.startswith("bad-") else 8 for name in files])
    if rng.random() < 0.12:
        return _bytes(data, rng, rng.choice(seeds))
    if kind == "safetensors":
        return _safetensors(data, rng)
    if data[:4] == b"PK\x03\x04":
        return _archive(data, rng)
    return _content(kind, data, rng, rng.choice(seeds))


def _content(kind: str, data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Breaks what is no container, by what it is made of."""
    if kind == "onnx":
        return mutate_protobuf(data, rng)
    if kind == "pickle":
        return mutate_pickle(data, rng)
    if kind == "json":
        return _json(data, rng)
    if kind in {"meta", "output"}:
        return _text(data, rng)
    if kind in {"tflite", "h5"} and rng.random() < 0.75:
        return mutate_words(data, rng)
    return _bytes(data, rng, other)


def _bytes(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """One to three changes that know nothing of the format."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        size = len(out)
        if not size:
            break
        at = rng.randrange(size)
        what = rng.randrange(9)
        if what <= 1:
            for _ in range(rng.choice((1, 1, 2, 8))):
                out[rng.randrange(size)] ^= 1 << rng.randrange(8)
        elif what == 2:
            del out[at:]
        elif what == 3:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
        elif what == 4:
            length = rng.choice((1, 2, 4, 8))
            value = rng.choice((*EXTREMES, size, size - 1, size + 1, at))
            order: Any = rng.choice(("little", "little", "big"))
            out[at : at + length] = (value & (1 << 8 * length) - 1).to_bytes(length, order)
        elif what == 5:
            del out[at : at + rng.choice((1, 4, 16, 256))]
        elif what == 6:
            start = rng.randrange(len(other))
            out[at : at + rng.choice((0, 16))] = other[start : start + rng.choice((4, 16, 200))]
        elif what == 7:
            length = rng.choice((4, 32, 256))
            out[at : at + length] = bytes([rng.choice((0, 255))]) * min(length, size - at)
        else:
            out += rng.randbytes(rng.choice((1, 22, 300)))
    return bytes(out)


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    """Another header with a length that fits it, or a length that does not."""
    (length,) = struct.unpack_from("<Q", data)
    header, body = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.8:
        header = _json(header, rng)
        length = len(header)
    else:
        length = rng.choice((*EXTREMES, length - 1, length + 1, len(data)))
    if rng.random() < 0.15:
        body = _bytes(body, rng, data)
    return struct.pack("<Q", length & (1 << 64) - 1) + header + body


def _json(data: bytes, rng: random.Random) -> bytes:
    """A tree with one to three nodes changed; or the text itself."""
    if rng.random() < 0.08:
        return _bytes(data, rng, data)
    if rng.random() < 0.03:
        return rng.choice((b"[" * 9000, b'{"a":' * 3000, b"[" + b"1" * 9000 + b"]", b"NaN", b""))
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, (dict, list)):  # broken before
        return _bytes(data, rng, data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        stack = [tree]
        while stack:
            node = stack.pop()
            pairs = node.items() if isinstance(node, dict) else enumerate(node)
            for key, value in pairs:
                places.append((node, key))
                if isinstance(value, (dict, list)):
                    stack.append(value)
        if not places:
            break
        node, key = rng.choice(places)
        _change(node, key, places, rng)
    return json.dumps(tree).encode("utf-8", "replace")


def _change(node: Any, key: Any, places: list[tuple[Any, Any]], rng: random.Random) -> None:
    """Changes one node of a tree: gone, twice, another's value, an extreme, or a hostile text."""
    what = rng.randrange(7)
    if what == 0:
        del node[key]
    elif what == 1:
        other, place = rng.choice(places)
        node[key] = json.loads(json.dumps(other[place]))
    elif what == 2 and isinstance(node, list):
        node.insert(rng.randrange(len(node) + 1), json.loads(json.dumps(node[key])))
    elif what == 3 and isinstance(node, dict):
        node[rng.choice((*HOSTILE, *node))] = node.pop(key)
    elif what == 4 and type(node[key]) is int:
        node[key] = rng.choice((*EXTREMES, node[key] - 1, node[key] + 1, -node[key], ~node[key]))
    elif what == 5:
        node[key] = rng.choice(HOSTILE)
    else:
        node[key] = copy.deepcopy(rng.choice(VALUES))


def _text(data: bytes, rng: random.Random) -> bytes:
    """Lines gone, doubled, exchanged, indented or with another value."""
    lines = data.decode("utf-8", "replace").split("\n")
    words = (*HOSTILE, "!!python/object:os.system x", "&a [*a]", "*a", "{", "[" * 500, "1e400")
    words += (".nan", "1:30:60", "!!binary x", "|", "? ", "<<: *a", "0x1F", "\t", '"', "9" * 5000)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        what = rng.randrange(6)
        line = lines[at]
        if what == 0 and len(lines) > 1:
            del lines[at]
        elif what == 1:
            lines[at:at] = [line] * rng.choice((1, 1, 400))
        elif what == 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif what == 3:
            lines[at] = line.partition(":")[0] + ": " + rng.choice(words)
        elif what == 4:
            cells = line.split("\t")
            cells[rng.randrange(len(cells))] = rng.choice(words)
            lines[at] = "\t".join(cells)
        else:
            lines[at] = " " * rng.randrange(12) + line.lstrip()
    out = "\n".join(lines).encode("utf-8", "surrogatepass")
    return _bytes(out, rng, out) if rng.random() < 0.1 else out


def _kind_of(name: str, data: bytes) -> str:
    """What a member of an archive is made of."""
    if data[:4] == b"\x89HDF":
        return "h5"
    for ending, kind in (
        *((".json", "json"), (".pkl", "pickle"), (".yaml", "meta"), (".csv", "output")),
        (".pt", "archive"),
    ):
        if name.endswith(ending):
            return kind
    return "bytes"


def _archive(data: bytes, rng: random.Random) -> bytes:
    """A zip with changed members and right checksums, or one whose directory lies."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            members = [(info.filename, archive.read(info), info.compress_type) for info in infos]
    except Exception:  # an archive in an archive, broken before: zipfile raises what it likes
        return _bytes(data, rng, data)
    if rng.random() < 0.08:
        out = bytearray(data)
        for _ in range(rng.choice((1, 2))):  # the directory and its end record stand last
            at = rng.randrange(max(0, len(out) - 22 - 70 * len(members)), len(out) - 4)
            length = rng.choice((2, 4))
            value = rng.choice(EXTREMES) & (1 << 8 * length) - 1
            out[at : at + length] = value.to_bytes(length, "little")
        return bytes(out)
    if rng.random() < 0.25:
        _shuffle(members, rng)
    else:
        # what says what is there is broken more often than the numbers themselves
        weights = [1 if _kind_of(name, data) == "bytes" else 12 for name, data, _ in members]
        for at in rng.choices(range(len(members)), weights, k=rng.choice((1, 1, 2))):
            name, content, way = members[at]
            kind = _kind_of(name, content)
            if kind == "archive" and content[:4] == b"PK\x03\x04":
                content = _archive(content, rng)
            elif content:
                content = _content(kind, content, rng, content)
            members[at] = name, content, way
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of members that stand twice
        for name, content, way in members:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode() or "x")
            info.compress_type = way
            archive.writestr(info, content)
    return made.getvalue()


def _shuffle(members: list[tuple[str, bytes, int]], rng: random.Random) -> None:
    """Members gone, twice, in another order, with each other's content, or under other names."""
    at = rng.randrange(len(members))
    name, content, way = members[at]
    what = rng.randrange(7)
    if what == 0:
        del members[at]
    elif what == 1:
        members.append((name, rng.choice(members)[1], way))
    elif what == 2:
        rng.shuffle(members)
    elif what == 3:
        other = rng.randrange(len(members))
        members[at] = name, members[other][1], way
        members[other] = members[other][0], content, members[other][2]
    elif what == 4:
        members[at] = rng.choice((*HOSTILE, name.upper(), name + "/", "x/" + name)), content, way
    elif what == 5:
        extra = ("a/code/x.py", "config.json", "archive_format", "a/constants.pkl", "data.pkl")
        members.append((rng.choice((*extra, "m/models/x.json", "x.pt")), content, way))
    else:
        members[at] = name, content, zipfile.ZIP_DEFLATED
        if rng.random() < 0.3:
            members[at] = name, bytes(1 << 20), zipfile.ZIP_DEFLATED  # a small bomb
