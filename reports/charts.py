"""The charts of a sweep: which rows are drawn, and how.

Each function returns a `Chart`: one SVG for a desktop page and, where the wide one would shrink
its text too far, one for a phone. Colours are of the Okabe-Ito palette and never the only mark of
a difference: shape, dash or a word says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.budget import dimension
from reports.drawing import (
    INK,
    PAIR,
    Chart,
    altair,
    draw,
    fitted,
    one_line,
)
from reports.formats import count, short
from reports.formats import ratio as ratio_text
from reports.spread import Spread
from reports.summary import Level, Summary

__all__ = ["band", "budget_bars", "macs_key", "named_levels", "padded"]

FORMATS = {"bytes_float16": "float16", "bytes_int8": "int8", "bytes_float32": "float32"}
SI_LABEL = "datum.value == 0 ? '0' : format(datum.value, '~s')"


def named_levels(summary: Summary) -> list[tuple[str, Level]]:
    """Dense and every level with its name on an axis."""
    many = len(summary.series) > 1
    named = [("dense", summary.dense)] if summary.dense else []
    return named + [
        (one_line(f"{series.label} {level.name}") if many else level.name, level)
        for series in summary.series
        for level in series.levels
    ]


def band(value: Spread) -> dict[str, float]:
    """A share as a chart's row in %: its mean and one standard deviation to either side."""
    sd = value.sd or 0.0
    return {
        "accuracy": 100 * value.mean,
        "low": 100 * (value.mean - sd),
        "high": 100 * (value.mean + sd),
    }


def padded(values: Sequence[float], low: float = 0.0, high: float = 100.0) -> list[float]:
    """A domain with air around the values, within what the axis can mean."""
    air = max(0.08 * (max(values) - min(values)), 1.0)
    return [max(low, min(values) - air), min(high, max(values) + air)]


def macs_key(summary: Summary) -> str:
    """The MAC count the charts show: the official one where the record has it."""
    official = any("macs_official" in level.sizes for _, level in named_levels(summary))
    return "macs_official" if official else "macs"


def limit_text(limit: float, name: str) -> str:
    """The name of a limit line."""
    return f"limit {count(limit)} B" if name == "bytes" else f"limit {short(limit)}"


# -- budget bars ----------------------------------------------------------------------------------


def budget_bars(summary: Summary, labels: Mapping[str, str]) -> dict[str, Chart]:
    """Bytes and MACs of each ratio as bars against the limit.

    Args:
        summary: the run.
        labels: spoken label by chart ("bytes", "macs").
    """
    limits = {dimension(unit): value for unit, value in summary.budget.limits.items()}
    named = _telling(summary)
    charts = {}
    for name, keys in (("bytes", ("bytes_float16", "bytes_int8")), ("macs", (macs_key(summary),))):
        write = count if name == "bytes" else short
        rows = [
            {
                "level": text,
                "kind": FORMATS.get(key, "MACs"),
                "value": level.sizes[key].mean,
                "text": write(level.sizes[key].mean),
                "tip": f"{text}\n{count(level.sizes[key].mean)} "
                + (f"B as {FORMATS[key]}" if name == "bytes" else "MACs"),
            }
            for text, level in named
            for key in keys
            if key in level.sizes
        ]
        if rows:
            order = [text for text, _ in named]
            bars = _bars(rows, order, limits.get(name), name)
            charts[name] = Chart(draw(bars, name, labels[name]))
    return charts


MOST_BARS = 12


def _telling(summary: Summary) -> list[tuple[str, Level]]:
    """The levels that have a bar: all, or of many methods what each has to say for itself."""
    named = named_levels(summary)
    if len(named) <= MOST_BARS:
        return named
    kept = {id(summary.dense)}
    for series in summary.series:
        kept |= {id(level) for level in (series.levels[0], series.best, series.knee) if level}
        kept.add(id(series.levels[-1]))
    return [(name, level) for name, level in named if id(level) in kept]


def _bars(rows: list[dict[str, Any]], order: list[str], limit: float | None, name: str) -> Any:
    alt = altair()
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    double = len(kinds) > 1
    top = max([row["value"] for row in rows] + ([limit] if limit else []))
    # the numbers stand in a column of their own at the right, clear of bars and limit
    scale = alt.Scale(domain=[0, top * 1.28], nice=False)
    title = "bytes" if name == "bytes" else "MACs"
    axis = alt.Axis(values=round_ticks(top), labelExpr=SI_LABEL, title=title)
    data = alt.Chart(alt.Data(values=rows))
    y = alt.Y(
        "level:N",
        sort=None,
        title=None,
        axis=alt.Axis(domain=False, ticks=False, labelPadding=6, labelLimit=PAIR // 3),
        scale=alt.Scale(domain=order, paddingInner=0.28, paddingOuter=0.14),
    )
    place: dict[str, Any] = {"y": y}
    if double:
        place["yOffset"] = alt.YOffset("kind:N", sort=None, scale=alt.Scale(domain=kinds))
    color = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=["#0072b2", "#56b4e9"][: len(kinds)]),
        legend=alt.Legend(orient="bottom", symbolType="square") if double else None,
    )
    parts = [
        data.mark_bar().encode(
            x=alt.X("value:Q", scale=scale, axis=axis), color=color, tooltip="tip:N", **place
        ),
        data.mark_text(align="right", fontSize=11).encode(
            x=alt.value("width"), text="text:N", **place
        ),
    ]
    if limit:
        rule = alt.Chart(alt.Data(values=[{"limit": limit}])).encode(
            x=alt.X("limit:Q", scale=scale)
        )
        left = limit > top / 2
        parts += [
            rule.mark_rule(color=INK, strokeWidth=2),
            rule.mark_text(
                align="right" if left else "left",
                dx=3 if left else -3,
                baseline="bottom",
                dy=-4,
                fontWeight="bold",
            ).encode(y=alt.value(0), text=alt.value(limit_text(limit, name))),
        ]
    step = 31 if double else 24
    return fitted(alt.layer(*parts), PAIR, len(order) * step + (105 if double else 70))


def round_ticks(top: float) -> list[float]:
    """Round positions from 0 to `top`, about four of them."""
    step = 10.0 ** (len(str(int(top))) - 1)
    for share in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5):
        if top / (step * share) <= 5:
            step *= share
            break
    return [step * index for index in range(int(top / step) + 1)]


# -- used by the ratio chart ----------------------------------------------------------------------


def fit_words(summary: Summary, ratio: float) -> str:
    """What stands under a ratio on the axis: fits, over, open, or nothing where methods differ."""
    words = {"pass": "fits", "fail": "over", "depends": "open", "unknown": ""}
    statuses = {
        level.budget.status
        for series in summary.series
        for level in series.levels
        if level.ratio == ratio
    }
    return words[statuses.pop()] if len(statuses) == 1 else ""


def tick_labels(summary: Summary, ratios: Sequence[float]) -> str:
    """Tick labels as a Vega expression; holds nothing but our own numbers and words."""
    cases = [
        f"abs(datum.value - {value!r}) < 1e-9 ? "
        f"['{ratio_text(value)}', '{fit_words(summary, value)}']"
        for value in ratios
    ]
    return " : ".join([*cases, "''"])
