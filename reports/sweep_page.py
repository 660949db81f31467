"""The page of a sweep: one self-contained HTML file, verdict first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.confusion import confusion_pairs, confusion_table
from reports.embedded import embedded
from reports.figures import close_words, sweep_figures
from reports.files import file_stem, write_text
from reports.formats import NONE, count, percent_value
from reports.html import page
from reports.layer_charts import level_costs
from reports.notes import counting, last_lines, provenance, settings_table
from reports.summary import Summary, summarise
from reports.tables import Table, losers, sweep_tables
from reports.verdict import verdict
from reports.ways import ways_table

__all__ = ["all_tables", "render", "title_of", "write"]

BADGES = {"pass": "Pass", "fail": "Fail", "open": "Open", "unknown": "Not judged"}


def render(results: Mapping[str, Any], *, static: bool = False) -> str:
    """Build the page.

    Args:
        results: content of `results.json`.
        static: leave out what makes the charts answer to the pointer; the page is then small.

    Returns:
        A whole HTML document: no address in it is ever fetched, and it reads with scripts and
        styles forbidden.

    Raises:
        UsageError: the record has not the shape the reports read.
    """
    summary = summarise(results)
    words = verdict(summary)
    return page(
        "sweep.html.j2",
        static=static,
        data=embedded(summary),
        title=title_of(summary),
        name=file_stem(title_of(summary)),
        summary=summary,
        verdict=words,
        badge=BADGES[words.status],
        dataset=summary.data,
        figures=sweep_figures(summary, static=static),
        tables=all_tables(summary),
        losers=_losers(summary),
        counting=counting(summary),
        provenance=provenance(summary),
        settings=settings_table(summary),
        last_lines=last_lines,
    )


def write(results: Mapping[str, Any], path: Path, *, static: bool = False) -> Path:
    """Build the page and write it, atomically.

    Returns:
        `path`.

    Raises:
        UsageError: the record has not the shape the reports read.
    """
    return write_text(path, render(results, static=static))


def title_of(summary: Summary) -> str:
    """Title of page and report: network, data set, and SYNTHETIC where it is."""
    data = summary.data
    kind = " (synthetic data)" if data.synthetic and "synthetic" not in data.title.lower() else ""
    done = "pruned and quantised" if summary.ways else "pruned"
    return f"{summary.model} {done} on {data.title}{kind}"


def all_tables(summary: Summary) -> dict[str, Table | None]:
    """Every table of the page by name; None where there is nothing to show."""
    level = summary.chosen[1] if summary.chosen else summary.dense
    classes = summary.data.classes
    counts = level.confusion(len(classes)) if level else ()
    what = f"{close_words(summary)}, all runs together"
    return {
        **sweep_tables(summary),
        "ways": ways_table(summary),
        "costs": _costs(summary),
        "pairs": confusion_pairs(counts, classes, what),
        "confusion": confusion_table(counts, classes, what),
    }


def _costs(summary: Summary) -> Table | None:
    level = summary.chosen[1] if summary.chosen else summary.dense
    if level is None or not level.layers:
        return None
    base = summary.dense if summary.chosen else None
    found = level_costs(base, level)
    rows = []
    for (name, params, less), (_, macs, fewer) in zip(found["params"], found["macs"], strict=True):
        cells = [name, count(params), NONE if less is None else count(less), count(macs)]
        cells += [NONE if fewer is None else count(fewer)]
        cells += [NONE if less is None or not params else percent_value(less / params)]
        rows.append(tuple(cells))
    close = close_words(summary)
    return Table(
        caption=f"Parameters and MACs by layer, dense and {close}, means over the runs.",
        columns=("layer", "parameters", "left", "MACs", "left of them", "parameters left, %"),
        rows=tuple(rows),
        what="layers",
    )


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
