"""What a network is trained for: the loss of a batch, or of a batch's tasks, and its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compressor.training.classifier import find_classifier, require_classifier
from compressor.training.evaluation import class_logits
from compressor.training.losses import smoothed_cross_entropy
from compressor.training.margin import MarginHead, cm_softmax
from compressor.training.multitask import backward_projected, group_outputs, groups_of, membership
from compressor.training.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compressor.training.distill import Teacher

__all__ = ["Objective"]


class Objective:
    """Loss and gradients of one network; `close` when the training is over."""

    def __init__(
        self,
        model: nn.Module,
        settings: TrainSettings,
        classes: Sequence[str],
        example: Tensor,
        teacher: Teacher | None = None,
    ) -> None:
        """Raises ConfigError, DataError or ShapeError where network or data cannot do it.

        Args:
            model: the network, on its device.
            settings: loss and tasks.
            classes: of the data.
            example: a batch as the network takes it, to look for its last layer.
            teacher: a network to learn from beside the labels.
        """
        self._model = model
        self._settings = settings
        self._teacher = teacher
        two_tasks = settings.tasks == "scene+group"
        self._members = membership(groups_of(classes), example.device) if two_tasks else None
        self._own = find_classifier(model, example) if two_tasks and settings.pcgrad else None
        self._head: MarginHead | None = None
        if settings.loss == "cm_softmax":
            self._head = MarginHead(require_classifier(model, example), settings.cm_scale)

    def backward(self, x: Tensor, targets: Tensor) -> Tensor:
        """Run the network on a batch and write gradients; returns the loss without its graph.

        Args:
            x: as the network takes it.
            targets: (N, classes) probabilities.
        """
        settings = self._settings
        bfloat16 = settings.precision == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
            outputs = self._model(x)
        logits = class_logits(outputs, targets.shape[1])
        if self._head is None:
            loss = smoothed_cross_entropy(logits, targets, settings.label_smoothing)
        else:
            cosines = self._head.cosines()
            outputs = settings.cm_scale * cosines
            logits = class_logits(outputs, targets.shape[1])
            loss = cm_softmax(
                class_logits(cosines, targets.shape[1]),
                targets,
                scale=settings.cm_scale,
                angular_margin=settings.cm_angular_margin,
                additive_margin=settings.cm_additive_margin,
                smoothing=settings.label_smoothing,
            )
        if self._teacher is not None:
            loss = self._teacher.mix(loss, logits, x)
        if self._members is None:
            self._model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        of_groups = group_outputs(outputs, *self._members.shape)
        second = settings.group_weight * smoothed_cross_entropy(
            of_groups, targets @ self._members, settings.label_smoothing
        )
        if settings.pcgrad:
            backward_projected((loss, second), self._model.parameters(), self._own)
        else:
            self._model.zero_grad()
            (loss + second).backward()
        return (loss + second).detach()

    def for_inference(self) -> AbstractContextManager[None]:
        """The network as it is evaluated and kept."""
        return nullcontext() if self._head is None else self._head.for_inference()

    def close(self) -> None:
        """Take what was hung on the network away."""
        if self._head is not None:
            self._head.close()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` continues from."""
        return {} if self._head is None else self._head.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        if self._head is not None:
            self._head.load_state_dict(state)
