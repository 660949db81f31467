"""One record, summarised once: what every page, table and sentence is made from.

Pure functions over plain dicts. Accuracies are shares (0..1), sizes in bytes, losses in nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.budget import Budget, BudgetResult, budget_of, judge
from reports.formats import ratio as ratio_text
from reports.points import (
    Record,
    baselines_of,
    by_name,
    change,
    confusion_of,
    evaluation,
    kept_channels,
    layer_costs,
    quantize_of,
    same_run,
    to_float,
)
from reports.record import DataFacts, check, data_facts
from reports.spread import Spread, held_until, knee_of, spread

__all__ = ["TYPE_NAMES", "Level", "Series", "Summary", "Way", "summarise"]

SIZES = (
    "params",
    "nonzero_params",
    "bytes_float32",
    "bytes_float16",
    "bytes_int8",
    "bytes_stored",
    "macs",
    "macs_official",
    "peak_activation_bytes",
)


TYPE_NAMES = {
    "none": "float32",
    "fp16": "float16",
    "int8-ptq": "int8 PTQ",
    "int8-qat": "int8 QAT",
}
"""Number types by the sweep's names, widest first: PTQ is quantised after training, QAT by it."""


@dataclass(frozen=True, slots=True)
class Level:
    """All runs of one method at one prune ratio (over folds and seeds).

    Attributes:
        ratio: prune ratio; 0 is the dense network, None one pruned to a number of parameters.
        target: that number of parameters; None where a ratio was given.
        runs: finished runs.
        failed: failed runs.
        sizes: by key of `SIZES`.
        before: accuracy before fine-tuning.
        after: accuracy after fine-tuning (of the dense network: after training).
        macro: macro accuracy after fine-tuning.
        log_loss: after fine-tuning, nats.
        log_loss_before: before fine-tuning, nats.
        change: accuracy minus the dense accuracy of the same fold and seed.
        budget: verdict under the budget's rules.
        classes: accuracy by class, after fine-tuning.
        devices: accuracy by device, after fine-tuning.
        kept: by layer, mean number of kept channels and their total.
        to_float: accuracy minus that of the float32 network it was made from; None for float32.
        layers: by layer, mean parameters and MACs; empty in older records.
        points: the finished runs.
    """

    ratio: float | None
    target: int | None
    runs: int
    failed: int
    sizes: Mapping[str, Spread]
    before: Spread | None
    after: Spread | None
    macro: Spread | None
    log_loss: Spread | None
    log_loss_before: Spread | None
    change: Spread | None
    budget: BudgetResult
    classes: Mapping[str, Spread]
    devices: Mapping[str, Spread]
    kept: Mapping[str, tuple[float, int]]
    to_float: Spread | None = None
    layers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    points: tuple[Record, ...] = field(default=(), repr=False)

    def confusion(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """Counts over its runs, row = true class, column = said class; () where there are none."""
        return confusion_of(self.points, classes)

    @property
    def name(self) -> str:
        """Name in tables: dense, 0.60, or 40,000 parameters."""
        if self.target is not None:
            return f"{self.target:,} parameters"
        return "dense" if not self.ratio else ratio_text(self.ratio)

    @property
    def words(self) -> str:
        """Name in sentences: the dense network, ratio 0.60, or 40,000 parameters."""
        if self.target is not None:
            return self.name
        return f"ratio {self.name}" if self.ratio else "the dense network"


@dataclass(frozen=True, slots=True)
class Series:
    """One method's curve.

    Attributes:
        label: what charts and tables call it.
        levels: by ascending ratio.
        until: last level that held within the tolerance with all before it.
        broke: first level that lost more.
        again: later levels back within the tolerance.
        knee: level farthest above the chord; None where the curve has no knee.
        fitting: levels that fit the budget.
        best: of `fitting`, the one with the highest mean accuracy.
    """

    label: str
    levels: tuple[Level, ...]
    until: Level | None = None
    broke: Level | None = None
    again: tuple[Level, ...] = ()
    knee: Level | None = None
    fitting: tuple[Level, ...] = ()
    best: Level | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One method in one number type: the networks that were stored so.

    Attributes:
        method: label of the method's curve; "" where only the dense network was stored so.
        quantize: number type as the sweep calls it; "none" is float32.
        levels: the dense network in that type, then by ascending ratio.
    """

    method: str
    quantize: str
    levels: tuple[Level, ...]

    @property
    def type_name(self) -> str:
        """Number type in words: float32, float16, int8 PTQ, int8 QAT."""
        return TYPE_NAMES.get(self.quantize, self.quantize)


@dataclass(frozen=True, slots=True)
class Summary:
    """All that a report says, in numbers.

    Attributes:
        run: the run's own record.
        data: facts of the data set.
        model: network name.
        budget: limits the run was made for.
        dense: the unpruned network; None if neither a dense run nor its evaluation is there.
        series: one curve a method.
        seeds: of all finished runs.
        folds: of all finished runs.
        finished: number of finished runs.
        failed: the failed points.
        points: all points.
        ways: every method in every number type; empty where all networks are float32.
    """

    run: Record
    data: DataFacts
    model: str
    budget: Budget
    dense: Level | None
    series: tuple[Series, ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    finished: int
    failed: tuple[Record, ...]
    points: tuple[Record, ...] = field(repr=False)
    ways: tuple[Way, ...] = ()

    @property
    def chosen(self) -> tuple[Series, Level] | None:
        """The network the page looks at closely: the best that fits, else a knee, else the last."""
        best = [(s, s.best) for s in self.series if s.best and s.best.after]
        if best:
            return max(best, key=lambda pair: pair[1].after.mean if pair[1].after else 0.0)
        for series in self.series:
            return series, series.knee or series.levels[-1]
        return None

    @property
    def levels(self) -> tuple[Level, ...]:
        """The dense level, then those of every series, then those in other number types."""
        first = (self.dense,) if self.dense else ()
        levels = first + tuple(level for series in self.series for level in series.levels)
        typed = [level for way in self.ways if way.quantize != "none" for level in way.levels]
        return levels + tuple({id(level): level for level in typed}.values())


def summarise(results: Mapping[str, Any]) -> Summary:
    """Summarise a sweep record.

    Args:
        results: `{"schema": 1, "run": {...}, "points": [...]}`.

    Raises:
        UsageError: the record has not the shape the reports read.
    """
    record = check(results)
    run: Record = record["run"]
    points: tuple[Record, ...] = tuple(record["points"])
    finished = [point for point in points if point["status"] == "ok"]
    budget = budget_of(run, finished)
    baselines = baselines_of([point for point in finished if quantize_of(point) == "none"])
    floats = [point for point in points if quantize_of(point) == "none"]
    dense = _dense(floats, budget)
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for point in floats:
        if point["method"] != "dense":
            groups.setdefault(_key(point), []).append(point)
    labels = _labels(list(groups))
    series = tuple(
        _series(labels[key], group, budget, baselines, dense) for key, group in groups.items()
    )
    models = list(dict.fromkeys(str(point.get("model", "")) for point in points))
    found = {key: one for key, one in zip(groups, series, strict=True) if one.levels}
    return Summary(
        run=run,
        data=data_facts(run),
        model=", ".join(name for name in models if name) or str(run.get("model") or "network"),
        budget=budget,
        dense=dense,
        series=tuple(one for one in series if one.levels),
        seeds=_distinct(finished, "seed"),
        folds=_distinct(finished, "fold"),
        finished=len(finished),
        failed=tuple(point for point in points if point["status"] == "failed"),
        points=points,
        ways=_ways(points, budget, baselines, dense, found),
    )


def _ways(
    points: Sequence[Record],
    budget: Budget,
    baselines: Mapping[tuple[object, ...], float],
    dense: Level | None,
    series: Mapping[tuple[str, str, str], Series],
) -> tuple[Way, ...]:
    """Every method in every number type; nothing where there is float32 alone."""
    typed = [point for point in points if quantize_of(point) != "none"]
    found = list(dict.fromkeys(quantize_of(point) for point in typed))
    names = sorted(found, key=lambda q: (list(TYPE_NAMES).index(q) if q in TYPE_NAMES else 99, q))
    first = (dense,) if dense else ()
    ways = [Way(one.label, "none", first + one.levels) for one in series.values() if names]
    if names and not series:
        ways.append(Way("", "none", first))
    for name in names:
        own = [point for point in typed if quantize_of(point) == name]
        base = [point for point in own if point["method"] == "dense"]
        begin = _levels(base, budget, baselines)
        for key, one in series.items():
            of_key = [p for p in own if p["method"] != "dense" and _key(p) == key]
            ways.append(Way(one.label, name, begin + _levels(of_key, budget, baselines)))
        if not series:
            ways.append(Way("", name, begin))
    return tuple(way for way in ways if way.levels)


def _levels(
    group: Sequence[Record], budget: Budget, baselines: Mapping[tuple[object, ...], float]
) -> tuple[Level, ...]:
    """The places of a group, each over its runs."""
    places = sorted(
        {_place(point) for point in group if point["status"] == "ok"},
        # by ratio; networks pruned to a number of parameters from the largest to the smallest
        key=lambda place: (place[0] is None, place[0] or 0.0, -(place[1] or 0)),
    )
    return tuple(
        _level(place, [point for point in group if _place(point) == place], budget, baselines)
        for place in places
    )


def _key(point: Record) -> tuple[str, str, str]:
    return (
        str(point.get("model", "")),
        str(point["method"]),
        str(point.get("prune_by") or ""),
    )


def _labels(keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """Names of the curves: the method, with network and prune-by only where they differ."""
    models = {model for model, _, _ in keys}
    kinds = {prune_by for _, _, prune_by in keys}
    labels = {}
    for model, method, prune_by in keys:
        parts = [method]
        if len(kinds) > 1 and prune_by:
            parts.append(f"by {prune_by}")
        if len(models) > 1:
            parts.insert(0, f"{model}:")
        labels[model, method, prune_by] = " ".join(parts)
    return labels


def _distinct(points: Iterable[Record], key: str) -> tuple[int, ...]:
    values = {point[key] for point in points if isinstance(point.get(key), int)}
    return tuple(sorted(values))


def _dense(points: Sequence[Record], budget: Budget) -> Level | None:
    """The dense level: from dense points, else from the evaluations that pruned points carry."""
    own = [point for point in points if point["method"] == "dense"]
    if any(point["status"] == "ok" for point in own):
        return _level((0.0, None), own, budget, {})
    carried: dict[tuple[object, ...], Record] = {}
    for point in points:
        if point["status"] == "ok" and evaluation(point, "dense"):
            carried.setdefault(
                same_run(point),
                {
                    "method": "dense",
                    "status": "ok",
                    "after_finetune": point["dense"],
                    "params": point.get("params_dense"),
                    "macs": point.get("macs_dense"),
                },
            )
    return _level((0.0, None), list(carried.values()), budget, {}) if carried else None


def _series(
    label: str,
    group: Sequence[Record],
    budget: Budget,
    baselines: Mapping[tuple[object, ...], float],
    dense: Level | None,
) -> Series:
    levels = _levels(group, budget, baselines)
    judged = [level for level in levels if level.change and level.ratio is not None]
    held = held_until([level.change.mean for level in judged if level.change])
    fitting = tuple(level for level in levels if level.budget.status == "pass")
    scored = [level for level in fitting if level.after is not None]
    return Series(
        label=label,
        levels=levels,
        until=None if held.until is None else judged[held.until],
        broke=None if held.broke is None else judged[held.broke],
        again=tuple(judged[index] for index in held.again),
        knee=_knee(dense, levels),
        fitting=fitting,
        best=max(scored, key=lambda level: level.after.mean if level.after else 0.0, default=None),
    )


def _knee(dense: Level | None, levels: Sequence[Level]) -> Level | None:
    curve = [
        (level, level.ratio, level.after.mean)
        for level in ((dense, *levels) if dense else levels)
        if level.after is not None and level.ratio is not None
    ]
    index = knee_of([x for _, x, _ in curve], [y for _, _, y in curve])
    return None if index is None else curve[index][0]


def _place(point: Record) -> tuple[float | None, int | None]:
    """Prune ratio, or the number of parameters pruned to."""
    ratio, target = point.get("prune_ratio"), point.get("target_params")
    if isinstance(ratio, (int, float)):
        return float(ratio), None
    return None, int(target) if isinstance(target, (int, float)) else None


def _level(
    place: tuple[float | None, int | None],
    points: Sequence[Record],
    budget: Budget,
    baselines: Mapping[tuple[object, ...], float],
) -> Level:
    done = [point for point in points if point["status"] == "ok"]

    def over(key: str, name: str) -> Spread | None:
        return spread(evaluation(point, key).get(name) for point in done)

    sizes = {key: spread(point.get(key) for point in done) for key in SIZES}
    return Level(
        ratio=place[0],
        target=place[1],
        runs=len(done),
        failed=len(points) - len(done),
        sizes={key: value for key, value in sizes.items() if value is not None},
        before=over("before_finetune", "accuracy"),
        after=over("after_finetune", "accuracy"),
        macro=over("after_finetune", "macro_accuracy"),
        log_loss=over("after_finetune", "log_loss"),
        log_loss_before=over("before_finetune", "log_loss"),
        change=spread(change(point, baselines) for point in done),
        budget=judge(done, budget),
        classes=by_name(done, "class_accuracy"),
        devices=by_name(done, "device_accuracy"),
        kept=kept_channels(done),
        to_float=spread(to_float(point) for point in done),
        layers=layer_costs(done),
        points=tuple(done),
    )
