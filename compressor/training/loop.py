"""The training loop: read it from top to bottom.

One call of `fit` holds back a validation share, runs the epochs, and leaves the weights of the best
one in the network. Everything random comes from generators seeded in the call, so that equal seeds
give bit-identical weights on one CPU thread.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressor.audio.augment import random_mixup, random_roll_crop, spec_augment
from compressor.errors import DataError, MeasureError, ShapeError, UsageError
from compressor.training.ema import WeightAverage, tensors_of
from compressor.training.evaluation import class_logits, device_of, logits_of
from compressor.training.inputs import (
    Clips,
    Preparer,
    crashes_channels_last,
    pick_device,
    set_channels_last,
)
from compressor.training.losses import smoothed_cross_entropy, soft_targets
from compressor.training.metrics import Evaluation, score
from compressor.training.schedules import make_scheduler
from compressor.training.settings import TrainSettings
from compressor.training.validation import split_rows

if TYPE_CHECKING:
    from compressor.data.features import FeatureSet, Standardizer
    from compressor.training.distill import Teacher
    from compressor.training.masking import MaskKeeper

__all__ = ["FitResult", "count_steps", "fit", "make_optimizer"]

_EVALUATION_BATCH = 64
_LOSS_CHECK_STEPS = 25  # reading the loss waits for a GPU, so not at every step


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a run of `fit` measured; the weights are in the network.

    Attributes:
        history: one record an epoch: epoch (from 1), loss (training, nats, augmented), lr (at the
            epoch's last step), seconds, and with validation val_accuracy, val_macro_accuracy and
            val_log_loss.
        best_epoch: the epoch whose weights were kept, from 1.
        validation: results of those weights on the validation share; None without one.
        seconds: wall time of the call.
        cpu_seconds: CPU time of this process during the call.
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
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
    teacher: Teacher | None = None,
    masks: MaskKeeper | None = None,
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

    Raises:
        MeasureError: the loss became infinite or NaN.
        DataError, ShapeError, UsageError: data, sizes or arguments that cannot work.
    """
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    _check_sizes(train, settings)
    target, home = pick_device(device), device_of(model)
    before = [tensor.clone() for tensor in tensors_of(model)]
    cuda_devices = [target] if target.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda_devices):  # dropout draws from torch's generator
            torch.manual_seed(seed)
            model.to(target)
            history, best_epoch, validation = _run(
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
            )
    except BaseException:  # an interrupt too: all or nothing
        _restore(model, before)
        raise
    finally:
        set_channels_last(model, False)
        model.to(home).eval()
        if teacher is not None:
            teacher.model.to(home)
    return FitResult(
        history=tuple(history),
        best_epoch=best_epoch,
        validation=validation,
        seconds=time.perf_counter() - wall_start,
        cpu_seconds=time.process_time() - cpu_start,
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
    on_epoch: Callable[[int, int, dict[str, float]], None] | None,
    teacher: Teacher | None,
    masks: MaskKeeper | None,
) -> tuple[list[dict[str, float]], int, Evaluation | None]:
    """The epochs of `fit`: history, best epoch and its validation results."""
    rows, held_rows = split_rows(train, settings.validation_share)
    clips = Clips(train.subset(rows), device)
    if len(clips) < 2:
        raise DataError(
            f"validation_share {settings.validation_share:g} leaves {len(clips)} clip of "
            f"{len(train)} to train on; at least 2 are needed: set validation_share = 0"
        )
    held = train.subset(held_rows)
    held_clips = Clips(held, device) if len(held) else None
    networks = [model] if teacher is None else [model, teacher.to(device).model]
    channels_last = settings.channels_last and not any(
        crashes_channels_last(network, device) for network in networks
    )
    prepare = Preparer(standardizer, layout, device, channels_last)
    set_channels_last(model, channels_last)

    batch_size = min(settings.batch_size, len(clips))
    steps_per_epoch = len(clips) // batch_size
    optimizer = make_optimizer(model, settings)
    steps = settings.epochs * steps_per_epoch
    scheduler = make_scheduler(optimizer, settings, steps)
    average = WeightAverage(model, settings.ema_decay) if settings.ema_decay > 0 else None
    rng = np.random.default_rng(seed)

    history: list[dict[str, float]] = []
    best_epoch, best_rank, best_weights = 0, (-math.inf, -math.inf), tensors_of(model)
    best_validation: Evaluation | None = None
    for epoch in range(1, settings.epochs + 1):
        start = time.perf_counter()
        model.train()
        total = torch.zeros((), device=device)
        order = rng.permutation(len(clips))
        for step in range(steps_per_epoch):
            lr = float(scheduler.get_last_lr()[0])
            chosen = order[step * batch_size : (step + 1) * batch_size]
            x, targets = _augmented(
                clips, chosen, prepare, settings, num_classes=len(train.classes), rng=rng
            )
            loss = _step(model, optimizer, x, targets, settings, teacher=teacher)
            scheduler.step()
            if masks is not None:
                masks.after_step(model, (epoch - 1) * steps_per_epoch + step + 1, steps)
            if average is not None:
                average.update()
            total += loss
            if step % _LOSS_CHECK_STEPS == 0 or step == steps_per_epoch - 1:
                _check_finite(total, epoch, lr)
        record = {"epoch": epoch, "loss": float(total) / steps_per_epoch, "lr": lr}

        if average is not None:
            average.swap()
            if masks is not None:  # an average over steps remembers what was not yet zero
                masks.apply(model)
        rank, validation = (float(epoch), 0.0), None  # without validation the last epoch wins
        if held_clips is not None:
            logits = logits_of(model, held_clips, prepare, len(train.classes), _EVALUATION_BATCH)
            validation = score(logits, held.y, held.classes, held.devices)
            rank = (validation.macro_accuracy, -validation.log_loss)
            record |= {
                "val_accuracy": validation.accuracy,
                "val_macro_accuracy": validation.macro_accuracy,
                "val_log_loss": validation.log_loss,
            }
        final = masks is None or masks.is_final(epoch * steps_per_epoch, steps)
        if final and rank > best_rank:
            best_epoch, best_rank, best_validation = epoch, rank, validation
            best_weights = [tensor.clone() for tensor in tensors_of(model)]
        if average is not None:
            average.swap()
        record["seconds"] = time.perf_counter() - start
        history.append(record)
        if on_epoch is not None:
            on_epoch(epoch, settings.epochs, dict(record))
    _restore(model, best_weights)
    return history, best_epoch, best_validation


def _augmented(
    clips: Clips,
    rows: NDArray[np.int64],
    prepare: Preparer,
    settings: TrainSettings,
    *,
    num_classes: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """One batch as the network takes it, and its soft targets (N, num_classes)."""
    x = random_roll_crop(clips.take(rows), settings.crop_frames, settings.time_roll, rng)
    x = spec_augment(
        prepare.standardize(x),
        rng,
        freq_masks=settings.freq_masks,
        freq_share=settings.freq_mask_share,
        time_masks=settings.time_masks,
        time_share=settings.time_mask_share,
    )
    targets = soft_targets(clips.labels(rows), num_classes)
    if settings.mixup_alpha > 0:
        x, targets = random_mixup(x, targets, settings.mixup_alpha, rng)
    return prepare.arrange(x), targets


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    targets: Tensor,
    settings: TrainSettings,
    *,
    teacher: Teacher | None = None,
) -> Tensor:
    """Forward, backward, update; returns the loss without its graph."""
    bfloat16 = settings.precision == "bfloat16"
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
        outputs = model(x)
    logits = class_logits(outputs, targets.shape[1])
    loss = smoothed_cross_entropy(logits, targets, settings.label_smoothing)
    if teacher is not None:
        loss = teacher.mix(loss, logits, x)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if settings.gamma_l1 > 0:
        from compressor.methods.slimming import add_gamma_l1

        add_gamma_l1(model, settings.gamma_l1)
    if settings.grad_clip > 0:
        nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    optimizer.step()
    return loss.detach()


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum; no weight decay on one-dimensional parameters.

    Raises:
        UsageError: the network has no parameter to train.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("the network has no trainable parameter; check requires_grad")
    groups = [
        {
            "params": [p for p in parameters if p.ndim > 1],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # Fused: one call for all tensors, a sixth of the time on 91 small ones. It takes gradients by
    # memory order, which autograd keeps equal to the parameter's; a gradient written by hand must.
    if settings.optimizer == "adamw":
        betas = (settings.momentum, 0.999)
        return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, fused=True)
    nesterov = settings.momentum > 0  # torch refuses Nesterov without momentum
    return torch.optim.SGD(
        groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov, fused=True
    )


def _check_sizes(train: FeatureSet, settings: TrainSettings) -> None:
    """Refuse before the first step what would fail, or mislead, in the middle of a run."""
    if len(train) < 2:
        raise DataError(f"the training part holds {len(train)} clip(s); at least 2 are needed")
    if train.y.min() < 0 or train.y.max() >= len(train.classes):
        raise DataError(
            f"labels run from {train.y.min()} to {train.y.max()}, but there are "
            f"{len(train.classes)} classes; labels must be 0 to {len(train.classes) - 1}"
        )
    frames = train.x.shape[3]
    if settings.crop_frames is not None and settings.crop_frames > frames:
        raise ShapeError(
            f"crop_frames is {settings.crop_frames}, but the clips have {frames} frames; "
            f"set crop_frames to at most {frames}, or leave it out to train on whole clips"
        )


def _check_finite(total: Tensor, epoch: int, lr: float) -> None:
    if not math.isfinite(float(total)):
        raise MeasureError(
            f"the training loss became {float(total)} in epoch {epoch} at learning rate {lr:.3g}; "
            f"lower lr, or set grad_clip = 1.0"
        )


@torch.no_grad()
def _restore(model: nn.Module, values: list[Tensor]) -> None:
    """Write `values`, as from `tensors_of`, back into the network."""
    for tensor, value in zip(tensors_of(model), values, strict=True):
        tensor.copy_(value)
