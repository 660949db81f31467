"""The run folder: what a sweep leaves on disk and what a second start reads back.

`run.json` says what is being run; each job writes one record to `points/` through a temporary file
and a rename, so that a record is whole or not there. A job is finished when its record is valid,
says `ok`, carries the job's settings hash, and its model file exists. Standard library only.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compressor.errors import UsageError
from compressor.sweep.plan import Job

__all__ = ["RECORD_SCHEMA", "RunFolder", "write_json", "write_text"]

RECORD_SCHEMA = 1  # version of the record's keys

Record = dict[str, Any]


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # the rename must not reach the disk before the content
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, data: object) -> None:
    """Write plain data as JSON, atomically; NaN and infinity are refused (they are not JSON)."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def _read_json(path: Path) -> Record | None:
    """The file's object, or None when it is missing, broken or not an object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


class RunFolder:
    """Reads and writes one run folder.

    Attributes:
        path: the folder given with `--out`.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is created until something is written."""
        self.path = path
        self.run_file = path / "run.json"

    def record_file(self, job_id: str) -> Path:
        """Where the job's record is."""
        return self.path / "points" / f"{job_id}.json"

    def model_file(self, job_id: str) -> Path:
        """Where the job's network is."""
        return self.path / "models" / f"{job_id}.pt"

    def log_file(self, job_id: str) -> Path:
        """Where a failed job's traceback is."""
        return self.path / "logs" / f"{job_id}.txt"

    def progress_file(self, job_id: str) -> Path:
        """Where a running job says how far it is (epochs done, as text)."""
        return self.path / ".progress" / job_id

    # -- the run ----------------------------------------------------------------------------------

    def read_run(self) -> Record | None:
        """The content of `run.json`, or None."""
        return _read_json(self.run_file)

    def open_run(self, run: Mapping[str, Any]) -> Record:
        """Write `run.json`, or join the run that is there.

        The grid may grow or shrink between two starts; what decides the results may not change.

        Args:
            run: the run's description; `run["settings"]` decides results, `run["grid"]` holds
                lists of folds, seeds, ratios ...

        Returns:
            What now stands in `run.json`: `run` with the grids of all starts joined and the time of
            the first start.

        Raises:
            UsageError: the folder holds another run, or is not a run folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file; name a folder")
        old = self.read_run()
        if old is None:
            if self.run_file.exists() or any((self.path / "points").glob("*.json")):
                raise UsageError(
                    f"--out {self.path} holds results but no readable run.json; "
                    "use another --out or remove the folder"
                )
            if self.path.exists() and any(
                entry.name != "run.lock" for entry in self.path.iterdir()
            ):
                raise UsageError(
                    f"--out {self.path} is not empty and not a run folder; use another --out"
                )
        joined = dict(run)
        if old is not None:
            self._check_compatible(old, run)
            joined["started"] = old.get("started", run.get("started"))
            joined["grid"] = _join_grids(old.get("grid", {}), run["grid"])
        write_json(self.run_file, joined)
        return joined

    def _check_compatible(self, old: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        changed = list(_differences(old.get("settings"), run["settings"]))
        if changed:
            raise UsageError(
                f"--out {self.path} holds a run with other settings: {'; '.join(changed[:6])}"
                f"{' ...' if len(changed) > 6 else ''}. Its results stay as they are: use another "
                "--out, or give the old settings (ratios, seeds and folds may be added)"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: two sweeps must not run the same jobs into it at once.

        Raises:
            UsageError: another process holds it.
        """
        self.check()
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks in the standard library
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "run.lock").open("w")
        except OSError as error:
            raise UsageError(f"--out {self.path} cannot be written: {error}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"another sweep is running in {self.path}; wait for it or use another --out"
                ) from None
            yield  # the lock goes with the file, also when the process is killed

    def check(self) -> None:
        """Refuses a path that cannot be a run folder.

        Raises:
            UsageError: it is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file; name a folder")

    # -- the records ------------------------------------------------------------------------------

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write one job's record, atomically."""
        write_json(self.record_file(str(record["id"])), dict(record))

    def fail(self, job: Job, record: Mapping[str, Any], detail: str) -> None:
        """Write the record of a job that failed, and its traceback to the log."""
        if detail:
            write_text(self.log_file(job.id), detail)
        self.write_record({**record, "status": "failed"})

    def read_record(self, job_id: str) -> Record | None:
        """A job's record, or None when it is missing, broken or another job's."""
        record = _read_json(self.record_file(job_id))
        if record is None or record.get("id") != job_id or record.get("schema") != RECORD_SCHEMA:
            return None
        return record

    def finished(self, jobs: Sequence[Job]) -> set[str]:
        """Ids of the jobs whose result is there and belongs to these settings."""
        done = set()
        for job in jobs:
            record = self.read_record(job.id)
            if (
                record is not None
                and record.get("status") == "ok"
                and record.get("settings_hash") == job.settings_hash
                and self.model_file(job.id).is_file()
            ):
                done.add(job.id)
        return done

    def records(self) -> list[Record]:
        """All valid records of the folder, sorted by fold, seed, method and size of the cut."""
        found = [self.read_record(path.stem) for path in (self.path / "points").glob("*.json")]
        return sorted(
            (record for record in found if record is not None),
            key=lambda r: (
                r["fold"],
                r["seed"],
                r["method"] != "dense",
                r["method"],
                -1.0 if r["prune_ratio"] is None else r["prune_ratio"],
                r["id"],
            ),
        )


def _join_grids(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Both grids' values, list by list, in order."""
    return {key: sorted({*old.get(key, []), *new.get(key, [])}) for key in {**old, **new}}


def _differences(old: object, new: object, name: str = "") -> Iterator[str]:
    """Say where two plain JSON values differ, as `name: old in the folder, new asked`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif json.dumps(old) != json.dumps(new):
        yield f"{name}: {json.dumps(old)} in the folder, {json.dumps(new)} asked"
