"""The data that a sweep's page carries: every run as a row, every ratio with its means.

A page of 500 runs stays small because each figure stands once: columns that say the same of all
runs are constants, accuracies by class and device stand by ratio. `results.json` has the rest
(history, confusion matrices, settings of each run).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reports.points import Record, evaluation
from reports.spread import Spread
from reports.summary import Level, Summary

__all__ = ["COLUMNS", "embedded"]

_PLAIN = (
    *("id", "status", "error", "model", "method", "prune_by", "prune_ratio", "target_params"),
    *("fold", "seed", "quantize", "stored_type", "params", "nonzero_params"),
    *("bytes_float16", "bytes_int8", "bytes_stored"),
    *("macs", "macs_official", "peak_activation_bytes", "seconds"),
)
_SCORES = {
    "accuracy_before": ("before_finetune", "accuracy"),
    "log_loss_before": ("before_finetune", "log_loss"),
    "accuracy_after": ("after_finetune", "accuracy"),
    "macro_accuracy_after": ("after_finetune", "macro_accuracy"),
    "log_loss_after": ("after_finetune", "log_loss"),
}

#: Columns of the rows, by the names that they have in `results.csv`.
COLUMNS = (*_PLAIN, *_SCORES)


def embedded(summary: Summary) -> dict[str, Any]:
    """The record as the page carries it.

    Returns:
        `schema`, `run`, `constants` (column -> the value of all runs), `columns`, `rows` (a list a
        run, in the order of the columns), `classes`, `devices`, and `levels` (a ratio of a method
        each: means and spreads; by class and device in the order of those lists).
    """
    pick: dict[str, Callable[[Record], Any]] = {name: _plain(name) for name in _PLAIN}
    pick |= {name: _score(*where) for name, where in _SCORES.items()}
    table = {name: [get(point) for point in summary.points] for name, get in pick.items()}
    constants = {
        name: values[0]
        for name, values in table.items()
        if len(values) > 1 and all(value == values[0] for value in values)
    }
    columns = [name for name in table if name not in constants]
    return {
        "schema": 1,
        "run": summary.run,
        "constants": {name: value for name, value in constants.items() if value is not None},
        "columns": columns,
        "rows": [list(row) for row in zip(*(table[name] for name in columns), strict=True)],
        **_levels(summary),
    }


def _plain(name: str) -> Callable[[Record], Any]:
    return lambda point: point.get(name)


def _score(part: str, name: str) -> Callable[[Record], Any]:
    return lambda point: evaluation(point, part).get(name)


def _levels(summary: Summary) -> dict[str, Any]:
    found = [("dense", summary.dense)] if summary.dense else []
    found += [(series.label, level) for series in summary.series for level in series.levels]
    classes = list(dict.fromkeys(name for _, level in found for name in level.classes))
    devices = list(dict.fromkeys(name for _, level in found for name in level.devices))
    return {
        "classes": classes,
        "devices": devices,
        "levels": [{"method": method, **_level(one, classes, devices)} for method, one in found],
    }


def _level(level: Level, classes: Sequence[str], devices: Sequence[str]) -> dict[str, Any]:
    return {
        "name": level.name,
        "prune_ratio": level.ratio,
        "target_params": level.target,
        "runs": level.runs,
        "verdict": level.budget.status,
        "accuracy_before": _spread(level.before),
        "accuracy_after": _spread(level.after),
        "macro_accuracy_after": _spread(level.macro),
        "log_loss_after": _spread(level.log_loss),
        "class_accuracy": _spreads(level.classes, classes),
        "device_accuracy": _spreads(level.devices, devices),
    }


def _spread(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else {"mean": value.mean, "std": value.sd, "n": value.n}


def _spreads(
    found: Mapping[str, Spread], names: Sequence[str]
) -> list[tuple[float, float | None] | None]:
    """Means and standard deviations, to a millionth: the runs' own stand in results.json."""
    return [
        (round(value.mean, 6), None if value.sd is None else round(value.sd, 6))
        if (value := found.get(name))
        else None
        for name in names
    ]
