"""From records to a table: means, spreads, the knee, `results.csv` and `results.json`.

Pure functions over plain records. The spread is the sample standard deviation (n - 1), over all
seeds and folds of a ratio; with one record there is none. Mean, spread, knee and "held up to" are
those of `reports.spread`, so that table, files and report page cannot disagree.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from reports.spread import held_until, knee_of, spread

__all__ = ["COLUMNS", "POINTS_OF_DENSE", "figures", "row", "summarise", "to_csv", "verdict_of"]

Record = Mapping[str, Any]

# How many points of accuracy under dense the summary looks for; 1 and 2 are the papers' wording
# ("less than 1 % loss"), 5 is where a pruned network is clearly another network.
POINTS_OF_DENSE = (1.0, 2.0, 5.0)

_PLAIN = (
    *("id", "status", "error", "model", "method", "prune_by", "prune_ratio", "target_params"),
    *("fold", "seed", "params", "nonzero_params", "bytes_float32", "bytes_float16", "bytes_int8"),
    *("macs", "macs_official", "peak_activation_bytes", "params_dense", "macs_dense"),
    *("threshold", "channels_under_threshold", "channels_total"),
    *("quantize", "stored_type", "bytes_stored", "measured_in"),
)
_PARTS = {
    "before": "before_finetune",
    "after": "after_finetune",
    "dense": "dense",
    "float": "float",
}
_SIZES = (
    *("params", "nonzero_params", "bytes_float32", "bytes_float16", "bytes_int8"),
    *("macs", "macs_official", "peak_activation_bytes", "seconds", "cpu_seconds", "bytes_stored"),
)
_SCORES = ("accuracy", "macro_accuracy", "log_loss")

#: Columns of `results.csv`, one row a record.
COLUMNS: tuple[str, ...] = (
    *_PLAIN,
    *(f"{score}_{part}" for part in _PARTS for score in _SCORES),
    "n_test",
    "verdict",
    "seconds",
    "cpu_seconds",
    "model_file",
)


def verdict_of(record: Record, year: int) -> str | None:
    """The status of a record under one year's rules, or None when it has none."""
    found = [v["status"] for v in record.get("verdicts") or () if v["year"] == year]
    return found[0] if found else None


def row(record: Record, year: int) -> dict[str, Any]:
    """One record as a flat row with the columns of `results.csv`; missing values are None."""
    flat: dict[str, Any] = {name: record.get(name) for name in _PLAIN}
    for part, key in _PARTS.items():
        scores = record.get(key) or {}
        flat |= {f"{score}_{part}": scores.get(score) for score in _SCORES}
    after = record.get("after_finetune") or {}
    return {
        **flat,
        "n_test": after.get("n"),
        "verdict": verdict_of(record, year),
        "seconds": record.get("seconds"),
        "cpu_seconds": record.get("cpu_seconds"),
        "model_file": record.get("model_file"),
    }


def to_csv(records: Sequence[Record], year: int) -> str:
    """`results.csv` as text: floats with all their digits, so that they equal `results.json`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row(record, year) for record in records)
    return out.getvalue()


def figures(values: Iterable[object]) -> dict[str, Any]:
    """Mean, sample standard deviation (None for fewer than two), extremes and count, as JSON."""
    found = spread(values)
    if found is None:
        return {"mean": None, "std": None, "min": None, "max": None, "n": 0}
    return {
        "mean": found.mean,
        "std": found.sd,
        "min": found.low,
        "max": found.high,
        "n": found.n,
    }


def _score(part: str, name: str) -> Callable[[Record], float | None]:
    return lambda record: (record.get(part) or {}).get(name)


def _pooled(records: Sequence[Record]) -> dict[str, Any] | None:
    """Accuracy over the clips of all folds together, a seed; None where there is one fold.

    A fold of a K-fold set counts by its clips, so that the figure is that of the whole set. Only
    seeds that have every fold of the group count.
    """
    folds = {record["fold"] for record in records}
    if len(folds) < 2:
        return None
    pooled = []
    for seed in sorted({record["seed"] for record in records}):
        mine = [record["after_finetune"] for record in records if record["seed"] == seed]
        if len(mine) == len(folds):
            right = sum(part["accuracy"] * part["n"] for part in mine)
            pooled.append(right / sum(part["n"] for part in mine))
    return {**figures(pooled), "folds": len(folds)}


def _key(record: Record) -> tuple[Any, ...]:
    return (
        record["method"],
        record["prune_by"],
        record["prune_ratio"] if record["prune_by"] != "target" else None,
        record.get("target_params"),
        record.get("quantize") or "none",  # records of before there were number types
    )


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    method, prune_by, ratio, target, quantize = key
    size = math.inf if ratio is None else ratio
    return (method != "dense", method, prune_by, size, target or 0, quantize != "none", quantize)


def _group(key: tuple[Any, ...], records: Sequence[Record], year: int) -> dict[str, Any]:
    """One line of the table: all seeds and folds of one ratio."""
    method, prune_by, ratio, target, quantize = key

    def over(get: Callable[[Record], float | None]) -> dict[str, Any]:
        return figures(get(record) for record in records)

    verdicts = [verdict_of(record, year) for record in records]
    # Against its own dense network, so that easy and hard folds cancel out.
    changes = [
        record["after_finetune"]["accuracy"] - record["dense"]["accuracy"]
        for record in records
        if record.get("dense")
    ]
    costs = [
        record["after_finetune"]["accuracy"] - record["float"]["accuracy"]
        for record in records
        if record.get("float")
    ]
    types = {record["stored_type"] for record in records if record.get("stored_type")}
    return {
        "method": method,
        "prune_by": prune_by,
        "prune_ratio": ratio,
        "target_params": target,
        "quantize": quantize,
        "stored_type": types.pop() if len(types) == 1 else None,
        "n": len(records),
        "seeds": sorted({record["seed"] for record in records}),
        "folds": sorted({record["fold"] for record in records}),
        **{name: figures(record.get(name) for record in records) for name in _SIZES},
        "accuracy_before": over(_score("before_finetune", "accuracy")),
        "accuracy": over(_score("after_finetune", "accuracy")),
        "macro_accuracy": over(_score("after_finetune", "macro_accuracy")),
        "log_loss": over(_score("after_finetune", "log_loss")),
        "accuracy_change": figures(changes),
        "accuracy_change_to_float": figures(costs),
        "pooled_accuracy": _pooled(records),
        "verdicts": {
            status: verdicts.count(status) for status in dict.fromkeys(verdicts) if status
        },
    }


def _curve(groups: Sequence[Record], method: str, prune_by: str) -> dict[str, Any]:
    """What one method's curve says: its knee and how far it holds the dense network's level."""
    groups = [group for group in groups if group["quantize"] == "none"]
    dense = next((group for group in groups if group["method"] == "dense"), None)
    points = [g for g in groups if (g["method"], g["prune_by"]) == (method, prune_by)]
    ratios = [float(group["prune_ratio"]) for group in points]
    accuracies = [float(group["accuracy"]["mean"]) for group in points]
    bend, held = None, []
    if dense is not None:
        level = float(dense["accuracy"]["mean"])
        x, y = [0.0, *ratios], [level, *accuracies]
        index = knee_of(x, y)
        bend = None if index is None else {"prune_ratio": x[index], "accuracy": y[index]}
        for size in POINTS_OF_DENSE:
            until = held_until([value - level for value in accuracies], size / 100).until
            held.append({"points": size, "prune_ratio": None if until is None else ratios[until]})
    return {"method": method, "prune_by": prune_by, "knee": bend, "within_points_of_dense": held}


def summarise(records: Sequence[Record], year: int) -> dict[str, Any]:
    """The summary that goes into `results.json` and under the table.

    Args:
        records: all records of a run, of any status.
        year: the challenge year whose verdict is counted.

    Returns:
        Plain JSON: `groups` (a line a method, ratio and number type: mean, spread and n of every
        figure), `curves` (a method's float networks: the knee and the largest ratio within 1, 2 and
        5 points of dense), `failed` (id and error), counts.
    """
    good = [record for record in records if record["status"] == "ok"]
    keys = sorted({_key(record) for record in good}, key=_order)
    groups = [_group(key, [r for r in good if _key(r) == key], year) for key in keys]
    curves = dict.fromkeys(
        (group["method"], group["prune_by"])
        for group in groups
        if group["method"] != "dense"
        and group["prune_by"] != "target"
        and group["quantize"] == "none"
    )
    return {
        "year": year,
        "n_records": len(records),
        "n_ok": len(good),
        "seeds": sorted({record["seed"] for record in good}),
        "folds": sorted({record["fold"] for record in good}),
        "groups": groups,
        "curves": [_curve(groups, method, prune_by) for method, prune_by in curves],
        "failed": [
            {"id": record["id"], "error": record.get("error")}
            for record in records
            if record["status"] != "ok"
        ],
    }
