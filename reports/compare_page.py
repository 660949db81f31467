"""Several sweeps side by side: one page, every method of every run a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.audit_page import view_of
from reports.audit_words import check_document
from reports.charts import band, macs_key, padded
from reports.drawing import (
    INK,
    NARROW,
    PAIR,
    PALETTE,
    SHAPES,
    WIDE,
    Chart,
    altair,
    draw,
    fitted,
    one_line,
    zoomed,
)
from reports.embedded import embedded
from reports.figures import ZOOM, Figure
from reports.formats import NONE, average, count, joined, percent, plural, points
from reports.record import data_facts
from reports.sections import Section, Shown, View, section_page
from reports.summary import Level, Series, Summary, summarise
from reports.sweep_page import BADGES
from reports.tables import Table, verdict_cell
from reports.verdict import Fact, verdict

__all__ = ["render_models", "render_runs", "runs_tables"]

Record = Mapping[str, Any]


def render_models(document: Record, *, static: bool = False) -> str:
    """The page of models side by side.

    Args:
        document: what `compressor audit --format json` writes of two or more files.
        static: leave out what makes the charts answer to the pointer.

    Raises:
        UsageError: it is no such record.
    """
    checked = check_document(document)
    return section_page(view_of(checked, static=static, compare=True), checked, static=static)


def render_runs(runs: Sequence[tuple[str, Record]], *, static: bool = False) -> str:
    """The page of sweeps side by side.

    Args:
        runs: a name and the content of `results.json` of each.
        static: leave out what makes the charts answer to the pointer.

    Raises:
        UsageError: a record has not the shape the reports read.
    """
    found = [(name, summarise(record)) for name, record in _told_apart(runs)]
    data = {
        "schema": 1,
        "kind": "comparison",
        "runs": [{"name": name, **embedded(summary)} for name, summary in found],
    }
    return section_page(_view(found, static), data, static=static)


def _told_apart(runs: Sequence[tuple[str, Record]]) -> list[tuple[str, Record]]:
    """Names by their last part, numbered where those are equal."""
    short_names = [name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] for name, _ in runs]
    return [
        (f"{name} ({index + 1})" if short_names.count(name) > 1 else name, record)
        for index, (name, (_, record)) in enumerate(zip(short_names, runs, strict=True))
    ]


def _view(runs: Sequence[tuple[str, Summary]], static: bool) -> View:
    words = {name: verdict(summary) for name, summary in runs}
    best = [
        (level.after.mean, name, series, level)
        for name, summary in runs
        for series in summary.series
        if (level := series.best) and level.after
    ]
    titles = list(dict.fromkeys(summary.data.title for _, summary in runs))
    splits = {(summary.data.title, summary.data.split) for _, summary in runs}
    if best:
        _, name, series, level = max(best, key=lambda one: one[0])
        head = (
            f"Best pruned network within its limit: {name}, {series.label} at {level.words}, "
            f"{percent(level.after)}."
        )
    else:
        head = "No run has a network that is known to fit its limit."
    if len(splits) > 1:
        head += " The runs are not on the same data and split: their accuracies do not compare."
    states = [one.status for one in words.values()]
    status = "pass" if best else next((s for s in ("open", "fail") if s in states), "unknown")
    facts = [
        Fact(name, f"{BADGES[words[name].status]}: {words[name].headline}") for name, _ in runs
    ]
    facts.append(Fact("Data", joined(titles)))
    tables = runs_tables(runs)
    return View(
        kicker="Comparison of sweeps",
        title=f"{plural(len(runs), 'sweep')} side by side",
        status=status,
        badge=BADGES[status],
        headline=head,
        facts=tuple(facts),
        sections=(
            Section("Runs", "runs", tables=(Shown(tables["runs"]),)),
            Section("Prune ratio against accuracy", "curve", figures=_curve(runs, static)),
            Section(
                "Accuracy against size",
                "trade",
                figures=_trade(runs, static),
                tables=(Shown(tables["levels"], "Every ratio of every run", sortable=True),),
            ),
            Section("Provenance", "provenance", facts=_origins(runs)),
        ),
        synthetic=any(summary.data.synthetic for _, summary in runs),
        made_from="several results.json",
    )


def _origins(runs: Sequence[tuple[str, Summary]]) -> tuple[Fact, ...]:
    facts = []
    for name, summary in runs:
        data = data_facts(summary.run)
        kind = "synthetic" if data.synthetic else "recordings"
        command = summary.run.get("command")
        text = " ".join(map(str, command)) if isinstance(command, list) else str(command or "")
        said = f"{data.title} ({kind}), {data.split}; {plural(summary.finished, 'run')}"
        facts.append(Fact(name, f"{said}; {text or 'command not recorded'}"))
    return tuple(facts)


def runs_tables(runs: Sequence[tuple[str, Summary]]) -> dict[str, Table]:
    """What each run found ("runs"), and every ratio of all of them ("levels")."""
    rows, levels = [], []
    for name, summary in runs:
        dense = summary.dense
        for series in summary.series or (None,):
            best = series.best if series else None
            rows.append(
                (
                    name,
                    summary.model,
                    series.label if series else NONE,
                    _data(summary),
                    percent(dense.after, unit=False) if dense else NONE,
                    series.until.name if series and series.until else NONE,
                    series.knee.name if series and series.knee else NONE,
                    best.name if best else NONE,
                    percent(best.after, unit=False) if best else NONE,
                    points(best.change, unit=False) if best else NONE,
                    average(best.sizes.get("params")) if best else NONE,
                    average(best.sizes.get(macs_key(summary))) if best else NONE,
                )
            )
        for label, level in _levels(summary):
            levels.append(
                (
                    name,
                    label,
                    level.name,
                    str(level.runs),
                    average(level.sizes.get("params")),
                    average(level.sizes.get("bytes_float16")),
                    average(level.sizes.get(macs_key(summary))),
                    percent(level.before, unit=False),
                    percent(level.after, unit=False),
                    points(level.change, unit=False),
                    verdict_cell(level.budget),
                )
            )
    return {
        "runs": Table(
            caption="What each run found; accuracy in %, change against dense in points. Held: the "
            "largest ratio up to which accuracy stays within 1 point of dense.",
            columns=(
                *("run", "network", "method", "data", "dense", "held", "knee", "best that fits"),
                *("its accuracy", "change", "parameters", "MACs"),
            ),
            rows=tuple(rows),
            texts=frozenset({0, 1, 2, 3}),
            what="runs",
        ),
        "levels": Table(
            caption="Every ratio of every run: means over folds and seeds, accuracy in %.",
            columns=(
                *("run", "method", "ratio", "runs", "parameters", "bytes float16", "MACs"),
                *("accuracy before", "accuracy after", "change", "limit"),
            ),
            rows=tuple(levels),
            texts=frozenset({0, 1, 10}),
            what="all ratios",
        ),
    }


def _data(summary: Summary) -> str:
    data = summary.data
    return f"{data.title}{', synthetic' if data.synthetic else ''}, {data.split}"


def _levels(summary: Summary) -> list[tuple[str, Level]]:
    found = [("dense", summary.dense)] if summary.dense else []
    return found + [(series.label, level) for series in summary.series for level in series.levels]


def _line(name: str, series: Series, summary: Summary) -> str:
    return one_line(f"{name}: {series.label}" if len(summary.series) > 1 else name)


def _rows(runs: Sequence[tuple[str, Summary]], key: str) -> list[dict[str, Any]]:
    """Points of the lines; `key` is the size at the x axis, or "" for the prune ratio."""
    rows = []
    for name, summary in runs:
        where = macs_key(summary) if key == "macs" else key
        for series in summary.series:
            line = _line(name, series, summary)
            curve = ((summary.dense,) if summary.dense else ()) + series.levels
            for level in curve:
                size = level.sizes.get(where)
                x = level.ratio if not key else (size.mean if size else None)
                if x is None or level.after is None:
                    continue
                words = "" if not key else f"\n{count(x)} {'MACs' if key == 'macs' else 'B'}"
                rows.append(
                    {
                        "x": x,
                        **band(level.after),
                        "line": line,
                        "tip": f"{line}\n{level.words}{words}\n{percent(level.after)}",
                    }
                )
    return rows


def _curve(runs: Sequence[tuple[str, Summary]], static: bool) -> tuple[Figure, ...]:
    caption = (
        "Accuracy after fine-tuning by prune ratio, a line a run (and method); ratio 0 is the "
        f"dense network, bars are ± one standard deviation. {_source(runs)}"
    )
    chart = _chart(_rows(runs, ""), "prune ratio", caption, "curve", si=False)
    return (Figure(chart, caption, static, ZOOM),) if chart else ()


def _trade(runs: Sequence[tuple[str, Summary]], static: bool) -> tuple[Figure, ...]:
    figures = []
    for key, title in (("bytes_float16", "bytes in float16"), ("macs", "MACs")):
        caption = (
            f"Accuracy after fine-tuning by {title}, a line a run (and method), from the dense "
            f"network to the largest ratio. {_source(runs)}"
        )
        chart = _chart(_rows(runs, key), title, caption, f"trade-{key.split('_')[0]}", si=True)
        if chart:
            figures.append(Figure(chart, caption, static, ZOOM))
    return tuple(figures)


def _source(runs: Sequence[tuple[str, Summary]]) -> str:
    return f"Data: {joined(list(dict.fromkeys(_data(summary) for _, summary in runs)))}."


def _chart(
    rows: list[dict[str, Any]], title: str, label: str, name: str, *, si: bool
) -> Chart | None:
    if not rows:
        return None
    if si:  # two of them stand beside each other
        return Chart(draw(_lines(rows, title, PAIR, si=si), name, label))
    return Chart(
        draw(_lines(rows, title, WIDE, si=si), f"{name}-w", label),
        draw(_lines(rows, title, NARROW, si=si), f"{name}-n", label),
    )


def _lines(rows: list[dict[str, Any]], title: str, width: int, *, si: bool) -> Any:
    alt = altair()
    lines = list(dict.fromkeys(row["line"] for row in rows))
    low, high = min(row["x"] for row in rows), max(row["x"] for row in rows)
    air = 0.04 * ((high - low) or high or 1.0)
    x = alt.X(
        "x:Q",
        title=title,
        scale=alt.Scale(domain=[max(0.0, low - air) if si else low - air, high + air], nice=False),
        axis=alt.Axis(tickCount=8 if width > PAIR else 4, **({"format": "~s"} if si else {})),
    )
    domain = padded([row[key] for row in rows for key in ("low", "high")])
    y = alt.Y(
        "accuracy:Q",
        title="accuracy, %",
        scale=alt.Scale(domain=domain, nice=False, zero=False),
    )
    legend = alt.Legend(columns=1 if width <= PAIR else 3, symbolOpacity=1, labelLimit=width - 40)
    ink = [PALETTE[i % len(PALETTE)] if i < len(PALETTE) else INK for i in range(len(lines))]
    forms = [SHAPES[i % len(SHAPES)] for i in range(len(lines))]
    color = alt.Color("line:N", scale=alt.Scale(domain=lines, range=ink), legend=legend)
    shape = alt.Shape("line:N", scale=alt.Scale(domain=lines, range=forms), legend=legend)
    picked = alt.selection_point(name="picked", fields=["line"], bind="legend")
    faded = alt.condition(picked, alt.value(1), alt.value(0.12))
    base = alt.Chart(alt.Data(values=rows)).encode(x=x)
    points_of = base.mark_point(filled=True, size=65, clip=True).encode(
        y=y, color=color, shape=shape, opacity=faded, tooltip="tip:N"
    )
    parts = [
        base.mark_rule(strokeWidth=1.5, opacity=0.5, clip=True).encode(
            y="low:Q", y2="high:Q", color=color
        ),
        base.mark_line(strokeWidth=2, clip=True).encode(y=y, color=color, opacity=faded),
        zoomed(points_of.add_params(picked)),
    ]
    rows_of_legend = len(lines) if width <= PAIR else -(-len(lines) // 3)
    return fitted(alt.layer(*parts), width, 330 + 18 * rows_of_legend)
