"""Structured pruning: channels go by one global threshold over their importance.

By default network slimming: the importance is the scale of a channel's BatchNorm (Z. Liu et al.,
"Learning efficient convolutional networks through network slimming", ICCV 2017, as SpeakIn 2021,
section 2.3, and BUPT 2020, section 3.3, equation 3, use it). While training, an L1 penalty on every
scale pushes those of useless channels towards zero (`add_gamma_l1`); then one threshold over the
magnitudes of all scales decides (`slim`). Other measures (`compressor.methods.importance`) take the
scale's place, all else is the same.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from compressor.errors import ConfigError, PruneError, UnknownNameError
from compressor.methods.budget import Budget, Sizes, Sizing
from compressor.methods.grouping import ChannelGroup, channel_groups
from compressor.methods.importance import IMPORTANCES, Batches, Importance, channel_scales
from compressor.methods.kinds import is_batchnorm, widths
from compressor.methods.selection import Key, Ranking, rank, scale_key
from compressor.methods.surgery import PrunePlan, check_finite, plan_removal, slice_channels

__all__ = ["Selection", "SlimResult", "Slimming", "add_gamma_l1", "select", "slim"]


@dataclass(frozen=True)
class Slimming:
    """How much to remove and what counts as important.

    Attributes:
        ratio: 0 to below 1. By channels: share of scores (BatchNorm scales, filters) under the
            global threshold, which is sorted(scores)[int(total * ratio)]; a unit whose score is
            under it goes. By params: share of parameters removed, the closest that does not exceed
            it.
        by: what `ratio` is a share of.
        target_params: if given, `ratio` is not used: the largest network of the removal order with
            at most this many parameters.
        reduction: score of channels that are tied together: largest or mean of theirs. By the
            largest, a channel goes only where all its scales are under the threshold, which is what
            zeroing every scale under it would leave without effect.
        min_channels: floor: units that each group keeps at least.
        min_share: floor as a share of each group's units.
        importance: gamma, l1, l2, taylor or random; see `compressor.methods.importance`.
        normalize: divide each score by the mean of its layer; None does so for l1 and l2 only.
        seed: of the random scores.
    """

    ratio: float | None = 0.5
    by: Literal["channels", "params"] = "channels"
    target_params: int | None = None
    reduction: Literal["max", "mean"] = "max"
    min_channels: int = 2
    min_share: float = 0.0
    importance: Importance = "gamma"
    normalize: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ConfigError for values out of range."""
        if self.ratio is None and self.target_params is None:
            raise ConfigError("slimming needs a ratio (0 to below 1) or target_params; found none")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ConfigError(f"prune ratio is {self.ratio}, but must be at least 0 and below 1")
        if self.by not in ("channels", "params"):
            raise ConfigError(f"by is {self.by!r}, but must be 'channels' or 'params'")
        if self.reduction not in ("max", "mean"):
            raise ConfigError(f"reduction is {self.reduction!r}, but must be 'max' or 'mean'")
        if self.target_params is not None and self.target_params < 1:
            raise ConfigError(f"target_params is {self.target_params}, but must be at least 1")
        if self.min_channels < 1:
            raise ConfigError(f"min_channels is {self.min_channels}, but must be at least 1")
        if not 0 <= self.min_share <= 1:
            raise ConfigError(f"min_share is {self.min_share}, but must be between 0 and 1")
        if self.importance not in IMPORTANCES:
            raise UnknownNameError("importance", str(self.importance), IMPORTANCES)


@dataclass(frozen=True)
class Selection:
    """Which channels a setting removes, and the exact size it leaves; fields as in `SlimResult`."""

    plan: PrunePlan
    threshold: float
    channels_under_threshold: int
    channels_total: int
    params_before: int
    params_after: int
    kept: dict[str, tuple[int, int]]
    sizes: Sizes | None = None


@dataclass(frozen=True)
class SlimResult:
    """A slimmed network and what was done.

    Attributes:
        model: the smaller network, in the mode of the given one.
        plan: which channels stay.
        threshold: what a unit's score had to be under.
        requested: the ratio, or the number of parameters asked for; 0 for another budget.
        channels_under_threshold: scores (BatchNorm scales, filters) under the threshold.
        channels_total: scores of all removable channels.
        params_before: parameters of the given network.
        params_after: parameters of the smaller one.
        kept: (channels kept, channels before) of each convolution or linear layer whose outputs
            could go.
        sizes: figures of the smaller network as it will be stored; only under a budget.
    """

    model: nn.Module
    plan: PrunePlan
    threshold: float
    requested: float
    channels_under_threshold: int
    channels_total: int
    params_before: int
    params_after: int
    kept: dict[str, tuple[int, int]]
    sizes: Sizes | None = None


def _score(scales: list[float], reduction: str) -> float:
    return max(scales) if reduction == "max" else math.fsum(scales) / len(scales)


def _just_after(ranking: Ranking, count: int) -> Key:
    """The key that exactly the first `count` units come before."""
    if count < len(ranking.keys):
        return ranking.keys[count]
    score, place, group, unit, number = ranking.keys[-1]
    return (score, place, group, unit, number + 1)


def _explain_nothing(config: Slimming, ranking: Ranking, scale_keys: list[Key]) -> str:
    if not ranking.keys:
        return (
            f"every group already has only its floor of channels (min_channels "
            f"{config.min_channels}, min_share {config.min_share}); lower the floor"
        )
    if config.by == "params":
        first = 1 - ranking.params[1] / ranking.params[0]
        return f"the least important channel alone holds {first:.3%} of them; raise the ratio"
    first_place = bisect_right(scale_keys, ranking.keys[0])
    return (
        f"the first channel goes at ratio {first_place / len(scale_keys):.3f} "
        f"(reduction {config.reduction!r}); raise the ratio"
    )


def _cut(config: Slimming, ranking: Ranking, scale_keys: list[Key]) -> tuple[int, Key]:
    """How many units go, and the key of the threshold under which they are."""
    before, smallest = ranking.params[0], ranking.params[-1]
    if config.target_params is not None:
        count = ranking.within(config.target_params)
        return count, _just_after(ranking, count) if ranking.keys else scale_keys[0]
    ratio = config.ratio or 0.0
    if config.by == "channels":
        # 1e-9: 0.29 * 100 is 28.999999999999996 in floating point
        key = scale_keys[int(len(scale_keys) * ratio + 1e-9)]
        count = ranking.below(key)
    else:
        least = math.ceil(before * (1 - ratio) - 1e-6)
        if least < smallest:
            raise PruneError(
                f"{ratio:.2%} of {before:,} parameters cannot be removed: the smallest network "
                f"that keeps the floor of channels in every group has {smallest:,} "
                f"({1 - smallest / before:.2%} removed); lower the ratio or the floor"
            )
        count = bisect_right(ranking.params, -least, key=lambda n: -n) - 1
        key = _just_after(ranking, count) if ranking.keys else scale_keys[0]
    if ratio > 0 and count == 0:
        raise PruneError(
            f"a prune ratio of {ratio} (share of {config.by}) removes nothing: "
            + _explain_nothing(config, ranking, scale_keys)
        )
    return count, key


def select(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    config: Slimming,
    *,
    budget: Budget | None = None,
    example: Tensor | None = None,
    batches: Batches | None = None,
) -> Selection:
    """Choose the channels that `slim` removes, and count what is left, without cutting anything.

    The official code removes scales at or under sorted(|gamma|)[int(total * ratio)], one more than
    the ratio says; here those strictly under it go, exactly int(total * ratio) of them, equal
    scales in the order of `compressor.methods.selection`.

    Raises:
        PruneError: nothing can be removed, or the target cannot be reached (the message tells what
            can).
    """
    scales = channel_scales(
        model,
        groups,
        config.importance,
        normalize=config.normalize,
        seed=config.seed,
        batches=batches,
    )
    by_index = {group.index: group for group in groups}
    scores = {g: [_score(unit, config.reduction) for unit in units] for g, units in scales.items()}
    ranking = rank(
        model,
        groups,
        scores,
        counts={g: [len(unit) for unit in units] for g, units in scales.items()},
        min_channels=config.min_channels,
        min_share=config.min_share,
    )
    scale_keys = sorted(
        scale_key(gamma, by_index[g], u, n)
        for g, units in scales.items()
        for u, gammas in enumerate(units)
        for n, gamma in enumerate(sorted(gammas))
    )
    sizes = None
    if budget is None:
        count, key = _cut(config, ranking, scale_keys)
    else:
        if example is None:
            raise ConfigError("a budget needs an example input to count on; found none")
        if config.target_params is not None:
            budget = replace(budget, params=config.target_params)
        sizing = Sizing(model, example, budget.number_type)
        count, sizes = sizing.least(
            budget,
            lambda n: plan_removal(model, groups, ranking.removed(n)),
            len(ranking.order),
        )
        key = _just_after(ranking, count) if ranking.keys else scale_keys[0]
    plan = plan_removal(model, groups, ranking.removed(count))
    outputs = {c.layer: c for c in plan.outputs}
    kept: dict[str, tuple[int, int]] = {}
    for group in groups:
        for span in group.layers if group.index in scales else ():
            layer = model.get_submodule(span.layer)
            if span.side == "out" and not widths(layer).loses_whole_groups:
                total = widths(layer).out
                left = len(outputs[span.layer].kept) if span.layer in outputs else total
                kept[span.layer] = (left, total)
    return Selection(
        plan=plan,
        threshold=key[0],
        channels_under_threshold=bisect_left(scale_keys, key),
        channels_total=len(scale_keys),
        params_before=ranking.params[0],
        params_after=ranking.params[count],
        kept=kept,
        sizes=sizes,
    )


def slim(
    model: nn.Module,
    example: Tensor,
    config: Slimming,
    *,
    ignored: Sequence[str] = (),
    budget: Budget | None = None,
    batches: Batches | None = None,
) -> SlimResult:
    """Remove the least important channels.

    Args:
        model: trained network; left as it is.
        example: an input (N, ...) that it takes.
        config: how much.
        ignored: qualified names of layers whose output channels stay (`ModelEntry.ignored_layers`).
        budget: limits to keep instead of a ratio, with the least removal.
        batches: labelled inputs (x, class indices) for the importance `taylor`.

    Raises:
        ConfigError: `taylor` without batches.
        PruneError: weights that are not finite, nothing can be removed, the target cannot be
            reached (the message tells what can), or the removal would not be exact.
        UnknownNameError: a name in `ignored` that is no layer.
    """
    if config.importance != "gamma":  # scales are checked one by one, all else when it is sliced
        check_finite(model)
    groups = channel_groups(model, example, ignored)
    choice = select(model, groups, config, budget=budget, example=example, batches=batches)
    small = slice_channels(model, example, choice.plan, groups=groups)
    requested = config.ratio if config.target_params is None else config.target_params
    if budget is not None:
        requested = budget.params
    return SlimResult(
        model=small,
        plan=choice.plan,
        threshold=choice.threshold,
        requested=float(requested or 0),
        channels_under_threshold=choice.channels_under_threshold,
        channels_total=choice.channels_total,
        params_before=choice.params_before,
        params_after=sum(p.numel() for p in small.parameters()),
        kept=choice.kept,
        sizes=choice.sizes,
    )


def add_gamma_l1(model: nn.Module, strength: float) -> None:
    """Add the gradient of `strength` * sum |gamma| to every BatchNorm scale (BUPT equation 3).

    Called between `backward()` and the optimiser's step; a scale of exactly zero gets nothing.

    Raises:
        ConfigError: a strength that is negative or not finite.
    """
    if not (math.isfinite(strength) and strength >= 0):
        raise ConfigError(f"gamma_l1 is {strength}, but must be a number of at least 0")
    if strength == 0:
        return
    with torch.no_grad():
        for layer in model.modules():
            if is_batchnorm(layer) and layer.weight.grad is not None:
                layer.weight.grad.add_(torch.sign(layer.weight), alpha=strength)
