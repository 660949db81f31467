"""Ranges of activations from calibration clips: minimum and maximum, percentile, entropy.

One pass over the clips finds the extremes of every site; percentile and entropy take a second pass
that counts a histogram between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.fx import Node

from compressor.errors import ConfigError, QuantizeError, ShapeError
from compressor.methods.dataflow import NetworkGraph, each_value
from compressor.methods.quant.integers import Activation, activation_grid

__all__ = ["calibrate", "check_clips"]

BINS = 2048
LEVELS = 256  # of the 8-bit grid
START = 128  # the smallest range that the search for the least divergence tries, in bins
STRIDE = 16  # its steps, in bins


def check_clips(batches: Iterable[Tensor], example: Tensor, limit: int) -> list[Tensor]:
    """Collect calibration batches, at most `limit` clips in all.

    Raises:
        ShapeError: a batch that is not of the example's shape (apart from the number of clips).
        QuantizeError: values that are not finite.
        ConfigError: no clip at all.
    """
    wanted = tuple(example.shape[1:])
    kept: list[Tensor] = []
    left = limit
    for number, batch in enumerate(batches):
        if left <= 0:
            break
        if not isinstance(batch, Tensor) or tuple(batch.shape[1:]) != wanted or not len(batch):
            found = tuple(batch.shape) if isinstance(batch, Tensor) else type(batch).__name__
            raise ShapeError(
                f"calibration batch {number} has the shape {found}, but the network takes "
                f"(clips, {', '.join(map(str, wanted))})"
            )
        if not bool(torch.isfinite(batch).all()):
            raise QuantizeError(f"calibration batch {number} holds values that are not finite")
        kept.append(batch[:left].float())
        left -= len(kept[-1])
    if not kept:
        raise ConfigError("calibration needs at least one clip, found none")
    return kept


def calibrate(
    graph: NetworkGraph,
    sites: Sequence[Node],
    batches: Sequence[Tensor],
    method: str = "minmax",
    percentile: float = 99.99,
) -> dict[str, Activation]:
    """The grid of every site, by its readable name.

    Args:
        graph: the network in evaluation mode.
        sites: nodes whose outputs are rounded.
        batches: checked calibration batches.
        method: "minmax", "percentile" or "entropy".
        percentile: for "percentile": share of the values inside, in %, the rest on both ends.

    Raises:
        QuantizeError: a value that is not finite; the message names the layer.
    """
    lows = dict.fromkeys(sites, float("inf"))
    highs = dict.fromkeys(sites, float("-inf"))

    def extremes(node: Node, value: Tensor) -> None:
        low, high = (float(v) for v in torch.aminmax(value))
        if not (abs(low) < float("inf") and abs(high) < float("inf")):  # false for NaN as well
            raise QuantizeError(
                " gives values that are not finite on the calibration clips; train the network "
                "again",
                graph.names[node],
            )
        lows[node], highs[node] = min(lows[node], low), max(highs[node], high)

    for _ in each_value(graph, batches, sites, extremes):
        pass
    if method != "minmax":
        if method == "entropy":  # compares whole grids, and every grid holds zero
            lows = {node: min(low, 0.0) for node, low in lows.items()}
            highs = {node: max(high, 0.0) for node, high in highs.items()}
        counts = {node: torch.zeros(BINS, dtype=torch.float64) for node in sites}

        def count(node: Node, value: Tensor) -> None:
            if lows[node] < highs[node]:
                found = torch.histc(value.float(), BINS, lows[node], highs[node])
                counts[node] += found.double()

        for _ in each_value(graph, batches, sites, count):
            pass
        for node in sites:
            if lows[node] < highs[node]:
                lows[node], highs[node] = _narrowed(
                    counts[node], lows[node], highs[node], method, percentile
                )
    return {graph.names[node]: activation_grid(lows[node], highs[node]) for node in sites}


def _narrowed(
    counts: Tensor, low: float, high: float, method: str, percentile: float
) -> tuple[float, float]:
    """The range to keep of a histogram between `low` and `high`."""
    if method == "percentile":
        first, last = _inner_bins(counts, percentile)
    else:
        first, last = _least_divergence(counts, low, high)
    width = (high - low) / BINS
    return low + first * width, low + last * width


def _inner_bins(counts: Tensor, percentile: float) -> tuple[int, int]:
    """First bin and end of the bins that hold the inner `percentile` % of the values."""
    shares = counts.cumsum(0) / counts.sum()
    tail = (1 - percentile / 100) / 2
    first = int(torch.searchsorted(shares, tail, right=True))
    last = int(torch.searchsorted(shares, 1 - tail)) + 1
    return min(first, BINS - 1), min(max(last, first + 1), BINS)


def _least_divergence(counts: Tensor, low: float, high: float) -> tuple[int, int]:
    """The range around zero whose 256-level histogram diverges least from the real one.

    The search follows S. Migacz, "8-bit inference with TensorRT" (2017): values outside are counted
    at the borders, the histogram is merged to 256 levels and spread again over its filled bins. One
    end stays at zero for values of one sign; otherwise both ends move in proportion.
    """
    zero = min(max(round(-low / (high - low) * BINS), 0), BINS)
    # exact zeros (all that a ReLU cuts off) are held exactly by every grid: their spike says
    # nothing about the range, and spread over its level it would outweigh everything else
    counts = counts.clone()
    spike = min(int(-low / (high - low) * BINS), BINS - 1)
    counts[spike] = counts[spike + 1] if spike + 1 < BINS else counts[spike - 1]
    best, best_range = float("inf"), (0, BINS)
    for size in range(START, BINS + 1, STRIDE):
        first = zero - round(zero * size / BINS)
        last = first + size
        loss = _divergence(counts, first, min(last, BINS))
        if loss <= best:
            best, best_range = loss, (first, min(last, BINS))
    return best_range


def _divergence(counts: Tensor, first: int, last: int) -> float:
    """Kullback-Leibler divergence of the clipped and merged histogram from the clipped one."""
    inside = counts[first:last]
    if float(inside.sum()) == 0:
        return float("inf")
    real = inside.clone()
    real[0] += counts[:first].sum()
    real[-1] += counts[last:].sum()
    # each 8-bit level spreads its values evenly over those of its bins that hold any
    levels = min(LEVELS, len(inside))
    level = torch.arange(len(inside)) * levels // len(inside)
    filled = (inside > 0).double()
    sums = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, inside)
    sizes = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, filled)
    merged = (sums / sizes.clamp_min(1))[level] * filled
    p = real / real.sum()
    q = merged / merged.sum()
    used = p > 0
    # values clipped into a bin that was empty have no counterpart: a small number stands for it
    return float(nn.functional.kl_div(q[used].clamp_min(1e-12).log(), p[used], reduction="sum"))
