"""One job of a sweep, in whatever process: make a network, measure it, leave its record.

A dense job trains the network (or takes a checkpoint) and evaluates it. A point loads the dense
network, removes channels, estimates the BatchNorm statistics anew, evaluates, fine-tunes with the
training's own settings and evaluates again. Everything a job needs comes in its task; everything it
makes is in the run folder.
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
    example_input,
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
    from compressor.data.features import Features
    from compressor.methods.slimming import Slimming
    from compressor.training import Evaluation

__all__ = ["TrialTask", "common_keys", "measure", "run_trial", "save_artifact", "train_dense"]

# Clips whose batches re-estimate BatchNorm statistics: all of a small set, enough of a large one.
# Statistics of 512 clips of 40 bands and 51 frames are averages over 10^6 values a channel.
_BATCHNORM_CLIPS = 512
_BATCHNORM_BATCH = 64

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
    else:
        artifact, found = _point(task, folder, features, provenance, on_epoch)
    save_artifact(artifact, folder.model_file(job.id))
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
) -> tuple[Artifact, Evaluation]:
    """Train the dense network and evaluate it on the test part.

    Args:
        experiment: network, data and settings.
        features: of one fold.
        seed: of weights, order of clips and augmentation.
        provenance: what the file says of its making.
        on_epoch: called after each epoch.
        dtype: number type in which the network is stored; its results are those of what is stored.

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
    )
    if dtype == "float16":
        model.half().float()
    scores = _evaluate(model, experiment, features)
    step = {
        "step": "train",
        "settings": experiment.train.to_dict(),
        "seed": seed,
        "fold": features.dataset.fold,
        "data": data_identity(features),
        "best_epoch": result.best_epoch,
        "validation": None if result.validation is None else result.validation.to_dict(),
        "epochs": [dict(record) for record in result.history],
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
    }
    artifact = _artifact(
        model,
        experiment,
        features,
        history=(step,),
        scores=scores,
        provenance=provenance,
        dtype=dtype,
    )
    return artifact, scores


def _evaluate(model: nn.Module, experiment: Experiment, features: Features) -> Evaluation:
    import zoo
    from compressor.training import evaluate

    return evaluate(
        model,
        features.test,
        standardizer=features.standardizer,
        layout=zoo.entry(experiment.model).layout,
    )


def _artifact(
    model: nn.Module,
    experiment: Experiment,
    features: Features,
    *,
    history: tuple[dict[str, Any], ...],
    scores: Evaluation,
    provenance: Mapping[str, Any],
    dtype: str = "float32",
) -> Artifact:
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
        scores = _evaluate(model, experiment, features)
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


def _point(
    task: TrialTask,
    folder: RunFolder,
    features: Features,
    provenance: Mapping[str, Any],
    on_epoch: OnEpoch,
) -> tuple[Artifact, dict[str, Any]]:
    """A pruned network: its artifact and what its record says."""
    import zoo
    from compressor.artifact import load
    from compressor.methods.batchnorm import reestimate
    from compressor.methods.slimming import slim
    from compressor.training import batches, fit

    experiment, job = task.experiment, task.job
    entry = zoo.entry(experiment.model)
    dense = load(folder.model_file(job.needs[0]))
    dense_record = folder.read_record(job.needs[0])
    if dense_record is None:
        raise MeasureError(f"{folder.record_file(job.needs[0])} is missing or broken: start again")
    shape = input_shape(experiment.model, shape_of(features))
    network = dense.build()
    names = {name for name, _ in network.named_modules()}
    # The list is of the default build: with other --model-arg some of its layers may not be there.
    ignored = [name for name in entry.ignored_layers if name in names]
    result = slim(network, example_input(shape), slimming_config(job), ignored=ignored)
    model = result.model
    reestimate(
        model,
        batches(
            features.train,
            standardizer=features.standardizer,
            layout=entry.layout,
            batch_size=_BATCHNORM_BATCH,
            limit=_BATCHNORM_CLIPS,
            seed=job.seed,
        ),
    )
    before = _evaluate(model, experiment, features)
    tuned = fit(
        model,
        features.train,
        experiment.finetune,
        standardizer=features.standardizer,
        layout=entry.layout,
        seed=job.seed,
        on_epoch=on_epoch,
    )
    after = _evaluate(model, experiment, features)
    kept = {layer: list(counts) for layer, counts in result.kept.items()}
    steps = (
        *dense.history,
        {
            "step": job.method,
            "prune_by": job.prune_by,
            "prune_ratio": job.prune_ratio,
            "target_params": job.target_params,
            "threshold": result.threshold,
            "kept": kept,
        },
        {"step": "reestimate", "clips": min(_BATCHNORM_CLIPS, len(features.train))},
        {
            "step": "finetune",
            "settings": experiment.finetune.to_dict(),
            "seed": job.seed,
            "best_epoch": tuned.best_epoch,
            "validation": None if tuned.validation is None else tuned.validation.to_dict(),
            "epochs": [dict(record) for record in tuned.history],
        },
    )
    found = {
        **measure(model, shape),
        "params_dense": dense_record["params"],
        "macs_dense": dense_record["macs"],
        "threshold": result.threshold,
        "channels_under_threshold": result.channels_under_threshold,
        "channels_total": result.channels_total,
        "kept_channels": kept,
        "before_finetune": before.to_dict(),
        "after_finetune": after.to_dict(),
        "dense": dense_record["after_finetune"],
        "history": [dict(record) for record in tuned.history],
    }
    artifact = _artifact(
        model, experiment, features, history=steps, scores=after, provenance=provenance
    )
    return artifact, found


def slimming_config(job: Job) -> Slimming:
    """What the pruning is told for a job."""
    from compressor.methods.slimming import Slimming

    if job.prune_by == "target":
        return Slimming(ratio=None, target_params=job.target_params)
    return Slimming(ratio=job.prune_ratio, by=job.prune_by)
