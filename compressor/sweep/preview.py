"""What a sweep would do and about how long it would take, without doing it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from compressor import runtime
from compressor.errors import ArtifactError
from compressor.sweep.checkpoint import weights_folder
from compressor.sweep.experiment import (
    Experiment,
    Shape,
    build_network,
    check_crop,
    check_folds,
    front_end_of,
    input_shape,
    open_data,
)
from compressor.sweep.plan import Job, build_plan, remaining
from compressor.sweep.runner import SweepConfig
from compressor.sweep.store import RunFolder

__all__ = ["Preview", "preview_sweep", "step_cost"]

# Besides its epochs a job reads features, builds, counts and evaluates: seconds, seen on a laptop.
_JOB_OVERHEAD_S = 2.0
# A small network costs more than its share: reading, augmenting, many small kernels. Measured on
# seresnet18 of 51 frames: 0.53 of a dense step at ratio 0.5, 0.42 at 0.8.
_LEAST_COST = 0.4
# The embedded set before it was made: clips of its training part and their length in seconds.
_EMBEDDED_CLIPS, _EMBEDDED_S = 1050, 1.0


# A step with the rounding in place over a float step (docs/quantization.md: 1.18 to 1.26), and what
# the teacher's forward pass adds in dense steps: a training step is about three forward passes.
_QAT_COST, _TEACHER_COST = 1.25, 1 / 3


@dataclass(frozen=True)
class Preview:
    """What a sweep would do.

    Attributes:
        jobs: the plan.
        todo: epochs of each job that is not finished, as far as the run folder can tell; 0 where a
            checkpoint stands for it, or nothing is trained.
        seconds: estimated time on this machine, without making features; None when nothing is to
            do.
    """

    jobs: tuple[Job, ...]
    todo: dict[str, int]
    seconds: float | None


def preview_sweep(config: SweepConfig) -> Preview:
    """The plan of a sweep and an estimate of its time.

    No data is made or read beyond its lists. One training step of the dense network is timed on
    random input; `step_cost` says what the other networks are taken to cost. What is
    finished is told by the records in the run folder; only the real start compares their settings
    with the data.

    Raises:
        CompressorError: the same as for the real start, as far as it comes.
    """
    experiment = config.experiment
    facts = _data_facts(experiment)
    clips, shape, classes = facts.clips, facts.shape, facts.classes
    check_crop(experiment, shape, facts.clip_s)
    folds = config.grid.folds or (facts.folds[0],)
    check_folds(folds, facts.folds, facts.name)
    grid = replace(config.grid, folds=folds)
    jobs = build_plan(grid, dense={}, point={})
    folder = RunFolder(config.out)
    folder.check()
    done = {job.id for job in jobs if (folder.read_record(job.id) or {}).get("status") == "ok"}
    todo = remaining(jobs, done)
    epochs = {job.id: 0 if _has_checkpoint(config, job) else experiment.epochs(job) for job in todo}
    if not todo:
        return Preview(jobs, {}, None)
    epoch_s = clips * _seconds_per_clip(experiment, shape, classes)
    costs = [
        _JOB_OVERHEAD_S + epochs[job.id] * epoch_s * step_cost(job, experiment.teacher)
        for job in todo
    ]
    workers = runtime.cores() if config.workers is None else config.workers
    seconds = max(*costs, sum(costs) / max(1, workers))
    return Preview(jobs, epochs, seconds)


def step_cost(job: Job, teacher: str) -> float:
    """Cost of a training step of a job, in steps of the dense network.

    A network pruned by R costs (1 - R), down to 0.4; zeros save no time; a teacher runs as well.
    """
    smaller = job.method != "unstructured"
    cost = max(_LEAST_COST, 1 - (job.prune_ratio or 0.0)) if smaller else 1.0
    if job.quantize == "int8-qat":
        cost *= _QAT_COST
    return cost + (_TEACHER_COST if teacher and job.kind != "dense" else 0.0)


def _has_checkpoint(config: SweepConfig, job: Job) -> bool:
    """Whether a file is there that was trained for this job (its data is not compared)."""
    from compressor import artifact

    if job.kind != "dense" or config.from_scratch or config.experiment.data is not None:
        return False
    path = weights_folder() / f"{config.experiment.model}-synthetic.pt"
    try:
        steps = artifact.load(path).history
    except ArtifactError:
        return False
    settings = config.experiment.train.to_dict()
    return any(s.get("settings") == settings and s.get("seed") == job.seed for s in steps)


@dataclass(frozen=True)
class _Facts:
    """Training clips, feature shape (C, M, T), classes, folds (the default one first) of data."""

    name: str
    clips: int
    shape: Shape
    clip_s: float
    classes: tuple[str, ...]
    folds: tuple[int, ...]


def _data_facts(experiment: Experiment) -> _Facts:
    front_end = front_end_of(experiment.model, experiment.front_end)
    if experiment.data is None:  # it may not have been made yet, and that takes its time
        names = tuple(str(i) for i in range(10))
        shape = front_end.shape(_EMBEDDED_S)
        return _Facts("synthetic-scenes", _EMBEDDED_CLIPS, shape, _EMBEDDED_S, names, (1,))
    dataset = open_data(experiment)
    front_end = front_end.at_rate(min(front_end.sample_rate_hz, dataset.sample_rate_hz))
    return _Facts(
        name=dataset.name,
        clips=len(dataset.train),
        shape=front_end.shape(dataset.clip_s),
        clip_s=dataset.clip_s,
        classes=dataset.classes,
        folds=(dataset.fold, *(fold for fold in dataset.folds if fold != dataset.fold)),
    )


def _seconds_per_clip(experiment: Experiment, shape: Shape, classes: tuple[str, ...]) -> float:
    """Time of one clip in a training step of the dense network, on one thread of this machine."""
    import torch
    from torch.nn.functional import cross_entropy

    channels, mels, frames = shape
    cropped = (channels, mels, experiment.train.crop_frames or frames)
    model = build_network(experiment, shape, classes, seed=0)
    batch = min(experiment.train.batch_size, 32)
    x = torch.randn(batch, *input_shape(experiment.model, cropped))
    y = torch.zeros(batch, dtype=torch.long)
    bfloat16 = experiment.train.precision == "bfloat16"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = float("inf")
    try:
        for _ in range(3):  # the first warms up
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = cross_entropy(model(x)[:, : len(classes)], y)
            loss.backward()  # type: ignore[no-untyped-call]
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return best / batch
