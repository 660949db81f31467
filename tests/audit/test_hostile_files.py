"""Broken, foreign and hostile files: one clear line, nothing executed, bounded time and memory."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import compressor
from compressor.audit.readers.pickles import load_plain
from compressor.audit.trace import graph_of
from compressor.errors import ModelFileError


def refused(path: Path, match: str) -> str:
    start = time.process_time()
    with pytest.raises(ModelFileError, match=match) as caught:
        compressor.audit(path)
    assert time.process_time() - start < 5
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    assert caught.value.exit_code == 3
    return text


def rebuild(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Copies a torch archive, changing members on the way."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = change(info.filename, old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
    return target


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.pt"
    torch.save({"weight": torch.ones(4, 4), "bias": torch.ones(4)}, path)
    return path


class Canary:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_poisoned_pickle_is_not_executed(protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "evil.pt"
    torch.save({"w": torch.ones(2), "x": Canary(canary)}, path, pickle_protocol=protocol)
    text = refused(path, "not on the list of safe names")
    assert "mkdir" in text
    assert not canary.exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"cos\nsystem\n(S'touch CANARY'\ntR.",
        b"(S'touch CANARY'\nios\nsystem\n.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02c__builtin__\nexec\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch CANARY\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02ctorch\nload\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        b"\x80\x02\x82\x01.",  # extension registry
        b"\x80\x05\x97.",  # out-of-band buffer
        b"\x80\x02P1\n.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
    ],
)
def test_dangerous_pickles(payload: bytes, good: Path, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    path = rebuild(good, tmp_path / "p.pt", lambda n, d: payload if n.endswith("data.pkl") else d)
    refused(path, "refused|damaged")
    assert not (tmp_path / "CANARY").exists()


def test_a_pickled_module_gets_the_hint(tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    torch.save(nn.Sequential(nn.Linear(2, 2)), path)
    refused(path, r"pickled module.*state_dict")


def test_legacy_bare_script_and_other_formats(tmp_path: Path) -> None:
    legacy = tmp_path / "legacy.pt"
    torch.save({"w": torch.ones(2)}, legacy, _use_new_zipfile_serialization=False)
    refused(legacy, "bare or legacy pickle")
    bare = tmp_path / "bare.pt"
    bare.write_bytes(pickle.dumps({"w": 1}))
    refused(bare, "bare or legacy pickle")
    script = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), script)  # type: ignore[no-untyped-call]
    refused(script, "TorchScript")
    for name, head, match in (
        # told by their first bytes, refused by their own readers
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(50), r"a\.h5: "),
        ("a.tflite", b"\x1c\0\0\0TFL3" + bytes(50), r"a\.tflite: "),
        ("a.onnx", b"\x08\x08" + bytes(50), r"a\.onnx: "),
        ("a.safetensors", struct.pack("<Q", 20) + b'{"__metadata__":{}} ', "holds no tensors"),
        ("a.bin", b"\xff\xfe\xfd" * 30, "unknown kind"),
        ("a.pt", b"hello, this is text\n", "text file"),
        ("b.pt", b"", "empty"),
    ):
        path = tmp_path / name
        path.write_bytes(head)
        refused(path, match)


def test_missing_directory_and_foreign_zip(tmp_path: Path) -> None:
    refused(tmp_path / "no.pt", "no.pt: cannot be read: No such file")
    refused(tmp_path, "is a directory")
    other = tmp_path / "other.pt"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hi")
    refused(other, "no data.pkl")
    empty = tmp_path / "empty_dict.pt"
    torch.save({}, empty)
    refused(empty, "no state dict")
    numbers = tmp_path / "list.pt"
    torch.save([1, 2], numbers)
    refused(numbers, "no state dict")


def test_every_truncation_is_refused(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    path = tmp_path / "cut.pt"
    for size in range(1, len(data) - 1, 37):
        path.write_bytes(data[:size])
        refused(path, "cut.pt: ")


def test_flipped_bytes_never_give_a_traceback(good: Path, tmp_path: Path) -> None:
    data = bytearray(good.read_bytes())
    path = tmp_path / "flip.pt"
    for index in range(0, len(data), 3):
        changed = bytearray(data)
        changed[index] ^= 0x5A
        path.write_bytes(changed)
        try:
            compressor.audit(path)
        except ModelFileError as error:
            assert "\n" not in str(error)


def mutated_pickle(good: Path) -> bytes:
    with zipfile.ZipFile(good) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))


def test_mutated_pickles_never_give_a_traceback(good: Path) -> None:
    data = mutated_pickle(good)
    for index in range(len(data)):
        for value in (0, 0x28, 0x65, 0x71, 0x74, 0x75, 0xFF):
            changed = bytearray(data)
            changed[index] = value
            try:
                load_plain(bytes(changed), "x")
            except ModelFileError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("member", ["../evil", "/etc/x", "archive/../../x", "C:/x", "a\\..\\b"])
def test_members_outside_the_archive(member: str, good: Path, tmp_path: Path) -> None:
    path = rebuild(good, tmp_path / "m.pt", lambda _, data: data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "x")
    refused(path, "points outside")


def test_duplicate_and_encrypted_members(good: Path, tmp_path: Path) -> None:
    path = rebuild(good, tmp_path / "d.pt", lambda _, data: data)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of what is wanted here
        archive.writestr(archive.namelist()[0], "x")
    refused(path, "appears twice")
    locked = tmp_path / "locked.pt"
    data = bytearray(good.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    data[at + 8] |= 1
    locked.write_bytes(data)
    refused(locked, "encrypted")


def test_zip_bombs(good: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(30_000_000))
    refused(bomb, "suspicious size")
    many = tmp_path / "many.pt"
    with zipfile.ZipFile(many, "w") as archive:
        for index in range(51_000):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{index}"), b"")
    refused(many, "members, at most")
    directory = tmp_path / "directory.pt"
    data = bytearray(good.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    struct.pack_into("<I", data, end + 12, 100 << 20)
    directory.write_bytes(data)
    refused(directory, "zip directory of")


def test_lies_about_storage(good: Path, tmp_path: Path) -> None:
    def short(name: str, data: bytes) -> bytes:
        return data[:-4] if name.endswith("/data/0") else data

    refused(rebuild(good, tmp_path / "s.pt", short), "lies about its storage")

    def lost(name: str, data: bytes) -> bytes | None:
        return None if name.endswith("/data/0") else data

    refused(rebuild(good, tmp_path / "l.pt", lost), "has no 'good/data/0'")

    def beyond(name: str, data: bytes) -> bytes:
        # shape (4, 4) -> (4, 5): one element past the end of the storage
        return data.replace(b"K\x04K\x04\x86", b"K\x04K\x05\x86") if name.endswith("pkl") else data

    refused(rebuild(good, tmp_path / "b.pt", beyond), "reaches beyond its storage")


class Writer:
    """Writes pickles opcode by opcode."""

    def __init__(self) -> None:
        self.out = io.BytesIO(b"\x80\x02")
        self.out.seek(2)

    def __call__(self, *parts: bytes) -> Writer:
        self.out.write(b"".join(parts))
        return self


def in_archive(tmp_path: Path, payload: bytes) -> Path:
    path = tmp_path / "made.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
    return path


def test_pickle_bombs_end_in_time(tmp_path: Path) -> None:
    hash_bomb = b"\x80\x02}" + b")" + b"q\x00h\x00\x86" * 200 + b"Ns."
    refused(in_archive(tmp_path, hash_bomb), "damaged|refused")
    endless = b"\x80\x02" + b"N0" * 1_000_000 + b"N."
    refused(in_archive(tmp_path, endless), "opcodes")
    pair = b"X\x01\x00\x00\x00aN\x86"
    copies = (
        b"\x80\x02](" + pair * 50_000 + b"eq\x00"
        b"ccollections\nOrderedDict\nq\x01" + b"h\x01h\x00\x85R0" * 1_000 + b"."
    )
    refused(in_archive(tmp_path, copies), "copies without end")
    nested = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    refused(in_archive(tmp_path, nested), "no state dict")
    long_number = b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"\x01."
    refused(in_archive(tmp_path, long_number), "refused|damaged")


def test_a_cyclic_and_shared_structure_in_a_model_file(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    tree: dict[str, Any] = {
        "format": "compressor-model",
        "format_version": 1,
        "input_shape": (2,),
        "state_dict": dict(model.state_dict()),
        "graph": graph_of(model, torch.zeros(1, 2)),
    }
    cycle: list[Any] = []
    cycle.append(cycle)
    wide: list[Any] = [1]
    for _ in range(40):
        wide = [wide, wide]  # 2 ** 40 leaves when walked blindly
    tree["arch_args"] = {"cycle": cycle, "wide": wide}
    path = tmp_path / "cyclic.pt"
    torch.save(tree, path)
    start = time.process_time()
    result = compressor.audit(path)
    assert result.to_dict()["meta"]
    assert time.process_time() - start < 2

    op = {"op": "aten.relu", "module": 0, "in": [0] * 1000, "out": [0], "attrs": {}}
    tree["graph"] = {**tree["graph"], "ops": [op] * 100_000}
    torch.save(tree, path)
    refused(path, "more than 2000000 entries")


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("ops", [{"op": "x", "module": 0, "in": [99], "out": []}], "ops holds 99, allowed 0"),
        ("ops", [7], "ops"),
        ("ops", "abc", "ops"),
        ("values", [[[-1], "float32", 0]], "a shape"),
        ("values", [[[1 << 70], "float32", 0]], "a huge number"),
        ("values", [[[1], "float32", "elsewhere"]], "elsewhere"),
        ("values", [[[1], "float32", True]], "does not exist"),
        ("storage_bytes", [1.5], "storage_bytes"),
        ("modules", [], "modules"),
        ("modules", [{"path": "a\x1b[31m", "type": "x", "parameters": []}], "plain name"),
        ("parameters", {"w": [2, 2]}, "2 is not a shape"),
        ("tied", {"a": "b"}, "tied"),
        ("calls", [[5, [1]]], "calls"),
        ("inputs", None, "inputs"),
        ("version", None, "version None"),
    ],
)
def test_malformed_graphs(key: str, value: object, match: str, tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    graph = {**graph_of(model, torch.zeros(1, 2)), key: value}
    path = tmp_path / "g.pt"
    tree = {"format": "compressor-model", "format_version": 1, "graph": graph}
    torch.save({**tree, "state_dict": dict(model.state_dict())}, path)
    refused(path, match)


def test_hostile_names_come_out_harmless(tmp_path: Path) -> None:
    path = tmp_path / "n.pt"
    torch.save({"a\x1b[2Jb": torch.ones(1)}, path)
    text = refused(path, "not the name of a tensor")
    assert "\x1b" not in text
    odd = tmp_path / "x\x1b[2J\u202e.pt"
    odd.write_bytes(b"text")
    text = refused(odd, "text file")
    assert text.isprintable()


def test_nothing_is_written(good: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir()), good.read_bytes(), good.stat().st_mtime_ns
    compressor.audit(good)
    assert before == (sorted(tmp_path.iterdir()), good.read_bytes(), good.stat().st_mtime_ns)
