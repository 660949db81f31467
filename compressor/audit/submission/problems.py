"""One problem found in a package: where, what, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Collected", "Problem", "quoted"]

MAX_QUOTED = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
        check: id of the check that found it (a key of `compressor.gate.checks.CHECKS`).
        file: the file as shown to the user; line: counted from 1, None for the whole file.
        message: what is wrong, with the value found and what is allowed.
        fix: what to change.
    """

    check: str
    file: str
    message: str
    fix: str
    line: int | None = None


def quoted(text: object) -> str:
    """A value from a file, shortened, in quotes and with everything unprintable escaped."""
    shown = str(text)
    if len(shown) > MAX_QUOTED:
        shown = shown[: MAX_QUOTED - 3] + "..."
    return ascii(shown) if not shown.isprintable() else repr(shown)


class Collected:
    """Problems of one kind in one file: the first ones in full, the rest in one line.

    A file of 100,000 rows that is wrong in every row must not give 100,000 lines of report.
    """

    def __init__(self, check: str, file: str, fix: str, most: int) -> None:
        """Takes what all of them share, and how many are shown in full (0: all)."""
        self._make: Callable[[str, int | None], Problem] = lambda message, line: Problem(
            check, file, message, fix, line
        )
        self._most = most
        self._shown: list[Problem] = []
        self._more: list[int] = []

    def add(self, line: int, message: str) -> None:
        """Notes one problem."""
        if not self._most or len(self._shown) < self._most:
            self._shown.append(self._make(message, line))
        else:
            self._more.append(line)

    def __bool__(self) -> bool:
        return bool(self._shown)

    def __iter__(self) -> Iterator[Problem]:
        yield from self._shown
        if self._more:
            first, last = min(self._more), max(self._more)
            what = (
                "1 more row has" if len(self._more) == 1 else f"{len(self._more):,} more rows have"
            )
            span = f"line {first}" if first == last else f"lines {first} to {last}"
            yield self._make(f"{what} the same kind of problem ({span})", first)
