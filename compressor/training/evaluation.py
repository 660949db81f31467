"""Run a network over a part: logits, results, and bare inputs for calibration."""

from __future__ import annotations

from collections.abc import Iterator
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

__all__ = ["batches", "evaluate", "predict"]


def evaluate(
    model: nn.Module,
    features: FeatureSet,
    *,
    standardizer: Standardizer,
    layout: str = "CFT",
    batch_size: int = 64,
    device: str = "auto",
) -> Evaluation:
    """Results of `model` on whole clips of a part, device-wise where the devices are known.

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
) -> NDArray[np.float32]:
    """Logits of whole clips, in the order of the part.

    The model is run in evaluation mode and float32, and is left in the mode and on the device it
    came in, its weights contiguous. Outputs beyond `num_classes` (a second task's) are dropped.

    Returns:
        (N, num_classes) float32.

    Raises:
        ShapeError: the network has fewer outputs than classes.
        DataError: the part is empty.
        MeasureError: an output is infinite or NaN.
    """
    target = pick_device(device)
    home = device_of(model)
    channels_last = not crashes_channels_last(model, target)  # up to twice as fast
    clips = Clips(features, target)
    prepare = Preparer(standardizer, layout, target, channels_last)
    try:
        model.to(target)
        set_channels_last(model, channels_last)
        return logits_of(model, clips, prepare, num_classes, batch_size)
    finally:
        set_channels_last(model, False)
        model.to(home)


def logits_of(
    model: nn.Module, clips: Clips, prepare: Preparer, num_classes: int, batch_size: int
) -> NDArray[np.float32]:
    """`predict` for clips and a model that are on their device already."""
    if len(clips) == 0:
        raise DataError("the part to evaluate holds no clips; check the split of the data set")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [
                class_logits(model(prepare(clips.take(rows))), num_classes)
                for rows in row_batches(np.arange(len(clips)), batch_size)
            ]
    finally:
        model.train(was_training)
    logits: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    if not np.isfinite(logits).all():
        broken = int((~np.isfinite(logits)).any(axis=1).sum())
        raise MeasureError(
            f"the network's outputs are infinite or NaN for {broken} of {len(logits)} clips; its "
            f"weights are broken: train again with a lower lr or grad_clip = 1.0"
        )
    return logits


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
