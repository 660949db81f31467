"""What every engine takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["Engine", "Outcome", "Queue", "Task", "last_line"]


@dataclass(frozen=True, slots=True)
class Task:
    """One job for an engine.

    Attributes:
        id: name of the job.
        needs: ids of tasks of the same run that must end well before; an id that is not in the run
            counts as done.
        payload: the argument of the work function; must be picklable.
    """

    id: str
    needs: tuple[str, ...]
    payload: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended.

    Attributes:
        task_id: the task.
        status: `ok`, `failed`, or `skipped` because something it needs failed.
        error: one line that says why, empty when ok.
        detail: the traceback, where there is one.
        attempts: how often it was started.
    """

    task_id: str
    status: Literal["ok", "failed", "skipped"]
    error: str = ""
    detail: str = ""
    attempts: int = 1


class Engine(Protocol):
    """Runs tasks; `run` returns when every task has ended."""

    def run(
        self,
        work: Callable[[Any], object],
        tasks: Sequence[Task],
        *,
        on_done: Callable[[Outcome], None],
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        """Run all tasks.

        Args:
            work: called with a task's payload, in whatever process; importable by name.
            tasks: in order of preference.
            on_done: called in this process once a task, as it ends.
            on_tick: called in this process about once a second while tasks run.
        """


class Queue:
    """Hands out tasks whose needs are met and skips those whose needs have failed."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        """Args: the tasks, in order of preference."""
        self._waiting = list(tasks)
        self._open = {task.id for task in tasks}
        self._failed: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def pop(self) -> Task | None:
        """The first task that can start now, or None."""
        for i, task in enumerate(self._waiting):
            if not self._open.intersection(task.needs):
                return self._waiting.pop(i)
        return None

    def push_front(self, task: Task) -> None:
        """Give a task back, to be started again next."""
        self._waiting.insert(0, task)

    def end(self, outcome: Outcome) -> list[Outcome]:
        """Note how a task ended; returns the outcomes of the tasks that must now be skipped."""
        self._open.discard(outcome.task_id)
        if outcome.status == "ok":
            return []
        self._failed.add(outcome.task_id)
        skipped = []
        for task in [t for t in self._waiting if outcome.task_id in t.needs]:
            self._waiting.remove(task)
            skip = Outcome(
                task.id,
                "skipped",
                f"not run: {outcome.task_id}, which it needs, failed ({outcome.error})",
                attempts=0,
            )
            skipped += [skip, *self.end(skip)]
        return skipped


def last_line(error: BaseException) -> str:
    """An exception as one line: the message, after the type's name where it says something."""
    from compressor.errors import CompressorError

    lines = str(error).strip().splitlines()
    message = lines[-1].strip() if lines else ""
    if isinstance(error, CompressorError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
