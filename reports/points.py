"""What single points of a record say: evaluations, changes, kept channels. Plain dicts in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from reports.spread import Spread, spread

__all__ = [
    "Record",
    "baselines_of",
    "by_name",
    "change",
    "confusion_of",
    "evaluation",
    "kept_channels",
    "layer_costs",
    "quantize_of",
    "same_run",
    "to_float",
]

Record = Mapping[str, Any]


def quantize_of(point: Record) -> str:
    """A point's number type as the sweep calls it; points of before there were any are float32."""
    return str(point.get("quantize") or "none")


def evaluation(point: Record, key: str) -> Record:
    """An evaluation of a point, empty where it has none."""
    value = point.get(key)
    return value if isinstance(value, Mapping) else {}


def same_run(point: Record) -> tuple[object, ...]:
    """Network, fold and seed: what a point shares with its dense network."""
    return (point.get("model"), point.get("fold"), point.get("seed"))


def baselines_of(finished: Iterable[Record]) -> dict[tuple[object, ...], float]:
    """Dense accuracy by network, fold and seed, from the dense points."""
    return {
        same_run(point): float(evaluation(point, "after_finetune")["accuracy"])
        for point in finished
        if point["method"] == "dense"
        and isinstance(evaluation(point, "after_finetune").get("accuracy"), (int, float))
    }


def change(point: Record, baselines: Mapping[tuple[object, ...], float]) -> float | None:
    """Accuracy after fine-tuning minus the dense accuracy of the same fold and seed."""
    after = evaluation(point, "after_finetune").get("accuracy")
    dense = evaluation(point, "dense").get("accuracy", baselines.get(same_run(point)))
    if isinstance(after, (int, float)) and isinstance(dense, (int, float)):
        return float(after) - float(dense)
    return None


def to_float(point: Record) -> float | None:
    """Accuracy minus that of the float32 network it was made from."""
    after, before = (evaluation(point, key).get("accuracy") for key in ("after_finetune", "float"))
    if isinstance(after, (int, float)) and isinstance(before, (int, float)):
        return float(after) - float(before)
    return None


def by_name(points: Sequence[Record], key: str) -> dict[str, Spread]:
    """Accuracies after fine-tuning by class or device (`class_accuracy`, ...) over the points."""
    found = [evaluation(point, "after_finetune").get(key) for point in points]
    tables: list[Record] = [table for table in found if isinstance(table, Mapping)]
    names = dict.fromkeys(name for table in tables for name in table)
    pick: Callable[[str], Spread | None] = lambda name: spread(  # noqa: E731 - one line, used once
        table.get(name) for table in tables
    )
    return {str(name): value for name in names if (value := pick(name)) is not None}


def kept_channels(points: Sequence[Record]) -> dict[str, tuple[float, int]]:
    """By layer, blocks in order: mean kept channels over the runs, and the layer's total."""
    kept: dict[str, list[tuple[float, int]]] = {}
    for point in points:
        layers = point.get("kept_channels")
        for name, pair in (layers if isinstance(layers, Mapping) else {}).items():
            if isinstance(pair, Sequence) and len(pair) == 2 and pair[1]:
                kept.setdefault(str(name), []).append((float(pair[0]), int(pair[1])))
    # records list layers by what is pruned together, readers look for them by block
    parts = list(dict.fromkeys(name.split(".")[0] for name in kept))
    return {
        name: (sum(value for value, _ in pairs) / len(pairs), pairs[0][1])
        for name, pairs in sorted(kept.items(), key=lambda item: _in_order(item[0], parts))
    }


def _in_order(layer: str, parts: Sequence[str]) -> tuple[int, list[tuple[int, str]]]:
    """Sort key: the network's parts as the record has them, inside a part by number and name."""
    names = layer.split(".")
    return parts.index(names[0]), [(int(p), "") if p.isdecimal() else (-1, p) for p in names]


def layer_costs(points: Sequence[Record]) -> dict[str, tuple[float, float]]:
    """By layer: mean parameters and MACs over the runs, in the order of the record."""
    found: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        layers = point.get("layers")
        for name, pair in (layers if isinstance(layers, Mapping) else {}).items():
            if isinstance(pair, Sequence) and len(pair) == 2:
                found.setdefault(str(name), []).append((float(pair[0]), float(pair[1])))
    return {
        name: (sum(p for p, _ in pairs) / len(pairs), sum(m for _, m in pairs) / len(pairs))
        for name, pairs in found.items()
    }


def confusion_of(points: Sequence[Record], classes: int) -> tuple[tuple[int, ...], ...]:
    """Counts over all runs, row = true class, column = said class; () where a run has none."""
    total = [[0] * classes for _ in range(classes)]
    for point in points:
        rows = evaluation(point, "after_finetune").get("confusion")
        if not isinstance(rows, Sequence) or [len(row) for row in rows] != [classes] * classes:
            return ()
        for mine, row in zip(total, rows, strict=True):
            for place, value in enumerate(row):
                mine[place] += int(value)
    return tuple(tuple(row) for row in total) if any(map(any, total)) else ()
