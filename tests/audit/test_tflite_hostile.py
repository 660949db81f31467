"""Broken and hostile TFLite files: one clear line, exit code 3, bounded time and memory."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tflite_helpers import G, O, T, Table, Vector, Writer, baseline, ints, model, raw, save

import compressor
from compressor.errors import ModelFileError

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "tflite"


def refused(path: Path, match: str) -> str:
    start = time.process_time()
    with pytest.raises(ModelFileError, match=match) as caught:
        compressor.audit(path)
    assert time.process_time() - start < 5
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 600
    assert text.startswith(path.name)
    assert caught.value.exit_code == 3
    assert [item.name for item in path.parent.iterdir()] == [path.name]  # nothing was written
    return text


def simple() -> bytes:
    """A fully connected layer 6 -> 4."""
    tensors = [T("x", (1, 6)), T("w", (4, 6), data=[1.0] * 24), T("y", (1, 4))]
    return model(G(tensors, [O("FULLY_CONNECTED", ["x", "w", None], ["y"])], ["x"], ["y"]))


def root(**changes: object) -> bytes:
    """A whole file from one root table; `changes` replace its fields ("f2" is field 2)."""
    tensors = [
        Table({0: ints((1, 6)), 1: ("b", 0), 2: ("I", 0), 3: "x"}),
        Table({0: ints((4, 6)), 1: ("b", 0), 2: ("I", 1), 3: "w"}),
        Table({0: ints((1, 4)), 1: ("b", 0), 2: ("I", 0), 3: "y"}),
    ]
    op = Table({0: ("I", 0), 1: ints((0, 1, -1)), 2: ints((2,))})
    part = Table({0: tensors, 1: ints((0,)), 2: ints((2,)), 3: [op], 4: "main"})
    fields = Table({0: ("I", 3), 1: [Table({0: ("b", 9), 3: ("i", 9)})], 2: [part]})
    fields[4] = [Table(), Table({0: raw(bytes(96))})]
    for key, value in changes.items():
        kind, number = key[0], int(key[1:])
        {"f": fields, "s": part, "o": op, "t": tensors[1]}[kind][number] = value
    return Writer().finish(fields)


def test_the_made_file_is_fine_before_it_is_broken(tmp_path: Path) -> None:
    assert compressor.audit(save(tmp_path / "a.tflite", root())).macs == 24
    assert compressor.audit(save(tmp_path / "b.tflite", simple())).params == 24


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (root(f0=("I", 2)), "schema version 2, expected 3"),
        (root(f2=[]), "no subgraph"),
        (root(f2=[Table()] * 1_001), "1,001 subgraphs"),
        (root(f1=[]), "operator code 0 of 0"),
        (root(f4=[Table()]), "lives in buffer 1 of 1"),
        (root(s1=ints((7,))), "tensor 7 of 3"),
        (root(s2=ints((-1,))), "tensor -1 of 3"),
        (root(o1=ints((0, -2, -1))), "tensor -2 of 3"),
        (root(o2=ints((3,))), "tensor 3 of 3"),
        (root(o2=ints((1,))), "stored and written"),
        (root(o2=ints((0,))), "written twice"),
        (root(o2=ints((2, 2))), "one tensor twice"),
        (root(o1=ints((2, 1, -1))), "reads tensor 'y' before anything writes it"),
        (root(t1=("b", 99)), "unknown number type 99"),
        (root(t1=("b", -3)), "unknown number type -3"),
        (root(t0=ints((4, 7))), r"'w' lies about its size: \[4, 7\] of float32 is 112 B, 96 B"),
        (root(t0=ints((-4, -6))), r"has the shape \[-4, -6\]"),
        (root(t0=ints((2**31 - 1,) * 3)), "has the shape"),
        (root(t0=ints((1,) * 40)), "has the shape"),
        (root(t0=ints((6, 4))), "contradict each other"),
        (root(t10=("I", 1)), "stored in another file"),
        (root(t4=Table({2: raw(b"")})), None),
        (
            root(t4=Table({2: Vector(2, struct.pack("<2f", 1, 1), 4), 3: ints((1, 2, 3), "q")})),
            "3 zero points for 2 scales",
        ),
        (
            root(t4=Table({2: Vector(2, struct.pack("<2f", 1, 1), 4), 3: ints((1, 2), "q")})),
            "2 zero points for the shape",
        ),
        (
            root(f4=[Table(), Table({1: ("Q", 1 << 40), 2: ("Q", 96)})]),
            "a buffer of 96 B at byte 1,099,511,627,776",
        ),
        (
            root(f4=[Table(), Table({1: ("Q", (1 << 64) - 8), 2: ("Q", 96)})]),
            "a buffer of 96 B at byte 18,446,744,073,709,551,608",
        ),
    ],
)
def test_contents_that_cannot_be(data: bytes, match: str | None, tmp_path: Path) -> None:
    path = save(tmp_path / "bad.tflite", data)
    if match is None:
        assert compressor.audit(path).params == 24
    else:
        refused(path, match)


def patched(change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(simple())
    change(data)
    return bytes(data)


def test_offsets_and_vtables_that_lie(tmp_path: Path) -> None:
    good = simple()
    (start,) = struct.unpack_from("<I", good, 0)
    (back,) = struct.unpack_from("<i", good, start)
    vtable = start - back
    (first,) = struct.unpack_from("<H", good, vtable + 4 + 2 * 2)  # field 2: the subgraphs
    cases = {
        "offset points to byte": [
            (0, "<I", 0xFFFF_FFFF),
            (0, "<I", len(good)),
            (start, "<i", -(1 << 31)),
            (start, "<i", (1 << 31) - 1),
            (start + first, "<I", 0xFFFF_FFF0),
        ],
        "the vtable at byte": [
            (vtable, "<H", 0xFFFE),
            (vtable, "<H", 2),
            (vtable, "<H", 7),
        ],
        "the table at byte": [
            (vtable + 2, "<H", 0xFFFF),
            (vtable + 2, "<H", 3),
        ],
        "outside the table": [
            (vtable + 4 + 2 * 2, "<H", 0xFFFF),
            (vtable + 4 + 2 * 2, "<H", 2),
        ],
        "is null": [(start + first, "<I", 0)],
    }
    for match, changes in cases.items():
        for at, code, value in changes:

            def change(data: bytearray, at: int = at, code: str = code, value: int = value) -> None:
                struct.pack_into(code, data, at, value)

            refused(save(tmp_path / "bad.tflite", patched(change)), match)


def test_vectors_longer_than_the_file(tmp_path: Path) -> None:
    good = simple()
    for at in range(8, len(good) - 4, 4):
        data = bytearray(good)
        struct.pack_into("<I", data, at, 0xFFFF_FFFF)
        path = save(tmp_path / "bad.tflite", bytes(data))
        start = time.process_time()
        try:
            compressor.audit(path)
        except ModelFileError as error:
            assert str(error).isprintable()
        assert time.process_time() - start < 2


def test_tables_that_refer_to_themselves(tmp_path: Path) -> None:
    """The list of subgraphs holds the root itself: whatever it reads there, it ends."""
    data = bytearray(simple())
    (start,) = struct.unpack_from("<I", data, 0)
    (back,) = struct.unpack_from("<i", data, start)
    (first,) = struct.unpack_from("<H", data, start - back + 4 + 2 * 2)
    vector = start + first + struct.unpack_from("<I", data, start + first)[0]
    place = vector + 4
    struct.pack_into("<I", data, place, (start - place) & 0xFFFF_FFFF)
    refused(save(tmp_path / "bad.tflite", bytes(data)), "a damaged TFLite file")


def test_one_table_many_thousand_times(tmp_path: Path) -> None:
    """A vector whose entries all point at one table makes much out of little."""
    tensor = Table({0: ints((4, 6)), 1: ("b", 0), 2: ("I", 1), 3: "w" * 500})

    class Shared(list[Table]):
        pass

    class Sharing(Writer):
        def put(self, item: object) -> int:
            if isinstance(item, Shared):
                self.align(4)
                at = len(self.out)
                self.out += struct.pack("<I", len(item)) + bytes(4 * len(item))
                target = self.put(item[0])
                for i in range(len(item)):
                    place = at + 4 + 4 * i
                    struct.pack_into("<I", self.out, place, target - place)
                return at
            return super().put(item)

    for count, match in ((20_000, None), (70_000, "tensors and operators"), (300_000, "records")):
        part = Table({0: Shared([tensor] * count), 1: ints(()), 2: ints(()), 3: [], 4: "main"})
        buffers = [Table(), Table({0: raw(bytes(96))})]
        fields = Table({0: ("I", 3), 1: [], 2: [part], 4: buffers})
        path = save(tmp_path / "many.tflite", Sharing().finish(fields))
        start = time.process_time()
        if match:
            refused(path, match)
        else:
            assert compressor.audit(path).params == 24  # one buffer, whatever it is called
        assert time.process_time() - start < 5


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = (GOLDEN / "small-int8.tflite").read_bytes()
    for size in range(8, len(data) - 16, 61):
        refused(save(tmp_path / "cut.tflite", data[:size]), "cut.tflite: ")
    refused(save(tmp_path / "cut.tflite", data[:8]), "damaged TFLite")


def test_names_come_out_harmless(tmp_path: Path) -> None:
    evil = "a\x1b[31m\n::error::\u202egnp<script>"
    tensors = [T("x", (1, 6)), T("w\x00\r", (4, 6), data=[1.0] * 24), T(evil, (1, 4))]
    op = O("FULLY_CONNECTED", ["x", "w\x00\r", None], [evil])
    path = save(tmp_path / "evil.tflite", model(G(tensors, [op], ["x"], [evil])))
    result = compressor.audit(path)
    assert all(layer.name.isprintable() for layer in result.layers)
    assert all(note.isprintable() for note in result.notes)
    assert result.layers[0].name == "a?[31m?::error::?gnp<script>"


@pytest.mark.parametrize("source", ["small-int8", "small-float16", "lstm-int8", "gru-dynamic"])
def test_random_damage_never_gives_a_traceback(source: str, tmp_path: Path) -> None:
    good = (GOLDEN / f"{source}.tflite").read_bytes()
    chance = random.Random(source)
    path = tmp_path / "flip.tflite"
    for _ in range(250):
        data = bytearray(good)
        for _ in range(chance.choice((1, 1, 3))):
            at = chance.randrange(8, len(data) - 8)
            kind = chance.randrange(4)
            if kind == 0:
                data[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                data[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"))
            elif kind == 2:
                other = chance.randrange(len(data) - 8)
                data[at : at + 8] = data[other : other + 8]
            else:
                data[at : at + 8] = b"\xff" * 8
        path.write_bytes(data)
        try:
            compressor.audit(path)
        except ModelFileError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 600


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Shapes and offsets that ask for everything, under a limit of 1 GiB on the whole process."""
    names = []
    for i, data in enumerate(
        (
            root(t0=ints((2**31 - 1, 64))),
            root(f4=[Table(), Table({1: ("Q", 2), 2: ("Q", 1 << 62)})]),
            root(s1=Vector(0x3FFF_FFFF, b"", 4)),
            baseline(),
        )
    ):
        names.append(str(save(tmp_path / f"{i}.tflite", data)))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from compressor.audit import audit\n"
        "from compressor.errors import ModelFileError\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(audit(name).params)\n"
        "    except ModelFileError as error: print('refused')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["refused", "refused", "refused", "45990"]
