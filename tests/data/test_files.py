"""What is remembered of audio files between runs, and files that appear whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from compressor.data import files
from compressor.errors import DataError


def test_hashes_are_of_the_content_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in ("one", "two", "three")]
    for path in paths:
        path.write_bytes(b"same" if path.name != "two" else b"other")
    expected = [hashlib.blake2b(p.read_bytes(), digest_size=16).hexdigest() for p in paths]
    assert files.content_hashes(paths, tmp_path / "cache") == expected
    assert expected[0] == expected[2] != expected[1]

    asked: list[str] = []
    original = files._hash
    monkeypatch.setattr(files, "_hash", lambda path: (asked.append(path.name), original(path))[1])
    assert files.content_hashes(paths, tmp_path / "cache") == expected
    assert asked == []
    paths[1].write_bytes(b"something new")
    assert files.content_hashes(paths, tmp_path / "cache")[1] != expected[1]
    assert asked == ["two"]


@pytest.mark.parametrize("damage", [b"", b"\xff\x00nonsense\n", b"a\tb\n"])
def test_damaged_memory_is_asked_again(
    tmp_path: Path, wav: Callable[..., Path], damage: bytes
) -> None:
    path = wav(tmp_path / "x.wav", seconds=0.5)
    assert files.read_headers([path], tmp_path / "cache") == [(4000, 8000, 1)]
    (memory,) = (tmp_path / "cache" / "files").iterdir()
    whole = memory.read_bytes()
    assert whole.count(b"\n") == 1
    memory.write_bytes(damage or whole.replace(b"4000 8000 1", b"4000 eight 1"))
    assert files.read_headers([path], tmp_path / "cache") == [(4000, 8000, 1)]
    assert memory.read_bytes().endswith(whole)


def test_names_that_are_no_utf8_are_remembered(tmp_path: Path) -> None:
    path = Path(str(tmp_path) + "/caf\udce9.wav")  # a Latin-1 name, as Linux hands it to Python
    path.write_bytes(b"x")
    first = files.content_hashes([path], tmp_path / "cache")
    assert files.content_hashes([path], tmp_path / "cache") == first


def test_empty_and_missing_audio(tmp_path: Path, wav: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="holds no samples"):
        files.read_header(wav(tmp_path / "empty.wav", seconds=0))
    with pytest.raises(DataError, match=r"gone.wav cannot be read"):
        files.content_hashes([tmp_path / "gone.wav"], tmp_path / "cache")
    assert files.content_hashes([], tmp_path / "cache") == []


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with files.atomic_write(target) as stream:
        stream.write(b"whole")

    def fail() -> None:
        with files.atomic_write(target) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_bytes() == b"whole"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
