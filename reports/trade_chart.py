"""Accuracy against size: bytes and MACs, with the limits and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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

LOG_FROM = 8.0  # largest size over smallest from which the axis is logarithmic
MOST_TICKS = 6
AWAY, LETTER = 9, 7.0  # pixels from a point to its label, and of a letter


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
    sizes = [row["size"] for row in rows] + ([limit] if limit else [])
    least, top = min(sizes), max(sizes)
    # far below the limit all points would stand in a heap at the left edge
    log = least > 0 and top / least > LOG_FROM
    # to the left of the smallest there is room for its name
    x_domain = [least / 1.6, top * 1.15] if log else [0.0, top * 1.06]
    scale = alt.Scale(domain=x_domain, nice=False, type="log" if log else "linear")
    title = ("bytes in float16" if name == "bytes" else "MACs") + (", log scale" if log else "")
    ticks = _log_ticks(*x_domain) if log else round_ticks(top)
    axis = alt.Axis(values=ticks, labelExpr=SI_LABEL, grid=False, title=title)
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
    frame = _Frame(x_domain, y_domain, PAIR - 70, height - 80, log=log)
    shown = _without_overlap(rows, limit, frame)
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
    ]
    for side in ("left", "right"):  # of its point; the text then ends or begins there
        named = [row for row in shown if row["side"] == side]
        marks = alt.Chart(alt.Data(values=named)).mark_text(
            dy=-9,
            dx=-AWAY if side == "left" else AWAY,
            align="right" if side == "left" else "left",
        )
        if named:
            parts.append(marks.encode(x=x, y=y, text="text:N"))
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


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten in a range; only the ones where that is many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    inside = [value for value in every if low <= value <= high]
    few = [value for value in inside if math.log10(value).is_integer()]
    return few if len(inside) > MOST_TICKS and len(few) > 1 else inside


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plot's axes and its size in pixels."""

    x_domain: Sequence[float]
    y_domain: Sequence[float]
    width: float
    height: float
    log: bool

    def x(self, size: float) -> float:
        """Pixels from the left edge."""
        low, high = self.x_domain
        if self.log:
            size, low, high = math.log(max(size, low)), math.log(low), math.log(high)
        return (size - low) / (high - low) * self.width

    def y(self, accuracy: float) -> float:
        """Pixels from the lower edge."""
        low, high = self.y_domain
        return (accuracy - low) / (high - low) * self.height


_Box = tuple[float, float, float, float]  # left, right, bottom, top


def _without_overlap(
    rows: Sequence[dict[str, Any]], limit: float | None, frame: _Frame
) -> list[dict[str, Any]]:
    """The rows whose labels touch no other, no point, no curve and not the limit, with their side.

    Knee and ends go first; a label stands above its point, to the left where there is room.
    """
    taken = list(_drawn(rows, frame))
    front = sorted((row for row in rows if row.get("front")), key=lambda row: row["size"])
    for one, more in pairwise(front):  # the step to the right, then up
        corner = {"line": "front", "size": more["size"], "accuracy": one["accuracy"]}
        taken += _drawn([{**one, "line": "front"}, corner, {**more, "line": "front"}], frame)
    if limit is not None:
        taken += [(frame.x(limit), at * frame.height / 50) for at in range(51)]
    ends = (rows[0], rows[-1])
    if len({row["line"] for row in rows}) > 2:  # several curves: their ends and knees are enough
        last = {row["line"]: row for row in rows}
        first = {row["line"]: row for row in reversed(rows)}
        rows = [r for r in rows if r["knee"] or r is first[r["line"]] or r is last[r["line"]]]
    placed: list[_Box] = []
    shown = []
    for row in sorted(rows, key=lambda row: (not row["knee"], row not in ends)):
        x, y = frame.x(row["size"]), frame.y(row["accuracy"])
        wide = LETTER * len(row["text"])
        sides = {"left": (x - AWAY - wide, x - AWAY), "right": (x + AWAY, x + AWAY + wide)}
        for side, (left, right) in sides.items():
            box = (left, right, y + 4, y + 15)
            if _clear(box, placed, taken, frame):
                placed.append(box)
                shown.append({**row, "side": side})
                break
    return shown


def _drawn(rows: Sequence[dict[str, Any]], frame: _Frame) -> Iterator[tuple[float, float]]:
    """Places on the curves, in pixels: their points, and some between two of them."""
    places = [(row["line"], frame.x(row["size"]), frame.y(row["accuracy"])) for row in rows]
    for index, (line, x, y) in enumerate(places):
        yield x, y
        if index and places[index - 1][0] == line:
            _, x0, y0 = places[index - 1]
            yield from ((x0 + (x - x0) * at / 30, y0 + (y - y0) * at / 30) for at in range(1, 30))


def _clear(
    box: _Box, placed: Sequence[_Box], taken: Sequence[tuple[float, float]], frame: _Frame
) -> bool:
    left, right, low, high = box
    inside = left >= 2 and right <= frame.width and high <= frame.height
    return (
        inside
        and not any(left - 2 <= x <= right + 2 and low - 2 <= y <= high + 2 for x, y in taken)
        and not any(
            left < r + 2 and right > lft - 2 and low < t + 2 and high > b - 2
            for lft, r, b, t in placed
        )
    )
