"""Engines: order, failures, killed workers, time limits; and starting a killed command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import fake_trial
import psutil
import pytest
from fake_trial import marks, plan, run

from compressor.sweep.engines import make_engine
from compressor.sweep.engines.base import Outcome, Queue, Task
from compressor.sweep.engines.inline import InlineEngine
from compressor.sweep.engines.local import LocalEngine
from compressor.sweep.store import RunFolder

DENSE, FIRST, SECOND = (job.id for job in plan())


def test_queue_keeps_order_and_needs() -> None:
    queue = Queue([Task("b", ("a",), 0), Task("a", (), 0), Task("c", ("elsewhere",), 0)])
    first, second = queue.pop(), queue.pop()
    assert first is not None and first.id == "a"
    assert second is not None and second.id == "c"  # what is not in the run counts as done
    assert queue.pop() is None and len(queue) == 1
    assert queue.end(Outcome("a", "ok")) == []
    third = queue.pop()
    assert third is not None and third.id == "b"


def test_queue_skips_what_needs_a_failed_task() -> None:
    queue = Queue([Task("a", (), 0), Task("b", ("a",), 0), Task("c", ("b",), 0), Task("d", (), 0)])
    queue.pop()
    skipped = queue.end(Outcome("a", "failed", "broke"))
    assert [(outcome.task_id, outcome.status) for outcome in skipped] == [
        ("b", "skipped"),
        ("c", "skipped"),
    ]
    assert "a, which it needs, failed (broke)" in skipped[0].error
    assert len(queue) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_failures_are_kept_beside_results(tmp_path: Path, workers: int) -> None:
    out = tmp_path / "run"
    do = {FIRST: "crash"}
    failed = run(out, engine=make_engine(workers), do=do)
    assert failed == {FIRST: "ZeroDivisionError: division by zero in layer 3"}
    folder = RunFolder(out)
    assert folder.finished(plan()) == {DENSE, SECOND}
    record = folder.read_record(FIRST)
    assert record is not None
    assert (record["status"], record["error"]) == ("failed", failed[FIRST])
    assert "fake_trial.py" in folder.log_file(FIRST).read_text()
    assert not (out / ".progress").exists()
    # the next start runs what failed, and only that
    assert run(out, engine=make_engine(workers)) == {}
    assert marks(tmp_path) == {DENSE: 1, FIRST: 2, SECOND: 1}
    assert not folder.log_file(FIRST).exists()


def test_an_error_that_cannot_be_pickled_back(tmp_path: Path) -> None:
    failed = run(tmp_path / "run", engine=LocalEngine(1), do={DENSE: "raise"})
    assert failed[DENSE] == "unknown network 'seresnet19'; did you mean seresnet18?"
    assert failed[FIRST].startswith(f"not run: {DENSE}, which it needs, failed")
    assert failed.keys() == {DENSE, FIRST, SECOND}


def test_a_killed_worker_loses_only_its_job_which_is_retried(tmp_path: Path) -> None:
    jobs = plan("0.5,0.6,0.7")
    failed = run(
        tmp_path / "run", engine=LocalEngine(2), jobs=jobs, do={FIRST: "die once"}, sleep_s=0.5
    )
    assert failed == {}
    counts = marks(tmp_path)
    assert counts.pop(FIRST) == 2
    assert set(counts.values()) == {1}
    assert RunFolder(tmp_path / "run").finished(jobs) == {job.id for job in jobs}


def test_retries_are_limited(tmp_path: Path) -> None:
    failed = run(tmp_path / "run", engine=LocalEngine(1, retries=1), do={FIRST: "die"})
    assert failed.keys() == {FIRST}
    assert "died 2 times (signal 9" in failed[FIRST] and "fewer --workers" in failed[FIRST]
    assert marks(tmp_path) == {DENSE: 1, FIRST: 2, SECOND: 1}


def test_time_limit(tmp_path: Path) -> None:
    start = time.monotonic()
    failed = run(tmp_path / "run", engine=LocalEngine(2, timeout_s=2.0), do={FIRST: "hang"})
    assert failed == {FIRST: "stopped at the time limit of 2 s (--timeout)"}
    assert marks(tmp_path) == {DENSE: 1, FIRST: 1, SECOND: 1}
    assert time.monotonic() - start < 60


def test_a_worker_killed_while_idle(tmp_path: Path) -> None:
    """The pool breaks as a whole then; it is made anew and no job is lost."""
    engine = LocalEngine(2)
    killed: list[int] = []

    class KillIdle(InlineEngine):
        def run(self, work, tasks, *, on_done, on_tick=None):  # type: ignore[no-untyped-def]
            def done(outcome: Outcome) -> None:
                on_done(outcome)
                if outcome.task_id == DENSE:  # nothing runs at this moment
                    for child in psutil.Process().children():
                        if "spawn_main" in " ".join(child.cmdline()):
                            killed.append(child.pid)
                            child.kill()

            engine.run(work, tasks, on_done=done, on_tick=on_tick)

    assert run(tmp_path / "run", engine=KillIdle()) == {}
    assert killed
    assert RunFolder(tmp_path / "run").finished(plan()) == {DENSE, FIRST, SECOND}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_command_repeats_nothing_finished(tmp_path: Path, how: signal.Signals) -> None:
    out, ratios = tmp_path / "run", "0.3,0.4,0.5,0.6"
    jobs = plan(ratios)
    folder = RunFolder(out)
    command = [sys.executable, fake_trial.__file__, str(out), "1.5", ratios]
    # tests started in the background of a shell have SIGINT ignored, and so do their children
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=Path.cwd(), preexec_fn=listen)  # noqa: PLW1509
    deadline = time.monotonic() + 60
    while len(folder.finished(jobs)) < 3:  # dense and two points; two more are running
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children()
    os.kill(process.pid, how)
    assert process.wait(timeout=30) == (130 if how == signal.SIGINT else -how)
    _, alive = psutil.wait_procs(workers, timeout=15)
    assert not alive, "workers outlived the command"
    finished = folder.finished(jobs)
    assert 3 <= len(finished) < len(jobs)
    before = {job_id: folder.record_file(job_id).stat().st_mtime_ns for job_id in finished}
    assert subprocess.run([*command[:-2], "0", ratios], timeout=60, check=False).returncode == 0
    assert folder.finished(jobs) == {job.id for job in jobs}
    after = {job_id: folder.record_file(job_id).stat().st_mtime_ns for job_id in finished}
    assert after == before
    assert all(count == 1 for name, count in marks(tmp_path).items() if name in finished)
