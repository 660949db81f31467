"""The page of a sweep: one self-contained HTML file, verdict first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import charts
from reports.curve_chart import accuracy_by_ratio
from reports.drawing import Chart
from reports.files import write_text
from reports.formats import percent, plural
from reports.html import environment
from reports.notes import counting, last_lines, provenance, settings_table
from reports.record import embedded, json_for_script
from reports.summary import Summary, summarise
from reports.tables import losers, sweep_tables
from reports.verdict import verdict
from reports.ways import ways_table
from reports.ways_charts import accuracy_by_bytes, accuracy_by_type

__all__ = ["render", "title_of", "write"]

BADGES = {"pass": "Pass", "fail": "Fail", "open": "Open", "unknown": "Not judged"}


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its caption."""

    chart: Chart
    caption: str


def render(results: Mapping[str, Any]) -> str:
    """Build the page.

    Args:
        results: content of `results.json`.

    Returns:
        A whole HTML document: no address in it is ever fetched, and it reads with scripts and
        styles forbidden.

    Raises:
        UsageError: the record has not the shape the reports read.
    """
    summary = summarise(results)
    words = verdict(summary)
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            title=title_of(summary),
            summary=summary,
            data=summary.data,
            verdict=words,
            badge=BADGES[words.status],
            figures=_figures(summary),
            tables={**sweep_tables(summary), "ways": ways_table(summary)},
            losers=_losers(summary),
            counting=counting(summary),
            provenance=provenance(summary),
            settings=settings_table(summary),
            last_lines=last_lines,
            data_json=json_for_script(embedded(results)),
        )
    )


def write(results: Mapping[str, Any], path: Path) -> Path:
    """Build the page and write it, atomically.

    Returns:
        `path`.

    Raises:
        UsageError: the record has not the shape the reports read.
    """
    return write_text(path, render(results))


def title_of(summary: Summary) -> str:
    """Title of page and report: network, data set, and SYNTHETIC where it is."""
    data = summary.data
    kind = " (synthetic data)" if data.synthetic and "synthetic" not in data.title.lower() else ""
    done = "pruned and quantised" if summary.ways else "pruned"
    return f"{summary.model} {done} on {data.title}{kind}"


def _source(summary: Summary) -> str:
    """The end of every caption: data set (synthetic or not), split, seeds and folds."""
    data = summary.data
    kind = "synthetic data, " if data.synthetic else ""
    return (
        f"Data: {data.title} ({kind}split: {data.split}; {plural(len(summary.folds), 'fold')}, "
        f"{plural(len(summary.seeds), 'seed')})."
    )


def _figures(summary: Summary) -> dict[str, Any]:
    source = _source(summary)
    spread = any(level.after and level.after.sd is not None for level in summary.levels)
    bars = " Bars show ± one standard deviation." if spread else " One run a ratio: no spread."
    knees = [
        f" Knee{f' of {s.label}' if len(summary.series) > 1 else ''} at ratio {s.knee.name}."
        for s in summary.series
        if s.knee
    ]
    dense = summary.dense.after if summary.dense else None
    level = f" Dotted line: dense network, {percent(dense)}." if dense else ""
    fits = (
        f" Shaded ratios, marked “fits”, are within {summary.budget.words}."
        if any(series.fitting for series in summary.series)
        else ""
    )
    captions = {
        "curve": "Accuracy by prune ratio, after (solid) and before fine-tuning (dashed): mean "
        "over the runs."
        f"{bars}{level}{''.join(knees)}{fits} {source}",
        "trade_bytes": "Accuracy after fine-tuning by size in float16; the numbers at the points "
        f"are prune ratios.{bars} {source}",
        "trade_macs": "Accuracy after fine-tuning by multiply-accumulates of one inference; the "
        f"numbers at the points are prune ratios.{bars} {source}",
        "bytes": f"Size of the parameters by prune ratio, mean over the runs. {source}",
        "macs": "Multiply-accumulates of one inference by prune ratio, mean over the runs. "
        f"{source}",
        "layers": "Share of channels kept in %, by layer and prune ratio, mean over the runs. "
        f"{source}",
    }
    captions["ways"] = (
        "Accuracy by bytes of the stored parameters (logarithmic), a line a method and number "
        f"type, from the dense network to the largest ratio.{bars} {source}"
    )
    captions["types"] = (
        "Accuracy by number type, a line a network: what narrower numbers cost. PTQ: quantised "
        f"after training; QAT: trained with the rounding in place. {source}"
    )
    figures: dict[str, Any] = {"layers": []}
    drawn = {
        "ways": accuracy_by_bytes(summary, captions["ways"]),
        "types": accuracy_by_type(summary, captions["types"]),
        "curve": accuracy_by_ratio(summary, captions["curve"]),
        **charts.accuracy_by_size(summary, captions),
        **charts.budget_bars(summary, captions),
    }
    for name in ("ways", "types", "curve", "bytes", "macs", "trade_bytes", "trade_macs"):
        chart = drawn.get(name)
        figures[name] = Figure(chart, captions[name]) if chart else None
    for index, series in enumerate(summary.series):
        name = f"{series.label}: " if len(summary.series) > 1 else ""
        chart = charts.layers(series, name + captions["layers"], f"layers{index}")
        if chart:
            figures["layers"].append(Figure(chart, name + captions["layers"]))
    return figures


def _losers(summary: Summary) -> list[str]:
    lines = []
    for series in summary.series:
        names = losers(series, summary.dense)
        level = series.knee or series.broke
        if names and level:
            method = f"{series.label}, " if len(summary.series) > 1 else ""
            lines.append(
                f"Largest losses against dense, {method}{level.words}, in points: "
                f"{', '.join(names)}."
            )
    return lines
