"""The confusion matrix of the network a page looks at closely, and its worst pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.drawing import NARROW, PALETTE, Chart, altair, draw, fitted, one_line
from reports.formats import NONE, percent_value
from reports.tables import Table

__all__ = ["confusion_chart", "confusion_pairs", "confusion_table"]

Counts = Sequence[Sequence[int]]

MOST_CLASSES = 20  # more make a picture nobody can read; the worst pairs stand for it


def confusion_chart(counts: Counts, classes: Sequence[str], label: str, name: str) -> Chart | None:
    """Share of each true class (row) that was taken for each class (column).

    Args:
        counts: row = true class, column = said class.
        classes: names in the order of the counts.
        label: what the picture shows, for readers who do not see it.
        name: prefix for ids, unique in the page.
    """
    if not counts or len(classes) > MOST_CLASSES:
        return None
    shown = [one_line(name) for name in classes]
    if len(set(shown)) < len(shown):
        return None  # names that differ in what a label cannot show would share a row
    rows = [
        {
            "true": shown[i],
            "said": shown[j],
            "share": value / sum(row),
            "text": percent_value(value / sum(row), 0) if value else "",
            "tip": f"true: {shown[i]}\nsaid: {shown[j]}\n{value:,} of {sum(row):,} "
            f"({percent_value(value / sum(row))} %)",
        }
        for i, row in enumerate(counts)
        for j, value in enumerate(row)
        if value
    ]
    if not rows:
        return None
    return Chart(
        draw(_chart(rows, shown, 660), f"{name}-w", label),
        draw(_chart(rows, shown, NARROW), f"{name}-n", label),
    )


def _chart(rows: list[dict[str, Any]], classes: list[str], width: int) -> Any:
    alt = altair()
    limit = 150 if width > NARROW else 84
    scale = alt.Scale(domain=classes, paddingInner=0.04)
    x = alt.X(
        "said:N",
        sort=None,
        title="said",
        axis=alt.Axis(orient="top", labelAngle=-45, labelLimit=limit, domain=False, ticks=False),
        scale=scale,
    )
    axis = alt.Axis(labelLimit=limit, domain=False, ticks=False)
    y = alt.Y("true:N", sort=None, title="true", axis=axis, scale=scale)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y)
    tint = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 0.6]), legend=None)
    chart = alt.layer(
        base.mark_rect(color=PALETTE[0]).encode(opacity=tint, tooltip="tip:N"),
        base.mark_text(fontSize=11 if width > NARROW else 9).encode(text="text:N"),
    )
    cell = 34 if width > NARROW else 22
    return fitted(chart, width, len(classes) * cell + limit)


def confusion_table(counts: Counts, classes: Sequence[str], what: str) -> Table | None:
    """Counts, row = true class; tinted by the share of the row."""
    if not counts or len(classes) > MOST_CLASSES:
        return None
    return Table(
        caption=f"Clips by true class (row) and said class (column), {what}.",
        columns=("true \\ said", *classes),
        rows=tuple(
            (name, *(f"{value:,}" for value in row))
            for name, row in zip(classes, counts, strict=True)
        ),
        shades=tuple(
            (None, *(min(9, int(10 * value / (sum(row) or 1))) for value in row)) for row in counts
        ),
    )


def confusion_pairs(
    counts: Counts, classes: Sequence[str], what: str, most: int = 10
) -> Table | None:
    """The pairs of classes that are taken for each other most often."""
    pairs = sorted(
        (
            (value, classes[i], classes[j], sum(row))
            for i, row in enumerate(counts)
            for j, value in enumerate(row)
            if i != j and value
        ),
        key=lambda pair: -pair[0],
    )[:most]
    if not pairs:
        return None
    return Table(
        caption=f"What is mistaken most often, {what}.",
        columns=("true class", "said to be", "clips", "of", "share of the class, %"),
        rows=tuple(
            (
                true,
                said,
                f"{value:,}",
                f"{total:,}",
                percent_value(value / total) if total else NONE,
            )
            for value, true, said, total in pairs
        ),
        texts=frozenset({0, 1}),
        what="mistaken classes",
    )
