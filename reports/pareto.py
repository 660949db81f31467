"""The Pareto front: what no other network beats in size and accuracy together."""

from __future__ import annotations

from collections.abc import Sequence

from reports.charts import macs_key, named_levels
from reports.summary import Level, Summary

__all__ = ["front_words", "pareto", "size_keys"]


def pareto(found: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points of (size, accuracy) that no other is both as small and as accurate as.

    Args:
        found: sizes and accuracies; of equal points the first stays.

    Returns:
        Indices by ascending size.
    """
    best: list[int] = []
    for index in sorted(range(len(found)), key=lambda i: (found[i][0], -found[i][1], i)):
        if not best or found[index][1] > found[best[-1]][1]:
            best.append(index)
    return best


def size_keys(summary: Summary) -> dict[str, str]:
    """The sizes that the charts and fronts are about: by chart, the key of the record."""
    return {"bytes": "bytes_float16", "macs": macs_key(summary)}


def front_words(summary: Summary) -> dict[int, str]:
    """By the id of a level: on which front it is ("bytes, MACs"), "" for none."""
    levels: list[Level] = [level for _, level in named_levels(summary)]
    words: dict[int, list[str]] = {}
    for name, key in size_keys(summary).items():
        scored = [
            (size.mean, level.after.mean, level)
            for level in levels
            if level.after and (size := level.sizes.get(key))
        ]
        for index in pareto([(size, accuracy) for size, accuracy, _ in scored]):
            words.setdefault(id(scored[index][2]), []).append("MACs" if name == "macs" else name)
    return {id(level): ", ".join(words.get(id(level), [])) for level in levels}
