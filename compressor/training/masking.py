"""Pruned weights stay at zero while the others are trained; gradually more become zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from compressor.errors import ConfigError
from compressor.methods.magnitude import (
    Magnitude,
    Masks,
    apply_masks,
    cubic_sparsity,
    make_masks,
)

__all__ = ["FixedMasks", "GradualMasks", "MaskKeeper"]


class MaskKeeper(Protocol):
    """What the training loop asks of masks."""

    def after_step(self, model: nn.Module, done: int, steps: int) -> None:
        """Called after `done` of `steps` optimiser steps."""

    def apply(self, model: nn.Module) -> None:
        """Set the pruned weights of `model` to zero."""

    def is_final(self, done: int, steps: int) -> bool:
        """Whether the sparsity after `done` steps is the one asked for."""

    def state_dict(self) -> dict[str, Tensor]:
        """What `load_state_dict` continues from."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a stored state."""


class FixedMasks:
    """The same weights are zero from the first step to the last."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks

    def after_step(self, model: nn.Module, done: int, steps: int) -> None:
        """Undo what the optimiser made of pruned weights."""
        self.apply(model)

    def apply(self, model: nn.Module) -> None:
        """Set the pruned weights of `model` to zero."""
        apply_masks(model, self._masks)

    def is_final(self, done: int, steps: int) -> bool:
        """Always."""
        return True

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: the masks are given and do not change."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to continue from."""


class GradualMasks:
    """The sparsity rises along a cubic while the network is trained (Zhu and Gupta 2017).

    Weights that are zero are the smallest, so they stay zero; a ramp of less than the whole
    training leaves steps at the final sparsity to heal.
    """

    def __init__(
        self,
        config: Magnitude,
        *,
        start: float = 0.0,
        ramp_share: float = 0.7,
        updates: int = 100,
    ) -> None:
        """Raises ConfigError for a pattern (it has no degrees), a start or a ramp out of range.

        Args:
            config: final sparsity and scope.
            start: sparsity of the network as it comes.
            ramp_share: share of all steps over which the sparsity rises.
            updates: how often at most it is raised on the ramp.
        """
        if config.pattern:
            raise ConfigError(
                f"pattern {config.pattern} cannot be reached gradually; use schedule 'oneshot'"
            )
        if not 0 <= start <= config.sparsity:
            raise ConfigError(
                f"the network is {start:.1%} sparse already, more than the {config.sparsity:.1%} "
                "asked for; raise the sparsity"
            )
        if not 0 < ramp_share <= 1:
            raise ConfigError(f"ramp_share is {ramp_share}, but must be above 0 and at most 1")
        self._config = config
        self._start = start
        self._ramp = ramp_share
        self._updates = updates
        self._masks: Masks = {}

    def after_step(self, model: nn.Module, done: int, steps: int) -> None:
        """Raise the sparsity where it is due, then set the pruned weights to zero."""
        ramp = max(1, int(self._ramp * steps))
        every = max(1, ramp // self._updates)
        if done <= ramp and (done % every == 0 or done == ramp):
            share = cubic_sparsity(done / ramp, self._config.sparsity, start=self._start)
            self._masks, _ = make_masks(model, self._config, sparsity=share)
        self.apply(model)

    def apply(self, model: nn.Module) -> None:
        """Set the pruned weights of `model` to zero."""
        apply_masks(model, self._masks)

    def is_final(self, done: int, steps: int) -> bool:
        """Whether the ramp is over."""
        return done >= max(1, int(self._ramp * steps))

    def state_dict(self) -> dict[str, Tensor]:
        """The masks of the last rise."""
        return dict(self._masks)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue with stored masks."""
        self._masks = dict(state)
