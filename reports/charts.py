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
    NARROW,
    PALETTE,
    SHAPES,
    WIDE,
    Chart,
    altair,
    draw,
    fitted,
    one_line,
)
from reports.formats import count, percent_value, short
from reports.formats import ratio as ratio_text
from reports.summary import Level, Series, Summary

__all__ = ["accuracy_by_size", "budget_bars", "layers"]

FORMATS = {"bytes_float16": "float16", "bytes_int8": "int8", "bytes_float32": "float32"}
PAIR = 504  # px: half of the page's column, two bar charts side by side
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
    named = named_levels(summary)
    charts = {}
    for name, keys in (("bytes", ("bytes_float16", "bytes_int8")), ("macs", (macs_key(summary),))):
        write = count if name == "bytes" else short
        rows = [
            {
                "level": text,
                "kind": FORMATS.get(key, "MACs"),
                "value": level.sizes[key].mean,
                "text": write(level.sizes[key].mean),
            }
            for text, level in named
            for key in keys
            if key in level.sizes
        ]
        if rows:
            order = [text for text, _ in named]
            charts[name] = Chart(
                draw(_bars(rows, order, limits.get(name), name, PAIR), f"{name}-w", labels[name]),
                draw(_bars(rows, order, limits.get(name), name, NARROW), f"{name}-n", labels[name]),
            )
    return charts


def _bars(
    rows: list[dict[str, Any]], order: list[str], limit: float | None, name: str, width: int
) -> Any:
    alt = altair()
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    double = len(kinds) > 1
    top = max([row["value"] for row in rows] + ([limit] if limit else []))
    # the numbers stand in a column of their own at the right, clear of bars and limit
    scale = alt.Scale(domain=[0, top * (1.22 if width > NARROW else 1.32)], nice=False)
    title = "bytes" if name == "bytes" else "MACs"
    axis = alt.Axis(values=_ticks(top), labelExpr=SI_LABEL, title=title)
    data = alt.Chart(alt.Data(values=rows))
    y = alt.Y(
        "level:N",
        sort=None,
        title=None,
        axis=alt.Axis(domain=False, ticks=False, labelPadding=6, labelLimit=width // 3),
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
        data.mark_bar().encode(x=alt.X("value:Q", scale=scale, axis=axis), color=color, **place),
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
    return fitted(alt.layer(*parts), width, len(order) * step + (105 if double else 70))


def _ticks(top: float) -> list[float]:
    """Round positions from 0 to `top`, about four of them."""
    step = 10.0 ** (len(str(int(top))) - 1)
    for share in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5):
        if top / (step * share) <= 5:
            step *= share
            break
    return [step * index for index in range(int(top / step) + 1)]


# -- accuracy against size -----------------------------------------------------------------------


def accuracy_by_size(summary: Summary, labels: Mapping[str, str]) -> dict[str, Chart]:
    """Accuracy against float16 bytes and against MACs, points named by ratio, with the limits.

    Args:
        summary: the run.
        labels: spoken label by chart ("trade_bytes", "trade_macs").
    """
    curves: list[tuple[str, Sequence[Level]]] = [
        (one_line(s.label), s.levels) for s in summary.series
    ]
    if summary.dense:
        curves.append(("dense", (summary.dense,)))
    limits = {dimension(unit): value for unit, value in summary.budget.limits.items()}
    knees = [series.knee for series in summary.series]
    charts = {}
    for name, key in (("bytes", "bytes_float16"), ("macs", macs_key(summary))):
        rows = []
        for line, levels in curves:
            for level in levels:
                size = level.sizes.get(key)
                if size is None or level.after is None:
                    continue
                mean, sd = level.after.mean, level.after.sd or 0.0
                rows.append(
                    {
                        "size": size.mean,
                        "accuracy": 100 * mean,
                        "low": 100 * (mean - sd),
                        "high": 100 * (mean + sd),
                        "line": line,
                        "text": level.name,
                        "knee": level in knees,
                    }
                )
        if rows:
            spoken, limit = labels[f"trade_{name}"], limits.get(name)
            charts[f"trade_{name}"] = Chart(
                draw(_trade(rows, limit, name, PAIR), f"trade-{name}-w", spoken),
                draw(_trade(rows, limit, name, NARROW), f"trade-{name}-n", spoken),
            )
    return charts


def _trade(rows: list[dict[str, Any]], limit: float | None, name: str, width: int) -> Any:
    alt = altair()
    height = 310
    y_domain = padded([row[key] for row in rows for key in ("low", "high")])
    top = max([row["size"] for row in rows] + ([limit] if limit else []))
    x_domain = [0.0, top * 1.06]
    scale = alt.Scale(domain=x_domain, nice=False)
    title = "bytes in float16" if name == "bytes" else "MACs"
    axis = alt.Axis(values=_ticks(top), labelExpr=SI_LABEL, grid=False, title=title)
    x = alt.X("size:Q", scale=scale, axis=axis)
    y_scale = alt.Scale(domain=y_domain, nice=False, zero=False)
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=y_scale)
    lines = list(dict.fromkeys(row["line"] for row in rows))
    pruned = [line for line in lines if line != "dense"]
    colors = [INK if n == "dense" else PALETTE[pruned.index(n) % len(PALETTE)] for n in lines]
    shapes = ["diamond" if n == "dense" else SHAPES[pruned.index(n) % len(SHAPES)] for n in lines]
    # with one method the names at the points say all that a legend could
    legend = alt.Legend(symbolOpacity=1) if len(pruned) > 1 else None
    color = alt.Color("line:N", scale=alt.Scale(domain=lines, range=colors), legend=legend)
    shape = alt.Shape("line:N", scale=alt.Scale(domain=lines, range=shapes), legend=legend)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x)
    parts = [] if limit is None else _limit_line(limit_text(limit, name), limit, scale, x_domain[1])
    shown = _without_overlap(rows, limit, x_domain, y_domain, (width - 70, height - 80))
    parts += [
        base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(y="low:Q", y2="high:Q", color=color),
        base.mark_line(strokeWidth=2).encode(y=y, color=color),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=y, color=color, shape=shape),
        # up and to the left of a rising curve there is never a line
        alt.Chart(alt.Data(values=shown))
        .mark_text(dy=-9, dx=-6, align="right")
        .encode(x=x, y=y, text="text:N"),
    ]
    return fitted(alt.layer(*parts), width, height)


def _limit_line(words: str, limit: float, scale: Any, top: float) -> list[Any]:
    alt = altair()
    rule = alt.Chart(alt.Data(values=[{"limit": limit}])).encode(x=alt.X("limit:Q", scale=scale))
    left = limit > 0.7 * top
    text = rule.mark_text(
        align="right" if left else "left",
        baseline="bottom",
        dx=-6 if left else 6,
        dy=-6,
        fontWeight="bold",
    )
    return [
        rule.mark_rule(color=INK, strokeWidth=2),
        text.encode(y=alt.value("height"), text=alt.value(words)),
    ]


def _without_overlap(
    rows: Sequence[dict[str, Any]],
    limit: float | None,
    x_domain: Sequence[float],
    y_domain: Sequence[float],
    size: tuple[int, int],
) -> list[dict[str, Any]]:
    """The rows whose labels touch neither another nor the limit: knee and ends go first."""
    width, height = size
    line = None if limit is None else (limit - x_domain[0]) / (x_domain[1] - x_domain[0]) * width
    placed: list[tuple[float, float, float]] = []
    shown = []
    ends = (rows[0], rows[-1])
    if len({row["line"] for row in rows}) > 2:  # several curves: their ends and knees are enough
        last = {row["line"]: row for row in rows}
        first = {row["line"]: row for row in reversed(rows)}
        rows = [r for r in rows if r["knee"] or r is first[r["line"]] or r is last[r["line"]]]
    for row in sorted(rows, key=lambda row: (not row["knee"], row not in ends)):
        right = (row["size"] - x_domain[0]) / (x_domain[1] - x_domain[0]) * width
        y = (row["accuracy"] - y_domain[0]) / (y_domain[1] - y_domain[0]) * height
        left = right - 7.0 * len(row["text"]) - 6
        clear = line is None or not left - 3 <= line <= right
        if clear and all(left >= r or right <= lft or abs(y - at) >= 15 for lft, r, at in placed):
            placed.append((left, right, y))
            shown.append(row)
    return shown


# -- kept channels --------------------------------------------------------------------------------


def layers(series: Series, label: str, name: str = "layers") -> Chart | None:
    """Share of channels kept, layer by ratio: the stronger the tint, the more is left."""
    rows = [
        {
            "layer": one_line(layer),
            "ratio": level.name,
            "share": kept / total,
            "text": percent_value(kept / total, 0),
        }
        for level in series.levels
        for layer, (kept, total) in level.kept.items()
    ]
    if not rows:
        return None
    return Chart(
        draw(_layers(rows, WIDE), f"{name}-w", label),
        draw(_layers(rows, NARROW), f"{name}-n", label),
    )


def _layers(rows: list[dict[str, Any]], width: int) -> Any:
    alt = altair()
    order = list(dict.fromkeys(row["layer"] for row in rows))
    columns = list(dict.fromkeys(row["ratio"] for row in rows))
    x = alt.X(
        "ratio:N",
        sort=None,
        title="prune ratio",
        axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False),
        scale=alt.Scale(domain=columns, paddingInner=0.04),
    )
    y = alt.Y(
        "layer:N",
        sort=None,
        title=None,
        axis=alt.Axis(domain=False, ticks=False, labelLimit=width // 3),
        scale=alt.Scale(domain=order, paddingInner=0.08),
    )
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y)
    # at most little over half opaque: the ink of the numbers stays readable on light and dark pages
    tint = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.02, 0.6]), legend=None)
    chart = alt.layer(
        base.mark_rect(color=PALETTE[0]).encode(opacity=tint),
        base.mark_text(fontSize=11 if width > NARROW else 10).encode(text="text:N"),
    )
    # few columns: cells stay cells, not bands across the page
    return fitted(chart, min(width, 180 + 110 * len(columns)), len(order) * 20 + 50)


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
