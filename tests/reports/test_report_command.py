"""`compressor report` and the Markdown form."""

from __future__ import annotations

import json
import statistics
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from make_audit import make_audit
from make_reproduction import make_reproduction
from make_sweep import make_sweep
from page_reader import Page

from compressor.cli.report import Format, report
from compressor.errors import UsageError
from reports import latex, markdown


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


def test_one_out_for_two_runs_is_a_page_of_both(
    run: Path, tmp_path: Path, record: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    other = tmp_path / "other"
    other.mkdir()
    (other / "results.json").write_text(json.dumps(record), encoding="utf-8")
    report([run, other], Format.html, tmp_path / "r.html", static=True)
    assert capsys.readouterr().out.strip() == str(tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert [one["name"] for one in page.record()["runs"]] == ["run", "other"]
    assert [row[0] for row in page.tables["table-runs"][1:]] == ["run", "other"]
    with pytest.raises(UsageError, match="names one file, but there are 2 runs"):
        report([run, other], Format.markdown, tmp_path / "r.md")


def test_latex_has_the_rows_of_the_tables(record: dict[str, Any]):
    text = latex.render(record)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 6
    row = next(line for line in text.splitlines() if line.startswith("0.50 & "))
    points = [p for p in record["points"] if p["prune_ratio"] == 0.5]
    mean = statistics.fmean(100 * p["after_finetune"]["accuracy"] for p in points)
    assert rf"& {mean:.1f} \(\pm\) " in row and row.endswith(r" \\")
    evil = make_sweep(ratios=(0.5,), seeds=(0,), classes=(r"\input{/etc/passwd} 50% $x_1$ #&", "b"))
    text = latex.render(evil)
    assert r"\textbackslash{}input\{/etc/passwd\} 50\% \$x\_1\$ \#\&" in text
    assert r"\input" not in text


@pytest.mark.parametrize("kind", [Format.svg, Format.png])
def test_charts_as_files(
    kind: Format, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report([run], kind, tmp_path / "charts")
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.stem for file in files][:3] == ["bytes", "macs", "curve"]
    assert len(files) == 9 and all(file.suffix == f".{kind}" for file in files)
    for file in files:
        head = file.read_bytes()[:400]
        if kind is Format.png:
            assert head.startswith(b"\x89PNG")
        else:
            assert ET.fromstring(file.read_text(encoding="utf-8")).tag.endswith("svg")
            assert b"currentColor" not in file.read_bytes()
    with pytest.raises(UsageError, match="charts are several files"):
        report([run], kind, Path("-"))


def test_static_is_small_and_only_for_pages(run: Path):
    report([run], static=True)
    text = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="runtime"' not in text and len(text) < 250_000
    with pytest.raises(UsageError, match="--static is for pages"):
        report([run], Format.markdown, static=True)


def test_records_of_other_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    audit, folder = tmp_path / "audit.json", tmp_path / "reproduced"
    audit.write_text(json.dumps(make_audit()), encoding="utf-8")
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(make_reproduction()), encoding="utf-8")
    report([audit, folder], static=True)
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert written == [tmp_path / "audit.html", folder / "report.html"]
    assert "table-limits" in written[0].read_text(encoding="utf-8")
    assert "table-paper" in written[1].read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="is the record of an audit"):
        report([audit], Format.latex)


def test_reproductions_for_a_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    record = make_reproduction()
    (tmp_path / "results.json").write_text(json.dumps(record), encoding="utf-8")
    report([tmp_path], Format.markdown)
    rows = rows_of(capsys.readouterr().out, "Beside the paper")
    report([tmp_path], Format.latex)
    text = capsys.readouterr().out
    assert text.count(r"\label{tab:paper}") == text.count(r"\label{tab:ablation}") == 1
    for row in rows:  # the same rows in both, in the marks of each
        assert " & ".join(latex.escape(cell) for cell in row) in text
    report([tmp_path], Format.svg, tmp_path / "charts")
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.name for file in files] == ["paper.svg", "ablation.svg", "confusion.svg"]
    assert all(ET.fromstring(file.read_text(encoding="utf-8")) for file in files)


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
