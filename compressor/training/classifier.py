"""The layer that makes a network's outputs, found by running the network once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.errors import ConfigError

__all__ = ["Classifier", "find_classifier", "require_classifier"]

# A mean is rounded otherwise by every pooling that takes it; a share of the largest value.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Classifier:
    """One weight vector an output, and one embedding a clip that it is multiplied with.

    Where the layer is a convolution of several positions whose outputs are averaged, the embedding
    is the mean of its input over the positions: for the mean of w · f + b over them is w · (mean of
    f) + b. BatchNorm between the two scales and shifts each output and so changes neither.

    Attributes:
        layer: whose rows are the weight vectors.
        norm: BatchNorm of the layer's results, affine, with running statistics.
    """

    layer: nn.Linear | nn.Conv2d
    norm: nn.BatchNorm2d | None = None

    def parameters(self) -> Iterator[nn.Parameter]:
        """Of both; each row belongs to one output."""
        yield from self.layer.parameters()
        if self.norm is not None:
            yield from self.norm.parameters()


def find_classifier(model: nn.Module, x: Tensor) -> Classifier | None:
    """The last linear layer or 1x1 convolution, if what the network returns is linear in its input.

    The network is run in evaluation mode without a graph and left in the mode it came in. After a
    convolution BatchNorm and then a mean over all positions may follow, else nothing but a change
    of shape.

    Args:
        model: returns (N, outputs).
        x: a batch as the network takes it.

    Returns:
        The layer, or None where the outputs are made otherwise.
    """
    results: list[tuple[nn.Module, Tensor, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        results.append((layer, inputs[0], result))

    handles = [
        layer.register_forward_hook(keep)
        for layer in model.modules()
        if _is_linear(layer) or isinstance(layer, nn.BatchNorm2d)
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
    for place in reversed(range(len(results))):
        layer, before, result = results[place]
        if not _makes(layer, result, outputs):
            continue
        if isinstance(layer, nn.BatchNorm2d):  # untrained it hardly changes what it is given
            return _before_norm(layer, before, results[:place])
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        return Classifier(layer)
    return None


def require_classifier(model: nn.Module, x: Tensor) -> Classifier:
    """`find_classifier`, which must find one.

    Raises:
        ConfigError: the outputs are made otherwise.
    """
    found = find_classifier(model, x)
    if found is None:
        raise ConfigError(
            "loss 'cm_softmax' needs angles between one embedding a clip and one weight vector a "
            f"class, which the outputs of {type(model).__name__} are not made of: let the network "
            "end in a linear layer, or in a 1x1 convolution followed by nothing but BatchNorm and "
            "a mean over positions; or set loss = 'cross_entropy'"
        )
    return found


def _makes(layer: nn.Module, result: Tensor, outputs: Tensor) -> bool:
    """Whether the outputs are a layer's results as they are or, of a map, averaged."""
    if result.numel() == outputs.numel():
        return torch.equal(result.flatten(), outputs.flatten())
    if result.ndim != 4 or result.shape[:2] != outputs.shape:
        return False
    if isinstance(layer, nn.Conv2d) and not _sees_every_position(layer):
        return False
    allowed = _ROUNDING * float(result.abs().max())
    return torch.allclose(result.mean(dim=(2, 3)), outputs, rtol=0.0, atol=allowed)


def _before_norm(
    norm: nn.BatchNorm2d, normalised: Tensor, results: list[tuple[nn.Module, Tensor, Tensor]]
) -> Classifier | None:
    """The convolution whose results a BatchNorm took, where both can be written to."""
    if not norm.affine or norm.running_mean is None:
        return None
    for layer, _, result in reversed(results):
        if isinstance(layer, nn.Conv2d) and result.shape == normalised.shape:
            same = torch.equal(result, normalised) and _sees_every_position(layer)
            return Classifier(layer, norm) if same else None
    return None


def _sees_every_position(layer: nn.Conv2d) -> bool:
    """Whether a 1x1 convolution has as many positions as its input."""
    return tuple(layer.stride) == (1, 1) and layer.padding in ((0, 0), "valid", "same")


def _is_linear(layer: nn.Module) -> bool:
    """Whether the layer is one matrix that can be written to (a parametrised one cannot)."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return False
    if isinstance(layer, nn.Conv2d) and (tuple(layer.kernel_size) != (1, 1) or layer.groups > 1):
        return False
    return isinstance(layer.weight, nn.Parameter)
