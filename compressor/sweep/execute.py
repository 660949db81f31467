"""Run a plan into a run folder: the plan minus what is finished, failures kept as records.

The general half of a sweep: it knows jobs, records and engines, and nothing of networks. Which
work a job is comes in as a function.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from compressor.sweep.engines import Engine, Outcome, Task
from compressor.sweep.plan import Job, remaining
from compressor.sweep.store import RECORD_SCHEMA, RunFolder

__all__ = ["Counter", "Silent", "Watch", "blank_record", "execute"]


class Counter(Protocol):
    """A running count (`compressor.cli.console.Progress`)."""

    def advance(self, text: str = "", step: int = 1) -> None:
        """Count `step` more as done."""

    def update(self, done: int, total: int) -> None:
        """Set the count."""


class Watch(Protocol):
    """Who is told how a sweep goes; `compressor.cli.console` is one."""

    def note(self, text: str) -> None:
        """One line of news."""

    def progress(self, description: str, total: int) -> AbstractContextManager[Counter]:
        """A running count."""

    def on_progress(self, description: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A callback (done, total) for long steps of the lower floors."""


class _NoCounter:
    def advance(self, text: str = "", step: int = 1) -> None:
        """Nobody listens."""

    def update(self, done: int, total: int) -> None:
        """Nobody listens."""


class Silent:
    """A watch that tells nobody: for calls from Python and tests."""

    def note(self, text: str) -> None:
        """Drop the line."""

    def progress(self, description: str, total: int) -> AbstractContextManager[Counter]:
        """Count for nobody."""
        return contextlib.nullcontext(_NoCounter())

    def on_progress(self, description: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """Count for nobody."""
        return contextlib.nullcontext(lambda done, total: None)


def blank_record(job: Job, common: Mapping[str, Any]) -> dict[str, Any]:
    """A record with every key of the schema, nothing measured yet.

    Args:
        job: the job it is for.
        common: keys every job of the run shares (model, settings, provenance ...).

    Returns:
        Plain JSON; keys that only a finished job can fill are None or empty.
    """
    return {
        "schema": RECORD_SCHEMA,
        "id": job.id,
        "status": "failed",
        "error": None,
        "settings_hash": job.settings_hash,
        "model": "",
        "model_args": {},
        "method": job.method,
        "prune_by": job.prune_by,
        "prune_ratio": job.prune_ratio,
        "target_params": job.target_params,
        "quantize": job.quantize,
        "fold": job.fold,
        "seed": job.seed,
        "params": None,
        "nonzero_params": None,
        "bytes_float32": None,
        "bytes_float16": None,
        "bytes_int8": None,
        "bytes_stored": None,
        "stored_type": None,
        "macs": None,
        "macs_official": None,
        "peak_activation_bytes": None,
        "params_dense": None,
        "macs_dense": None,
        "threshold": None,
        "channels_under_threshold": None,
        "channels_total": None,
        "kept_channels": {},
        "before_finetune": None,
        "after_finetune": None,
        "dense": None,
        "float": None,
        "measured_in": None,
        "verdicts": [],
        "verdict_number_type": None,
        "train_settings": {},
        "finetune_settings": {},
        "history": [],
        "model_file": None,
        "seconds": None,
        "cpu_seconds": None,
        "started": None,
        "provenance": {},
        **common,
    }


@dataclass
class _Count:
    """Progress in units of work (epochs), so that the estimate holds for long and short jobs."""

    folder: RunFolder
    weights: Mapping[str, int]
    counter: Counter
    open: list[str]
    total: int
    done: int = 0
    shown: int = 0
    partial: dict[str, int] = field(default_factory=dict)

    def tick(self) -> None:
        """Read how far the running jobs say they are."""
        for job_id in self.open:
            with contextlib.suppress(OSError, ValueError):
                said = int(self.folder.progress_file(job_id).read_text())
                self.partial[job_id] = min(said, self.weights[job_id])
        now = self.done + sum(self.partial.values())
        if now > self.shown:
            self.shown = now
            self.counter.update(now, self.total)

    def end(self, outcome: Outcome, text: str) -> None:
        """Count a whole job."""
        self.open.remove(outcome.task_id)
        self.partial.pop(outcome.task_id, None)
        self.done += self.weights[outcome.task_id]
        now = max(self.shown, self.done + sum(self.partial.values()))
        self.counter.advance(text, now - self.shown)
        self.shown = now


def execute(
    folder: RunFolder,
    jobs: Sequence[Job],
    *,
    work: Callable[[Any], object],
    payloads: Mapping[str, Any],
    engine: Engine,
    common: Mapping[str, Any],
    weights: Mapping[str, int] | None = None,
    watch: Watch | None = None,
    live: bool = False,
) -> dict[str, str]:
    """Run the jobs that are not finished yet.

    Args:
        folder: the run folder, held by this process.
        jobs: the whole plan.
        work: does one job from its payload and writes its record.
        payloads: a payload for each job id.
        engine: where the jobs run.
        common: keys of a failed job's record that all jobs share.
        weights: size of each job in units of progress (epochs); one each by default.
        watch: who is told.
        live: show the progress inside running jobs too (a terminal; too much for a log).

    Returns:
        Failed jobs: id and one line that says why. Their records say the same.
    """
    watch = watch or Silent()
    todo = remaining(jobs, folder.finished(jobs))
    sizes = {job.id: (weights or {}).get(job.id, 1) for job in todo}
    by_id = {job.id: job for job in todo}
    failed: dict[str, str] = {}
    if not todo:
        return failed
    shutil.rmtree(folder.path / ".progress", ignore_errors=True)
    with watch.progress("sweep", sum(sizes.values())) as counter:
        count = _Count(folder, sizes, counter, [job.id for job in todo], sum(sizes.values()))

        def on_done(outcome: Outcome) -> None:
            job = by_id[outcome.task_id]
            if outcome.status == "ok":
                folder.log_file(job.id).unlink(missing_ok=True)  # of an earlier, failed start
            else:
                failed[job.id] = outcome.error
                folder.fail(
                    job, {**blank_record(job, common), "error": outcome.error}, outcome.detail
                )
            count.end(outcome, _describe(folder, outcome))

        try:
            engine.run(
                work,
                [Task(job.id, job.needs, payloads[job.id]) for job in todo],
                on_done=on_done,
                on_tick=count.tick if live else None,
            )
        finally:
            shutil.rmtree(folder.path / ".progress", ignore_errors=True)
    return failed


def _describe(folder: RunFolder, outcome: Outcome) -> str:
    """The line a finished job gets."""
    if outcome.status != "ok":
        return f"{outcome.task_id} {outcome.status}: {outcome.error}"
    record = folder.read_record(outcome.task_id) or {}
    after = record.get("after_finetune") or {}
    if "accuracy" not in after:
        return outcome.task_id
    accuracy, params = after["accuracy"], record["params"]
    return f"{outcome.task_id}: accuracy {100 * accuracy:.1f} %, {params:,} parameters"
