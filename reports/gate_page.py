"""A gate record as one HTML file: no script, no request, readable without styles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports import gate_words as words
from reports.gate_words import LEVEL_WORDS, STATUS_WORDS, checked, where
from reports.html import environment
from reports.tables import Table

__all__ = ["to_html"]


def to_html(record: Mapping[str, Any]) -> str:
    """Writes the page."""
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
    return (
        environment()
        .get_template("gate.html.j2")
        .render(
            title=f"compressor gate: {STATUS_WORDS[status]}",
            badge=STATUS_WORDS[status],
            status=status,
            headline=words.headline(shown),
            findings=findings,
            figures=words.check_table(shown),
            checks=checks,
            files=words.file_table(shown),
            facts=list(words.facts(shown)),
            tool=shown["tool"],
        )
        + "\n"
    )
