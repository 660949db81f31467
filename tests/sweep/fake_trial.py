"""A stand-in for training: jobs that sleep, fail or die as their payload says.

Also a program: `python fake_trial.py FOLDER SLEEP_S RATIOS` runs a fake sweep into FOLDER, so that
a test can kill a whole command and start it again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from compressor.errors import UnknownNameError
from compressor.sweep.engines.local import LocalEngine
from compressor.sweep.execute import blank_record, execute
from compressor.sweep.plan import Grid, Job, build_plan, parse_ratios
from compressor.sweep.store import RunFolder

SETTINGS = {"model": "fake"}


def touch(folder: Path, name: str) -> int:
    """Leave a mark that a job was started; returns how often it was by now."""
    marks = folder / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    count = len(list(marks.glob(f"{name}.*"))) + 1
    (marks / f"{name}.{count}").write_text(str(os.getpid()))
    return count


def marks(folder: Path) -> dict[str, int]:
    """How often each job was started."""
    counts: dict[str, int] = {}
    for path in (folder / "marks").glob("*"):
        name = path.name.rsplit(".", 1)[0]
        counts[name] = counts.get(name, 0) + 1
    return counts


def work(payload: dict[str, Any]) -> None:
    """Do one fake job: {"folder", "job", "sleep_s", "do"}."""
    folder, job = RunFolder(Path(payload["folder"])), payload["job"]
    times = touch(folder.path.parent, job.id)
    match payload.get("do"):
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once" if times == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise UnknownNameError("network", "seresnet19", ["seresnet18"])
        case "crash":
            raise ZeroDivisionError("division by zero in layer 3")
        case "hang":
            time.sleep(600)
    time.sleep(payload.get("sleep_s", 0.0))
    folder.model_file(job.id).parent.mkdir(parents=True, exist_ok=True)
    folder.model_file(job.id).write_bytes(b"model")
    part = {"n": 10, "accuracy": 0.5, "macro_accuracy": 0.5, "log_loss": 1.0}
    folder.write_record(
        {**blank_record(job, SETTINGS), "status": "ok", "after_finetune": part, "params": 7}
    )


def plan(ratios: str = "0.5,0.6", seeds: tuple[int, ...] = (0,)) -> tuple[Job, ...]:
    """A small plan."""
    return build_plan(Grid((1,), seeds, parse_ratios(ratios)), dense=SETTINGS, point={})


def run(
    path: Path,
    *,
    engine: Any,
    jobs: tuple[Job, ...] | None = None,
    do: dict[str, str] | None = None,
    sleep_s: float = 0.0,
) -> dict[str, str]:
    """A fake sweep into `path`; `do` says what goes wrong in which job."""
    folder = RunFolder(path)
    jobs = plan() if jobs is None else jobs
    payloads = {
        job.id: {
            "folder": str(path),
            "job": job,
            "do": (do or {}).get(job.id),
            "sleep_s": 0.0 if job.kind == "dense" else sleep_s,
        }
        for job in jobs
    }
    with folder.locked():
        folder.open_run({"settings": SETTINGS, "grid": {"jobs": [job.id for job in jobs]}})
        return execute(folder, jobs, work=work, payloads=payloads, engine=engine, common=SETTINGS)


if __name__ == "__main__":
    try:
        run(
            Path(sys.argv[1]),
            engine=LocalEngine(2),
            jobs=plan(sys.argv[3]),
            sleep_s=float(sys.argv[2]),
        )
    except KeyboardInterrupt:
        sys.exit(130)
