"""The tables of a report, as text cells: HTML and Markdown lay out the same ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.budget import BudgetResult, dimension
from reports.formats import (
    NONE,
    average,
    count,
    counted,
    decimal,
    percent,
    percent_value,
    plural,
    points,
    signed,
)
from reports.points import evaluation, quantize_of
from reports.record import DataFacts
from reports.spread import Spread
from reports.summary import TYPE_NAMES, Level, Series, Summary

__all__ = ["Table", "sweep_tables", "verdict_cell"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes:
        caption: what it shows; always names data set and spread where it shows measurements.
        columns: headers.
        rows: cells; the first of each row names the row.
        texts: indices of columns that hold words and are set flush left.
        shades: by cell, 0 to 9 for a tint that repeats the number, or None; empty for no tints.
        row_marks: by row, a class name such as "knee", or "".
        what: two words for buttons: "all runs"; "" for the name of its place in the page.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[int] = frozenset({0})
    shades: tuple[tuple[int | None, ...], ...] = ()
    row_marks: tuple[str, ...] = ()
    what: str = ""


def sweep_tables(summary: Summary) -> dict[str, Table | None]:
    """All tables of a sweep by name; None where there is nothing to show."""
    tables = {
        "main": _main(summary),
        "curve": _curve(summary),
        "budget": _budget(summary),
        "devices": _by_name(summary, "device", lambda level: level.devices, _device_name),
        "classes": _by_name(summary, "class", lambda level: level.classes, lambda name, _: name),
        "kept": _kept(summary),
        "runs": _runs(summary),
    }
    return {name: table if table and table.rows else None for name, table in tables.items()}


def verdict_cell(result: BudgetResult) -> str:
    """A verdict in a word or two: fits; over (MACs); open; not judged."""
    if result.status == "pass":
        return "fits"
    if result.status == "fail":
        names = {"bytes": "size", "macs": "MACs", "params": "parameters"}
        over = dict.fromkeys(
            names.get(dimension(check.unit), check.name)
            for check in result.checks
            if check.status == "fail"
        )
        return f"over: {', '.join(over)}" if over else "over"
    return "open" if result.status == "depends" else "not judged"


def _named_levels(summary: Summary) -> list[tuple[str, Level, Series | None]]:
    """Every level with its name in tables; the method stands in it where there are several."""
    many = len(summary.series) > 1
    named: list[tuple[str, Level, Series | None]] = []
    if summary.dense:
        named.append(("dense", summary.dense, None))
    named += [
        (f"{series.label} {level.name}" if many else level.name, level, series)
        for series in summary.series
        for level in series.levels
    ]
    return named


def _mark(level: Level, series: Series | None) -> str:
    if series is None:
        return "dense"
    return "knee" if level is series.knee else ""


def _where(summary: Summary) -> str:
    data = summary.data
    return f"{data.title}{', synthetic data' if data.synthetic else ''}, {data.split}"


def _main(summary: Summary) -> Table:
    from reports.pareto import front_words  # it needs the charts' names, and they need nothing here

    rows, marks, fronts = [], [], front_words(summary)
    for name, level, series in _named_levels(summary):
        size = level.sizes
        knee = " (knee)" if series and level is series.knee else ""
        rows.append(
            (
                name + knee,
                average(size.get("params")),
                average(size.get("nonzero_params")),
                average(size.get("bytes_float16")),
                average(size.get("bytes_int8")),
                average(size.get("macs")),
                average(size.get("macs_official")),
                percent(level.before, unit=False),
                percent(level.after, unit=False),
                points(level.change, unit=False) if series else NONE,
                decimal(level.log_loss),
                verdict_cell(level.budget),
                fronts.get(id(level), ""),
            )
        )
        marks.append(_mark(level, series))
    return Table(
        caption=f"Means over the runs of each ratio on {_where(summary)}. Accuracy in %, change "
        "against dense in points, log loss in nats. Pareto front: no other network here is as "
        "small (bytes in float16, MACs) and as accurate.",
        columns=(
            "ratio",
            "parameters",
            "non-zero",
            "bytes float16",
            "bytes int8",
            "MACs",
            "official MACs",
            "accuracy before",
            "accuracy after",
            "change",
            "log loss",
            summary.budget.name if summary.budget.limits else "limit",
            "Pareto front",
        ),
        rows=tuple(rows),
        texts=frozenset({0, 11, 12}),
        row_marks=tuple(marks),
    )


def _curve(summary: Summary) -> Table:
    rows, marks = [], []
    for name, level, series in _named_levels(summary):
        rows.append(
            (
                name,
                str(level.runs),
                percent(level.before, unit=False),
                percent(level.after, unit=False),
                f"{percent_value(level.after.low)} to {percent_value(level.after.high)}"
                if level.after and level.after.n > 1
                else NONE,
                percent(level.macro, unit=False),
                points(level.change, unit=False) if series else NONE,
            )
        )
        marks.append(_mark(level, series))
    return Table(
        caption=f"Accuracy in % by prune ratio on {_where(summary)}.",
        columns=(
            "ratio",
            "runs",
            "before fine-tuning",
            "after fine-tuning",
            "lowest to highest run",
            "macro accuracy",
            "change against dense, points",
        ),
        rows=tuple(rows),
        row_marks=tuple(marks),
    )


def _budget(summary: Summary) -> Table | None:
    checks = {
        check.name: check
        for _, level, _ in _named_levels(summary)
        for check in level.budget.checks
        if check.limit is not None
    }
    if not checks:
        return None
    columns = ["ratio"]
    for check in checks.values():
        unit = f", {check.unit}" if check.unit.lower() != check.name.lower() else ""
        columns += [f"{check.name}{unit}", f"room below {count(check.limit)}"]
    rows = []
    for name, level, _ in _named_levels(summary):
        own = {check.name: check for check in level.budget.checks}
        row = [name]
        for key in checks:
            found = own.get(key)
            row.append(counted(found.value) if found else NONE)
            margin = found.margin if found else None
            row.append(NONE if margin is None else _room(margin))
        rows.append((*row, verdict_cell(level.budget)))
    return Table(
        caption=f"What counts against {summary.budget.words}, and the room that the largest run "
        "leaves.",
        columns=(*columns, "verdict"),
        rows=tuple(rows),
        texts=frozenset({0, len(columns)}),
    )


def _room(margin: float) -> str:
    return ("−" if margin < 0 else "") + count(abs(margin))


def _device_name(name: str, data: DataFacts) -> str:
    if name in data.unseen:
        return f"{name} (unseen)"
    return f"{name} (seen)" if data.seen or data.unseen else name


def _by_name(
    summary: Summary,
    noun: str,
    pick: Callable[[Level], Mapping[str, Spread]],
    title: Callable[[str, DataFacts], str],
) -> Table | None:
    """Accuracy by class or device: one row each, one column a ratio."""
    named = [(name, level) for name, level, _ in _named_levels(summary) if pick(level)]
    names = list(dict.fromkeys(key for _, level in named for key in pick(level)))
    order = summary.data.classes if noun == "class" else (*summary.data.seen, *summary.data.unseen)
    known = [name for name in order if name in names]
    names = [*known, *(name for name in names if name not in known)]
    # data sets without devices may carry one nameless device: that says nothing
    if not named or names in ([""], []):
        return None
    rows, shades = [], []
    for name in names:
        spreads = [pick(level).get(name) for _, level in named]
        rows.append((title(name, summary.data), *(percent(one, unit=False) for one in spreads)))
        shades.append((None, *(_shade(one) for one in spreads)))
    for group, members in _device_groups(names, summary.data) if noun == "device" else ():
        means = [
            _mean([pick(level)[n].mean for n in members if n in pick(level)]) for _, level in named
        ]
        rows.append((group, *(percent_value(value) for value in means)))
        shades.append((None, *(None for _ in means)))
    return Table(
        caption=f"Accuracy in % by {noun} after fine-tuning on {_where(summary)}.",
        columns=(noun, *(text for text, _ in named)),
        rows=tuple(rows),
        shades=tuple(shades),
    )


def _device_groups(names: Sequence[str], data: DataFacts) -> list[tuple[str, list[str]]]:
    seen = [name for name in names if name not in data.unseen]
    unseen = [name for name in names if name in data.unseen]
    if not seen or not unseen:
        return []
    return [("mean of seen devices", seen), ("mean of unseen devices", unseen)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _shade(value: Spread | None) -> int | None:
    """Tint 0 to 9 in steps of 10 points."""
    return None if value is None else min(9, max(0, int(value.mean * 10)))


def _kept(summary: Summary) -> Table | None:
    named = [
        (name, level) for name, level, series in _named_levels(summary) if level.kept and series
    ]
    layers = list(dict.fromkeys(layer for _, level in named for layer in level.kept))
    rows = []
    for layer in layers:
        total = next(level.kept[layer][1] for _, level in named if layer in level.kept)
        cells = [level.kept.get(layer) for _, level in named]
        rows.append((layer, count(total), *(NONE if c is None else _channels(c[0]) for c in cells)))
    return Table(
        caption="Channels kept of each layer, mean over the runs of a ratio.",
        columns=("layer", "channels", *(name for name, _ in named)),
        rows=tuple(rows),
    )


def _channels(kept: float) -> str:
    return f"{kept:.0f}" if abs(kept - round(kept)) < 1e-9 else f"{kept:.1f}"


def _runs(summary: Summary) -> Table:
    columns: dict[str, list[str]] = {
        "run": [str(point.get("id", NONE)) for point in summary.points],
        "type": [
            TYPE_NAMES.get(quantize_of(point), quantize_of(point)) for point in summary.points
        ],
    }
    for title, key in (("ratio", "prune_ratio"), ("fold", "fold"), ("seed", "seed")):
        columns[title] = [_plain(point.get(key)) for point in summary.points]
    for title, key in (("parameters", "params"), ("official MACs", "macs_official")):
        columns[title] = [count(point.get(key)) for point in summary.points]
    for title, key in (("before", "before_finetune"), ("after", "after_finetune")):
        found = [evaluation(point, key).get("accuracy") for point in summary.points]
        columns[f"accuracy {title}"] = [percent_value(value, 2) for value in found]
    losses = [evaluation(point, "after_finetune").get("log_loss") for point in summary.points]
    columns["log loss"] = [_digits(value, 4) for value in losses]
    columns["seconds"] = [_digits(point.get("seconds"), 1) for point in summary.points]
    columns["status"] = [str(point["status"]) for point in summary.points]
    # what is the same in every run stands in the provenance, not five hundred times
    dull = [t for t in ("type", "fold", "seed", "status") if len(set(columns[t])) < 2]
    columns = {title: cells for title, cells in columns.items() if title not in dull}
    if set(columns["official MACs"]) == {NONE}:
        del columns["official MACs"]
    titles = tuple(columns)
    rows = tuple(zip(*columns.values(), strict=True))
    return Table(
        caption=f"{plural(len(rows), 'run')} on {_where(summary)}, one line each; accuracy in %.",
        columns=titles,
        rows=rows,
        texts=frozenset(i for i, t in enumerate(titles) if t in ("run", "type", "status")),
        row_marks=tuple(
            "failed" if point["status"] == "failed" else "" for point in summary.points
        ),
        what="all runs",
    )


def _digits(value: Any, digits: int) -> str:
    number = isinstance(value, (int, float)) and math.isfinite(value)
    return f"{value:.{digits}f}" if number else NONE


def _plain(value: Any) -> str:
    return NONE if value is None else str(value)


def losers(series: Series, dense: Level | None, most: int = 5) -> list[str]:
    """The classes that lose most at the knee, or else at the first lost ratio, in words."""
    level = series.knee or series.broke
    if level is None or dense is None:
        return []
    changes = [
        (level.classes[name].mean - dense.classes[name].mean, name)
        for name in level.classes
        if name in dense.classes
    ]
    return [
        f"{name} ({signed(100 * change)})" for change, name in sorted(changes)[:most] if change < 0
    ]
