"""Accuracy against size: bytes and MACs, with the limits and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.budget import dimension
from reports.charts import SI_LABEL, band, limit_text, macs_key, padded, round_ticks
from reports.drawing import (
    INK,
    PAIR,
    PALETTE,
    SHAPES,
    Chart,
    altair,
    draw,
    fitted,
    one_line,
    zoomed,
)
from reports.formats import count, percent
from reports.pareto import pareto
from reports.summary import Level, Summary

__all__ = ["accuracy_by_size"]


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
                rows.append(
                    {
                        "size": size.mean,
                        **band(level.after),
                        "line": line,
                        "text": level.name,
                        "knee": level in knees,
                        "tip": _tip(line, level, key),
                    }
                )
        if rows:
            spoken, limit = labels[f"trade_{name}"], limits.get(name)
            trade = _trade(rows, limit, name)
            charts[f"trade_{name}"] = Chart(draw(trade, f"trade-{name}", spoken))
    return charts


def _trade(rows: list[dict[str, Any]], limit: float | None, name: str) -> Any:
    alt = altair()
    height = 310
    y_domain = padded([row[key] for row in rows for key in ("low", "high")])
    top = max([row["size"] for row in rows] + ([limit] if limit else []))
    x_domain = [0.0, top * 1.06]
    scale = alt.Scale(domain=x_domain, nice=False)
    title = "bytes in float16" if name == "bytes" else "MACs"
    axis = alt.Axis(values=round_ticks(top), labelExpr=SI_LABEL, grid=False, title=title)
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
    for index in pareto([(row["size"], row["accuracy"]) for row in rows]):
        rows[index]["front"] = True
    best = [row for row in rows if row.get("front")]
    picked = alt.selection_point(name="picked", fields=["line"], bind="legend") if legend else None
    faded = {"opacity": alt.condition(picked, alt.value(1), alt.value(0.12))} if picked else {}
    parts = [] if limit is None else _limit_line(limit_text(limit, name), limit, scale, x_domain[1])
    shown = _without_overlap(rows, limit, x_domain, y_domain, (PAIR - 70, height - 80))
    front = alt.Chart(alt.Data(values=sorted(best, key=lambda row: row["size"]))).encode(x=x, y=y)
    points = base.mark_point(filled=True, size=60, clip=True).encode(
        y=y, color=color, shape=shape, tooltip="tip:N", **faded
    )
    if picked:
        points = points.add_params(picked)
    parts += [
        base.mark_rule(strokeWidth=1.5, opacity=0.5, clip=True).encode(
            y="low:Q", y2="high:Q", color=color
        ),
        base.mark_line(strokeWidth=2, clip=True).encode(y=y, color=color, **faded),
        # the front: a step from each network to the next that is more accurate, ringed points
        front.mark_line(
            interpolate="step-after", strokeDash=[2, 3], strokeWidth=1.5, color=INK, clip=True
        ),
        front.mark_point(size=170, filled=False, color=INK, strokeWidth=1.5, clip=True).encode(
            tooltip="tip:N"
        ),
        zoomed(points),
        # up and to the left of a rising curve there is never a line
        alt.Chart(alt.Data(values=shown))
        .mark_text(dy=-9, dx=-9, align="right", clip=True)
        .encode(x=x, y=y, text="text:N"),
    ]
    return fitted(alt.layer(*parts), PAIR, height)


def _tip(line: str, level: Level, key: str) -> str:
    size = level.sizes[key]
    unit = "MACs" if key.startswith("macs") else "B"
    name = level.name if line == level.name else f"{line} {level.name}"
    return f"{name}\n{count(size.mean)} {unit}\n{percent(level.after)}"


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
