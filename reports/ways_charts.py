"""Charts of number types: accuracy against stored bytes, and against the width of the numbers."""

from __future__ import annotations

import math
from typing import Any

from reports.budget import dimension
from reports.charts import SI_LABEL, band, limit_text, padded
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
    zoomed,
)
from reports.formats import count, percent
from reports.summary import Summary
from reports.ways import entry_name, stored_bytes

__all__ = ["accuracy_by_bytes", "accuracy_by_type"]

HEIGHT = 380
DENSE = "dense"


def _rows(summary: Summary) -> list[dict[str, Any]]:
    """A row a network and way; the dense network of a type begins the line of each method."""
    rows = []
    for way in summary.ways:
        method = one_line(way.method) or DENSE
        for level in way.levels:
            size = stored_bytes(way, level)
            if size is None or level.after is None or size.mean <= 0:
                continue
            dense = level.target is None and not level.ratio
            rows.append(
                {
                    "bytes": size.mean,
                    **band(level.after),
                    "method": method,
                    "type": way.type_name,
                    "line": f"{method} {way.type_name}",
                    "network": DENSE if dense else f"{method} {one_line(level.name)}",
                    "text": one_line(entry_name(summary, (way, level))),
                    "tip": f"{one_line(entry_name(summary, (way, level)))}, {way.type_name}\n"
                    f"{count(size.mean)} B\n{percent(level.after)}",
                }
            )
    return rows


def accuracy_by_bytes(summary: Summary, label: str, name: str = "ways") -> Chart | None:
    """Accuracy against the bytes of the stored file, a line a method and number type.

    The axis of bytes is logarithmic: number types and ratios are factors.

    Args:
        summary: the run.
        label: what the picture shows, for readers who do not see it.
        name: prefix for ids, unique in the page.

    Returns:
        The chart; None where there is float32 alone.
    """
    rows = _rows(summary)
    if not rows:
        return None
    limits = {dimension(unit): value for unit, value in summary.budget.limits.items()}
    limit = limits.get("bytes")
    return Chart(
        draw(_by_bytes(rows, limit, WIDE), f"{name}-w", label),
        draw(_by_bytes(rows, limit, NARROW), f"{name}-n", label),
    )


def _by_bytes(rows: list[dict[str, Any]], limit: float | None, width: int) -> Any:
    alt = altair()
    sizes = [row["bytes"] for row in rows] + ([limit] if limit else [])
    domain = [min(sizes) / 1.25, max(sizes) * 1.25]
    scale = alt.Scale(type="log", domain=domain, nice=False)
    ticks = _ticks(domain[0], domain[1], 10 if width > NARROW else 5)
    axis = alt.Axis(values=ticks, labelExpr=SI_LABEL, grid=False, title="bytes as stored")
    x = alt.X("bytes:Q", scale=scale, axis=axis)
    y = alt.Y(
        "accuracy:Q",
        title="accuracy, %",
        scale=alt.Scale(
            domain=padded([row[key] for row in rows for key in ("low", "high")]),
            nice=False,
            zero=False,
        ),
    )
    color, shape = _marks(rows, narrow=width <= NARROW)
    data = alt.Chart(alt.Data(values=rows)).encode(x=x)
    picked = alt.selection_point(name="picked", fields=["type"], bind="legend")
    faded = alt.condition(picked, alt.value(1), alt.value(0.1))
    parts = []
    if limit:
        rule = alt.Chart(alt.Data(values=[{"limit": limit}])).encode(
            x=alt.X("limit:Q", scale=scale)
        )
        parts += [
            rule.mark_rule(color=INK, strokeWidth=2),
            rule.mark_text(
                align="right", baseline="bottom", dx=-6, dy=-6, fontWeight="bold"
            ).encode(y=alt.value("height"), text=alt.value(limit_text(limit, "bytes"))),
        ]
    parts += [
        data.mark_rule(strokeWidth=1.5, opacity=0.5, clip=True).encode(
            y="low:Q", y2="high:Q", color=color
        ),
        data.mark_line(strokeWidth=1.5, opacity=0.6, clip=True).encode(
            y=y, color=color, detail="line:N"
        ),
        zoomed(
            data.mark_point(filled=True, size=60, clip=True)
            .encode(y=y, color=color, shape=shape, tooltip="tip:N", opacity=faded)
            .add_params(picked)
        ),
    ]
    return fitted(alt.layer(*parts), width, HEIGHT)


def _marks(rows: list[dict[str, Any]], *, narrow: bool) -> tuple[Any, Any]:
    """Colour by method, shape by number type; a legend only for what differs."""
    alt = altair()
    methods = list(dict.fromkeys(row["method"] for row in rows))
    types = list(dict.fromkeys(row["type"] for row in rows))
    legend = alt.Legend(symbolOpacity=1)
    below = alt.Legend(symbolOpacity=1, orient="bottom", columns=2) if narrow else legend
    return (
        alt.Color(
            "method:N",
            scale=alt.Scale(
                domain=methods, range=[PALETTE[i % len(PALETTE)] for i in range(len(methods))]
            ),
            legend=legend if len(methods) > 1 else None,
        ),
        alt.Shape(
            "type:N",
            scale=alt.Scale(
                domain=types, range=[SHAPES[i % len(SHAPES)] for i in range(len(types))]
            ),
            legend=below,
        ),
    )


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of two times a power of ten inside the axis, thinned to `most`."""
    found: list[float] = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        found += [step * 10.0**power for step in (1, 2, 5)]
    inside = [value for value in found if low <= value <= high]
    every = max(1, math.ceil(len(inside) / most))
    return inside[::every]


def accuracy_by_type(summary: Summary, label: str, name: str = "types") -> Chart | None:
    """Accuracy by number type from the widest to the narrowest, a line a network.

    Args:
        summary: the run.
        label: what the picture shows, for readers who do not see it.
        name: prefix for ids, unique in the page.

    Returns:
        The chart; None where there is float32 alone.
    """
    rows = _rows(summary)
    if len({row["type"] for row in rows}) < 2:
        return None
    # the dense network stands in every method's line; here it is one line
    single = list({(row["network"], row["type"]): row for row in reversed(rows)}.values())[::-1]
    for row in single:
        row["method"] = DENSE if row["network"] == DENSE else row["method"]
    return Chart(
        draw(_by_type(single, WIDE), f"{name}-w", label),
        draw(_by_type(single, NARROW), f"{name}-n", label),
    )


def _by_type(rows: list[dict[str, Any]], width: int) -> Any:
    alt = altair()
    types = list(dict.fromkeys(row["type"] for row in rows))
    x = alt.X(
        "type:N",
        sort=None,
        title=None,
        axis=alt.Axis(labelAngle=0, grid=False),
        scale=alt.Scale(domain=types),
    )
    y = alt.Y(
        "accuracy:Q",
        title="accuracy, %",
        scale=alt.Scale(
            domain=padded([row[key] for row in rows for key in ("low", "high")]),
            nice=False,
            zero=False,
        ),
    )
    methods = [m for m in dict.fromkeys(row["method"] for row in rows) if m != DENSE]
    names = [DENSE, *methods]
    ink = [INK, *(PALETTE[i % len(PALETTE)] for i in range(len(methods)))]
    forms = ["diamond", *(SHAPES[i % len(SHAPES)] for i in range(len(methods)))]
    legend = alt.Legend(symbolOpacity=1)
    color = alt.Color("method:N", scale=alt.Scale(domain=names, range=ink), legend=legend)
    shape = alt.Shape("method:N", scale=alt.Scale(domain=names, range=forms), legend=legend)
    data = alt.Chart(alt.Data(values=rows)).encode(x=x)
    first = [row for row in rows if row["type"] == types[0]]
    parts = [
        data.mark_line(strokeWidth=1.5, opacity=0.6).encode(y=y, color=color, detail="network:N"),
        data.mark_point(filled=True, size=60, opacity=1).encode(
            y=y, color=color, shape=shape, tooltip="tip:N"
        ),
        alt.Chart(alt.Data(values=_apart(first)))
        .mark_text(align="right", dx=-8, fontSize=11)
        .encode(x=x, y=y, text="text:N"),
    ]
    return fitted(alt.layer(*parts), width, HEIGHT)


def _apart(rows: list[dict[str, Any]], share: float = 0.045) -> list[dict[str, Any]]:
    """The rows whose names do not touch one that is shown: a share of the range apart."""
    values = [row["accuracy"] for row in rows]
    gap = share * max(1.0, max(values) - min(values))
    shown: list[dict[str, Any]] = []
    for row in rows:
        if all(abs(row["accuracy"] - other["accuracy"]) >= gap for other in shown):
            shown.append(row)
    return shown
