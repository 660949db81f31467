"""External data of an ONNX file: plain files in or below its own folder, and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from compressor.errors import ModelFileError

__all__ = ["External", "Region"]

_CAREFUL = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Region(NamedTuple):
    """Bytes of an external file."""

    path: Path
    start: int
    size: int


class External:
    """The external files of one model."""

    def __init__(self, folder: Path, name: str) -> None:
        """Takes the model's folder and what messages call the model."""
        self._folder = folder
        self._name = name
        self._sizes: dict[Path, int] = {}
        self._claimed: dict[Path, int] = {}

    def place(self, entries: dict[str, str], label: str, wanted: int) -> Region:
        """Checks where external data lies: a plain file in or below the model's folder.

        Args:
            entries: what the tensor says of it: location, offset, length.
            label: the tensor.
            wanted: bytes that its shape and type need.

        Raises:
            ModelFileError: it lies elsewhere, is a link or no file, or is not as long as it says.
        """
        name, where = self._name, entries.get("location", "")
        parts = PurePosixPath(where).parts
        if not parts or where.startswith("/") or ".." in parts or "\\" in where or ":" in where:
            raise ModelFileError(
                f"{name}: external data of {label!r} lies at {where[:80]!r}, outside the model's "
                "folder: refused"
            )
        path = self._folder
        try:
            for part in parts:
                path = path / part
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode):
                    raise ModelFileError(
                        f"{name}: external data of {label!r}: {where[:80]!r} is a symbolic link: "
                        "refused"
                    )
            if not stat.S_ISREG(mode):
                raise ModelFileError(
                    f"{name}: external data of {label!r}: {where[:80]!r} is not a plain file"
                )
            held = self._sizes.setdefault(path, path.stat().st_size)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ModelFileError(
                f"{name}: external data of {label!r} at {where[:80]!r} cannot be read: {reason}; "
                "put the file beside the model"
            ) from error
        start = self._whole(entries.get("offset", "0"), label, "offset")
        default = str(max(held - start, 0))
        size = self._whole(entries.get("length", default), label, "length")
        if size != wanted:
            raise ModelFileError(
                f"{name}: external data of {label!r} lies about its size: {size:,} B where "
                f"{wanted:,} belong"
            )
        if start + size > held:
            raise ModelFileError(
                f"{name}: external data of {label!r} lies about its place: it ends at byte "
                f"{start + size:,} of {held:,} in {where[:80]!r}"
            )
        return Region(path, start, size)

    def claim(self, region: Region) -> None:
        """Books the bytes of a tensor that stands in an external file.

        Raises:
            ModelFileError: the tensors claim more than the file has, so that they overlap.
        """
        total = self._claimed.get(region.path, 0) + region.size
        self._claimed[region.path] = total
        if total > self._sizes[region.path]:
            raise ModelFileError(
                f"{self._name}: the tensors in {region.path.name!r} overlap: {total:,} B "
                f"claimed of {self._sizes[region.path]:,}"
            )

    def _whole(self, text: str, label: str, what: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 18:
            raise ModelFileError(
                f"{self._name}: external data of {label!r}: {what} {text[:40]!r} is no size"
            )
        return int(text)

    def read(self, region: Region, most: int) -> Iterator[bytes]:
        """Yields the bytes of a region in pieces of at most `most` bytes."""
        try:
            # a link put there since the check is not followed, a pipe does not block
            handle = os.open(region.path, os.O_RDONLY | _CAREFUL)
            with os.fdopen(handle, "rb") as stream:
                stream.seek(region.start)
                left = region.size
                while left:
                    data = stream.read(min(left, most))
                    if not data:
                        raise ModelFileError(f"{self._name}: external data became shorter")
                    left -= len(data)
                    yield data
        except OSError as error:
            raise ModelFileError(
                f"{self._name}: external data cannot be read: {error.strerror or error}"
            ) from error
