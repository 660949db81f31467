"""Exponential moving average of a network's weights and BatchNorm statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage", "decay_at", "start_left", "tensors_of"]


def tensors_of(model: nn.Module) -> list[Tensor]:
    """All parameters and buffers of `model`, detached, sharing its memory."""
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]


def decay_at(step: int, decay: float) -> float:
    """The decay d of a step, counted from 1: min(decay, (1 + n) / (10 + n))."""
    return min(decay, (1 + step) / (10 + step))


def start_left(steps: int, decay: float) -> float:
    """Share of the weights of before the first step in the average after some steps."""
    return math.prod(decay_at(step, decay) for step in range(1, steps + 1))


class WeightAverage:
    """average = d·average + (1 - d)·weights after each step, d = min(decay, (1 + n) / (10 + n)).

    n counts the steps from 1: the warm-up of d (as in Tarvainen & Valpola 2017, section 3, and
    TensorFlow's ExponentialMovingAverage) lets the average forget the random start. Integer buffers
    (counters, kept channels) are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        live = tensors_of(model)
        average = [tensor.clone() for tensor in live]
        pairs = list(zip(live, average, strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._others = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._pairs = [*self._floats, *self._others]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's weights after one more step."""
        self._steps += 1
        decay = decay_at(self._steps, self._decay)
        live, average = zip(*self._floats, strict=True)
        torch._foreach_lerp_(average, live, 1 - decay)
        for current, kept in self._others:
            kept.copy_(current)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights and the average; a second call undoes it exactly."""
        for current, kept in self._pairs:
            held = current.clone()
            current.copy_(kept)
            kept.copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` continues from."""
        return {"steps": self._steps, "kept": [kept.clone() for _, kept in self._pairs]}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state of an average over the same network."""
        self._steps = int(state["steps"])
        for (_, kept), stored in zip(self._pairs, state["kept"], strict=True):
            kept.copy_(stored)
