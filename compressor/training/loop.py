"""The training loop: read it from top to bottom.

One call of `fit` holds back a validation share, runs the epochs, and leaves the weights of the best
one in the network. Everything random comes from generators seeded in the call, so that equal seeds
give bit-identical weights on one CPU thread.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from compressor.errors import DataError
from compressor.training.augmentation import Augmenter
from compressor.training.checkpoint import Checkpoint, Stateful, identity
from compressor.training.checks import check_finite, check_sizes
from compressor.training.ema import WeightAverage, tensors_of
from compressor.training.evaluation import device_of, logits_of, reader
from compressor.training.hidden_masks import hidden_masks
from compressor.training.inputs import (
    Clips,
    Preparer,
    crashes_channels_last,
    pick_device,
    set_channels_last,
)
from compressor.training.metrics import Evaluation, score
from compressor.training.objective import Objective
from compressor.training.optimizers import make_optimizer
from compressor.training.progress import Clock, Progress, restore
from compressor.training.schedules import make_scheduler
from compressor.training.settings import TrainSettings
from compressor.training.validation import split_rows

if TYPE_CHECKING:
    from compressor.data.features import FeatureSet, Standardizer
    from compressor.training.distill import Teacher
    from compressor.training.masking import MaskKeeper

__all__ = ["FitResult", "count_steps", "fit"]

_EVALUATION_BATCH = 64
_LOSS_CHECK_STEPS = 25  # reading the loss waits for a GPU, so not at every step

OnEpoch = Callable[[int, int, dict[str, float]], None]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a run of `fit` measured; the weights are in the network.

    Attributes:
        history: one record an epoch: epoch (from 1), loss (training, nats, augmented), lr (at the
            epoch's last step), seconds, and with validation val_accuracy, val_macro_accuracy and
            val_log_loss.
        best_epoch: the epoch whose weights were kept, from 1.
        validation: results of those weights on the validation share, of the network's own outputs
            or, for two tasks, of both together, without copies; None without a share.
        seconds: wall time of the call, and of the interrupted ones it goes on from.
        cpu_seconds: CPU time of the process during them.
    """

    history: tuple[dict[str, float], ...]
    best_epoch: int
    validation: Evaluation | None
    seconds: float
    cpu_seconds: float


def fit(
    model: nn.Module,
    train: FeatureSet,
    settings: TrainSettings,
    *,
    standardizer: Standardizer,
    layout: str = "CFT",
    seed: int = 0,
    device: str = "auto",
    on_epoch: OnEpoch | None = None,
    teacher: Teacher | None = None,
    masks: MaskKeeper | None = None,
    checkpoint: Path | None = None,
) -> FitResult:
    """Train `model` in place on a training part.

    The best epoch is the one of highest macro accuracy on the validation share, then of lowest log
    loss; both use the averaged weights where `ema_decay` is on. The network is left in evaluation
    mode, on the device it came from. Where the call ends in an error or an interrupt, it is left
    with the weights it came with.

    Args:
        model: takes (N, C, M, T), or (N, C, T, M) for layout "CTF", returns (N, outputs); outputs
            beyond the classes are ignored.
        train: the training part; the test part is never passed here.
        settings: see `TrainSettings`.
        standardizer: mean and deviation of the training part's bands.
        layout: axes of the network.
        seed: of the order of clips, augmentation and dropout (the validation share is the same
            for every seed).
        device: "auto", "cpu", "cuda", ...
        on_epoch: called after each epoch with its number, the number of epochs and its record.
        teacher: a network whose outputs are learnt beside the labels (distillation).
        masks: keeps pruned weights at zero; no epoch before its final sparsity is chosen.
        checkpoint: a file that holds the state after the last epoch. Where it is there, the
            training goes on from it, on the CPU to the same bits as without an interruption; a
            training that is over is only read. It stays until the caller removes it.

    Raises:
        MeasureError: the loss became infinite or NaN.
        DataError, ShapeError, UsageError: data, sizes or arguments that cannot work, or a
            checkpoint of another training.
    """
    clock = Clock()
    check_sizes(train, settings)
    target, home = pick_device(device), device_of(model)
    before = [tensor.clone() for tensor in tensors_of(model)]
    cuda_devices = [target] if target.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda_devices):  # dropout draws from torch's generator
            torch.manual_seed(seed)
            model.to(target)
            progress = _run(
                model,
                train,
                settings,
                standardizer=standardizer,
                layout=layout,
                seed=seed,
                device=target,
                on_epoch=on_epoch,
                teacher=teacher,
                masks=masks,
                checkpoint=checkpoint,
                clock=clock,
            )
    except BaseException:  # an interrupt too: all or nothing
        restore(model, before)
        raise
    finally:
        set_channels_last(model, False)
        model.to(home).eval()
        if teacher is not None:
            teacher.model.to(home)
    seconds, cpu_seconds = clock.read()
    return FitResult(
        history=tuple(progress.history),
        best_epoch=progress.best_epoch,
        validation=progress.validation,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


def count_steps(train: FeatureSet, settings: TrainSettings) -> int:
    """Optimiser steps that `fit` will take on a training part."""
    clips = len(split_rows(train, settings.validation_share)[0])
    return settings.epochs * (clips // max(1, min(settings.batch_size, clips)))


def _run(
    model: nn.Module,
    train: FeatureSet,
    settings: TrainSettings,
    *,
    standardizer: Standardizer,
    layout: str,
    seed: int,
    device: torch.device,
    on_epoch: OnEpoch | None,
    teacher: Teacher | None,
    masks: MaskKeeper | None,
    checkpoint: Path | None,
    clock: Clock,
) -> Progress:
    """The epochs of `fit`; leaves the weights of the best one in the network."""
    rows, held_rows = split_rows(train, settings.validation_share)
    part = train.subset(rows)
    if len(part) < 2:
        raise DataError(
            f"validation_share {settings.validation_share:g} leaves {len(part)} clip of "
            f"{len(train)} to train on; at least 2 are needed: set validation_share = 0"
        )
    clips = Clips(part, device)
    held = train.subset(held_rows).original()  # a clip at another speed is no clip of the test
    held_clips = Clips(held, device) if len(held) else None
    networks = [model] if teacher is None else [model, teacher.to(device).model]
    channels_last = settings.channels_last and not any(
        crashes_channels_last(network, device) for network in networks
    )
    prepare = Preparer(standardizer, layout, device, channels_last)
    set_channels_last(model, channels_last)

    batch_size = min(settings.batch_size, len(clips))
    steps_per_epoch = len(clips) // batch_size
    steps = settings.epochs * steps_per_epoch
    optimizer = make_optimizer(model, settings)
    scheduler = make_scheduler(optimizer, settings, steps)
    average = WeightAverage(model, settings.ema_decay) if settings.ema_decay > 0 else None
    rng = np.random.default_rng(seed)
    augment = Augmenter(part, clips, prepare, settings, rng)
    read = reader(settings, train.classes, len(train.classes), device)
    progress = Progress()
    example = prepare(clips.take(np.arange(2)))
    with (
        closing(Objective(model, settings, train.classes, example, teacher)) as objective,
        hidden_masks(model, settings, layout, rng),
    ):
        parts: dict[str, Stateful | None] = {
            "optimizer": optimizer,
            "scheduler": scheduler,
            "average": average,
            "masks": masks,
            "objective": objective,
            "progress": progress,
            "clock": clock,
        }
        file = None
        if checkpoint is not None:
            what = identity(
                model,
                train,
                settings,
                standardizer,
                seed=seed,
                layout=layout,
                teacher=None if teacher is None else f"{teacher.temperature:g} {teacher.weight:g}",
                masks=None if masks is None else type(masks).__name__,
            )
            file = Checkpoint(checkpoint, what, model=model, parts=parts, rng=rng, device=device)
            file.resume()
        for epoch in range(len(progress.history) + 1, settings.epochs + 1):
            if progress.is_stale(settings.early_stop_epochs):
                break
            start = time.perf_counter()
            model.train()
            total = torch.zeros((), device=device)
            order = rng.permutation(len(clips))
            for step in range(steps_per_epoch):
                lr = float(scheduler.get_last_lr()[0])
                chosen = order[step * batch_size : (step + 1) * batch_size]
                x, targets = augment.batch(chosen, epoch)
                total += objective.backward(x, targets)
                _update(model, optimizer, settings)
                scheduler.step()
                if masks is not None:
                    masks.after_step(model, (epoch - 1) * steps_per_epoch + step + 1, steps)
                if average is not None:
                    average.update()
                if step % _LOSS_CHECK_STEPS == 0 or step == steps_per_epoch - 1:
                    check_finite(total, epoch, lr)
            record = {"epoch": epoch, "loss": float(total) / steps_per_epoch, "lr": lr}

            if average is not None:
                average.swap()
                if masks is not None:  # an average over steps remembers what was not yet zero
                    masks.apply(model)
            with objective.for_inference():
                rank, validation = (float(epoch), 0.0), None  # without validation the last wins
                if held_clips is not None:
                    logits = logits_of(model, held_clips, prepare, read, _EVALUATION_BATCH)
                    validation = score(logits, held.y, held.classes, held.devices)
                    rank = (validation.macro_accuracy, -validation.log_loss)
                    record |= {
                        "val_accuracy": validation.accuracy,
                        "val_macro_accuracy": validation.macro_accuracy,
                        "val_log_loss": validation.log_loss,
                    }
                if masks is None or masks.is_final(epoch * steps_per_epoch, steps):
                    progress.offer(model, epoch, rank, validation)
            if average is not None:
                average.swap()
            record["seconds"] = time.perf_counter() - start
            progress.history.append(record)
            if file is not None:
                file.save()
            if on_epoch is not None:
                on_epoch(epoch, settings.epochs, dict(record))
    progress.restore_best(model)
    return progress


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, settings: TrainSettings) -> None:
    """One step along the gradients that are there."""
    if settings.gamma_l1 > 0:
        from compressor.methods.slimming import add_gamma_l1

        add_gamma_l1(model, settings.gamma_l1)
    if settings.grad_clip > 0:
        nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    optimizer.step()
