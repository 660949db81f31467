"""What a training knows of itself from epoch to epoch: history, best weights, time spent."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressor.training.ema import tensors_of
from compressor.training.metrics import Evaluation

__all__ = ["Clock", "Progress", "restore"]


class Progress:
    """The epochs so far, and the weights of the best of them.

    Attributes:
        history: one record an epoch.
        best_epoch: from 1; 0 before there is one that may be chosen.
        validation: its results on the validation share, None without one.
    """

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.validation: Evaluation | None = None
        self._rank = (-math.inf, -math.inf)
        self._weights: list[Tensor] = []

    def offer(
        self,
        model: nn.Module,
        epoch: int,
        rank: tuple[float, float],
        validation: Evaluation | None,
    ) -> None:
        """Keep the weights that the network has now, where they rank higher than those before."""
        if rank > self._rank:
            self.best_epoch, self._rank, self.validation = epoch, rank, validation
            self._weights = [tensor.clone() for tensor in tensors_of(model)]

    def restore_best(self, model: nn.Module) -> None:
        """Write the best weights into the network; without any it stays as it is."""
        if self.best_epoch > 0:
            restore(model, self._weights)

    def is_stale(self, patience: int) -> bool:
        """Whether the best epoch is `patience` epochs ago; a patience of 0 has no end."""
        return 0 < patience <= len(self.history) - self.best_epoch and self.best_epoch > 0

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` continues from."""
        return {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "rank": self._rank,
            "validation": None if self.validation is None else self.validation.to_dict(),
            "weights": self._weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self.history = [dict(record) for record in state["history"]]
        self.best_epoch = int(state["best_epoch"])
        self._rank = tuple(state["rank"])
        found = state["validation"]
        self.validation = None if found is None else Evaluation.from_dict(found)
        self._weights = list(state["weights"])


class Clock:
    """Wall time and CPU time of this process in seconds, with those of earlier calls."""

    def __init__(self) -> None:
        self._start = self._now()
        self._before = (0.0, 0.0)

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """(wall, CPU) seconds so far."""
        wall, cpu = (now - start for now, start in zip(self._now(), self._start, strict=True))
        return self._before[0] + wall, self._before[1] + cpu

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` continues from."""
        return {"spent": self.read()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on from a stored time."""
        self._before = tuple(state["spent"])


@torch.no_grad()
def restore(model: nn.Module, values: list[Tensor]) -> None:
    """Write `values`, as from `tensors_of`, back into the network."""
    for tensor, value in zip(tensors_of(model), values, strict=True):
        tensor.copy_(value)
