"""Run a network over a part: logits, results, and bare inputs for calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressor.errors import DataError, MeasureError, ShapeError, UsageError
from compressor.training.inputs import (
    Clips,
    Preparer,
    crashes_channels_last,
    pick_device,
    set_channels_last,
)
from compressor.training.metrics import Evaluation, score

if TYPE_CHECKING:
    from compressor.data.features import FeatureSet, Standardizer
    from compressor.training.settings import TrainSettings

__all__ = ["batches", "evaluate", "predict"]

Reader = Callable[[Tensor], Tensor]
"""From a network's outputs (N, outputs) to logits (N, classes)."""


def evaluate(
    model: nn.Module,
    features: FeatureSet,
    *,
    standardizer: Standardizer,
    layout: str = "CFT",
    batch_size: int = 64,
    device: str = "auto",
    settings: TrainSettings | None = None,
    seed: int = 0,
) -> Evaluation:
    """Results of `model` on whole clips of a part, device-wise where the devices are known.

    Arguments as for `predict`.

    Raises:
        MeasureError, ShapeError, DataError: as `predict`.
    """
    logits = predict(
        model,
        features,
        standardizer=standardizer,
        layout=layout,
        num_classes=len(features.classes),
        batch_size=batch_size,
        device=device,
        settings=settings,
        seed=seed,
    )
    return score(logits, features.y, features.classes, features.devices)


def predict(
    model: nn.Module,
    features: FeatureSet,
    *,
    standardizer: Standardizer,
    layout: str = "CFT",
    num_classes: int,
    batch_size: int = 128,
    device: str = "auto",
    settings: TrainSettings | None = None,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Logits of whole clips, in the order of the part.

    The model is run in evaluation mode and float32, and is left in the mode and on the device it
    came in, its weights contiguous.

    Args:
        model: takes (N, C, M, T), or (N, C, T, M) for layout "CTF", returns (N, outputs).
        features: the part.
        standardizer: of the training part.
        layout: axes of the network.
        num_classes: outputs beyond them (a second task's) are dropped, or combined as `settings`
            say.
        batch_size: clips at once.
        device: "auto", "cpu", "cuda", ...
        settings: of the training, where the system's decisions take more than the network's
            outputs: with `tasks` "scene+group" the outputs of both tasks are combined, with
            `tta_copies` probabilities are averaged over augmented copies (see `augmented_copy`).
        seed: of the copies.

    Returns:
        (N, num_classes) float32; the logarithms of the mean probabilities where there are copies.

    Raises:
        ShapeError: the network has fewer outputs than classes.
        DataError: the part is empty, or its classes have no groups to combine with.
        MeasureError: an output is infinite or NaN.
    """
    target = pick_device(device)
    home = device_of(model)
    channels_last = not crashes_channels_last(model, target)  # up to twice as fast
    clips = Clips(features, target)
    prepare = Preparer(standardizer, layout, target, channels_last)
    read = reader(settings, features.classes, num_classes, target)
    try:
        model.to(target)
        set_channels_last(model, channels_last)
        if settings is None or settings.tta_copies == 0:
            return logits_of(model, clips, prepare, read, batch_size)
        rng = np.random.default_rng(seed)
        return _averaged(model, clips, prepare, read, batch_size, settings=settings, rng=rng)
    finally:
        set_channels_last(model, False)
        model.to(home)


def reader(
    settings: TrainSettings | None, classes: Sequence[str], num_classes: int, device: torch.device
) -> Reader:
    """How a network's outputs become logits of the classes.

    Raises:
        DataError: two tasks, but the classes have no groups.
    """
    if settings is None or settings.tasks == "scene":
        return partial(class_logits, num_classes=num_classes)
    from compressor.training.multitask import combine_logits, groups_of, membership

    members = membership(groups_of(classes), device)
    return partial(combine_logits, members=members, share=settings.group_logit_share)


def logits_of(
    model: nn.Module, clips: Clips, prepare: Preparer, read: Reader, batch_size: int
) -> NDArray[np.float32]:
    """`predict` without copies, for clips and a model that are on their device already."""
    return _run(model, clips, lambda x: read(model(prepare(x))), batch_size)


def _averaged(
    model: nn.Module,
    clips: Clips,
    prepare: Preparer,
    read: Reader,
    batch_size: int,
    *,
    settings: TrainSettings,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Logarithms of probabilities that are averaged over augmented copies of each clip."""
    from compressor.training.augmentation import augmented_copy

    def mean_of_copies(x: Tensor) -> Tensor:
        logs = [
            read(model(augmented_copy(x, prepare, settings, rng))).float().log_softmax(dim=1)
            for _ in range(settings.tta_copies)
        ]
        return torch.stack(logs).logsumexp(dim=0) - math.log(settings.tta_copies)

    return _run(model, clips, mean_of_copies, batch_size)


def _run(
    model: nn.Module, clips: Clips, logits: Callable[[Tensor], Tensor], batch_size: int
) -> NDArray[np.float32]:
    """Logits of all clips, from cached features batch by batch, in evaluation mode."""
    if len(clips) == 0:
        raise DataError("the part to evaluate holds no clips; check the split of the data set")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [
                logits(clips.take(rows)) for rows in row_batches(np.arange(len(clips)), batch_size)
            ]
    finally:
        model.train(was_training)
    found: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    if not np.isfinite(found).all():
        broken = int((~np.isfinite(found)).any(axis=1).sum())
        raise MeasureError(
            f"the network's outputs are infinite or NaN for {broken} of {len(found)} clips; its "
            f"weights are broken: train again with a lower lr or grad_clip = 1.0"
        )
    return found


def batches(
    features: FeatureSet,
    *,
    standardizer: Standardizer,
    layout: str = "CFT",
    batch_size: int,
    limit: int | None = None,
    seed: int | None = None,
) -> Iterator[Tensor]:
    """Standardised inputs without labels, on the CPU: for BatchNorm re-estimation, calibration.

    Args:
        features: the part to take clips from.
        standardizer: of the training part.
        layout: axes of the network, "CFT" or "CTF".
        batch_size: clips a batch; the last one may be smaller.
        limit: at most so many clips in all; None takes every clip.
        seed: order (and with `limit` choice) of the clips; None keeps that of the part.

    Yields:
        (n, C, M, T) or (n, C, T, M) float32.
    """
    if batch_size < 1 or (limit is not None and limit < 1):
        raise UsageError(f"batch_size {batch_size} and limit {limit} must be at least 1")
    rows = np.arange(len(features))
    if seed is not None:
        rows = np.random.default_rng(seed).permutation(rows)
    cpu = torch.device("cpu")
    prepare = Preparer(standardizer, layout, cpu)
    clips = Clips(features.subset(rows[:limit]), cpu)
    for chunk in row_batches(np.arange(len(clips)), batch_size):
        yield prepare(clips.take(chunk))


def class_logits(outputs: Tensor, num_classes: int) -> Tensor:
    """The first `num_classes` columns of a network's outputs (N, outputs).

    Raises:
        ShapeError: there are fewer.
    """
    if outputs.ndim != 2 or outputs.shape[1] < num_classes:
        raise ShapeError(
            f"the network returns a tensor of shape {tuple(outputs.shape)}, the data has "
            f"{num_classes} classes; build the network with num_classes={num_classes}"
        )
    return outputs[:, :num_classes]


def row_batches(rows: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """`rows` in slices of `size`, the last one possibly smaller."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def device_of(model: nn.Module) -> torch.device:
    """The device of a network's first parameter; the CPU where it has none."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
