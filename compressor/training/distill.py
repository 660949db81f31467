"""Distillation: a network learns from another one's outputs beside the labels.

G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network", 2015. The teacher
sees the very batch that the student sees, augmentation included.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.errors import ConfigError, ShapeError
from compressor.training.evaluation import class_logits

__all__ = ["Teacher", "distillation_loss"]


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 x mean Kullback-Leibler divergence of softened outputs, teacher from student, in nats.

    T^2 keeps the gradient's size whatever the temperature (Hinton et al. 2015, section 2).

    Args:
        student: (N, classes) logits.
        teacher: (N, classes) logits, without a graph.
        temperature: what both are divided by.

    Returns:
        A scalar.
    """
    soft = F.log_softmax(student.float() / temperature, dim=1)
    target = F.log_softmax(teacher.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(soft, target, reduction="batchmean", log_target=True)


class Teacher:
    """A frozen network and how much of the loss is its.

    Attributes:
        model: the network; never changed, kept in evaluation mode.
        temperature: what logits are divided by before they are compared, above 0.
        weight: share of the loss that comes from the teacher, 0 to 1.
    """

    def __init__(self, model: nn.Module, *, temperature: float = 2.0, weight: float = 0.5) -> None:
        """Raises ConfigError for a temperature or weight out of range."""
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError(f"temperature is {temperature}, but must be above 0")
        if not 0 <= weight <= 1:
            raise ConfigError(f"distillation weight is {weight}, but must be between 0 and 1")
        self.model = model.eval()
        self.temperature = temperature
        self.weight = weight

    def to(self, device: torch.device) -> Teacher:
        """Move the network."""
        self.model.to(device)
        return self

    def mix(self, loss: Tensor, logits: Tensor, x: Tensor) -> Tensor:
        """(1 - weight) x loss + weight x distillation loss.

        Args:
            loss: of the labels, a scalar.
            logits: (N, classes) of the student on `x`.
            x: the batch.

        Raises:
            ShapeError: the teacher does not take the student's inputs or has fewer outputs.
        """
        with torch.no_grad():
            try:
                outputs = self.model(x)
            except (RuntimeError, ValueError) as error:
                raise ShapeError(
                    f"the teacher does not take inputs of shape {tuple(x.shape)}: {error}; use a "
                    "teacher of the same front-end and segment"
                ) from error
        theirs = class_logits(outputs, logits.shape[1])
        return (1 - self.weight) * loss + self.weight * distillation_loss(
            logits, theirs, self.temperature
        )
