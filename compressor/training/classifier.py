"""The layer that makes a network's outputs, found by running the network once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressor.errors import ConfigError

__all__ = ["Classifier", "find_classifier"]

Classifier = nn.Linear | nn.Conv2d


def find_classifier(model: nn.Module, x: Tensor) -> Classifier | None:
    """The last linear layer or 1x1 convolution whose result is what the network returns.

    The network is run in evaluation mode without a graph and left in the mode it came in. Nothing
    may come after the layer but a change of shape: where BatchNorm or a mean over positions follows
    there is no such layer.

    Args:
        model: returns (N, outputs).
        x: a batch as the network takes it.

    Returns:
        The layer, or None where the outputs are made otherwise.
    """
    results: list[tuple[Classifier, Tensor]] = []

    def keep(layer: nn.Module, _: object, result: Tensor) -> None:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        results.append((layer, result))

    handles = [
        layer.register_forward_hook(keep)
        for layer in model.modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and _is_linear(layer))
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(x)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    for layer, result in reversed(results):
        if result.numel() == outputs.numel() and torch.equal(result.flatten(), outputs.flatten()):
            return layer
    return None


def require_classifier(model: nn.Module, x: Tensor) -> Classifier:
    """`find_classifier`, which must find one.

    Raises:
        ConfigError: the outputs are made otherwise.
    """
    layer = find_classifier(model, x)
    if layer is None:
        raise ConfigError(
            "loss 'cm_softmax' needs a network that ends in a linear layer (or a 1x1 convolution "
            f"of one position), which {type(model).__name__} does not; set loss = 'cross_entropy'"
        )
    return layer


def _is_linear(layer: nn.Conv2d) -> bool:
    return tuple(layer.kernel_size) == (1, 1) and layer.groups == 1
