"""Two tasks, one network: the scenes and their groups (indoor, outdoor, transport).

K. Wang et al. (SCUT), DCASE 2023 technical report, section 3.3. The outputs after those of the
scenes are the groups'. A gradient of one task that works against the other loses that part (T. Yu
et al., "Gradient surgery for multi-task learning", 2020, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.errors import DataError, ShapeError
from compressor.training.classifier import Classifier

__all__ = ["backward_projected", "combine_logits", "group_outputs", "groups_of", "membership"]


def groups_of(classes: Sequence[str]) -> tuple[int, ...]:
    """The group of each scene.

    Raises:
        DataError: the data's classes are not the scenes that have groups.
    """
    from compressor.data import scene_groups

    groups = scene_groups(classes)
    if groups is None:
        raise DataError(
            f"tasks 'scene+group' needs the ten scenes of TAU; the data has {len(classes)} classes "
            f"({', '.join(classes[:3])}, ...) without groups; set tasks = 'scene'"
        )
    return groups


def membership(groups: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """(classes, groups) float32: 1 where a class is in a group."""
    return F.one_hot(torch.tensor(list(groups), device=device), max(groups) + 1).float()


def group_outputs(outputs: Tensor, classes: int, groups: int) -> Tensor:
    """The groups' columns of a network's outputs (N, outputs): those after the classes'.

    Raises:
        ShapeError: there are too few.
    """
    if outputs.ndim != 2 or outputs.shape[1] < classes + groups:
        raise ShapeError(
            f"the network returns a tensor of shape {tuple(outputs.shape)}, but tasks 'scene+group'"
            f" needs {classes} + {groups} outputs; build the network with group_classes={groups}, "
            "or set tasks = 'scene'"
        )
    return outputs[:, classes : classes + groups]


def combine_logits(outputs: Tensor, members: Tensor, share: float) -> Tensor:
    """(1 - share) · scene logits + share · the logits of their groups.

    As the system that SCUT's descends from (R. Sugahara et al., DCASE 2022) does at inference, with
    a share of 0.2.

    Args:
        outputs: (N, classes + groups or more).
        members: (classes, groups), see `membership`.
        share: of the group's logit, 0 to 1.

    Returns:
        (N, classes).

    Raises:
        ShapeError: the network has too few outputs.
    """
    classes, groups = members.shape
    of_groups = group_outputs(outputs, classes, groups) @ members.T.to(outputs.dtype)
    return torch.lerp(outputs[:, :classes], of_groups, share)


def backward_projected(
    losses: tuple[Tensor, Tensor],
    parameters: Iterable[nn.Parameter],
    own: Classifier | None = None,
) -> None:
    """Gradients of both losses, without what works against the other, into `.grad`.

    With the gradients g1, g2 over all shared parameters together and d = min(0, g1·g2):

        grad = g1 - d/|g2|^2 · g2  +  g2 - d/|g1|^2 · g1.

    Gradients of parameters that only one task reaches, and of the last layer, whose rows belong to
    one task each, are added as they are.

    Args:
        losses: of both tasks, of one graph, which is used up.
        parameters: to write gradients to; what is in `.grad` is lost.
        own: the last layer, where there is one.
    """
    wanted = [p for p in parameters if p.requires_grad]
    apart = set() if own is None else {id(p) for p in own.parameters()}
    first, second = _gradients(losses[0], wanted, True), _gradients(losses[1], wanted, False)
    shared: list[nn.Parameter] = []
    left: list[Tensor] = []
    right: list[Tensor] = []
    for parameter, a, b in zip(wanted, first, second, strict=True):
        if a is None or b is None:
            parameter.grad = b if a is None else a
        elif id(parameter) in apart:
            parameter.grad = a.add_(b)
        else:
            shared.append(parameter)
            left.append(a)
            right.append(b)
    if not shared:
        return
    # in the order of each tensor's own axes, whatever the memory format
    flat1, flat2 = (torch.cat([g.flatten() for g in side]) for side in (left, right))
    conflict = (flat1 @ flat2).clamp(max=0)
    tiny = torch.finfo(flat1.dtype).tiny
    weight1 = 1 - conflict / (flat1 @ flat1).clamp(min=tiny)
    weight2 = 1 - conflict / (flat2 @ flat2).clamp(min=tiny)
    torch._foreach_mul_(left, weight1)
    torch._foreach_mul_(right, weight2)
    torch._foreach_add_(left, right)
    for parameter, gradient in zip(shared, left, strict=True):
        parameter.grad = gradient


def _gradients(
    loss: Tensor, parameters: Sequence[nn.Parameter], keep_graph: bool
) -> list[Tensor | None]:
    """Gradients of one loss in the memory order of the parameters, which fused optimisers need.

    `torch.autograd.grad` would not promise that order; accumulation into `.grad` does.
    """
    for parameter in parameters:
        parameter.grad = None
    loss.backward(retain_graph=keep_graph)  # type: ignore[no-untyped-call]
    found = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return found
