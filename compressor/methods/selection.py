"""Which channels go: an order over all removable units, and how far along it to cut.

Every way to say how much (share of channels, share of parameters, number of parameters) takes the
first part of one and the same order, so that the removals of a larger ratio contain those of a
smaller one and the size never grows with the ratio. In each group the best units, as many as the
floor says, are not in the order at all.

Ties. Equal scores are ordered by place: of two units with equal scores the one further back in its
layer, (place + 0.5) / size, goes first. A network whose scales are all equal, such as a fresh one,
is thereby thinned by the same share in every layer, and a ratio always means its exact share.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from compressor.errors import PruneError
from compressor.methods.grouping import ChannelGroup
from compressor.methods.kinds import count_params, widths

__all__ = ["Key", "Ranking", "rank", "scale_key"]

# (score, -relative place, group, unit, number of the scale in its unit): no two scales are equal
Key = tuple[float, float, int, int, int]


def scale_key(score: float, group: ChannelGroup, unit: int, number: int) -> Key:
    """Place of one scale of a unit in the order; smaller goes first.

    A unit is compared as if it were the last of its scales, so that it goes when all have gone.
    """
    return (score, -(unit + 0.5) / group.size, group.index, unit, number)


@dataclass(frozen=True)
class Ranking:
    """Removable units from the least important up, and what removing them saves.

    Attributes:
        order: (group index, unit) of each unit that may go.
        keys: its sort keys, ascending.
        params: parameters left after the first 0, 1, 2, ... units are gone; strictly falling.
    """

    order: tuple[tuple[int, int], ...]
    keys: tuple[Key, ...]
    params: tuple[int, ...]

    def below(self, key: Key) -> int:
        """How many units come before `key`."""
        return bisect_left(self.keys, key)

    def within(self, budget: int) -> int:
        """Fewest removals that leave at most `budget` parameters.

        Raises:
            PruneError: even removing everything above the floors leaves more.
        """
        if self.params[-1] > budget:
            raise PruneError(
                f"{budget:,} parameters cannot be reached: the smallest network that keeps the "
                f"floor of channels in every group has {self.params[-1]:,}; allow a lower floor "
                "(min_channels, min_share) or a larger target"
            )
        return bisect_left(self.params, -budget, key=lambda n: -n)

    def removed(self, count: int) -> dict[int, list[int]]:
        """The first `count` units, by group."""
        units: dict[int, list[int]] = {}
        for group, unit in self.order[:count]:
            units.setdefault(group, []).append(unit)
        return {group: sorted(found) for group, found in sorted(units.items())}


def _protected(
    group: ChannelGroup, keys: Sequence[Key], min_channels: int, min_share: float
) -> set[int]:
    """Units that stay: the best of every layer of the group, as many as the floor says."""
    stay: set[int] = set()
    for span in group.layers:
        here = [u for u in range(group.size) if span.positions[u]]
        floor = max(1, min_channels, math.ceil(min_share * len(here) - 1e-9))
        stay.update(sorted(here, key=lambda u: keys[u], reverse=True)[:floor])
    return stay


def rank(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    scores: Mapping[int, Sequence[float]],
    *,
    counts: Mapping[int, Sequence[int]] | None = None,
    min_channels: int = 2,
    min_share: float = 0.0,
) -> Ranking:
    """Order the units of all groups that have scores.

    Args:
        model: the network that the groups belong to.
        groups: from `channel_groups`.
        scores: group index -> importance of each unit; groups without scores stay whole.
        counts: group index -> number of scores behind each unit's; None: one a BatchNorm channel.
        min_channels: units that every group (and every layer in it) keeps at least.
        min_share: the same as a share of the group's units, rounded up.
    """
    entries: list[tuple[Key, ChannelGroup, int]] = []
    for group in groups:
        if group.index in scores:
            keys = []
            for unit, score in enumerate(scores[group.index]):
                if counts is None:
                    scales = sum(len(span.positions[unit]) for span in group.batchnorms)
                else:
                    scales = counts[group.index][unit]
                keys.append(scale_key(score, group, unit, scales - 1))
            stay = _protected(group, keys, min_channels, min_share)
            entries += [(keys[u], group, u) for u in range(group.size) if u not in stay]
    entries.sort(key=lambda entry: entry[0])

    layers = {s.layer: model.get_submodule(s.layer) for group in groups for s in group.layers}
    left = {name: [widths(layer).out, widths(layer).in_] for name, layer in layers.items()}
    count = {name: sum(p.numel() for p in layer.parameters()) for name, layer in layers.items()}
    params = [sum(p.numel() for p in model.parameters())]
    for _, group, unit in entries:
        for span in group.layers:
            lost = len(span.positions[unit])
            left[span.layer][0] -= lost if span.side != "in" else 0
            left[span.layer][1] -= lost if span.side != "out" else 0
        # only now: a layer may lose inputs and outputs in one unit
        saved = 0
        for name in {span.layer for span in group.layers}:
            after = count_params(layers[name], *left[name])
            saved += count[name] - after
            count[name] = after
        params.append(params[-1] - saved)
    return Ranking(
        tuple((group.index, unit) for _, group, unit in entries),
        tuple(key for key, _, _ in entries),
        tuple(params),
    )
