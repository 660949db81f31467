"""A whole sweep: data, plan, jobs, summary, report.

`run_sweep` does what `compressor sweep` prints. Nothing here prints: a `Watch` is told.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor import provenance, runtime
from compressor.audio.front_end import in_words_of
from compressor.sweep import checkpoint, trial
from compressor.sweep.engines import make_engine
from compressor.sweep.execute import Silent, Watch, execute
from compressor.sweep.experiment import (
    Experiment,
    check_folds,
    data_identity,
    input_shape,
    load_features,
    open_features,
    shape_of,
)
from compressor.sweep.plan import Grid, Job, build_plan
from compressor.sweep.quantized import quantize_settings
from compressor.sweep.store import RECORD_SCHEMA, RunFolder, write_json, write_text
from compressor.sweep.summary import summarise, to_csv

if TYPE_CHECKING:
    from compressor.data.features import Features

__all__ = ["SweepConfig", "SweepResult", "default_out", "run_sweep"]


@dataclass(frozen=True)
class SweepConfig:
    """What a sweep is told.

    Attributes:
        experiment: data, network and settings.
        grid: what is varied; no folds means the data set's default fold.
        out: the run folder.
        workers: worker processes; None is one a core, 0 runs in this process.
        timeout_s: time limit of one job in seconds; None for no limit.
        year: challenge year whose limits the table and the report judge by.
        from_scratch: train the dense network even where a checkpoint stands for it.
        command: the command line, for the record.
        live: show progress inside running jobs (a terminal).
    """

    experiment: Experiment
    grid: Grid
    out: Path
    workers: int | None = None
    timeout_s: float | None = None
    year: int = 2023
    from_scratch: bool = False
    command: tuple[str, ...] = ()
    live: bool = False


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left.

    Attributes:
        results: what stands in `results.json`: schema, run, points, summary.
        failed: jobs of this start that failed: id and one line that says why.
        report: the report page, or None when it could not be built (the note says why).
    """

    results: dict[str, Any]
    failed: dict[str, str]
    report: Path | None


@dataclass(frozen=True)
class _Setup:
    """A plan on its data."""

    jobs: tuple[Job, ...]
    checkpoints: dict[str, str]
    run: dict[str, Any]
    weights: dict[str, int] = field(default_factory=dict)


def default_out(model: str, data: str | None) -> Path:
    """`runs/<model>-<data>` where `--out` is not given."""
    name = "synthetic" if data is None else Path(data).name
    return Path("runs") / re.sub(r"[^A-Za-z0-9._-]+", "-", f"{model}-{name}").strip("-")


def _setup(config: SweepConfig, watch: Watch) -> _Setup:
    """Open the data, extract features, check the network, and unfold the plan."""
    experiment = config.experiment
    # One pass over all clips in this process: workers find everything in the cache.
    first = open_features(experiment, config.grid.folds[0] if config.grid.folds else None, watch)
    dataset = first.dataset
    folds = config.grid.folds or (dataset.fold,)
    check_folds(folds, dataset.folds, dataset.name)
    features = {fold: load_features(experiment, fold) for fold in folds}
    grid = dataclasses.replace(config.grid, folds=folds)
    found = {} if config.from_scratch else _checkpoints(experiment, features, grid.seeds, watch)
    one = features[folds[0]]
    settings = {
        "model": experiment.model,
        "model_args": dict(experiment.model_args),
        "data": data_identity(one),
        "front_end": _front_end(config.out, one),
        "input_shape": list(input_shape(experiment.model, shape_of(one))),
        "train": experiment.train.to_dict(),
        "checkpoint": next(iter({_digest(Path(path)) for path in found.values()}), None),
    }
    if code := _code(experiment.model):
        settings["code"] = code
    point: dict[str, Any] = {"finetune": experiment.finetune.to_dict()}
    if experiment.teacher:  # no key without one: runs of before there were teachers go on
        point["teacher"] = experiment.teacher
    jobs = build_plan(
        grid,
        dense=settings,
        point=point,
        quantize=quantize_settings(experiment, grid.quantize),
    )
    weights = {job.id: 1 if job.id in found else max(1, experiment.epochs(job)) for job in jobs}
    run = _describe(config, grid, one, {**settings, **point})
    return _Setup(jobs, found, run, weights)


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values)


def _checkpoints(
    experiment: Experiment, features: Mapping[int, Features], seeds: tuple[int, ...], watch: Watch
) -> dict[str, str]:
    """Files that stand for dense jobs, by job id."""
    said: set[str] = set()

    def note(text: str) -> None:
        if len(seeds) * len(features) == 1 and text not in said:  # other seeds are always trained
            watch.note(text)
            said.add(text)

    found = {}
    for fold, of_fold in features.items():
        for seed in seeds:
            path = checkpoint.find_checkpoint(experiment, of_fold, seed, note=note)
            if path is not None:
                found[f"f{fold}-s{seed}-dense"] = str(path)
    return found


def _front_end(out: Path, features: Features) -> dict[str, Any]:
    """The front-end; as the folder has it where only the words on its source differ.

    It decides the hashes of jobs: a source that was worded anew is not another run.
    """
    settings = (RunFolder(out).read_run() or {}).get("settings", {})
    found = settings.get("front_end") if isinstance(settings, Mapping) else None
    return in_words_of(found, features.front_end.to_dict())


def _code(model: str) -> str:
    """What a user's own network is, so that another version of it is not taken for the same."""
    import zoo.own

    return zoo.own.code_digest(model) if zoo.own.is_own(model) else ""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _describe(
    config: SweepConfig, grid: Grid, features: Features, settings: dict[str, Any]
) -> dict[str, Any]:
    """What stands in `run.json`."""
    dataset = features.dataset
    made = provenance.collect(command=config.command or None, data_hash=features.data_hash)
    folds = len(grid.folds)
    return {
        "schema": RECORD_SCHEMA,
        "model": config.experiment.model,
        "model_args": dict(config.experiment.model_args),
        "name": dataset.name,
        "title": dataset.title,
        "split": dataset.split if folds == 1 else f"{folds} folds: {_listed(grid.folds)}",
        "synthetic": dataset.synthetic,
        "classes": list(dataset.classes),
        "n_train": len(features.train),
        "n_test": len(features.test),
        "devices": {"seen": list(dataset.seen_devices), "unseen": list(dataset.unseen_devices)},
        "front_end": features.front_end.to_dict(),
        "sample_rate_hz": dataset.sample_rate_hz,
        "clip_s": dataset.clip_s,
        "notes": [*dataset.notes, *features.notes],
        "budget": {"year": config.year, "bytes": None, "macs": None},
        "settings": settings,
        "grid": {
            "folds": list(grid.folds),
            "seeds": list(grid.seeds),
            "ratios": list(grid.ratios),
            "methods": list(grid.methods),
            "quantize": list(grid.quantize),
            "prune_by": [grid.prune_by],
            "target_params": [] if grid.target_params is None else [grid.target_params],
        },
        "command": made["command"],
        "versions": made["versions"],
        "provenance": made,
        "started": _now(),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def run_sweep(config: SweepConfig, watch: Watch | None = None) -> SweepResult:
    """Run what is not finished of a sweep and write its results and its report.

    Args:
        config: what to run.
        watch: who is told how it goes.

    Returns:
        All results of the run folder, with what failed.

    Raises:
        CompressorError: bad settings, data or folder, found before any job starts.
        KeyboardInterrupt: passed on after the results so far are written.
    """
    watch = watch or Silent()
    folder = RunFolder(config.out)
    with folder.locked():
        setup = _setup(config, watch)
        run = folder.open_run(setup.run)
        done = folder.finished(setup.jobs)
        if done:
            watch.note(f"{len(done)} of {len(setup.jobs)} jobs are finished in {config.out}")
        workers = runtime.cores() if config.workers is None else config.workers
        tasks = {
            job.id: trial.TrialTask(
                job,
                config.experiment,
                str(config.out.absolute()),
                setup.checkpoints.get(job.id),
                run["provenance"],
            )
            for job in setup.jobs
        }
        try:
            failed = execute(
                folder,
                setup.jobs,
                work=trial.run_trial,
                payloads=tasks,
                engine=make_engine(workers, timeout_s=config.timeout_s),
                common=trial.common_keys(config.experiment, run["provenance"]),
                weights=setup.weights,
                watch=watch,
                live=config.live,
            )
        except KeyboardInterrupt:
            _write_results(folder, run, config.year)
            raise
        results = _write_results(folder, run, config.year)
        return SweepResult(results, failed, _write_report(folder, results, watch))


def _write_results(folder: RunFolder, run: dict[str, Any], year: int) -> dict[str, Any]:
    """`results.csv` and `results.json` of everything in the folder."""
    records = folder.records()
    run = {**run, "budget": _budget(records, year)}
    write_json(folder.run_file, run)
    results = {
        "schema": RECORD_SCHEMA,
        "run": run,
        "points": records,
        "summary": summarise(records, year),
    }
    write_json(folder.path / "results.json", results)
    write_text(folder.path / "results.csv", to_csv(records, year))
    return results


def _budget(records: list[dict[str, Any]], year: int) -> dict[str, Any]:
    """The year's limits as the audit's verdicts state them: bytes and MACs, None where no limit."""
    limits: dict[str, Any] = {"B": None, "MAC": None}
    for record in records:
        for verdict in record["verdicts"]:
            for check in verdict["checks"] if verdict["year"] == year else ():
                unit = "MAC" if str(check["unit"]).upper().startswith("MAC") else check["unit"]
                if limits.get(unit, 0) is None:
                    limits[unit] = check["limit"]
    from compressor.audit.rules import rules_for

    return {
        "year": year,
        "bytes": limits["B"],
        "macs": limits["MAC"],
        "segment_s": rules_for(year).segment_s,
    }


def _write_report(folder: RunFolder, results: dict[str, Any], watch: Watch) -> Path | None:
    """`report.html`; whatever goes wrong in it, the results are there already."""
    path = folder.path / "report.html"
    if not any(record["status"] == "ok" for record in results["points"]):
        return None
    try:
        from reports import sweep_page

        # The page shows what the file says, not what Python holds (tuples, float subclasses).
        sweep_page.write(json.loads(json.dumps(results)), path)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        watch.note(f"the report page could not be built ({text}); results.json is complete")
        return None
    return path
