"""Bars against limits: how much of each limit a model uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.drawing import INK, NARROW, PALETTE, WIDE, Chart, altair, draw, fitted, one_line
from reports.layer_charts import costs_chart

__all__ = ["limit_bars", "model_bars"]

MOST = 3.0  # bars end at three times the limit: beyond that the number beside them says it


def limit_bars(rows: Sequence[Mapping[str, Any]], label: str, name: str) -> Chart | None:
    """Used share of each limit as bars, the limit a line at 100 %.

    Args:
        rows: "name", "used" (share of the limit), "over" (bool), "text" and "tip" of each.
        label: what the picture shows, for readers who do not see it.
        name: prefix for ids, unique in the page.
    """
    if not rows:
        return None
    data = [
        {
            **row,
            "name": one_line(str(row["name"])),
            "tip": "\n".join(one_line(line) for line in str(row["tip"]).split("\n")),
            "bar": min(row["used"], MOST),
            "state": "over the limit" if row["over"] else "within",
        }
        for row in rows
    ]
    return Chart(
        draw(_bars(data, WIDE), f"{name}-w", label), draw(_bars(data, NARROW), f"{name}-n", label)
    )


def _bars(rows: list[dict[str, Any]], width: int) -> Any:
    alt = altair()
    top = max(1.15, *(row["bar"] for row in rows))
    room = 1.3 if width > NARROW else 1.75
    scale = alt.Scale(domain=[0, top * room], nice=False)
    ticks = [0, 0.5, 1] + ([2] if top >= 2 else []) + ([3] if top >= MOST else [])
    axis = alt.Axis(values=ticks, format="%", title="share of the limit")
    order = list(dict.fromkeys(row["name"] for row in rows))
    y = alt.Y(
        "name:N",
        sort=None,
        title=None,
        axis=alt.Axis(domain=False, ticks=False, labelPadding=6, labelLimit=width // 3),
        scale=alt.Scale(domain=order, paddingInner=0.3, paddingOuter=0.15),
    )
    # not by colour alone: what is over has an outline, and the number beside it says so
    states = ["within", "over the limit"]
    color = alt.Color(
        "state:N",
        scale=alt.Scale(domain=states, range=[PALETTE[0], PALETTE[1]]),
        legend=alt.Legend(symbolType="square"),
    )
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, tooltip="tip:N")
    picked = alt.selection_point(name="picked", fields=["state"], bind="legend")
    bars = base.mark_bar(strokeWidth=1.5).encode(
        x=alt.X("bar:Q", scale=scale, axis=axis),
        color=color,
        opacity=alt.condition(picked, alt.value(1), alt.value(0.15)),
        stroke=alt.condition("datum.over", alt.value(INK), alt.value("transparent")),
    )
    line = alt.Chart(alt.Data(values=[{"limit": 1}])).mark_rule(color=INK, strokeWidth=2)
    parts = [
        bars.add_params(picked),
        line.encode(x=alt.X("limit:Q", scale=scale)),
        base.mark_text(align="right", fontSize=11).encode(x=alt.value("width"), text="text:N"),
    ]
    return fitted(alt.layer(*parts), width, len(order) * 24 + 90)


def model_bars(
    rows: Sequence[Mapping[str, Any]], title: str, label: str, name: str
) -> Chart | None:
    """One figure of several models as bars.

    Args:
        rows: "name", "value" and "text" of each.
        title: what the axis counts.
        label: what the picture shows, for readers who do not see it.
        name: prefix for ids, unique in the page.
    """
    if not rows:
        return None
    data = [
        {
            "layer": one_line(str(row["name"])),
            "first": row["value"],
            "second": None,
            "text": row["text"],
            "tip": f"{one_line(str(row['name']))}\n{row['text']} {title}",
        }
        for row in rows
    ]
    return Chart(draw(costs_chart(data, title), name, label))
