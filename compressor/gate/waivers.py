"""Waivers: a known problem that may stand until a day, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fnmatch import fnmatchcase

from compressor.gate.config import Waiver

__all__ = ["Waivers"]


class Waivers:
    """Finds the waiver of a problem, and knows which were not needed."""

    def __init__(self, waivers: Sequence[Waiver], today: date) -> None:
        """Takes the waivers of the settings and the day they are held against."""
        self._waivers = waivers
        self._today = today
        self._used: set[int] = set()

    def find(self, check: str, file: str) -> tuple[Waiver, bool] | None:
        """Returns the waiver of a problem and whether it has expired; a valid one goes first.

        Args:
            check: id of the check.
            file: the file as the user knows it; a waiver's pattern is held against the whole path,
                its end, and its name.
        """
        expired: Waiver | None = None
        for index, waiver in enumerate(self._waivers):
            if waiver.id != check or not _about(waiver.file, file):
                continue
            self._used.add(index)
            if waiver.expires >= self._today:
                return waiver, False
            expired = expired or waiver
        return None if expired is None else (expired, True)

    def unused(self) -> list[Waiver]:
        """Waivers that no problem asked for."""
        return [w for index, w in enumerate(self._waivers) if index not in self._used]


def _about(pattern: str, file: str) -> bool:
    return (
        not pattern
        or fnmatchcase(file, pattern)
        or fnmatchcase(file, f"*/{pattern}")
        or fnmatchcase(file.rpartition("/")[2], pattern)
    )
