"""Writes a report so that a reader sees the old or the new one, never a part."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

__all__ = ["file_stem", "write_bytes", "write_text"]


def write_text(path: Path, text: str) -> Path:
    """Write a text file as `write_bytes` does.

    Args:
        path: the file; missing folders are made.
        text: its content. Lone surrogates, which names out of file systems may hold and UTF-8
            cannot write, become question marks.

    Returns:
        `path`.
    """
    return write_bytes(path, text.encode("utf-8", errors="replace"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file through a temporary file beside it and a rename.

    Args:
        path: the file; missing folders are made.
        content: what it holds.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)  # mkstemp makes it private; a report is to be read
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def file_stem(title: str) -> str:
    """A title as the begin of file names: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "report"
