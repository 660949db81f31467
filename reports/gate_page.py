"""A gate record as one HTML file: no request, readable without scripts and styles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from reports import gate_words as words
from reports.drawing import Chart
from reports.figures import Figure
from reports.formats import used
from reports.gate_words import LEVEL_WORDS, STATUS_WORDS, checked, where
from reports.html import page
from reports.tables import Table

__all__ = ["to_html"]


_TASK = re.compile(r"^DCASE (\d{4}) Task \w+: ")
CAPTION = "Share of each limit that is used; the line is the limit."


def to_html(record: Mapping[str, Any], *, static: bool = False) -> str:
    """Writes the page.

    Args:
        record: of the gate.
        static: leave out what makes the charts answer to the pointer.

    Raises:
        UsageError: not a gate record.
    """
    shown = checked(record)
    findings = [
        {
            **finding,
            "where": where(finding),
            "level_word": LEVEL_WORDS[finding["status"]],
        }
        for finding in shown["findings"]
    ]
    checks = Table(
        "Every check that was made.",
        ("check", "of", "result"),
        tuple(
            (f"{check['id']}: {check['name']}", check["subject"], LEVEL_WORDS[check["status"]])
            for check in shown["checks"]
        ),
        frozenset({0, 1, 2}),
    )
    status = shown["status"]
    bars = _bars(shown)
    static = static or bars is None  # nothing to bring to life
    return page(
        "gate.html.j2",
        static=static,
        data=shown,
        title=f"compressor gate: {STATUS_WORDS[status]}",
        name="gate",
        badge=STATUS_WORDS[status],
        status=status,
        headline=words.headline(shown),
        findings=findings,
        limits=Figure(bars, CAPTION, static) if bars else None,
        figures=words.check_table(shown),
        checks=checks,
        files=words.file_table(shown),
        facts=list(words.facts(shown)),
        tool=shown["tool"],
    )


def _bars(record: Mapping[str, Any]) -> Chart | None:
    """The chart of the limits; none in an installation without the drawing libraries."""
    if find_spec("altair") is None or find_spec("vl_convert") is None:
        return None  # the gate's minimal installation; the table has the same figures
    from reports.limit_charts import limit_bars

    return limit_bars(_limits(record), CAPTION, "limits")


def _limits(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bars of the checks that hold a figure against a largest value."""
    rows = []
    compared = [
        check
        for check in record["checks"]
        if check["id"].startswith(("limit-", "own-"))
        and all(isinstance(check[key], (int, float)) for key in ("value", "limit"))
        and check["limit"]
    ]
    several = len({check["subject"] for check in compared}) > 1
    for check in compared:
        value, limit = check["value"], check["limit"]
        # names of a year's limits begin alike: what tells them apart must not be cut off
        name = _TASK.sub(r"\1 ", check["name"])
        name = f"{name} of {check['subject']}" if several else name
        rows.append(
            {
                "name": name,
                "used": value / limit,
                "over": value > limit,
                "text": used(value / limit),
                "tip": f"{name}\n{words.number(value)} of {words.number(limit)} {check['unit']}",
            }
        )
    return rows
