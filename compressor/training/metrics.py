"""Accuracy, log loss and confusion of one evaluation: pure functions of logits and labels.

Definitions follow the DCASE task on low-complexity acoustic scene classification: macro accuracy is
the mean of the class-wise accuracies, log loss the mean of the class-wise mean cross-entropies with
the natural logarithm (ranking rule of 2021). A class without a clip in the part has no accuracy: it
is left out of the means and of the class-wise results.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import ShapeError

__all__ = ["PROBABILITY_FLOOR", "Evaluation", "clip_log_losses", "score"]

# Probabilities under this count as this: one confident error costs 34.5 nats, not infinity.
PROBABILITY_FLOOR = 1e-15


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Results of a network on one part. Shares are 0 to 1, losses in nats.

    Attributes:
        n: number of clips.
        accuracy: share of all clips that are right.
        macro_accuracy: mean of the class-wise accuracies (classes present).
        log_loss: mean of the class-wise log losses (classes present).
        class_accuracy: by class name, classes present only.
        device_accuracy: macro accuracy by recording device; empty where devices are not known.
        device_log_loss: log loss by recording device, a mean over classes as above.
        confusion: counts, row = true class, column = predicted class, in the order of the classes.
        class_log_loss: by class name, classes present only.
    """

    n: int
    accuracy: float
    macro_accuracy: float
    log_loss: float
    class_accuracy: dict[str, float]
    device_accuracy: dict[str, float]
    device_log_loss: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]
    class_log_loss: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def standard_error(self) -> float:
        """Of `accuracy`, from the number of clips alone (binomial)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.n)

    @property
    def chance(self) -> float:
        """Accuracy of always answering with the commonest class of the part."""
        return max(sum(row) for row in self.confusion) / self.n

    def to_dict(self) -> dict[str, object]:
        """Plain data (JSON) from which `from_dict` makes an equal record."""
        data = dataclasses.asdict(self)
        data["confusion"] = [list(row) for row in self.confusion]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """The record that `to_dict` wrote."""
        values = dict(data)
        values["confusion"] = tuple(tuple(int(count) for count in row) for row in data["confusion"])
        return cls(**values)


def clip_log_losses(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Cross-entropy of each clip in nats.

    Args:
        logits: (N, classes).
        labels: (N,) class indices.

    Returns:
        (N,) values from 0 to -ln(PROBABILITY_FLOOR).
    """
    shifted = logits.astype(np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(axis=1))
    losses: NDArray[np.float64] = log_total - shifted[np.arange(len(labels)), labels]
    return np.clip(losses, 0.0, -np.log(PROBABILITY_FLOOR))


def score(
    logits: NDArray[Any],
    labels: NDArray[Any],
    classes: Sequence[str],
    devices: Sequence[str] = (),
) -> Evaluation:
    """Results of `logits` against `labels`.

    Args:
        logits: (N, len(classes)) finite numbers.
        labels: (N,) class indices.
        classes: names of the classes.
        devices: recording device of each clip; clips with an empty name have no device-wise result.

    Raises:
        ShapeError: sizes that do not fit each other, or no clips.
    """
    n, labels = len(labels), np.asarray(labels, dtype=np.int64)
    if logits.shape != (n, len(classes)) or n == 0:
        raise ShapeError(
            f"logits have shape {tuple(logits.shape)} for {n} labels and {len(classes)} classes; "
            f"they must be ({max(n, 1)}, {len(classes)}) with at least one clip"
        )
    if len(devices) not in (0, n):
        raise ShapeError(f"{len(devices)} devices for {n} clips; give one a clip, or none")
    right = (logits.argmax(axis=1) == labels).astype(np.float64)
    losses = clip_log_losses(logits, labels)
    present, class_accuracy = _class_means(right, labels)
    _, class_loss = _class_means(losses, labels)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    names = np.asarray(devices, dtype=str)
    masks = {str(name): names == name for name in np.unique(names) if name}
    return Evaluation(
        n=n,
        accuracy=float(right.mean()),
        macro_accuracy=float(class_accuracy.mean()),
        log_loss=float(class_loss.mean()),
        class_accuracy={classes[k]: float(v) for k, v in zip(present, class_accuracy, strict=True)},
        device_accuracy={k: _macro(right[m], labels[m]) for k, m in masks.items()},
        device_log_loss={k: _macro(losses[m], labels[m]) for k, m in masks.items()},
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        class_log_loss={classes[k]: float(v) for k, v in zip(present, class_loss, strict=True)},
    )


def _class_means(
    values: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[list[int], NDArray[np.float64]]:
    """Classes present in `labels`, and the mean of `values` over the clips of each."""
    counts = np.bincount(labels)
    present = np.flatnonzero(counts)
    return present.tolist(), np.bincount(labels, weights=values)[present] / counts[present]


def _macro(values: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean over the classes present of the class means."""
    return float(_class_means(values, labels)[1].mean())
