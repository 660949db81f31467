"""What the commands print with: progress on stderr, tables on stdout, errors in one line.

On a terminal progress is a bar with a rate and an estimate; in a pipe or in CI it is one line a
finished job, so that logs stay readable.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

__all__ = ["Progress", "note", "on_progress", "progress", "stdout"]


class Progress(Protocol):
    """A running count of finished jobs."""

    def advance(self, text: str = "", step: int = 1) -> None:
        """Count `step` more jobs as done; `text` says which (the line printed in a pipe)."""

    def update(self, done: int, total: int) -> None:
        """Set the count, for callbacks that report absolute numbers."""


def stdout() -> Console:
    """A rich console on standard output (data); wide enough for tables in pipes."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console()
    return Console(width=120, no_color=True, highlight=False)


def note(text: str) -> None:
    """Write one line to standard error, above a running bar if there is one."""
    if _active is not None:
        _active.console.print(text, markup=False, highlight=False)
    else:
        print(text, file=sys.stderr, flush=True)


_active: RichProgress | None = None


class _Bar:
    """A rich progress bar on standard error."""

    def __init__(self, description: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}", style="dim"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(description, total=total, last="")

    def __enter__(self) -> _Bar:
        global _active  # noqa: PLW0603 - `note` must print above the one running bar
        self._bar.start()
        _active = self._bar
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _active  # noqa: PLW0603
        self._bar.stop()
        _active = None

    def advance(self, text: str = "", step: int = 1) -> None:
        self._bar.update(self._task, advance=step, last=text)

    def update(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)


class _Lines:
    """One line a finished job, with count, time and estimate."""

    def __init__(self, description: str, total: int) -> None:
        self._description = description
        self._total = total
        self._done = 0
        self._shown = 0.0
        self._start = time.monotonic()

    def _line(self, text: str) -> None:
        spent = time.monotonic() - self._start
        left = spent / self._done * (self._total - self._done) if self._done else 0.0
        tail = f", about {left:.0f} s left" if 0 < self._done < self._total else ""
        body = f"{text} " if text else ""
        print(
            f"{self._description} {self._done}/{self._total}: {body}({spent:.0f} s{tail})",
            file=sys.stderr,
            flush=True,
        )

    def advance(self, text: str = "", step: int = 1) -> None:
        self._done += step
        self._line(text)

    def update(self, done: int, total: int) -> None:
        """Absolute counts come often (a call a clip): print every ten seconds and at the end."""
        self._done, self._total = done, total
        now = time.monotonic()
        if done >= total or now - max(self._shown, self._start) >= 10.0:
            self._shown = now
            self._line("")


@contextmanager
def progress(description: str, total: int) -> Iterator[Progress]:
    """Show progress on standard error while the block runs.

    Args:
        description: what is being done, such as "features".
        total: number of jobs.

    Yields:
        A counter: call `advance` for each finished job or `update` with absolute numbers.
    """
    if sys.stderr.isatty():
        with _Bar(description, total) as bar:
            yield bar
    else:
        yield _Lines(description, total)


@contextmanager
def on_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A callback `(done, total)` for the lower floors; the bar appears with the first call."""
    bar: Progress | None = None
    entered = None

    def callback(done: int, total: int) -> None:
        nonlocal bar, entered
        if bar is None:
            entered = progress(description, total)
            bar = entered.__enter__()
        bar.update(done, total)

    try:
        yield callback
    finally:
        if entered is not None:
            entered.__exit__(None, None, None)
