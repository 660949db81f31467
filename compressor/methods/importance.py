"""How important each channel is: one argument, five measures, one shape of answer.

Every measure gives each removable unit the list of its channels' scores; `compressor.methods
.selection` orders units by them whatever the measure, so that ratios, floors and the exactness test
are the same for all.

- `gamma`: |scale| of the BatchNorm channels (Liu et al., "Network slimming", ICCV 2017). Groups
  without BatchNorm stay whole.
- `l1`, `l2`: norm of the filters that make the channels (H. Li et al., "Pruning filters for
  efficient ConvNets", ICLR 2017). Norms of layers with other fan-ins do not compare, so each is
  divided by the mean of its layer (`normalize`).
- `taylor`: squared first-order change of the loss when the channel is silenced, averaged over
  batches (Molchanov et al., "Importance estimation for neural network pruning", CVPR 2019, gates
  behind BatchNorm); needs labelled batches.
- `random`: a number drawn for each unit, the control that every other measure must beat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.errors import ConfigError, PruneError
from compressor.methods.grouping import ChannelGroup, Span, bare_copy
from compressor.methods.kinds import filters, is_batchnorm

__all__ = ["IMPORTANCES", "Batches", "Importance", "Scales", "channel_scales"]

Importance = Literal["gamma", "l1", "l2", "taylor", "random"]
IMPORTANCES: tuple[str, ...] = get_args(Importance)

# group index -> unit -> scores of the unit's channels
Scales = dict[int, list[list[float]]]
# inputs (N, ...) as the network takes them, and class indices (N,)
Batches = Iterable[tuple[Tensor, Tensor]]


def channel_scales(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    importance: str = "gamma",
    *,
    normalize: bool | None = None,
    seed: int = 0,
    batches: Batches | None = None,
) -> Scales:
    """Scores of all channels that may go, by group and unit; groups without any are left out.

    Args:
        model: the network that the groups belong to; left as it is.
        groups: from `channel_groups`.
        importance: one of `IMPORTANCES`.
        normalize: divide each score by the mean of its layer; None does so for l1 and l2 only.
        seed: of the random scores.
        batches: labelled inputs for `taylor`, unused otherwise.

    Raises:
        ConfigError: an unknown importance, or `taylor` without batches.
        PruneError: a score is not finite, or there is nothing to score.
    """
    if importance not in IMPORTANCES:
        raise ConfigError(f"importance is {importance!r}; allowed: {', '.join(IMPORTANCES)}")
    if importance == "random":
        return _random(model, groups, seed)
    if importance == "taylor":
        if batches is None:
            raise ConfigError(
                "importance 'taylor' needs labelled clips to measure the loss on; give data, or "
                "use gamma, l1 or l2"
            )
        per_layer = _taylor(model, groups, batches)
        found = _by_unit(groups, _taylor_spans, per_layer.__getitem__)
    elif importance == "gamma":
        found = _by_unit(groups, _norms, lambda name: _gamma(model, name))
        if not found:
            raise PruneError(
                "no BatchNorm scale decides over a removable channel; slimming needs BatchNorm "
                "after the convolutions (or too much is ignored)"
            )
    else:
        order = 1 if importance == "l1" else 2
        divide = normalize is None or normalize

        def norms(name: str) -> Tensor:
            scores = filters(model.get_submodule(name)).norm(order, dim=1)
            return _normalized(scores) if divide else scores

        return _checked(_by_unit(groups, _makers, norms))
    if normalize:
        found = _divided(groups, found)
    return _checked(found)


def _checked(found: Scales) -> Scales:
    if not found:
        raise PruneError("the network has no removable channel (or too much is ignored)")
    return found


def _normalized(scores: Tensor) -> Tensor:
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def _divided(groups: Sequence[ChannelGroup], scales: Scales) -> Scales:
    """Scores over the mean of their group."""
    result: Scales = {}
    for group in groups:
        if group.index in scales:
            units = scales[group.index]
            flat = [score for unit in units for score in unit]
            mean = math.fsum(flat) / len(flat) or 1.0
            result[group.index] = [[score / mean for score in unit] for unit in units]
    return result


def _norms(group: ChannelGroup) -> tuple[Span, ...]:
    return group.batchnorms


def _makers(group: ChannelGroup) -> tuple[Span, ...]:
    return tuple(span for span in group.layers if span.side == "out")


def _taylor_spans(group: ChannelGroup) -> tuple[Span, ...]:
    return group.batchnorms or _makers(group)


def _gamma(model: nn.Module, name: str) -> Tensor:
    return model.get_submodule(name).get_parameter("weight").detach().abs().double()


def _by_unit(
    groups: Sequence[ChannelGroup],
    spans_of: Callable[[ChannelGroup], tuple[Span, ...]],
    scores_of: Callable[[str], Tensor],
) -> Scales:
    """Scores of the layers that `spans_of` names, gathered by group and unit."""
    found: Scales = {}
    for group in groups:
        spans = spans_of(group)
        if not spans:
            continue
        units: list[list[float]] = [[] for _ in range(group.size)]
        for span in spans:
            scores = scores_of(span.layer).tolist()
            if not all(math.isfinite(score) for score in scores):
                raise PruneError(f"layer {span.layer!r} has scales that are not finite")
            for unit, places in enumerate(span.positions):
                units[unit] += [scores[i] for i in places]
        if not all(units):
            raise PruneError(
                f"some channels of layer {group.name!r} pass a BatchNorm and some do not; "
                f"leave it alone with ignored=[{group.name!r}]"
            )
        found[group.index] = units
    return found


def _random(model: nn.Module, groups: Sequence[ChannelGroup], seed: int) -> Scales:
    """One draw a unit, repeated for each of its filters: a tied unit is no likelier to stay."""
    generator = torch.Generator().manual_seed(seed)
    shape = _by_unit(groups, _makers, lambda name: filters(model.get_submodule(name))[:, 0] * 0)
    return _checked(
        {
            index: [
                [draw] * len(unit)
                for draw, unit in zip(
                    torch.rand(len(units), generator=generator).tolist(), units, strict=True
                )
            ]
            for index, units in shape.items()
        }
    )


def _taylor(
    model: nn.Module, groups: Sequence[ChannelGroup], batches: Batches
) -> Mapping[str, Tensor]:
    """Layer name -> mean over batches of (sum of parameter x gradient)^2 of each channel.

    In evaluation mode: with batch statistics the loss would not depend on a filter's length.
    """
    twin = bare_copy(model).eval()
    twin.requires_grad_(True)
    names = dict.fromkeys(span.layer for group in groups for span in _taylor_spans(group))
    totals: dict[str, Tensor] = {}
    count = 0
    for inputs, labels in batches:
        twin.zero_grad()
        with torch.enable_grad():
            outputs = twin(inputs)
            if outputs.ndim != 2 or int(labels.max()) >= outputs.shape[1]:
                raise PruneError(
                    f"the network returns {tuple(outputs.shape)} for labels up to "
                    f"{int(labels.max())}; importance 'taylor' needs one logit for each class"
                )
            F.cross_entropy(outputs, labels).backward()  # type: ignore[no-untyped-call]
        for name in names:
            change = _first_order(twin.get_submodule(name)).square()
            totals[name] = totals[name] + change if name in totals else change
        count += 1
    if count == 0:
        raise PruneError("importance 'taylor' needs at least one batch, found none")
    return {name: total / count for name, total in totals.items()}


def _first_order(layer: nn.Module) -> Tensor:
    """Sum of parameter x gradient of each output channel: first-order change of the loss."""
    weight = layer.get_parameter("weight")
    if weight.grad is None:  # a layer whose output reaches no logit
        return torch.zeros(filters(layer).shape[0] if weight.ndim > 1 else len(weight)).double()
    if is_batchnorm(layer):
        change = (weight * weight.grad).detach().double()
    else:
        with torch.no_grad():
            change = filters(layer, weight * weight.grad).sum(dim=1)
    bias = layer._parameters.get("bias")
    if bias is not None and bias.grad is not None:
        change = change + (bias * bias.grad).detach().double()
    return change
