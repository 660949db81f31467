"""One job of a sweep, in whatever process: make a network, measure it, leave its record.

A dense job trains the network (or takes a checkpoint) and evaluates it; points
(`compressor.sweep.pruned`) prune and fine-tune it; quantised jobs (`compressor.sweep.quantized`)
store what either made in another number type. Everything a job needs comes in its task; everything
it makes is in the run folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import MeasureError
from compressor.sweep.execute import blank_record
from compressor.sweep.experiment import (
    Experiment,
    build_network,
    data_identity,
    input_shape,
    load_features,
    network_arguments,
    shape_of,
)
from compressor.sweep.plan import Job
from compressor.sweep.store import RunFolder

if TYPE_CHECKING:
    from torch import nn

    from compressor.artifact import Artifact
    from compressor.audit import AuditResult
    from compressor.data.features import Features
    from compressor.training import Evaluation

__all__ = [
    "OnEpoch",
    "TrialTask",
    "common_keys",
    "describe",
    "evaluate_on",
    "finished_record",
    "measure",
    "run_trial",
    "save_artifact",
    "train_dense",
]

VERDICT_NUMBER_TYPE = "float16"  # the number type in which a point's parameters are judged

OnEpoch = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class TrialTask:
    """Everything one job needs, as plain data.

    Attributes:
        job: which job.
        experiment: data, network and settings.
        folder: the run folder.
        checkpoint: for a dense job, a model file to take instead of training.
        provenance: command, versions, platform, commit of the run.
    """

    job: Job
    experiment: Experiment
    folder: str
    checkpoint: str | None
    provenance: Mapping[str, Any]


def common_keys(experiment: Experiment, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a record that are known before the job runs."""
    return {
        "model": experiment.model,
        "model_args": dict(experiment.model_args),
        "train_settings": experiment.train.to_dict(),
        "finetune_settings": experiment.finetune.to_dict(),
        "provenance": dict(provenance),
    }


def run_trial(task: TrialTask) -> None:
    """Do one job and write its model file, then its record.

    Raises:
        CompressorError: the job cannot be done; nothing is written then.
    """
    job, experiment = task.job, task.experiment
    folder = RunFolder(Path(task.folder))
    wall, cpu = time.perf_counter(), time.process_time()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    features = load_features(experiment, job.fold)
    provenance = {
        **task.provenance,
        "seed": job.seed,
        "data_hash": features.data_hash,
    }
    on_epoch = _reporter(folder.progress_file(job.id))
    if job.kind == "dense":
        artifact, found = _dense(task, features, provenance, on_epoch)
    elif job.kind == "point":
        from compressor.sweep.pruned import pruned_point

        artifact, found = pruned_point(task, folder, features, provenance, on_epoch)
    else:
        from compressor.sweep.quantized import quantized_point

        artifact, found = quantized_point(task, folder, features, provenance, on_epoch)
    save_artifact(artifact, folder.model_file(job.id))
    found |= _stored(folder.model_file(job.id), quantized=job.kind == "quantized")
    folder.write_record(
        {
            **blank_record(job, common_keys(experiment, provenance)),
            "status": "ok",
            **found,
            "model_file": str(folder.model_file(job.id).relative_to(folder.path)),
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "started": started,
        }
    )


def finished_record(folder: RunFolder, job_id: str) -> dict[str, Any]:
    """The record of a job that another one needs.

    Raises:
        MeasureError: it is not there.
    """
    record = folder.read_record(job_id)
    if record is None:
        raise MeasureError(f"{folder.record_file(job_id)} is missing or broken: start again")
    return record


def _reporter(path: Path) -> OnEpoch:
    """Says in a file how many epochs are done; the command reads it for its progress bar."""

    def on_epoch(epoch: int, epochs: int, _: dict[str, float]) -> None:
        with contextlib.suppress(OSError):  # never worth losing a job
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(epoch))

    return on_epoch


def save_artifact(artifact: Artifact, path: Path) -> None:
    """Write a model file, atomically, and the folder it belongs in."""
    from compressor.artifact import save

    path.parent.mkdir(parents=True, exist_ok=True)
    save(artifact, path)


def train_dense(
    experiment: Experiment,
    features: Features,
    *,
    seed: int,
    provenance: Mapping[str, Any],
    on_epoch: OnEpoch | None = None,
    dtype: str = "float32",
    checkpoint: Path | None = None,
) -> tuple[Artifact, Evaluation]:
    """Train the dense network and evaluate it on the test part.

    Args:
        experiment: network, data and settings.
        features: of one fold.
        seed: of weights, order of clips and augmentation.
        provenance: what the file says of its making.
        on_epoch: called after each epoch.
        dtype: number type in which the network is stored; its results are those of what is stored.
        checkpoint: file from which an interrupted training goes on; None keeps none.

    Returns:
        The network as an artifact, and its results on the test part.
    """
    import zoo
    from compressor.training import fit

    layout = zoo.entry(experiment.model).layout
    model = build_network(experiment, shape_of(features), features.dataset.classes, seed=seed)
    result = fit(
        model,
        features.train,
        experiment.train,
        standardizer=features.standardizer,
        layout=layout,
        seed=seed,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )
    if dtype == "float16":
        model.half().float()
    scores = evaluate_on(model, experiment, features)
    step = {
        "step": "train",
        "settings": experiment.train.to_dict(),
        "seed": seed,
        "fold": features.dataset.fold,
        "data": data_identity(features),
        "clip_s": features.dataset.clip_s,
        "best_epoch": result.best_epoch,
        "validation": None if result.validation is None else result.validation.to_dict(),
        "epochs": [dict(record) for record in result.history],
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
    }
    artifact = describe(
        model,
        experiment,
        features,
        history=(step,),
        scores=scores,
        provenance=provenance,
        dtype=dtype,
    )
    return artifact, scores


def evaluate_on(model: nn.Module, experiment: Experiment, features: Features) -> Evaluation:
    """Results of a float network on the test part, as its training settings evaluate it."""
    import zoo
    from compressor.training import evaluate

    return evaluate(
        model,
        features.test,
        standardizer=features.standardizer,
        layout=zoo.entry(experiment.model).layout,
        settings=experiment.train,
    )


def describe(
    model: nn.Module,
    experiment: Experiment,
    features: Features,
    *,
    history: tuple[dict[str, Any], ...],
    scores: Evaluation,
    provenance: Mapping[str, Any],
    dtype: str = "float32",
) -> Artifact:
    """A float network of this experiment as an artifact, with its results."""
    import zoo
    from compressor.artifact import from_model

    return from_model(
        model,
        arch=experiment.model,
        arch_args=network_arguments(experiment, shape_of(features), features.dataset.classes),
        num_classes=len(features.dataset.classes),
        classes=features.dataset.classes,
        input_shape=input_shape(experiment.model, shape_of(features)),
        layout=zoo.entry(experiment.model).layout,
        front_end=features.front_end.to_dict(),
        standardizer=features.standardizer.to_dict(),
        history=history,
        metrics={"test": scores.to_dict(), "data": data_identity(features)},
        provenance=dict(provenance),
        dtype=dtype,
    )


def measure(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Sizes, MACs and verdicts of a float32 network, as a record holds them.

    The verdicts are those of the network stored as float16, as the papers submit theirs: the cast
    costs no accuracy worth naming. Other number types are a matter of quantised points.

    Args:
        model: the network.
        shape: its input without the batch axis.
    """
    from compressor.audit import audit, planned_bytes, verdicts

    result = audit(model, input_shape=(1, *shape))
    half = dataclasses.replace(
        result,
        param_bytes=planned_bytes(result, VERDICT_NUMBER_TYPE),
        bytes_by_dtype={VERDICT_NUMBER_TYPE: planned_bytes(result, VERDICT_NUMBER_TYPE)},
        bytes_by_convention={k: count // 2 for k, count in result.bytes_by_convention.items()},
    )
    return {
        "params": result.params,
        "nonzero_params": result.nonzero_params,
        "bytes_float32": planned_bytes(result, "float32"),
        "bytes_float16": planned_bytes(result, "float16"),
        "bytes_int8": planned_bytes(result, "int8"),
        "macs": result.macs_by_convention["strict"],
        "macs_official": result.macs_by_convention["nessi"],
        "peak_activation_bytes": result.peak_activation_bytes,
        "verdicts": [verdict.to_dict() for verdict in verdicts(half)],
        "verdict_number_type": VERDICT_NUMBER_TYPE,
        **_counted(result),
    }


def _counted(result: AuditResult) -> dict[str, Any]:
    """Where parameters and MACs sit (by layer), how sure the count is, and what it left out."""
    layers: dict[str, list[int]] = {}
    for row in result.layers:
        if row.params or row.macs:
            pair = layers.setdefault(row.name or "(whole network)", [0, 0])
            pair[0] += row.params
            pair[1] += row.macs
    return {
        "layers": layers,
        "audit_status": result.status,
        "uncounted": list(result.uncounted),
    }


def _stored(path: Path, *, quantized: bool) -> dict[str, Any]:
    """What the audit of the written model file counts: its bytes and their number type.

    A float network is judged as float16 (see `measure`), any other as it is stored.
    """
    from compressor.audit import audit, verdicts

    result = audit(path)
    types = result.bytes_by_dtype
    kind = max(types, key=lambda name: types[name]) if types else "float32"
    found: dict[str, Any] = {"bytes_stored": result.param_bytes, "stored_type": kind}
    if not quantized:
        return found
    return {
        **found,
        "params": result.params,
        "nonzero_params": result.nonzero_params,
        "bytes_float16": result.param_bytes if kind == "float16" else None,
        "bytes_int8": result.param_bytes if kind == "int8" else None,
        "macs": result.macs_by_convention["strict"],
        "macs_official": result.macs_by_convention["nessi"],
        "peak_activation_bytes": result.peak_activation_bytes,
        "verdicts": [verdict.to_dict() for verdict in verdicts(result)],
        "verdict_number_type": kind,
        **_counted(result),
    }


def _dense(
    task: TrialTask, features: Features, provenance: Mapping[str, Any], on_epoch: OnEpoch
) -> tuple[Artifact, dict[str, Any]]:
    """The dense network: its artifact and what its record says."""
    from compressor.artifact import load

    experiment, job = task.experiment, task.job
    if task.checkpoint is not None:
        artifact = load(Path(task.checkpoint))
        model = artifact.build()
        scores = evaluate_on(model, experiment, features)
    else:
        artifact, scores = train_dense(
            experiment, features, seed=job.seed, provenance=provenance, on_epoch=on_epoch
        )
        model = artifact.build()
    sizes = measure(model, input_shape(experiment.model, shape_of(features)))
    return artifact, {
        **sizes,
        "params_dense": sizes["params"],
        "macs_dense": sizes["macs"],
        "after_finetune": scores.to_dict(),
        "finetune_settings": {},
        "history": list(artifact.history[-1]["epochs"]),
        "checkpoint": None if task.checkpoint is None else Path(task.checkpoint).name,
    }
