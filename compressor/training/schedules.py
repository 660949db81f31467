"""Learning rates over the steps of a run: torch's own schedulers, one `step()` a batch."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)

from compressor.training.settings import TrainSettings

__all__ = ["make_scheduler"]

_MOMENTUM_SWING = 0.05  # one-cycle moves the momentum against the learning rate: 0.95 to 0.85


def make_scheduler(optimizer: Optimizer, settings: TrainSettings, steps: int) -> LRScheduler:
    """The schedule of `settings` over `steps` optimiser steps (at least one).

    One-cycle: from lr/25 up to lr over `warmup_share` of the steps and down to lr/250,000, both as
    a half cosine, the momentum the other way (Smith & Topin 2018; torch's defaults). Cosine: a
    linear rise to lr over `warmup_share` of the steps, then half a cosine towards `lr_final`.
    Constant: the same rise, then lr.
    """
    if settings.schedule == "onecycle":
        # torch divides by zero where the rise would end exactly at the first step
        share = 0.0 if settings.warmup_share * steps - 1 == 0 else settings.warmup_share
        swing = min(_MOMENTUM_SWING, settings.momentum, (1 - settings.momentum) / 2)
        return OneCycleLR(
            optimizer,
            max_lr=settings.lr,
            total_steps=steps,
            pct_start=share,
            cycle_momentum=swing > 0,
            base_momentum=settings.momentum - swing,
            max_momentum=settings.momentum + swing,
        )
    warmup = min(round(settings.warmup_share * steps), steps - 1)
    then: LRScheduler
    if settings.schedule == "constant":
        then = ConstantLR(optimizer, factor=1.0)
    else:
        then = CosineAnnealingLR(optimizer, T_max=steps - warmup, eta_min=settings.lr_final)
    if warmup == 0:
        return then
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, then], milestones=[warmup])
