"""A point of the sweep: the dense network pruned at one ratio by one method, and fine-tuned.

Channels are removed (by BatchNorm scales, filter norms or chance) and the BatchNorm statistics
estimated anew, or single weights are made zero and kept there; then the network is evaluated,
fine-tuned with the training's own settings, with the dense network as its teacher where that is
asked for, and evaluated again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compressor.sweep.experiment import example_input, input_shape, shape_of
from compressor.sweep.trial import (
    OnEpoch,
    TrialTask,
    describe,
    evaluate_on,
    finished_record,
    measure,
)

if TYPE_CHECKING:
    from torch import nn

    from compressor.artifact import Artifact
    from compressor.data.features import Features
    from compressor.methods.slimming import Slimming
    from compressor.sweep.plan import Job
    from compressor.sweep.store import RunFolder
    from compressor.training.masking import MaskKeeper

__all__ = ["pruned_point", "slimming_config"]

# Clips whose batches re-estimate BatchNorm statistics: all of a small set, enough of a large one.
# Statistics of 512 clips of 40 bands and 51 frames are averages over 10^6 values a channel.
_BATCHNORM_CLIPS = 512
_BATCHNORM_BATCH = 64

_IMPORTANCE = {"slimming": "gamma", "l1": "l1", "l2": "l2", "random": "random"}


@dataclass(frozen=True)
class _Cut:
    """A pruned network before fine-tuning.

    Attributes:
        model: the network.
        steps: entries of its history.
        found: what the record says of the removal.
        masks: keeps zeros at zero while training; None where channels were removed.
    """

    model: nn.Module
    steps: tuple[dict[str, Any], ...]
    found: dict[str, Any]
    masks: MaskKeeper | None = field(default=None)


def pruned_point(
    task: TrialTask,
    folder: RunFolder,
    features: Features,
    provenance: Mapping[str, Any],
    on_epoch: OnEpoch,
) -> tuple[Artifact, dict[str, Any]]:
    """A pruned network: its artifact and what its record says.

    Raises:
        PruneError, MeasureError: it cannot be pruned so, or training fails.
    """
    import zoo
    from compressor.artifact import load
    from compressor.training import fit

    experiment, job = task.experiment, task.job
    dense = load(folder.model_file(job.needs[0]))
    dense_record = finished_record(folder, job.needs[0])
    network = dense.build()
    shape = input_shape(experiment.model, shape_of(features))
    cut = (_zeroed if job.method == "unstructured" else _narrowed)(task, network, features)
    model = cut.model
    before = evaluate_on(model, experiment, features)
    tuned = fit(
        model,
        features.train,
        experiment.finetune,
        standardizer=features.standardizer,
        layout=zoo.entry(experiment.model).layout,
        seed=job.seed,
        on_epoch=on_epoch,
        teacher=_teacher(network) if experiment.teacher else None,
        masks=cut.masks,
    )
    after = evaluate_on(model, experiment, features)
    tuning = {
        "step": "finetune",
        "settings": experiment.finetune.to_dict(),
        "seed": job.seed,
        "best_epoch": tuned.best_epoch,
        "validation": None if tuned.validation is None else tuned.validation.to_dict(),
        "epochs": [dict(record) for record in tuned.history],
    }
    if experiment.teacher:
        tuning["teacher"] = "dense"
    found = {
        **measure(model, shape),
        "params_dense": dense_record["params"],
        "macs_dense": dense_record["macs"],
        **cut.found,
        "before_finetune": before.to_dict(),
        "after_finetune": after.to_dict(),
        "dense": dense_record["after_finetune"],
        "history": [dict(record) for record in tuned.history],
    }
    artifact = describe(
        model,
        experiment,
        features,
        history=(*dense.history, *cut.steps, tuning),
        scores=after,
        provenance=provenance,
    )
    return artifact, found


def _teacher(network: nn.Module) -> Any:
    """The dense network as a teacher; the network that is trained is another copy."""
    from compressor.training.distill import Teacher

    return Teacher(network)


def _narrowed(task: TrialTask, network: nn.Module, features: Features) -> _Cut:
    """Channels removed, BatchNorm statistics estimated anew."""
    import zoo
    from compressor.methods.batchnorm import reestimate
    from compressor.methods.slimming import slim
    from compressor.training import batches

    experiment, job = task.experiment, task.job
    entry = zoo.entry(experiment.model)
    shape = input_shape(experiment.model, shape_of(features))
    names = {name for name, _ in network.named_modules()}
    # The list is of the default build: with other --model-arg some of its layers may not be there.
    ignored = [name for name in entry.ignored_layers if name in names]
    result = slim(network, example_input(shape), slimming_config(job), ignored=ignored)
    reestimate(
        result.model,
        batches(
            features.train,
            standardizer=features.standardizer,
            layout=entry.layout,
            batch_size=_BATCHNORM_BATCH,
            limit=_BATCHNORM_CLIPS,
            seed=job.seed,
        ),
    )
    kept = {layer: list(counts) for layer, counts in result.kept.items()}
    steps = (
        {
            "step": job.method,
            "prune_by": job.prune_by,
            "prune_ratio": job.prune_ratio,
            "target_params": job.target_params,
            "threshold": result.threshold,
            "kept": kept,
        },
        {"step": "reestimate", "clips": min(_BATCHNORM_CLIPS, len(features.train))},
    )
    found = {
        "threshold": result.threshold,
        "channels_under_threshold": result.channels_under_threshold,
        "channels_total": result.channels_total,
        "kept_channels": kept,
    }
    return _Cut(result.model, steps, found)


def _zeroed(task: TrialTask, network: nn.Module, features: Features) -> _Cut:
    """The smallest weights made zero."""
    from compressor.methods.magnitude import Magnitude, prune_weights
    from compressor.training.masking import FixedMasks

    job = task.job
    assert job.prune_ratio is not None  # the plan has no targets for single weights
    result = prune_weights(network, Magnitude(sparsity=job.prune_ratio))
    # the name by which quantisation knows that zeros are to be kept
    step = {
        "step": "prune",
        "scope": "global",
        "sparsity": result.sparsity.share,
        "zeros": result.sparsity.zeros,
        "weights": result.sparsity.total,
    }
    return _Cut(result.model, (step,), {}, FixedMasks(result.masks))


def slimming_config(job: Job) -> Slimming:
    """What the removal of channels is told for a job."""
    from compressor.methods.slimming import Slimming

    importance: Any = _IMPORTANCE[job.method]
    if job.prune_by == "target":
        return Slimming(
            ratio=None, target_params=job.target_params, importance=importance, seed=job.seed
        )
    by: Any = job.prune_by
    return Slimming(ratio=job.prune_ratio, by=by, importance=importance, seed=job.seed)
