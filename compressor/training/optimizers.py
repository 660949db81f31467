"""Optimisers by name: torch's own."""

from __future__ import annotations

import torch
from torch import nn

from compressor.errors import UsageError
from compressor.training.settings import TrainSettings

__all__ = ["make_optimizer"]

_SECOND_BETA = 0.999  # torch's default, and that of every paper here that says "standard"


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser of `settings`; no weight decay on one-dimensional parameters.

    AdamW, Adam, RAdam (as SCUT's published code, without decoupled decay), or SGD with Nesterov
    momentum.

    Raises:
        UsageError: the network has no parameter to train.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("the network has no trainable parameter; check requires_grad")
    groups = [
        {
            "params": [p for p in parameters if p.ndim > 1],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # Fused: one call for all tensors, a sixth of the time on 91 small ones. It takes gradients by
    # memory order, which autograd keeps equal to the parameter's; a gradient written by hand must.
    betas = (settings.momentum, _SECOND_BETA)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, fused=True)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=settings.lr, betas=betas, fused=True)
    if settings.optimizer == "radam":  # torch has no fused one
        return torch.optim.RAdam(groups, lr=settings.lr, betas=betas, foreach=True)
    nesterov = settings.momentum > 0  # torch refuses Nesterov without momentum
    return torch.optim.SGD(
        groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov, fused=True
    )
