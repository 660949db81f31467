"""Where a command writes: told before the work, not behind it."""

from __future__ import annotations

import os
from pathlib import Path

from compressor.errors import UsageError

__all__ = ["check_target"]


def check_target(file: Path) -> None:
    """Refuses a file that cannot be written, before hours of training end at it.

    Args:
        file: what will be written; folders above it may be missing yet.

    Raises:
        UsageError: it is a folder, or the folder it would stand in is a file or read-only.
    """
    if file.is_dir():
        raise UsageError(f"{file} is a folder; name a file in it, such as {file / 'model.pt'}")
    parent = next(folder for folder in file.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UsageError(f"{file} cannot be written: {parent} is a file; name another path")
    if not os.access(parent, os.W_OK):
        raise UsageError(f"{file} cannot be written: {parent} is read-only; name another path")
