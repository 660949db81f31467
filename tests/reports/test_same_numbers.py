"""One record, one set of numbers: page, its JSON, results.csv, Markdown, LaTeX and the terminal."""

from __future__ import annotations

import csv
import io
import re
import statistics
from typing import Any

import pytest
from make_sweep import make_sweep
from page_reader import Page
from rich.console import Console
from test_report_command import rows_of

from compressor.cli.sweep_table import table as terminal_table
from compressor.sweep.summary import summarise, to_csv
from reports import latex, markdown
from reports.sweep_page import render

SIZES = {
    "params": "parameters",
    "nonzero_params": "non-zero",
    "bytes_float16": "bytes float16",
    "bytes_int8": "bytes int8",
    "macs": "MACs",
}
TERMINAL = ("params", "non-zero", "B fp16", "B int8", "MACs")


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    record = make_sweep(ratios=(0.5, 0.65, 0.8))
    return {**record, "summary": summarise(record["points"], 2023)}


def from_csv(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By ratio: what stands in the CSV, with means taken here."""
    rows = list(csv.DictReader(io.StringIO(to_csv(results["points"], 2023))))
    found: dict[str, dict[str, Any]] = {}
    for ratio in dict.fromkeys(row["prune_ratio"] for row in rows):
        mine = [row for row in rows if row["prune_ratio"] == ratio]
        name = "dense" if float(ratio) == 0 else f"{float(ratio):.2f}"
        found[name] = {
            key: f"{round(statistics.fmean(int(row[key]) for row in mine)):,}" for key in SIZES
        }
        after = [100 * float(row["accuracy_after"]) for row in mine]
        found[name]["after"] = f"{statistics.fmean(after):.1f} ± {statistics.stdev(after):.1f}"
        loss = [float(row["log_loss_after"]) for row in mine]
        found[name]["loss"] = f"{statistics.fmean(loss):.3f} ± {statistics.stdev(loss):.3f}"
    return found


def from_rows(rows: list[list[str]]) -> dict[str, dict[str, Any]]:
    """By ratio: what the main table of page, Markdown or LaTeX shows."""
    header, *lines = rows
    found = {}
    for line in lines:
        cells = dict(zip(header, line, strict=True))
        name = cells["ratio"].split()[0]
        found[name] = {key: cells[title] for key, title in SIZES.items()}
        found[name] |= {"after": cells["accuracy after"], "loss": cells["log loss"]}
    return found


def from_terminal(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By ratio: what the terminal shows, read from the printed lines."""
    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(terminal_table(results))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]
    header = lines[0]
    found = {}
    for line in lines[1:]:
        if len(line) != len(header):
            continue  # the rule under the header
        cells = dict(zip(header, line, strict=True))
        found[cells["ratio"]] = {
            key: cells[title] for key, title in zip(SIZES, TERMINAL, strict=True)
        }
        found[cells["ratio"]] |= {"after": cells["after %"], "loss": cells["log loss"]}
    return found


def test_every_form_says_the_same(results: dict[str, Any]) -> None:
    expected = from_csv(results)
    assert list(expected) == ["dense", "0.50", "0.65", "0.80"]
    page = Page(render(results, static=True))
    assert from_rows(page.tables["table-main"]) == expected
    assert from_rows(rows_of(markdown.render(results), "All ratios")) == expected
    assert from_terminal(results) == expected
    body = latex.render(results).partition(r"\label{tab:main}")[2].partition(r"\bottomrule")[0]
    plain = body.replace(r"\(\pm\)", "±").replace(r"\(-\)", "−").replace("--", "–")
    lines = [line.removesuffix(r" \\").split(" & ") for line in plain.splitlines() if "&" in line]
    assert from_rows(lines) == expected

    data = page.record()
    columns = data["columns"]
    inside = [{**data["constants"], **dict(zip(columns, row, strict=True))} for row in data["rows"]]
    table = {row["id"]: row for row in csv.DictReader(io.StringIO(to_csv(results["points"], 2023)))}
    assert len(inside) == len(table) == len(results["points"])
    shared = set(inside[0]) & set(next(iter(table.values())))
    assert {"params", "macs_official", "accuracy_before", "log_loss_after", "fold"} <= shared
    for row in inside:
        for key in shared:
            if isinstance(row[key], (int, float)):
                assert float(table[row["id"]][key]) == row[key], (row["id"], key)
            else:
                assert table[row["id"]][key] == ("" if row[key] is None else row[key])
