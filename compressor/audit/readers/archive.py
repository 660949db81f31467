"""A zip archive opened with suspicion: bounded sizes, no odd names, no duplicates."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from compressor.audit.shown import shown_reason, shown_value
from compressor.errors import ModelFileError

__all__ = ["Archive", "member_names", "open_archive"]

MAX_DIRECTORY_BYTES = 8 << 20  # central directory: some 100,000 members
MAX_MEMBERS = 50_000
MAX_INFLATED_BYTES = 512 << 20  # what compressed members may add to the size of the file
MAX_RATIO = 200


# everything that zipfile raises on damaged input (RuntimeError: a password, ValueError: names)
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
)


class Archive:
    """The members of one checked archive."""

    def __init__(self, name: str, opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]):
        """Takes an archive that `open_archive` has checked."""
        self.name = name
        self.members = members
        self._zip = opened

    def read(self, member: str, most: int) -> bytes:
        """Returns a member's bytes; its checksum is verified.

        Raises:
            ModelFileError: missing, larger than `most` bytes, or damaged.
        """
        info = self.members.get(member)
        if info is None:
            raise ModelFileError(f"{self.name}: the archive has no {shown_value(member)}")
        if info.file_size > most:
            raise ModelFileError(
                f"{self.name}: {shown_value(member)} has {info.file_size:,} B, "
                f"at most {most:,} allowed"
            )
        try:
            with self._zip.open(info) as stream:
                data = stream.read(info.file_size + 1)
        except _DAMAGE as error:
            raise ModelFileError(
                f"{self.name}: {shown_value(member)} is damaged ({shown_reason(error)})"
            ) from error
        if len(data) != info.file_size:
            raise ModelFileError(
                f"{self.name}: {shown_value(member)} holds {len(data):,} B, "
                f"the archive says {info.file_size:,}"
            )
        return data


@contextmanager
def open_archive(path: Path | BinaryIO, name: str, size: int) -> Iterator[Archive]:
    """Opens and checks a zip file.

    Args:
        path: the file, or an open one.
        name: what messages call it.
        size: its bytes.

    Raises:
        ModelFileError: truncated, encrypted, too large when unpacked, or with members that lie
            outside the archive or appear twice.
    """
    _check_directory(path, name, size)
    try:
        opened = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise ModelFileError(
            f"{name}: a damaged or truncated zip archive ({shown_reason(error)})"
        ) from error
    with opened:
        yield Archive(name, opened, _checked(opened, name, size))


def member_names(path: Path, name: str, size: int) -> frozenset[str]:
    """Returns the names of the members, after the checks of `open_archive`."""
    with open_archive(path, name, size) as archive:
        return frozenset(archive.members)


def _checked(opened: zipfile.ZipFile, name: str, size: int) -> dict[str, zipfile.ZipInfo]:
    infos = opened.infolist()
    if len(infos) > MAX_MEMBERS:
        raise ModelFileError(f"{name}: {len(infos):,} members, at most {MAX_MEMBERS:,} are read")
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        member = info.filename
        parts = member.replace("\\", "/").split("/")
        if not member:  # zipfile itself asks for its last letter
            raise ModelFileError(f"{name}: a member of the archive has no name")
        if member.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in member:
            raise ModelFileError(f"{name}: member {shown_value(member)} points outside the archive")
        if member in members:
            raise ModelFileError(f"{name}: member {shown_value(member)} appears twice")
        if info.flag_bits & 0x1:
            raise ModelFileError(f"{name}: member {shown_value(member)} is encrypted")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ModelFileError(f"{name}: member {shown_value(member)} has an unusual compression")
        stored = info.compress_type == zipfile.ZIP_STORED
        if stored and info.file_size != info.compress_size:
            raise ModelFileError(f"{name}: member {shown_value(member)} lies about its size")
        if info.file_size > MAX_RATIO * info.compress_size + 4096:
            raise ModelFileError(
                f"{name}: member {shown_value(member)} unpacks to a suspicious size"
            )
        total += info.file_size
        members[member] = info
    if total > size + MAX_INFLATED_BYTES:
        raise ModelFileError(f"{name}: unpacks to {total:,} B from {size:,}: refused")
    return members


def _check_directory(path: Path | BinaryIO, name: str, size: int) -> None:
    """Bounds the central directory before `zipfile` builds an object for each entry."""
    with path.open("rb") if isinstance(path, Path) else nullcontext(path) as stream:
        stream.seek(max(0, size - 65_557))  # end record (22 bytes) + longest comment
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise ModelFileError(f"{name}: a truncated zip archive (no end record)")
    (directory,) = struct.unpack_from("<I", tail, at + 12)
    at64 = tail.rfind(b"PK\x06\x06", 0, at)
    if directory == 0xFFFF_FFFF and at64 >= 0 and len(tail) - at64 >= 48:
        (directory,) = struct.unpack_from("<Q", tail, at64 + 40)
    if directory > MAX_DIRECTORY_BYTES:
        raise ModelFileError(
            f"{name}: a zip directory of {directory:,} B, at most {MAX_DIRECTORY_BYTES:,} allowed"
        )
