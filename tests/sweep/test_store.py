"""The run folder: atomic records, what counts as finished, which runs may share a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fake_trial import plan

from compressor.errors import UsageError
from compressor.sweep.execute import blank_record
from compressor.sweep.plan import Grid, build_plan
from compressor.sweep.store import RunFolder, write_json

RUN = {
    "settings": {"model": "seresnet18", "train": {"epochs": 40, "lr": 0.005}},
    "grid": {"ratios": [0.5, 0.6], "seeds": [0]},
    "started": "2024-01-01T00:00:00+00:00",
}


def finish(folder: RunFolder, index: int, **changes: object) -> None:
    job = plan()[index]
    folder.write_record({**blank_record(job, {}), "status": "ok", **changes})
    folder.model_file(job.id).parent.mkdir(exist_ok=True)
    folder.model_file(job.id).touch()


def test_write_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


def test_finished_needs_record_status_hash_and_model(tmp_path: Path) -> None:
    folder, jobs = RunFolder(tmp_path), plan()
    assert folder.finished(jobs) == set()
    finish(folder, 0)
    finish(folder, 1)
    finish(folder, 2)
    assert folder.finished(jobs) == {job.id for job in jobs}
    finish(folder, 0, settings_hash="0" * 16)
    assert folder.finished(jobs) == {jobs[1].id, jobs[2].id}
    finish(folder, 0, status="failed")
    assert jobs[0].id not in folder.finished(jobs)
    finish(folder, 0, schema=99)
    assert jobs[0].id not in folder.finished(jobs)
    finish(folder, 0)
    assert jobs[0].id in folder.finished(jobs)
    folder.model_file(jobs[1].id).unlink()
    text = folder.record_file(jobs[2].id).read_text()
    folder.record_file(jobs[2].id).write_text(text[: len(text) // 2])
    assert folder.finished(jobs) == {jobs[0].id}


def test_records_are_sorted_and_skip_broken_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    jobs = build_plan(Grid((2, 1), (0,), (0.6, 0.5)), dense={}, point={})
    for job in jobs:
        folder.write_record(blank_record(job, {}))
    (tmp_path / "points" / "f9-s9-dense.json").write_text("{")
    assert [record["id"] for record in folder.records()] == [
        *("f1-s0-dense", "f1-s0-slimming-0.50", "f1-s0-slimming-0.60"),
        *("f2-s0-dense", "f2-s0-slimming-0.50", "f2-s0-slimming-0.60"),
    ]


def test_a_second_start_joins_the_grids(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.open_run(RUN)
    later = {**RUN, "grid": {"ratios": [0.7], "seeds": [1]}, "started": "2025"}
    joined = folder.open_run(later)
    assert joined["grid"] == {"ratios": [0.5, 0.6, 0.7], "seeds": [0, 1]}
    assert joined["started"] == RUN["started"]
    assert folder.read_run() == joined


def test_other_settings_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.open_run(RUN)
    before = folder.run_file.read_text()
    other = {**RUN, "settings": {"model": "seresnet18", "train": {"epochs": 20, "lr": 0.005}}}
    with pytest.raises(UsageError) as caught:
        folder.open_run(other)
    assert "train.epochs: 40 in the folder, 20 asked" in str(caught.value)
    assert "another --out" in str(caught.value)
    assert folder.run_file.read_text() == before


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UsageError, match="not a run folder"):
        RunFolder(tmp_path).open_run(RUN)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match="is a file"):
        RunFolder(file).open_run(RUN)
    broken = RunFolder(tmp_path / "broken")
    broken.open_run(RUN)
    broken.run_file.write_text("{")
    with pytest.raises(UsageError, match=r"no readable run\.json"):
        broken.open_run(RUN)


def test_one_sweep_a_folder(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with first.locked():
        first.open_run(RUN)
        with pytest.raises(UsageError, match="another sweep is running"), second.locked():
            pass
    with second.locked():
        second.open_run(RUN)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match="cannot be written"),
        RunFolder(tmp_path / "file" / "run").locked(),
    ):
        pass
