"""The simplest engine: every task in this process, one after another."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

from compressor.sweep.engines.base import Outcome, Queue, Task, last_line

__all__ = ["InlineEngine"]


class InlineEngine:
    """No isolation, no time limit, no retry: for debuggers, profilers and tiny runs."""

    def run(
        self,
        work: Callable[[Any], object],
        tasks: Sequence[Task],
        *,
        on_done: Callable[[Outcome], None],
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        """Run all tasks, see `Engine.run`."""
        queue = Queue(tasks)
        while (task := queue.pop()) is not None:
            try:
                work(task.payload)
            except Exception as error:
                outcome = Outcome(task.id, "failed", last_line(error), traceback.format_exc())
            else:
                outcome = Outcome(task.id, "ok")
            for ended in (outcome, *queue.end(outcome)):
                on_done(ended)
            if on_tick is not None:
                on_tick()
