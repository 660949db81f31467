"""Thousands of broken files through every reader: a figure or one clear line, and nothing else.

The reading happens in a process of its own that watches itself: every file opened, every text or
program executed, time (5 s), memory (1 GiB above the file) and what is left behind.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.corpus import FORMATS, build, read_corpus, zipped
from fuzz.fields import encode, parse
from fuzz.made import MADE
from fuzz.mutate import mutate
from fuzz.run import Fuzzer, fuzz, shares, table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ALL = list(FORMATS)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of every format, made once."""
    return build(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def fuzzer(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    """A reading process with all readers."""
    with Fuzzer(corpus, tmp_path_factory.mktemp("scratch"), ALL) as made:
        yield made


def checked(corpus: Path, scratch: Path, seed: int, count: int) -> None:
    rows = fuzz(corpus, scratch, seed, count, ALL)
    print(table(rows))
    assert sum(row.mutations for row in rows) >= count
    findings = [finding for row in rows for finding in row.findings]
    assert not findings, "\n".join(map(str, findings[:10]))
    assert max(row.slowest for row in rows) < 5
    assert max(row.growth for row in rows) < 1 << 30
    for row in rows:  # mutations reach the readers: most break something, not all break all
        assert row.refused > 0
        assert row.read > 0 or row.format in {"torchscript", "safetensors", "output", "meta"}


def test_two_thousand_mutations(corpus: Path, tmp_path: Path) -> None:
    checked(corpus, tmp_path, seed=20_261, count=2_000)


@pytest.mark.slow
def test_twenty_thousand_mutations(corpus: Path, tmp_path: Path) -> None:
    checked(corpus, tmp_path, seed=1, count=20_000)


@pytest.mark.parametrize("name", sorted(MADE))
def test_made_structures(name: str, fuzzer: Fuzzer) -> None:
    """Files that hypothesis builds out of a format's own pieces."""

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=MADE[name])
    def each(data: bytes) -> None:
        answer = fuzzer.one(name, data)
        assert answer["outcome"] != "found", answer["what"]

    each()


# -- the fuzzer itself: it must see what it is there to see --


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_file(name: str, corpus: Path) -> None:
    files = read_corpus(corpus, name)
    made = [mutate(name, files, 5, index) for index in range(40)]
    assert made == [mutate(name, files, 5, index) for index in range(40)]
    assert len(set(made)) > 30
    assert mutate(name, files, 6, 0) != made[0]


def test_every_format_has_its_share() -> None:
    assert sum(shares(20_000, ALL).values()) >= 20_000
    assert min(shares(5, ALL).values()) == 1
    assert shares(100, ["onnx"]) == {"onnx": 100}


def test_a_message_is_read_and_written_without_its_schema() -> None:
    # field 1: 300 (varint ac 02); field 2: a message with field 3: "ab"
    data = b"\x08\xac\x02\x12\x04\x1a\x02ab"
    assert parse(data) == [(1, 0, 300), (2, 2, [(3, 2, b"ab")])]
    assert encode([(1, 0, 300), (2, 2, [(3, 2, b"ab")])]) == data
    assert parse(b"\x0b") is None  # wire type 3


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("raise KeyError('k')", "KeyError"),
        ("while True: pass", "took too long"),
        ("bytearray(1 << 31)", "MemoryError"),  # in one piece: refused before it is filled
        ("raise ModelFileError('two\\nlines')", "not printable"),
        ("raise ModelFileError('x' * 2000)", "2000 characters"),
        ("open('CANARY', 'w')", "open"),
        ("open('/etc/passwd')", "open"),
        ("__import__('os').mkdir('CANARY')", "os.mkdir"),
        ("eval('1 + 1')", "exec"),
        ("__import__('pickle').loads(b'cos\\nmkdir\\n.')", "pickle.find_class"),
        ("__import__('subprocess').run(['true'])", "subprocess.Popen"),
        ("__import__('os')._exit(7)", "ended: code 7"),
        ("__import__('os').kill(__import__('os').getpid(), 11)", "os.kill"),
    ],
)
def test_the_watch_sees(code: str, match: str, corpus: Path, tmp_path: Path) -> None:
    """A reader that does what none may do is told apart, and the next file is read again."""
    reader = tmp_path / "reader.py"
    reader.write_text(
        "from compressor.errors import ModelFileError\n"
        "SECONDS = 2.0\n"
        "def read(path):\n"
        "    if path.read_bytes() == b'PLANT':\n"
        f"        {code}\n"
        "    return True\n"
    )
    scratch = tmp_path / "scratch"
    with Fuzzer(corpus, scratch, ["safetensors"], reader=reader) as fuzzer:
        answer = fuzzer.one("safetensors", b"PLANT")
        assert answer["outcome"] == "found"
        assert match in answer["what"]
        assert fuzzer.one("safetensors", b"other")["outcome"] == "read"


def test_bounds_hold_for_large_claims(fuzzer: Fuzzer) -> None:
    """Lengths that promise gigabytes: refused without taking them."""
    claims = {
        "safetensors": struct.pack("<Q", 99_000_000) + b"{" + bytes(100),
        "keras": zipped({"config.json": b"[" * 5_000_000, "model.weights.h5": b"\x89HDF"}),
        "pt2": zipped({"m/models/model.json": json.dumps([0] * 2_000_000).encode()}),
    }
    for name, data in claims.items():
        answer = fuzzer.one(name, data)
        assert answer["outcome"] == "refused", answer
        assert answer["growth"] < 1 << 29


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=64))
def test_parsing_without_a_schema_is_the_inverse_of_writing(data: bytes) -> None:
    fields = parse(data)
    assert fields is None or parse(encode(fields)) == fields
