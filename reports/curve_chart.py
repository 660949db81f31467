"""The curve: prune ratio against accuracy, before and after fine-tuning, with dense and knee."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from reports.charts import band, padded, tick_labels
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
from reports.formats import percent, percent_value, plural
from reports.formats import ratio as ratio_text
from reports.spread import Spread
from reports.summary import Summary

__all__ = ["accuracy_by_ratio"]

AFTER, BEFORE = "after fine-tuning", "before fine-tuning"
FIT_COLOR = "#009e73"


def accuracy_by_ratio(summary: Summary, label: str, name: str = "curve") -> Chart | None:
    """Mean accuracy by ratio with its spread, the dense level, the knee and what fits the budget.

    Args:
        summary: the run.
        label: what the picture shows, for readers who do not see it.
        name: prefix for ids, unique in the page.

    Returns:
        The chart; None where no run has a ratio.
    """
    rows = _rows(summary)
    if not rows:
        return None
    return Chart(
        draw(_chart(summary, rows, WIDE, 400), f"{name}-w", label),
        draw(_chart(summary, rows, NARROW, 350), f"{name}-n", label),
    )


def _rows(summary: Summary) -> list[dict[str, Any]]:
    many = len(summary.series) > 1
    rows = []
    for series in summary.series:
        label = one_line(series.label)
        for level in series.levels:
            for stage, value in ((AFTER, level.after), (BEFORE, level.before)):
                if value is None or level.ratio is None:
                    continue
                rows.append(
                    {
                        "ratio": level.ratio,
                        **band(value),
                        "method": label,
                        "stage": stage,
                        "line": f"{label}, {stage}" if many else stage,
                        "tip": f"{label} {level.name}, {stage}\n{percent(value)}"
                        + (f"\n{plural(value.n, 'run')}" if value.n > 1 else ""),
                    }
                )
    return rows


def _chart(summary: Summary, rows: list[dict[str, Any]], width: int, height: int) -> Any:
    alt = altair()
    ratios = sorted({row["ratio"] for row in rows})
    gap = min((b - a for a, b in itertools.pairwise(ratios)), default=0.1)
    x_domain = [ratios[0] - gap / 2, ratios[-1] + gap / 2]
    dense = summary.dense.after if summary.dense else None
    values = [row[key] for row in rows for key in ("low", "high")]
    if dense:
        sd = dense.sd or 0.0
        values += [100 * (dense.mean - sd), 100 * (dense.mean + sd)]
    y_domain = padded(values)
    band = _fit_band(summary, ratios, x_domain, y_domain)
    axis = alt.Axis(
        values=ratios,
        labelExpr=tick_labels(summary, ratios),
        grid=False,
        labelLineHeight=15,
        title="prune ratio (shaded: fits the budget)" if band else "prune ratio",
    )
    scale = alt.Scale(domain=x_domain, nice=False, zero=False)
    x = alt.X("ratio:Q", scale=scale, axis=axis)
    y_scale = alt.Scale(domain=y_domain, nice=False, zero=False)
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=y_scale)
    color, shape, dash = _marks(summary, rows, width)
    picked = alt.selection_point(name="picked", fields=["line"], bind="legend")
    base = alt.Chart(alt.Data(values=rows)).encode(x=x)
    parts = band + (_dense(dense, x_domain) if dense else [])
    knee = summary.series[0].knee if len(summary.series) == 1 else None
    if knee and knee.ratio is not None:
        parts += _knee(knee.ratio, x_domain, y_domain)
    if any(row["high"] > row["low"] for row in rows):
        bar = {
            "color": color,
            "opacity": alt.condition(picked, alt.value(0.75), alt.value(0.1)),
        }
        rule = base.mark_rule(strokeWidth=1.5, clip=True)
        parts.append(rule.encode(y="low:Q", y2="high:Q", **bar))
        few = len({row["line"] for row in rows}) <= 4
        parts += [
            base.mark_tick(thickness=1.5, size=9, clip=True).encode(y=f"{end}:Q", **bar)
            for end in (("low", "high") if few else ())
        ]
    faded = alt.condition(picked, alt.value(1), alt.value(0.12))
    points = base.mark_point(filled=True, size=70, clip=True).encode(
        y=y, color=color, shape=shape, opacity=faded, tooltip="tip:N"
    )
    parts += [
        base.mark_line(strokeWidth=2, clip=True).encode(
            y=y, color=color, strokeDash=dash, opacity=faded
        ),
        zoomed(points.add_params(picked)),
    ]
    return fitted(alt.layer(*parts), width, height)


def _marks(summary: Summary, rows: list[dict[str, Any]], width: int) -> tuple[Any, Any, Any]:
    """Colour, shape and dash of the lines: by stage for one method, else colour by method."""
    alt = altair()
    lines = list(dict.fromkeys((row["line"], row["method"], row["stage"]) for row in rows))
    methods = list(dict.fromkeys(method for _, method, _ in lines))
    one = len(summary.series) == 1
    places = [
        (0 if stage == AFTER else 1) if one else methods.index(method) for _, method, stage in lines
    ]
    domain = [line for line, _, _ in lines]
    dashes = [[1, 0] if stage == AFTER else [5, 4] for _, _, stage in lines]
    columns = 1 if width <= NARROW and len(lines) > 2 else min(len(lines), 4)
    # one legend for all three channels: they must have equal domains and settings
    legend = alt.Legend(columns=columns, symbolOpacity=1, symbolSize=70, symbolStrokeWidth=0)

    def scale(values: Sequence[Any]) -> Any:
        return alt.Scale(domain=domain, range=list(values))

    return (
        alt.Color(
            "line:N", scale=scale([PALETTE[p % len(PALETTE)] for p in places]), legend=legend
        ),
        alt.Shape("line:N", scale=scale([SHAPES[p % len(SHAPES)] for p in places]), legend=legend),
        alt.StrokeDash("line:N", scale=scale(dashes), legend=legend),
    )


def _fit_band(
    summary: Summary,
    ratios: Sequence[float],
    x_domain: Sequence[float],
    y_domain: Sequence[float],
) -> list[Any]:
    """Shaded stretches around the ratios at which some method fits the budget."""
    alt = altair()
    fits = {level.ratio for series in summary.series for level in series.fitting}
    edges = [x_domain[0]]
    edges += [(a + b) / 2 for a, b in itertools.pairwise(ratios)]
    edges.append(x_domain[1])
    rows: list[dict[str, float]] = []
    for index, ratio in enumerate(ratios):
        if ratio not in fits:
            continue
        if rows and rows[-1]["end"] == edges[index]:
            rows[-1]["end"] = edges[index + 1]
        else:
            place = {"start": edges[index], "end": edges[index + 1]}
            rows.append({**place, "low": y_domain[0], "high": y_domain[1]})
    if not rows:
        return []
    chart = alt.Chart(alt.Data(values=rows)).mark_rect(color=FIT_COLOR, opacity=0.1)
    return [chart.encode(x="start:Q", x2="end:Q", y="low:Q", y2="high:Q")]


def _dense(dense: Spread, x_domain: Sequence[float]) -> list[Any]:
    """The dense level as a dotted line through the plot, with its spread and its name."""
    alt = altair()
    across = band(dense)
    row = {"start": x_domain[0], "end": x_domain[1], "level": across.pop("accuracy"), **across}
    chart = alt.Chart(alt.Data(values=[row]))
    line = chart.mark_rule(color=INK, strokeDash=[2, 3], strokeWidth=1.5)
    name = chart.mark_text(align="left", dx=6, dy=-6, baseline="middle", lineBreak="\n", clip=False)
    text = alt.value(f"dense\n{percent_value(dense.mean)} %")
    parts = [
        line.encode(x="start:Q", x2="end:Q", y="level:Q"),
        name.encode(x=alt.value("width"), y="level:Q", text=text),
    ]
    if dense.sd:
        wide = chart.mark_rect(color=INK, opacity=0.07)
        parts.insert(0, wide.encode(x="start:Q", x2="end:Q", y="low:Q", y2="high:Q"))
    return parts


def _knee(ratio: float, x_domain: Sequence[float], y_domain: Sequence[float]) -> list[Any]:
    """A dashed line at the knee, named at the foot, on the side with more room."""
    alt = altair()
    right = ratio > sum(x_domain) / 2
    chart = alt.Chart(alt.Data(values=[{"ratio": ratio, "low": y_domain[0], "high": y_domain[1]}]))
    name = chart.mark_text(
        align="right" if right else "left", dx=-6 if right else 6, dy=-5, baseline="bottom"
    )
    return [
        chart.mark_rule(color=INK, strokeDash=[6, 3], opacity=0.6).encode(
            x="ratio:Q", y="low:Q", y2="high:Q"
        ),
        name.encode(x="ratio:Q", y="low:Q", text=alt.value(f"knee {ratio_text(ratio)}")),
    ]
