"""What the commands print with: progress on stderr, tables on stdout, errors in one line.

On a terminal progress is a bar with a rate and an estimate; in a pipe, in CI and under NO_COLOR
it is one line a finished job, so that logs stay readable. `-q` keeps progress and notes back, `-v`
adds what is otherwise left unsaid.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

from compressor.cli.text import screen_width

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import Progress as RichProgress

__all__ = [
    "PIPE_WIDTH",
    "Progress",
    "bar",
    "detail",
    "fancy",
    "is_quiet",
    "note",
    "on_progress",
    "progress",
    "running",
    "set_level",
    "stdout",
    "verbose",
]

PIPE_WIDTH = 120  # columns of rich tables where there is no terminal to ask

_level = 0  # of talk on standard error: -1 quiet, 0, 1 verbose


def set_level(level: int) -> None:
    """How much goes to standard error: -1 errors only, 0 progress and notes, 1 details too."""
    global _level  # noqa: PLW0603 - one process, one command line
    _level = level


def verbose() -> bool:
    """Whether `-v` was given."""
    return _level > 0


def is_quiet() -> bool:
    """Whether `-q` was given."""
    return _level < 0


def fancy(stream: IO[str]) -> bool:
    """Whether colours, boxes and moving bars may be drawn there.

    Not in a pipe, not on a dumb terminal, not in CI (whose logs keep every frame of a bar), and not
    for those who ask for plain output by NO_COLOR (no-color.org).
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and not plain and os.environ.get("TERM") != "dumb"


class Progress(Protocol):
    """A running count of finished jobs."""

    def advance(self, text: str = "", step: int = 1) -> None:
        """Count `step` more jobs as done; `text` says which (the line printed in a pipe)."""

    def update(self, done: int, total: int) -> None:
        """Set the count, for callbacks that report absolute numbers."""


def stdout() -> Console:
    """A rich console on standard output (data); wide enough for tables in pipes."""
    from rich.console import Console

    if fancy(sys.stdout):
        return Console(highlight=False)
    # A plain terminal has a width all the same; in a pipe COLUMNS may give one.
    return Console(width=screen_width() or PIPE_WIDTH, no_color=True, highlight=False)


def detail(text: str) -> None:
    """Write one line to standard error if `-v` was given."""
    if _level > 0:
        note(text)


def note(text: str) -> None:
    """Write one line to standard error, above a running bar if there is one; not with `-q`."""
    if _level < 0:
        return
    if _active is not None:
        _active.console.print(text, markup=False, highlight=False)
    else:
        print(text, file=sys.stderr, flush=True)


_active: RichProgress | Live | None = None


@contextmanager
def running(display: RichProgress | Live) -> Iterator[None]:
    """Shows something that moves; notes are printed above it."""
    global _active  # noqa: PLW0603 - `note` must print above the one running display
    with display:
        _active = display
        try:
            yield
        finally:
            _active = None


def bar(*, console: Console | None = None) -> RichProgress:
    """A rich bar with count, rate and estimate for tasks that have a field `last`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps a second, or seconds a step where they are slow."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(rate_words(speed) if speed else "", style="progress.data.speed")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}", style="dim"),
        console=console,
        transient=True,
        expand=True,
    )


def rate_words(speed: float) -> str:
    """Steps a second in words: "12.3/s", and "8.1 s each" below one a second."""
    return f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"


class _Silence:
    """Counts for nobody (`-q`)."""

    def advance(self, text: str = "", step: int = 1) -> None:
        """Nobody listens."""

    def update(self, done: int, total: int) -> None:
        """Nobody listens."""


class _Bar:
    """A rich progress bar on standard error."""

    def __init__(self, description: str, total: int) -> None:
        from rich.console import Console

        self.display = bar(console=Console(stderr=True))
        self._task = self.display.add_task(description, total=total, last="")

    def advance(self, text: str = "", step: int = 1) -> None:
        self.display.update(self._task, advance=step, last=text)

    def update(self, done: int, total: int) -> None:
        self.display.update(self._task, completed=done, total=total)


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
        if self._done and spent >= 1:
            tail = f", {rate_words(self._done / spent)}{tail}"
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
    if _level < 0:
        yield _Silence()
    elif fancy(sys.stderr):
        shown = _Bar(description, total)
        with running(shown.display):
            yield shown
    else:
        yield _Lines(description, total)


@contextmanager
def on_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A callback `(done, total)` for the lower floors; the bar appears with the first call."""
    shown: Progress | None = None
    entered = None

    def callback(done: int, total: int) -> None:
        nonlocal shown, entered
        if shown is None:
            entered = progress(description, total)
            shown = entered.__enter__()
        shown.update(done, total)

    try:
        yield callback
    finally:
        if entered is not None:
            entered.__exit__(None, None, None)
