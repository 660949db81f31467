"""The sweep's table on a terminal, filled as points finish, above a bar with rate and estimate."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.cli import console
from compressor.cli.text import spark

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

    from compressor.sweep.execute import Counter, Watch

__all__ = ["LiveTable", "TableWatch", "watch_of"]

FRAME = 6  # lines of the screen that heading, rule, spark line and bar take


def watch_of(out: Path, year: int) -> Watch:
    """Who shows how a sweep goes: a table on a terminal, plain lines elsewhere.

    Args:
        out: the run folder, where records appear.
        year: whose verdicts the table shows.
    """
    quiet = not console.fancy(sys.stderr) or console.is_quiet()
    return console if quiet else TableWatch(out, year)  # a module serves as well


class TableWatch:
    """A watch whose counting of the sweep is a table."""

    def __init__(self, out: Path, year: int) -> None:
        """Args: the run folder, and the year of the verdicts."""
        self._out, self._year = out, year

    def note(self, text: str) -> None:
        """One line above the table."""
        console.note(text)

    def on_progress(self, description: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A bar, as everywhere."""
        return console.on_progress(description)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Counter]:
        """The table with a bar below."""
        from rich.console import Console

        shown = LiveTable(description, total, self._out, self._year, Console(stderr=True))
        with console.running(shown.live):
            yield shown


class LiveTable:
    """Rows of finished points, the newest at the bottom, as many as the screen holds."""

    live: Live

    def __init__(self, description: str, total: int, out: Path, year: int, screen: Console) -> None:
        """Args: what is counted and how much, the run folder, the year, and where to draw."""
        from rich.live import Live

        self._points, self._year, self._screen = out / "points", year, screen
        self._records = [r for p in sorted(self._points.glob("*.json")) if (r := _read(p))]
        self._bar = console.bar(console=screen)
        self._task = self._bar.add_task(description, total=total, last="")
        self.live = Live(self._drawn(), console=screen, transient=True, refresh_per_second=4)

    def advance(self, text: str = "", step: int = 1) -> None:
        """Counts a finished job; its record becomes a row."""
        job = text.partition(":")[0].split(" ")[0]
        record = _read(self._points / f"{job}.json")
        if record is not None:
            self._records.append(record)
        if record is None or record["status"] != "ok":
            console.note(text)  # a failure must not scroll away with the table
        self._bar.update(self._task, advance=step, last="")
        self.live.update(self._drawn())

    def update(self, done: int, total: int) -> None:
        """Sets the count, while jobs run."""
        self._bar.update(self._task, completed=done, total=total)

    def _drawn(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = []
        good = [record for record in self._records if record["status"] == "ok"]
        if good:
            parts.append(self._table(good))
            values = [100 * record["after_finetune"]["accuracy"] for record in good]
            parts.append(Text(f" accuracy, as they came  {spark(values)}", no_wrap=True))
        return Group(*parts, self._bar)

    def _table(self, good: list[dict[str, Any]]) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        wide = self._screen.width >= 100
        table.add_column("point", no_wrap=True, overflow="ellipsis")
        names = ["params", "bytes", "MACs", "before %", "after %", str(self._year)]
        for name in names if wide else [n for n in names if n not in ("bytes", "before %")]:
            table.add_column(name, justify="right", no_wrap=True)
        for record in good[-max(3, self._screen.height - FRAME) :]:
            cells = _cells(record, self._year)
            table.add_row(record["id"], *(cells if wide else [cells[i] for i in (0, 2, 4, 5)]))
        return table


def _cells(record: Mapping[str, Any], year: int) -> list[str]:
    before, after = record["before_finetune"], record["after_finetune"]
    verdict = [v["status"] for v in record["verdicts"] if v["year"] == year]
    return [
        f"{record['params']:,}",
        "–" if record["bytes_stored"] is None else f"{record['bytes_stored']:,}",
        "–" if record["macs"] is None else f"{record['macs']:,}",
        "–" if not before else f"{100 * before['accuracy']:.1f}",
        f"{100 * after['accuracy']:.1f}",
        verdict[0] if verdict else "–",
    ]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
