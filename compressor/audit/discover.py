"""Finds model files under folders, told by their content; links and hidden folders are left alone.

A folder of a submission or a training run holds sounds, tables and pages beside its models. What is
no model is skipped and counted; what begins as a model and is broken is kept, so that reading it
says what is wrong.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from compressor.audit.readers.archive import member_names
from compressor.audit.readers.files import MAX_SHOWN
from compressor.audit.shown import shown_name
from compressor.errors import CompressorError, ModelFileError

__all__ = ["Found", "find_models", "looks_like_model"]

# A tensor file of torch before 1.6: a pickle of this number, then the rest.
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
# Fields of ModelProto and their wire types (0 a number, 2 bytes).
_ONNX_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_ONNX_GRAPH = 7
_KERAS_WORDS = (b"layer_names", b"model_weights", b"keras_version", b"vars")
_HDF5_START = 1 << 20  # names of the outer groups and attributes stand in front
_MAX_FIELDS = 10_000
_MAX_IR_VERSION = 1000
_MAX_HEADER = 100_000_000  # what the safetensors library reads at most


@dataclass(frozen=True, slots=True)
class Found:
    """Model files in a fixed order.

    Attributes:
        files: those named, then those in named folders, each once.
        skipped: files in folders that are no models; links: links to folders, not followed.
    """

    files: tuple[Path, ...]
    skipped: int
    links: int


def find_models(paths: Iterable[Path]) -> Found:
    """Lists what to audit: named files as they are, and the model files under named folders.

    A named file is kept whatever it is (reading it says what is wrong with it). In folders, names
    that begin with a dot are passed over, links to folders are not followed, and the order is that
    of the names, byte by byte, a folder's own files before those of the folders in it.

    Raises:
        ModelFileError: a folder that cannot be listed, or that holds no model file.
    """
    files: dict[Path, None] = {}
    skipped = links = 0
    for path in paths:
        if not path.is_dir():
            files[path] = None
            continue
        inside = 0
        for entry in _walk(path):
            if entry.is_symlink() and entry.is_dir():
                links += 1
            elif looks_like_model(entry):
                inside += 1
                files[entry] = None
            else:
                skipped += 1
        if not inside:
            shown = shown_name(path.name, MAX_SHOWN) or str(path)
            raise ModelFileError(
                f"{shown}: no model file in this folder ({skipped:,} other files); name another one"
            )
    return Found(tuple(files), skipped, links)


def _walk(folder: Path) -> Iterator[Path]:
    """Files and links to folders below a folder; folders that are links are not entered."""
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as listing:
                entries = sorted(listing, key=_by_name)
        except OSError as error:
            shown = shown_name(current.name, MAX_SHOWN)
            raise ModelFileError(f"{shown}: cannot be listed: {error.strerror}") from error
        inner = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                inner.append(Path(entry.path))
            else:
                yield Path(entry.path)
        pending += reversed(inner)


def _by_name(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name)


def looks_like_model(path: Path) -> bool:
    """Tells by the content whether a file is, or begins as, a model of a supported format."""
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) or info.st_size == 0:
            return False
        with path.open("rb") as stream:
            head = stream.read(64)
            if head.startswith(b"PK\x03\x04"):
                return _zip_of_a_model(path, info.st_size, stream)
            if head[4:8] == b"TFL3" or head.startswith(_LEGACY_TORCH):
                return True
            if head.startswith(b"\x89HDF\r\n\x1a\n"):
                start = head + stream.read(_HDF5_START)
                return any(word in start for word in _KERAS_WORDS)
            length = int.from_bytes(head[:8], "little")
            if head[8:9] == b"{" and 2 <= length <= _MAX_HEADER:
                return True
            return _onnx(stream, info.st_size)
    except OSError:
        return False


def _zip_of_a_model(path: Path, size: int, stream: BinaryIO) -> bool:
    """A torch, torch.export or Keras archive; a damaged one by the name of its first member."""
    try:
        names = member_names(path, path.name, size)
    except CompressorError:
        stream.seek(26)
        length = int.from_bytes(stream.read(2), "little")
        stream.seek(30)
        names = frozenset({stream.read(min(length, 4096)).decode("utf-8", "replace")})
    last = {name.rpartition("/")[2] for name in names}
    if last & {"data.pkl", "archive_format", "serialized_exported_program.json"}:
        return True
    if "model.weights.h5" in last:
        return True
    return any("/models/" in f"/{name}" and name.endswith(".json") for name in names)


def _onnx(stream: BinaryIO, size: int) -> bool:
    """Walks the outer fields of a protobuf message: they must be those of an ONNX model.

    The first field is the version of the format, as every exporter writes it; a file that ends
    inside a field is cut off, and still a model.
    """
    stream.seek(0)
    seen: set[int] = set()
    for _ in range(_MAX_FIELDS):
        if stream.tell() == size:
            return 1 in seen and _ONNX_GRAPH in seen
        key = _varint(stream)
        if key is None:
            return False
        field, wire = key >> 3, key & 7
        if _ONNX_FIELDS.get(field) != wire or (not seen and field != 1):
            return False
        seen.add(field)
        value = _varint(stream)
        if value is None:
            return 1 in seen and stream.tell() >= size > 2
        if wire == 0:
            if field == 1 and not 0 < value < _MAX_IR_VERSION:
                return False
        elif value > size - stream.tell():
            return field == _ONNX_GRAPH and value < 1 << 40
        else:
            stream.seek(value, os.SEEK_CUR)
    return False


def _varint(stream: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
