"""CM-softmax: cross-entropy over cosines, the true class held to an angular and an additive margin.

Y. Chen et al. (SpeakIn), DCASE 2021 technical report, section 2.2: the combination of additive
margin softmax (Wang et al. 2018) and additive angular margin softmax (Deng et al. 2019), scale 30,
angular margin 0.2, additive margin 0.1. The combination is that of Deng et al., equation 4 with
m1 = 1: with the angle theta between embedding and class weight, the true class has the logit

    s · (cos(theta + m_angular) - m_additive)

and every other class s · cos(theta).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.training.classifier import Classifier

__all__ = ["MarginHead", "cm_softmax"]

_SIN2_FLOOR = 1e-7  # the root's slope is infinite at 0
_NORM_DECAY = 0.99


def cm_softmax(
    cosines: Tensor,
    targets: Tensor,
    *,
    scale: float,
    angular_margin: float,
    additive_margin: float,
    smoothing: float = 0.0,
) -> Tensor:
    """Mean CM-softmax loss in nats.

    A mixed target is taken as what it is mixed of: the loss is the sum over classes of the target's
    share times the loss of a clip of that class, each with the margins at its own class.

    Beyond theta = pi - m_angular, where cos(theta + m) would rise again, the true class has
    cos(theta) - m · sin(m), as in the code of Deng et al., which goes on falling.

    Args:
        cosines: (N, classes), -1 to 1.
        targets: (N, classes) probabilities.
        scale: s.
        angular_margin: m_angular, radians.
        additive_margin: m_additive.
        smoothing: share of the target spread over all classes.

    Returns:
        A scalar.
    """
    cos = cosines.float()
    sin = (1 - cos.square()).clamp(min=_SIN2_FLOOR).sqrt()
    held = cos * math.cos(angular_margin) - sin * math.sin(angular_margin)
    folded = cos <= -math.cos(angular_margin)
    held = torch.where(folded, cos - angular_margin * math.sin(angular_margin), held)
    classes = cos.shape[1]
    own = torch.eye(classes, dtype=torch.bool, device=cos.device)
    # logits[n, k] are those of clip n, were k its class: the margins stand on the diagonal
    logits = scale * torch.where(own, (held - additive_margin).unsqueeze(2), cos.unsqueeze(1))
    losses = -F.log_softmax(logits, dim=2)
    by_class = (1 - smoothing) * losses.diagonal(dim1=1, dim2=2) + smoothing * losses.mean(dim=2)
    return (targets * by_class).sum(dim=1).mean()


class MarginHead:
    """What CM-softmax needs of a network's last layer, which stays a plain layer.

    While the network is trained, cosines are taken between the layer's inputs (of a convolution
    with several positions: their mean, see `Classifier`) and its weights. For inference the weights
    are written at the length s / (mean length of the embeddings) and the bias as 0: the largest
    output is then that of the largest cosine, and the outputs of an embedding of mean length are s
    times the cosines. A BatchNorm behind the layer, which no cosine depends on, gets the scales and
    shifts that give just that, while weights and statistics stay as they are: estimated anew, the
    statistics are then still those of the weights. The mean length runs over the steps of the
    training, as `WeightAverage` does with a decay of 0.99.
    """

    def __init__(self, classifier: Classifier, scale: float) -> None:
        """Args: the layer, see `find_classifier`, and s."""
        self._layer = classifier.layer
        self._batch_norm = classifier.norm
        self._scale = scale
        self._steps = 0
        self._norm = torch.zeros((), device=self._layer.weight.device)
        self._embedding: Tensor | None = None
        self._handle = self._layer.register_forward_pre_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if layer.training:
            self._embedding = inputs[0]

    def cosines(self) -> Tensor:
        """Of the batch that the network has just been trained on: (N, outputs) float32."""
        assert self._embedding is not None, "the network has not been run in training mode"
        embedding, self._embedding = self._embedding.float(), None
        of_map = isinstance(self._layer, nn.Conv2d)
        embedding = embedding.mean(dim=(2, 3)) if of_map else embedding.flatten(1)
        norms = embedding.detach().norm(dim=1)
        self._steps += 1
        decay = min(_NORM_DECAY, (self._steps - 1) / (9 + self._steps))  # 0 at first
        self._norm.lerp_(norms.mean(), 1 - decay)
        return F.linear(F.normalize(embedding), F.normalize(self._layer.weight.flatten(1)))

    @contextmanager
    def for_inference(self) -> Iterator[None]:
        """The layer as inference needs it; afterwards as it is trained."""
        layer, norm = self._layer, self._batch_norm
        written = (layer.weight, layer.bias) if norm is None else (norm.weight, norm.bias)
        kept = [(p, p.detach().clone()) for p in written if p is not None]
        with torch.no_grad():
            length = self._scale / self._norm.clamp(min=1e-6)
            if norm is None:
                rows = F.normalize(layer.weight.flatten(1)) * length
                layer.weight.copy_(rows.view_as(layer.weight))
                if layer.bias is not None:
                    layer.bias.zero_()
            else:
                assert norm.running_mean is not None and norm.running_var is not None
                factors = length / layer.weight.flatten(1).norm(dim=1).clamp(min=1e-12)
                mean = norm.running_mean
                norm.weight.copy_(factors * (norm.running_var + norm.eps).sqrt())
                norm.bias.copy_(factors * (mean if layer.bias is None else mean - layer.bias))
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in kept:
                    parameter.copy_(value)

    def close(self) -> None:
        """Leave the network alone from now on."""
        self._handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` continues from."""
        return {"steps": self._steps, "norm": self._norm.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self._steps = int(state["steps"])
        self._norm.copy_(state["norm"])
