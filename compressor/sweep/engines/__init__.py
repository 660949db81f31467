"""Where jobs run: a small protocol and its engines.

An engine takes tasks that name what they need and a function that does one of them, and reports
how each ended. It knows nothing of pruning.
"""

from __future__ import annotations

from compressor.sweep.engines.base import Engine, Outcome, Task

__all__ = ["Engine", "Outcome", "Task", "make_engine"]


def make_engine(workers: int, *, timeout_s: float | None = None) -> Engine:
    """The engine for this machine.

    Args:
        workers: number of worker processes; 0 runs every job in this process, one after another
            (for debuggers and profilers; no time limit, no retry).
        timeout_s: time limit of one job in seconds; None is no limit.

    Returns:
        An engine.
    """
    if workers == 0:
        from compressor.sweep.engines.inline import InlineEngine

        return InlineEngine()
    from compressor.sweep.engines.local import LocalEngine

    return LocalEngine(workers, timeout_s=timeout_s)
