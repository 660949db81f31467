"""Layer by layer: what was kept, and where parameters and multiply-accumulates sit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.charts import SI_LABEL, round_ticks
from reports.drawing import INK, NARROW, PAIR, PALETTE, WIDE, Chart, altair, draw, fitted, one_line
from reports.formats import count, percent_value
from reports.summary import Level, Series

__all__ = ["CostRow", "costs_chart", "layer_costs", "layers", "level_costs"]

CostRow = tuple[str, float, float | None]
"""Layer, its figure in the one network, and in the other (None: there is no other)."""


def layers(series: Series, label: str, name: str = "layers") -> Chart | None:
    """Share of channels kept, layer by ratio: the stronger the tint, the more is left."""
    rows = [
        {
            "layer": one_line(layer),
            "ratio": level.name,
            "share": kept / total,
            "text": percent_value(kept / total, 0),
            "tip": f"{one_line(layer)}\n{level.words}: {kept:g} of {total:,} channels",
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
        base.mark_rect(color=PALETTE[0]).encode(opacity=tint, tooltip="tip:N"),
        base.mark_text(fontSize=11 if width > NARROW else 10).encode(text="text:N"),
    )
    # few columns: cells stay cells, not bands across the page
    return fitted(chart, min(width, 180 + 110 * len(columns)), len(order) * 20 + 50)


def level_costs(dense: Level | None, level: Level) -> Mapping[str, list[CostRow]]:
    """Parameters and MACs by layer of the dense network and of a pruned one."""
    base = dense.layers if dense else {}
    names = list(dict.fromkeys([*base, *level.layers]))
    return {
        kind: [
            (
                name,
                base.get(name, (0.0, 0.0))[at] if base else level.layers.get(name, (0.0, 0.0))[at],
                level.layers.get(name, (0.0, 0.0))[at] if base else None,
            )
            for name in names
        ]
        for at, kind in enumerate(("params", "macs"))
        if level.layers
    }


MOST_LAYERS = 40


def layer_costs(
    rows: Sequence[CostRow],
    kind: str,
    names: tuple[str, str],
    label: str,
    name: str,
) -> Chart | None:
    """Where a figure sits: a bar a layer, of one network or of two (the second inside the first).

    Args:
        rows: of the layers in their order; those without the figure are left out, and of more than
            40 the smallest stand together in a last bar.
        kind: "params", "macs" or "bytes".
        names: what the two networks are called.
        label: what the picture shows, for readers who do not see it.
        name: prefix for ids, unique in the page.
    """
    found = _largest([row for row in rows if row[1] or row[2]])
    if not found:
        return None
    total = sum(row[1] for row in found) or 1.0
    words = {"params": "parameters", "macs": "MACs", "bytes": "bytes"}[kind]
    data = []
    for layer, first, second in found:
        shown = one_line(layer) or "(whole network)"
        tip = f"{shown}\n{names[0]}: {count(first)} {words} ({percent_value(first / total)} %)"
        if second is not None:
            tip += f"\n{names[1]}: {count(second)} {words}"
        data.append(
            {
                "layer": shown,
                "first": first,
                "second": second,
                "text": count(first if second is None else second),
                "tip": tip,
            }
        )
    return Chart(draw(costs_chart(data, words), name, label))


def _largest(rows: list[CostRow]) -> list[CostRow]:
    if len(rows) <= MOST_LAYERS:
        return rows
    least = sorted(row[1] for row in rows)[len(rows) - MOST_LAYERS]
    kept = [row for row in rows if row[1] > least][:MOST_LAYERS]
    rest = [row for row in rows if row not in kept]
    second = None if rest[0][2] is None else sum(row[2] or 0.0 for row in rest)
    return [*kept, (f"{len(rest)} smaller layers", sum(row[1] for row in rest), second)]


def costs_chart(rows: list[dict[str, Any]], title: str) -> Any:
    """Bars a layer: "first" (of two networks an outline) and, inside it, "second"."""
    alt = altair()
    top = max(max(row["first"], row["second"] or 0.0) for row in rows)
    scale = alt.Scale(domain=[0, top * 1.28], nice=False)
    axis = alt.Axis(values=round_ticks(top), labelExpr=SI_LABEL, title=title)
    order = list(dict.fromkeys(row["layer"] for row in rows))
    y = alt.Y(
        "layer:N",
        sort=None,
        title=None,
        axis=alt.Axis(domain=False, ticks=False, labelPadding=6, labelLimit=PAIR // 3),
        scale=alt.Scale(domain=order, paddingInner=0.2, paddingOuter=0.1),
    )
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, tooltip="tip:N")
    two = any(row["second"] is not None for row in rows)
    x = alt.X("first:Q", scale=scale, axis=axis)
    outer: dict[str, Any] = (
        {"color": PALETTE[0]}
        if not two
        else {"color": PALETTE[0], "fillOpacity": 0.15, "stroke": INK, "strokeOpacity": 0.45}
    )
    parts = [base.mark_bar(**outer).encode(x=x)]
    if two:
        parts.append(base.mark_bar(color=PALETTE[0]).encode(x=alt.X("second:Q", scale=scale)))
    parts.append(
        base.mark_text(align="right", fontSize=11).encode(x=alt.value("width"), text="text:N")
    )
    return fitted(alt.layer(*parts), PAIR, len(order) * 18 + 60)
