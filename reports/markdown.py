"""The same record as Markdown: verdict, tables and provenance, for docs and pull requests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reports.notes import counting, last_lines, provenance
from reports.summary import summarise
from reports.sweep_page import BADGES, title_of
from reports.tables import Table, sweep_tables
from reports.verdict import Fact, verdict
from reports.ways import ways_table

__all__ = ["render", "table"]

SECTIONS = {
    "ways": "Every method and number type",
    "main": "All ratios",
    "curve": "Prune ratio against accuracy",
    "budget": "Against the limit",
    "devices": "By device",
    "classes": "By class",
    "kept": "Channels kept of each layer",
}

# what Markdown or the HTML in it would read as markup; a dot or dash inside a line is harmless
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~$])")
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def render(results: Mapping[str, Any]) -> str:
    """Write a sweep record as Markdown (tables in the GitHub dialect).

    Args:
        results: content of `results.json`.

    Raises:
        UsageError: the record has not the shape the reports read.
    """
    summary = summarise(results)
    words = verdict(summary)
    parts = [f"# {escape(title_of(summary))}"]
    if summary.data.synthetic:
        parts.append("**SYNTHETIC data: generated sounds, not recordings.**")
    parts += [f"**{BADGES[words.status]}: {escape(words.headline)}**", _facts(words.facts)]
    tables = {**sweep_tables(summary), "ways": ways_table(summary)}
    for name, heading in SECTIONS.items():
        found = tables[name]
        if found:
            parts += [f"## {heading}", table(found)]
    if summary.failed:
        parts.append("## Failed runs")
        for point in summary.failed:
            parts += [f"### {escape(str(point.get('id')))}", _code(last_lines(point.get("error")))]
    parts += ["## How things were counted", _facts(counting(summary))]
    parts += ["## Provenance", _facts(provenance(summary))]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _MARKUP.sub(r"\\\1", _BREAKS.sub(" ", text)).strip()


def table(content: Table) -> str:
    """A table with its caption above it."""
    lines = [_row(content.columns)]
    marks = ["---" if i in content.texts else "---:" for i in range(len(content.columns))]
    lines.append("| " + " | ".join(marks) + " |")
    lines += [_row(row) for row in content.rows]
    return escape(content.caption) + "\n\n" + "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def _facts(facts: Sequence[Fact]) -> str:
    return "\n".join(f"- **{escape(fact.label)}**: {escape(fact.text)}" for fact in facts)


def _code(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
