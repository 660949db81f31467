"""The engine of one machine: a pool of worker processes that outlives its workers.

pebble's pool gives time limits a job and starts a new worker for one that died, failing only the
job that worker had. On top of it: such a job is started again, a pool that broke as a whole
(a worker killed while idle) is made anew, and workers end when the command that started them does.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pebble

from compressor import runtime
from compressor.sweep.engines.base import Outcome, Queue, Task, last_line

__all__ = ["LocalEngine"]

_TICK_S = 0.5  # how often futures are looked at; a job takes seconds to minutes
_PARENT_CHECK_S = 1.0
_START_LIMIT_S = 300.0  # a worker that has not taken a waiting job by then never will
_MAX_REBUILDS = 10


def _start_worker(threads: int, parent: int) -> None:
    """Prepare a worker process, before torch is imported in it."""
    runtime.tune(threads=threads)

    def watch() -> None:
        # A parent that is killed outright cannot stop its workers: they leave by themselves, so
        # that starting the command again does not meet them half-way through the same job.
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _guarded(work: Callable[[Any], object], payload: Any) -> tuple[str, str] | None:
    """Do the job; errors come back as text, because not every exception survives pickling."""
    try:
        work(payload)
    except Exception as error:
        return last_line(error), traceback.format_exc()
    return None


class LocalEngine:
    """Worker processes on this machine.

    Attributes:
        workers: number of processes.
        threads: torch threads of one worker: the cores shared out, at least one.
        timeout_s: time limit of one job in seconds, None for no limit.
        retries: how often a job whose worker died is started again.
    """

    def __init__(self, workers: int, *, timeout_s: float | None = None, retries: int = 2) -> None:
        """Args: see the attributes."""
        self.workers = workers
        self.threads = max(1, runtime.cores() // workers)
        self.timeout_s = timeout_s
        self.retries = retries

    def _pool(self, tasks: int) -> pebble.ProcessPool:
        return pebble.ProcessPool(
            max_workers=min(self.workers, max(1, tasks)),
            initializer=_start_worker,
            initargs=(self.threads, os.getpid()),
            # fork would copy this process's torch threads and locks in whatever state they are
            context=multiprocessing.get_context("spawn"),
        )

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
        attempts: dict[str, int] = {}
        rebuilds = 0
        while len(queue):
            pool = self._pool(len(queue))
            try:
                _Round(
                    self,
                    pool=pool,
                    queue=queue,
                    attempts=attempts,
                    on_done=on_done,
                    on_tick=on_tick,
                ).run(work)
            except _PoolLostError as lost:
                rebuilds += 1
                if rebuilds > _MAX_REBUILDS:
                    _give_up(queue, lost, on_done)
            finally:
                pool.stop()  # type: ignore[no-untyped-call]
                pool.join()


class _PoolLostError(Exception):
    """The pool cannot go on; what was running has been given back to the queue."""


class _Round:
    """The life of one pool: keep it filled, collect what ends."""

    def __init__(
        self,
        engine: LocalEngine,
        *,
        pool: pebble.ProcessPool,
        queue: Queue,
        attempts: dict[str, int],
        on_done: Callable[[Outcome], None],
        on_tick: Callable[[], None] | None,
    ) -> None:
        self.engine = engine
        self.pool = pool
        self.queue = queue
        self.attempts = attempts
        self.on_done = on_done
        self.on_tick = on_tick
        self.running: dict[concurrent.futures.Future[Any], Task] = {}
        self.given: dict[str, float] = {}

    def run(self, work: Callable[[Any], object]) -> None:
        """Run until the queue is empty or the pool is lost."""
        while True:
            self._fill(work)
            if not self.running:
                return
            done, _ = concurrent.futures.wait(
                self.running, timeout=_TICK_S, return_when=concurrent.futures.FIRST_COMPLETED
            )
            lost = False
            for future in done:
                lost |= not self._collect(future)
            if lost or self._stalled() or (self.running and not self.pool.active):
                self._give_back(*self.running.values())
                raise _PoolLostError("the worker processes could not be kept running")
            if self.on_tick is not None:
                self.on_tick()

    def _fill(self, work: Callable[[Any], object]) -> None:
        """Give the pool no more than it can run at once: the order of jobs stays ours."""
        while len(self.running) < self.engine.workers and (task := self.queue.pop()) is not None:
            self.attempts[task.id] = self.attempts.get(task.id, 0) + 1
            try:
                future = self.pool.schedule(
                    _guarded, args=(work, task.payload), timeout=self.engine.timeout_s
                )
            except RuntimeError as error:  # the pool broke since the last look
                self._give_back(task, *self.running.values())
                raise _PoolLostError(str(error)) from error
            self.running[future] = task
            self.given[task.id] = time.monotonic()

    def _give_back(self, *tasks: Task) -> None:
        """Put tasks back that a lost pool had: that was no attempt of theirs."""
        for task in tasks:
            self.attempts[task.id] -= 1
            self.queue.push_front(task)

    def _stalled(self) -> bool:
        """Whether a job was handed over long ago and no worker has taken it."""
        now = time.monotonic()
        return any(
            not future.running() and now - self.given[task.id] > _START_LIMIT_S
            for future, task in self.running.items()
        )

    def _collect(self, future: concurrent.futures.Future[Any]) -> bool:
        """Take one ended job; False when the pool broke under it."""
        task = self.running.pop(future)
        attempts = self.attempts[task.id]
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            self._give_back(task)
            return False
        if error is None:
            raised = future.result()
            if raised is None:
                self._end(Outcome(task.id, "ok", attempts=attempts))
            else:
                line, detail = raised
                self._end(Outcome(task.id, "failed", line, detail, attempts))
        elif isinstance(error, pebble.ProcessExpired):
            if attempts <= self.engine.retries:
                self.queue.push_front(task)
            else:
                self._end(Outcome(task.id, "failed", _died(error, attempts), attempts=attempts))
        elif isinstance(error, concurrent.futures.TimeoutError):
            text = f"stopped at the time limit of {self.engine.timeout_s:g} s (--timeout)"
            self._end(Outcome(task.id, "failed", text, attempts=attempts))
        else:
            self._end(Outcome(task.id, "failed", last_line(error), attempts=attempts))
        return True

    def _end(self, outcome: Outcome) -> None:
        for ended in (outcome, *self.queue.end(outcome)):
            self.on_done(ended)


def _died(error: pebble.ProcessExpired, attempts: int) -> str:
    code = error.exitcode
    reason = f"signal {-code}" if code < 0 else f"exit code {code}"
    hint = "; killed from outside or out of memory: try fewer --workers" if code == -9 else ""
    return f"its worker process died {attempts} times ({reason}{hint})"


def _give_up(queue: Queue, lost: BaseException, on_done: Callable[[Outcome], None]) -> None:
    """End every task that is left: workers die faster than they can be started."""
    while (task := queue.pop()) is not None:
        outcome = Outcome(task.id, "failed", f"{lost}; started {_MAX_REBUILDS} times", attempts=0)
        for ended in (outcome, *queue.end(outcome)):
            on_done(ended)
