"""Charts of a reproduction: published and ours on one axis, and what each idea is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.charts import padded
from reports.drawing import (
    INK,
    NARROW,
    PALETTE,
    WIDE,
    Chart,
    altair,
    draw,
    fitted,
    one_line,
)
from reports.formats import plural, signed

__all__ = ["beside_paper", "differences"]

Row = Mapping[str, Any]


def beside_paper(rows: Sequence[Row], label: str, name: str) -> Chart | None:
    """Published and own accuracy, a line a system.

    Args:
        rows: "name", "paper" (% or None), "mean" and "sd" (%), "n", "source".
        label: what the picture shows, for readers who do not see it.
        name: prefix for ids, unique in the page.
    """
    data = []
    for place, row in enumerate(rows):
        title = _title(row["name"], place, rows)
        spread = f" ± {row['sd']:.1f}" if row["n"] > 1 else ""
        ours = {
            "name": title,
            "kind": "ours",
            "accuracy": row["mean"],
            "low": row["mean"] - row["sd"],
            "high": row["mean"] + row["sd"],
            "tip": f"{title}\nours: {row['mean']:.1f}{spread} % ({plural(row['n'], 'seed')})",
        }
        data.append(ours)
        if row["paper"] is not None:
            tip = f"{title}\npublished: {row['paper']:g} %\n{one_line(row['source'])}"
            value = float(row["paper"])
            end = {"low": value, "high": value}
            data.append({"name": title, "kind": "published", "accuracy": value, **end, "tip": tip})
    if not data:
        return None
    return Chart(
        draw(_beside(data, WIDE), f"{name}-w", label),
        draw(_beside(data, NARROW), f"{name}-n", label),
    )


def _title(text: str, place: int, rows: Sequence[Row]) -> str:
    """A row's name; numbered where two rows have the same one."""
    name = one_line(text) or "(no name)"
    same = [i for i, row in enumerate(rows) if (one_line(row["name"]) or "(no name)") == name]
    return name if len(same) < 2 else f"{name} ({same.index(place) + 1})"


def _beside(rows: list[dict[str, Any]], width: int) -> Any:
    alt = altair()
    order = list(dict.fromkeys(row["name"] for row in rows))
    domain = padded([row[key] for row in rows for key in ("low", "high")])
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    x = alt.X("accuracy:Q", title="accuracy, %", scale=scale, axis=alt.Axis(tickCount=6))
    axis = alt.Axis(domain=False, ticks=False, labelPadding=6, labelLimit=width // 3, grid=True)
    y = alt.Y("name:N", sort=None, title=None, axis=axis, scale=alt.Scale(domain=order))
    kinds = ["ours", "published"]
    color = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[PALETTE[0], INK]))
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=["circle", "diamond"]))
    picked = alt.selection_point(name="picked", fields=["kind"], bind="legend")
    faded = alt.condition(picked, alt.value(1), alt.value(0.1))
    base = alt.Chart(alt.Data(values=rows)).encode(y=y)
    ours = alt.Chart(alt.Data(values=[row for row in rows if row["kind"] == "ours"]))
    parts = [
        ours.mark_rule(strokeWidth=2, color=PALETTE[0], opacity=0.6).encode(
            x=alt.X("low:Q", scale=scale), x2="high:Q", y=y
        ),
        base.mark_point(filled=True, size=90)
        .encode(x=x, color=color, shape=shape, opacity=faded, tooltip="tip:N")
        .add_params(picked),
    ]
    return fitted(alt.layer(*parts), width, len(order) * 28 + 90)


def differences(rows: Sequence[Row], label: str, name: str) -> Chart | None:
    """Differences to the full recipe with their standard errors, around a line at 0.

    Args:
        rows: "name", "about", "change" and "se" (points), "n" seeds.
        label: what the picture shows, for readers who do not see it.
        name: prefix for ids, unique in the page.
    """
    data = []
    for place, row in enumerate(rows):
        title = _title(row["name"], place, rows)
        error = f" ± {row['se']:.1f}" if row["n"] > 1 else ""
        data.append(
            {
                "name": title,
                "change": row["change"],
                "low": row["change"] - row["se"],
                "high": row["change"] + row["se"],
                "text": signed(row["change"]),
                "tip": f"{title}: {one_line(row['about'])}\n{signed(row['change'])}{error} points "
                f"({plural(row['n'], 'seed')})",
            }
        )
    if not data:
        return None
    return Chart(
        draw(_changes(data, WIDE), f"{name}-w", label),
        draw(_changes(data, NARROW), f"{name}-n", label),
    )


def _changes(rows: list[dict[str, Any]], width: int) -> Any:
    alt = altair()
    order = [row["name"] for row in rows]
    ends = [row[key] for row in rows for key in ("low", "high")] + [0.0]
    air = max(1.0, 0.15 * (max(ends) - min(ends)))
    scale = alt.Scale(domain=[min(ends) - air, max(ends) + 2 * air], nice=False)
    x = alt.X("change:Q", title="difference, points", scale=scale, axis=alt.Axis(tickCount=6))
    axis = alt.Axis(domain=False, ticks=False, labelPadding=6, labelLimit=width // 3, grid=True)
    y = alt.Y("name:N", sort=None, title=None, axis=axis, scale=alt.Scale(domain=order))
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, tooltip="tip:N")
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color=INK, strokeWidth=1.5)
    parts = [
        zero.encode(x=alt.X("zero:Q", scale=scale)),
        base.mark_rule(strokeWidth=2, color=PALETTE[0], opacity=0.6).encode(
            x=alt.X("low:Q", scale=scale), x2="high:Q"
        ),
        base.mark_point(filled=True, size=90, color=PALETTE[0], opacity=1).encode(x=x),
        base.mark_text(align="right", fontSize=11).encode(x=alt.value("width"), text="text:N"),
    ]
    return fitted(alt.layer(*parts), width, len(order) * 28 + 70)
