"""What is known of each audio file (content hash, length, rate), remembered between runs.

Hashing and header reading cost a second for thousands of files; the answers are kept in the cache
folder and asked again only for files whose size or modification time changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Generic, TypeVar

from compressor.errors import DataError

__all__ = [
    "Header",
    "Question",
    "atomic_write",
    "content_hashes",
    "read_headers",
    "remembered",
]

Header = tuple[int, int, int]
"""(frames, sample rate in Hz, channels) of an audio file."""

_Answer = TypeVar("_Answer")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears at `path` whole or not at all, also when two processes write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def content_hashes(paths: Sequence[Path], cache: Path) -> list[str]:
    """One hash of 32 hexadecimal digits per file, of its content alone.

    Raises:
        DataError: a file that cannot be read.
    """
    return remembered(paths, cache, Question("hashes", _hash, str, str))


def read_headers(paths: Sequence[Path], cache: Path) -> list[Header]:
    """Frames, rate and channels of each file.

    Raises:
        DataError: a file that is no readable audio.
    """
    question = Question("headers", read_header, _header_text, _header_of)
    return remembered(paths, cache, question)


def read_header(path: Path) -> Header:
    """Frames, rate and channels of one file.

    Raises:
        DataError: the file is no readable audio, or holds no samples.
    """
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error
    if info.frames == 0:
        raise DataError(f"{path} holds no samples; remove it or replace it")
    return int(info.frames), int(info.samplerate), int(info.channels)


def _header_text(header: Header) -> str:
    return " ".join(str(number) for number in header)


def _header_of(text: str) -> Header:
    frames, rate, channels = (int(number) for number in text.split())
    return frames, rate, channels


def _hash(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


@dataclass(frozen=True)
class Question(Generic[_Answer]):
    """What is asked of files: name in the cache, how to find out, the answer as text and back.

    The text of an answer holds no tab and no line break.
    """

    kind: str
    ask: Callable[[Path], _Answer]
    to_text: Callable[[_Answer], str]
    from_text: Callable[[str], _Answer]


def remembered(paths: Sequence[Path], cache: Path, question: Question[_Answer]) -> list[_Answer]:
    """The answer for each path, from the memory where size and time still agree.

    Raises:
        DataError: a file that cannot be read.
    """
    if not paths:
        return []
    absolute = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - 4x faster than Path
    home = hashlib.blake2b(os.fsencode(os.path.commonpath(absolute)), digest_size=8).hexdigest()
    memory_file = cache / "files" / f"{question.kind}-{home}.tsv"
    memory = _read_memory(memory_file)
    stamps = [_stamp(path) for path in absolute]
    answers: dict[str, _Answer] = {}
    todo: dict[str, None] = {}  # each once: copies of a clip share its file
    for path, stamp in zip(absolute, stamps, strict=True):
        known = memory.get(path)
        if known is not None and known[0] == stamp:
            try:
                answers[path] = question.from_text(known[1])
                continue
            except ValueError:
                pass  # a damaged line: ask again
        todo[path] = None
    if todo:
        with ThreadPoolExecutor(max_workers=8) as pool:  # hashing releases the interpreter lock
            answers.update(
                zip(todo, pool.map(lambda path: question.ask(Path(path)), todo), strict=True)
            )
        memory.update(
            (path, (stamp, question.to_text(answers[path])))
            for path, stamp in zip(absolute, stamps, strict=True)
        )
        lines = (f"{stamp}\t{text}\t{path}\n" for path, (stamp, text) in memory.items())
        with contextlib.suppress(OSError), atomic_write(memory_file) as stream:
            stream.write(os.fsencode("".join(lines)))
    return [answers[path] for path in absolute]


def _stamp(path: str) -> str:
    try:
        state = os.stat(path)  # noqa: PTH116 - as above
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return f"{state.st_size}:{state.st_mtime_ns}"


def _read_memory(path: Path) -> dict[str, tuple[str, str]]:
    """Path -> (stamp, answer); empty when there is no memory or it is damaged."""
    memory = {}
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as stream:
            for line in stream:
                cells = line.rstrip("\n").split("\t", 2)
                if len(cells) == 3:
                    memory[cells[2]] = (cells[0], cells[1])
    except OSError:
        return {}
    return memory
