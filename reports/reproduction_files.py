"""A reproduction as Markdown and CSV: the same tables of the same record as its page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.files import write_text
from reports.markdown import escape, table
from reports.reproduction import facts, heading, long_rows, tables

__all__ = ["HEADINGS", "csv_text", "markdown", "write_all"]

HEADINGS = {
    "paper": "Beside the paper",
    "ablation": "The paper's ideas, one by one",
    "device": "By device",
    "class": "By class",
    "confusion": "Confusion",
}
SYNTHETIC = "SYNTHETIC data: generated sounds, not recordings."


def markdown(record: Mapping[str, Any]) -> str:
    """The whole record as Markdown (tables in the GitHub dialect).

    Raises:
        UsageError: not a record of a reproduction.
    """
    found = tables(record)
    parts = [f"# {escape(heading(record))}"]
    if record["data"]["synthetic"]:
        parts.append(f"**{SYNTHETIC}**")
    for name, content in found.items():
        parts += [f"## {HEADINGS[name]}", table(content)]
    parts.append("## What was run")
    parts.append(
        "\n".join(f"- **{escape(fact.label)}**: {escape(fact.text)}" for fact in facts(record))
    )
    return "\n\n".join(parts) + "\n"


def csv_text(record: Mapping[str, Any]) -> str:
    """One row for each line, stage and seed."""
    header, rows = long_rows(record)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([header, *rows])
    return stream.getvalue()


def write_all(record: Mapping[str, Any], folder: Path) -> Path:
    """Write `table.md`, `results.csv` and `report.html` into a run folder; returns the page."""
    from reports.reproduce_page import render  # it draws charts: only who writes a page pays

    write_text(folder / "table.md", markdown(record))
    write_text(folder / "results.csv", csv_text(record))
    return write_text(folder / "report.html", render(record))
