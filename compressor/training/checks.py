"""Checks before and during a training: what would fail, or mislead, in the middle of a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

from compressor.errors import DataError, MeasureError, ShapeError
from compressor.training.settings import TrainSettings

if TYPE_CHECKING:
    from compressor.data.features import FeatureSet

__all__ = ["check_finite", "check_sizes"]


def check_sizes(train: FeatureSet, settings: TrainSettings) -> None:
    """Refuse before the first step what cannot work.

    Raises:
        DataError: too few clips, or labels that are no classes.
        ShapeError: a crop longer than the clips.
    """
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


def check_finite(total: Tensor, epoch: int, lr: float) -> None:
    """Refuse to go on where the loss is infinite or NaN.

    Args:
        total: sum of the epoch's losses so far.
        epoch: from 1.
        lr: learning rate of the last step.

    Raises:
        MeasureError: it is.
    """
    if not math.isfinite(float(total)):
        raise MeasureError(
            f"the training loss became {float(total)} in epoch {epoch} at learning rate {lr:.3g}; "
            f"lower lr, or set grad_clip = 1.0"
        )
