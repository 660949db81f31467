"""`compressor report` and the Markdown form."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from make_sweep import make_sweep

from compressor.cli.report import Format, report
from compressor.errors import UsageError
from reports import markdown


@pytest.fixture
def run(tmp_path: Path, record: dict[str, Any]) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def rows_of(text: str, heading: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    part = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [rows[0], *rows[2:]]


def test_markdown_equals_the_record(record: dict[str, Any]):
    text = markdown.render(record)
    header, *rows = rows_of(text, "All ratios")
    assert len(rows) == 8
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        ratio = 0.0 if row[0] == "dense" else float(row[0].split()[0])
        points = [p for p in record["points"] if p["prune_ratio"] == ratio and p["status"] == "ok"]
        mean = statistics.fmean(100 * p["after_finetune"]["accuracy"] for p in points)
        assert cells["accuracy after"].startswith(f"{mean:.1f} ± ")
        params = round(statistics.fmean(p["params"] for p in points))
        assert cells["parameters"] == f"{params:,}"
    assert "SYNTHETIC" in text.splitlines()[2]
    assert "MemoryError" in text


def test_markdown_escapes_names():
    evil = "a|b *c* <i>d</i> `e` [f](g)\nh"
    record = make_sweep(ratios=(0.5,), seeds=(0,), title=evil, classes=(evil, "x"))
    text = markdown.render(record)
    assert r"a\|b \*c\* \<i\>d\</i\> \`e\` \[f\](g) h" in text
    assert len(rows_of(text, "By class")) == 3
    assert "<i>" not in text


def test_a_page_is_built_into_the_run_folder(run: Path, capsys: pytest.CaptureFixture[str]):
    report([run])
    out = capsys.readouterr().out
    assert out.strip() == str(run / "report.html")
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_markdown_goes_to_standard_output(
    run: Path, record: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    report([run / "results.json"], Format.markdown)
    assert capsys.readouterr().out == markdown.render(record)
    assert not (run / "report.md").exists()


def test_out_names_the_file(run: Path, tmp_path: Path, record: dict[str, Any]):
    report([run], Format.markdown, tmp_path / "docs" / "r.md")
    assert (tmp_path / "docs" / "r.md").read_text(encoding="utf-8") == markdown.render(record)


def test_one_out_for_two_runs_is_refused(run: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="names one file, but there are 2 runs"):
        report([run, run], Format.html, tmp_path / "r.html")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), ("{", "is not JSON"), ("[]", "expected an object"), ("{}", "schema")],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: str | None, words: str):
    if content is not None:
        (tmp_path / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=words) as caught:
        report([tmp_path])
    assert "results.json" in str(caught.value)
