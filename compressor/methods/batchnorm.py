"""Re-estimation of BatchNorm statistics, the cheap repair after channels were removed.

Removing channels shifts the distributions that later BatchNorms see. Averaging their statistics
anew over a few batches of training inputs needs no labels and brings back most of the accuracy
before any fine-tuning (Z. Li et al., "EagleEye", ECCV 2020, call it adaptive BatchNorm).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compressor.errors import PruneError

__all__ = ["reestimate"]


def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running means and variances by their plain averages over `batches`, in place.

    Batches count equally, whatever their size. Only BatchNorm layers run in training mode (dropout
    stays off, no gradients are made); every flag and momentum is as before when it returns. If
    anything fails, the statistics are the old ones.

    Args:
        model: network with BatchNorm layers; without any, nothing happens.
        batches: inputs (N, ...) as the network takes them, on any device.

    Raises:
        PruneError: no batch at all, a batch that the network does not take, or statistics that are
            not finite.
    """
    norms = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }
    if not norms:
        return
    modes = [(layer, layer.training) for layer in model.modules()]
    momenta = {name: layer.momentum for name, layer in norms.items()}
    old = {name: {k: v.clone() for k, v in b.named_buffers()} for name, b in norms.items()}
    device = next(b for layer in norms.values() for b in layer.buffers()).device
    count = 0
    done = False
    try:
        model.eval()
        for layer in norms.values():
            layer.reset_running_stats()
            layer.momentum = None  # cumulative average
            layer.train()
        with torch.no_grad():
            for batch in batches:
                try:
                    model(batch.to(device))
                except (RuntimeError, ValueError) as error:
                    raise PruneError(
                        f"batch {count} of shape {tuple(batch.shape)} does not pass: {error}"
                    ) from error
                count += 1
        if count == 0:
            raise PruneError("BatchNorm statistics need at least one batch, found none")
        for name, layer in norms.items():
            if not all(bool(torch.isfinite(b).all()) for b in layer.buffers()):
                raise PruneError(
                    f"BatchNorm statistics of layer {name!r} are not finite: the inputs or the "
                    "weights hold values that are not"
                )
        done = True
    finally:
        for name, layer in norms.items():
            layer.momentum = momenta[name]
            if not done:
                for key, value in old[name].items():
                    getattr(layer, key).copy_(value)
        for module, training in modes:
            module.training = training
