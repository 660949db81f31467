"""The bytes of a whole file: read, or mapped where it is large."""

from __future__ import annotations

import mmap
from pathlib import Path

from compressor.errors import ModelFileError

__all__ = ["file_bytes"]

MAPPED_FROM = 64 << 20  # bytes; a larger file is mapped, not read


def file_bytes(file: Path, name: str, size: int) -> memoryview:
    """Returns the bytes of a file.

    Args:
        file: the file.
        name: what messages call it.
        size: its bytes.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            if size < MAPPED_FROM:
                return memoryview(stream.read())
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{name}: cannot be read: {error}") from error
