"""The part of HDF5 that Keras writes, read in pure Python with every address checked.

Why not h5py: the HDF5 library is C, and a file made for it can crash it, hang it or worse; here a
file can only be refused. Importing h5py alone would also take as long as a whole audit takes now.
What Keras writes through h5py is a small, old part of the format ("HDF5 File Format
Specification", version 3): groups as symbol tables or compact links, contiguous or compact
datasets, plain attributes. Everything else is refused by name: links to elsewhere (soft, external),
virtual and external datasets, filters and chunks (what could blow up), shared messages, dense
groups.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from compressor.errors import ModelFileError

__all__ = ["Dataset", "Hdf5", "Node"]

_UNDEFINED = 0xFFFF_FFFF_FFFF_FFFF
_BUDGET = 200_000  # messages, links and tree entries; a network has some thousands
_MAX_DEPTH = 24
_MAX_TEXT = 8 << 20  # bytes of all attributes together
_MAX_ELEMENTS = 1 << 44
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_REFUSED = {
    0x0002: "a group in the newer, dense layout",
    0x0007: "a dataset that lies in another file",
    0x000B: "a compressed or filtered dataset",
    0x0015: "attributes in the newer, dense layout",
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """Stored numbers: shape, number type as torch names it ("" where it has none), their bytes."""

    shape: tuple[int, ...]
    dtype: str
    data: memoryview
    big: bool


@dataclass(slots=True)
class Node:
    """A group or a dataset. `address` is its identity: two links to one object share it."""

    address: int
    attributes: dict[str, str | list[str]] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)
    dataset: Dataset | None = None


@dataclass(frozen=True, slots=True)
class _Type:
    """A datatype: class of the specification, bytes of one element, name as torch has it."""

    kind: int
    size: int
    dtype: str
    big: bool
    text: bool  # a string of variable length


class Hdf5:
    """One HDF5 file.

    Args:
        data: the whole file.
        name: what messages call it.
    """

    def __init__(self, data: memoryview, name: str) -> None:
        """Checks the superblock.

        Raises:
            ModelFileError: truncated, or a layout that is not read.
        """
        self._data = data
        self._name = name
        self._budget = _BUDGET
        self._text = _MAX_TEXT
        self._room = len(data)  # datasets cannot lie in the same bytes
        self._nodes: dict[int, Node] = {}
        if bytes(data[:8]) != _SIGNATURE:
            raise self._fail("no HDF5 signature")
        version = self._int(8, 1)
        if version in {0, 1}:
            sizes, base, root = 13, 24 if version == 0 else 28, 56 if version == 0 else 60
            end, root = self._int(base + 16, 8), self._int(root + 8, 8)
        elif version in {2, 3}:
            sizes, base = 9, 12
            end, root = self._int(base + 16, 8), self._int(base + 24, 8)
        else:
            raise self._fail(f"superblock version {version}, 0 to 3 are read")
        if (self._int(sizes, 1), self._int(sizes + 1, 1)) != (8, 8):
            raise self._fail("addresses that are not 8 bytes wide")
        if self._int(base, 8) != 0:
            raise self._fail("a base address other than 0")
        if end > len(data):
            raise self._fail(f"truncated: it should have {end:,} B, it has {len(data):,} B")
        self.root = self.node(root)

    def _fail(self, reason: str) -> ModelFileError:
        return ModelFileError(f"{self._name}: not an HDF5 file as Keras writes it: {reason}")

    def _charge(self, steps: int = 1) -> None:
        self._budget -= steps
        if self._budget < 0:
            raise self._fail("more records than any network has, or records that repeat each other")

    def _bytes(self, at: int, size: int) -> memoryview:
        if at < 0 or size < 0 or at + size > len(self._data):
            raise self._fail(f"{size:,} B at byte {at:,} of {len(self._data):,}")
        return self._data[at : at + size]

    def _int(self, at: int, width: int) -> int:
        return int.from_bytes(self._bytes(at, width), "little")

    def _magic(self, at: int, expected: bytes) -> None:
        if bytes(self._bytes(at, 4)) != expected:
            raise self._fail(f"no {expected.decode()} block at byte {at:,}")

    # --- objects ---

    def node(self, address: int) -> Node:
        """Reads the object at an address, once."""
        if address not in self._nodes:
            self._nodes[address] = self._read(address)
        return self._nodes[address]

    def walk(
        self, node: Node, path: tuple[str, ...] = ()
    ) -> Iterator[tuple[tuple[str, ...], Node]]:
        """Yields every object below a group with its path, depth first, groups before members.

        Raises:
            ModelFileError: nested too deeply, or in a circle.
        """
        if len(path) > _MAX_DEPTH:
            raise self._fail("groups nested too deeply, or in a circle")
        for name, address in node.links.items():
            self._charge()
            child = self.node(address)
            yield (*path, name), child
            yield from self.walk(child, (*path, name))

    def child(self, node: Node, *path: str) -> Node | None:
        """Follows names down from a group; None where one is missing."""
        for name in path:
            if name not in node.links:
                return None
            node = self.node(node.links[name])
        return node

    def _read(self, address: int) -> Node:
        node = Node(address)
        shape: tuple[int, ...] | None = None
        kind: _Type | None = None
        layout: memoryview | None = None
        for code, body in self._messages(address):
            if code == 0x01:
                shape = self._shape(body)
            elif code == 0x03:
                kind = self._type(body)
            elif code == 0x08:
                layout = body
            elif code == 0x0C:
                self._attribute(body, node)
            elif code == 0x11:
                self._symbols(node, self._of(body, 0, 8), self._of(body, 8, 8))
            elif code == 0x06:
                self._link(node, body)
            elif code in _REFUSED and self._really(code, body):
                raise self._fail(_REFUSED[code])
        if layout is not None:
            if shape is None or kind is None:
                raise self._fail(f"a dataset at byte {address:,} without a shape or number type")
            stored = self._stored(layout, prod(shape) * kind.size)
            node.dataset = Dataset(shape, kind.dtype, stored, kind.big)
        return node

    def _really(self, code: int, body: memoryview) -> bool:
        """An info message of an empty or compact group refers to no heap: nothing to refuse."""
        if code not in {0x02, 0x15}:
            return True
        at = 2 + (8 if code == 0x02 else 2) * (self._of(body, 1, 1) & 1)
        return self._of(body, at, 8) != _UNDEFINED

    def _of(self, body: memoryview, at: int, width: int) -> int:
        if at + width > len(body):
            raise self._fail("a message that is shorter than its contents")
        return int.from_bytes(body[at : at + width], "little")

    # --- object headers ---

    def _messages(self, address: int) -> Iterator[tuple[int, memoryview]]:
        newer = bytes(self._bytes(address, 4)) == b"OHDR"
        if newer:
            flags = self._int(address + 5, 1)
            at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            blocks = [(at + width, self._int(at, width))]
            head = 6 if flags & 0x04 else 4
        else:
            if self._int(address, 1) != 1:
                raise self._fail(f"no object at byte {address:,}")
            blocks, head = [(address + 16, self._int(address + 8, 4))], 8
        while blocks:
            start, size = blocks.pop(0)
            block = self._bytes(start, size)
            at = 0
            while at + head <= size:
                self._charge()
                code = self._of(block, at, 1 if newer else 2)
                length = self._of(block, at + (1 if newer else 2), 2)
                shared = self._of(block, at + (3 if newer else 4), 1) & 0x02
                at += head
                if at + length > size:
                    raise self._fail(f"a message of {length:,} B that leaves its block")
                body = block[at : at + length]
                at += length
                if shared and code in {0x01, 0x03, 0x08, 0x0C}:
                    raise self._fail("a message that is stored elsewhere (shared)")
                if code == 0x10:
                    blocks.append(self._continuation(body, newer))
                elif code:
                    yield code, body

    def _continuation(self, body: memoryview, newer: bool) -> tuple[int, int]:
        at, size = self._of(body, 0, 8), self._of(body, 8, 8)
        if not newer:
            return at, size
        self._magic(at, b"OCHK")
        return at + 4, max(0, size - 8)  # signature in front, checksum behind

    # --- groups ---

    def _symbols(self, node: Node, tree: int, heap: int) -> None:
        self._magic(heap, b"HEAP")
        names = self._bytes(self._int(heap + 24, 8), self._int(heap + 8, 8))
        self._tree(node, tree, names, 0)

    def _tree(self, node: Node, at: int, names: memoryview, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise self._fail("a group's tree is too deep, or a circle")
        self._magic(at, b"TREE")
        if self._int(at + 4, 1) != 0:
            raise self._fail("a group whose tree is not one of a group")
        level, used = self._int(at + 5, 1), self._int(at + 6, 2)
        for entry in range(used):
            self._charge()
            child = self._int(at + 24 + 16 * entry + 8, 8)
            if level:
                self._tree(node, child, names, depth + 1)
                continue
            self._magic(child, b"SNOD")
            for i in range(self._int(child + 6, 2)):
                place = child + 8 + 40 * i
                if self._int(place + 16, 4) == 2:
                    raise self._fail("a soft link")
                self._add(
                    node, self._link_name(names, self._int(place, 8)), self._int(place + 8, 8)
                )

    def _link_name(self, names: memoryview, at: int) -> bytes:
        raw = bytes(names[at : at + 1024])
        if b"\0" not in raw:
            raise self._fail("a name without an end")
        return raw[: raw.index(b"\0")]

    def _link(self, node: Node, body: memoryview) -> None:
        flags = self._of(body, 1, 1)
        at = 2
        if flags & 0x08:
            if self._of(body, at, 1) != 0:
                raise self._fail("a soft or external link")
            at += 1
        at += (8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = self._of(body, at, width)
        at += width
        if size > 1024 or at + size + 8 > len(body):
            raise self._fail("a link whose name leaves its message")
        self._add(node, bytes(body[at : at + size]), self._of(body, at + size, 8))

    def _add(self, node: Node, raw: bytes, address: int) -> None:
        self._charge()
        name = raw.decode("utf-8", "replace")
        if not name or len(name) > 512 or not name.isprintable():
            raise self._fail(f"{name[:80]!r} is not a plain name")
        if name in node.links:
            raise self._fail(f"the name {name[:80]!r} appears twice in a group")
        node.links[name] = address

    # --- shapes, types, data ---

    def _shape(self, body: memoryview) -> tuple[int, ...]:
        version, rank = self._of(body, 0, 1), self._of(body, 1, 1)
        if version not in {1, 2} or rank > 32:
            raise self._fail(f"a shape of version {version} with {rank} axes")
        if version == 2 and self._of(body, 3, 1) == 2:
            return (0,)  # a null dataspace: nothing is stored
        start = 8 if version == 1 else 4
        shape = tuple(self._of(body, start + 8 * i, 8) for i in range(rank))
        if prod(shape) > _MAX_ELEMENTS:
            raise self._fail(f"a shape with {prod(shape):,} elements")
        return shape

    def _type(self, body: memoryview) -> _Type:
        kind, flags, size = self._of(body, 0, 1) & 15, self._of(body, 1, 1), self._of(body, 4, 4)
        big = bool(flags & 1)
        dtype = ""
        if kind == 0 and size in {1, 2, 4, 8}:
            dtype = f"{'' if flags & 8 else 'u'}int{8 * size}"
        elif kind == 1:
            exponent = self._of(body, 13, 1)
            dtype = {(2, 5): "float16", (2, 8): "bfloat16", (4, 8): "float32"}.get(
                (size, exponent), "float64" if size == 8 else ""
            )
        elif kind == 8 and size == 1:  # h5py stores truth values as an enumeration
            dtype = "bool"
        return _Type(kind, size, dtype, big, kind == 9 and flags & 15 == 1)

    def _stored(self, body: memoryview, size: int) -> memoryview:
        version, kind = self._of(body, 0, 1), self._of(body, 1, 1)
        if version not in {3, 4}:
            raise self._fail(f"a dataset layout of version {version}, 3 and 4 are read")
        if kind == 0:
            held = self._of(body, 2, 2)
            data = body[4 : 4 + held]
        elif kind == 1:
            address, held = self._of(body, 2, 8), self._of(body, 10, 8)
            if size == 0:
                return memoryview(b"")
            if address == _UNDEFINED:
                raise self._fail(f"a dataset of {size:,} B that was never written")
            data = self._bytes(address, held)
        else:
            what = {2: "chunked", 3: "virtual"}.get(kind, "unknown")
            raise self._fail(f"a {what} dataset; Keras itself writes contiguous ones")
        if len(data) != size:
            raise self._fail(f"a dataset of {size:,} B has {len(data):,} B stored")
        self._room -= size
        if self._room < 0:
            raise self._fail("datasets that overlap each other")
        return data

    # --- attributes: texts and lists of texts; others are not needed ---

    def _attribute(self, body: memoryview, node: Node) -> None:
        version = self._of(body, 0, 1)
        if version not in {1, 2, 3}:
            raise self._fail(f"an attribute of version {version}")
        if version > 1 and self._of(body, 1, 1) & 3:
            raise self._fail("an attribute whose type is stored elsewhere (shared)")
        sizes = [self._of(body, at, 2) for at in (2, 4, 6)]
        at = 8 + (version == 3)
        parts = []
        for size in sizes:
            if at + size > len(body):
                raise self._fail("an attribute that leaves its message")
            parts.append(body[at : at + size])
            at += -(-size // 8) * 8 if version == 1 else size
        name = bytes(parts[0]).split(b"\0")[0].decode("utf-8", "replace")
        kind, shape = self._type(parts[1]), self._shape(parts[2])
        if kind.kind != 3 and not kind.text:
            if kind.dtype == "float64" and shape == (0,):  # how numpy writes an empty list
                node.attributes[name] = []
            return
        count = prod(shape)
        if at + count * kind.size > len(body):
            raise self._fail("an attribute that is shorter than its shape says")
        self._charge(count)
        items = [body[at + i * kind.size :][: kind.size] for i in range(count)]
        texts = [self._heap_text(item) if kind.text else self._plain(item) for item in items]
        node.attributes[name] = texts if shape else texts[0]

    def _plain(self, raw: memoryview) -> str:
        self._text -= len(raw)
        if self._text < 0:
            raise self._fail(f"attributes of more than {_MAX_TEXT:,} B")
        return bytes(raw).rstrip(b"\0").decode("utf-8", "replace")

    def _heap_text(self, item: memoryview) -> str:
        """A text of variable length: its bytes lie in a global heap."""
        size, heap, wanted = struct.unpack("<IQI", item) if len(item) == 16 else (0, 0, 0)
        if not size:
            return ""
        self._magic(heap, b"GCOL")
        end = heap + self._int(heap + 8, 8)
        at = heap + 16
        while at + 16 <= end:
            self._charge()
            index, held = self._int(at, 2), self._int(at + 8, 8)
            if index == wanted:
                return self._plain(self._bytes(at + 16, min(size, held)))
            if index == 0:
                break
            at += 16 + -(-held // 8) * 8
        raise self._fail("a text that its heap does not hold")
