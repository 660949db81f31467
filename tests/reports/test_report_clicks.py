"""What the page does: links, sorting, filters, copies, downloads, tooltips, legend filters."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from make_audit import make_audit, make_file, make_gate
from make_reproduction import make_reproduction
from make_sweep import make_sweep
from page_reader import Page, check_nothing_is_fetched
from test_report_browser import Tab

from reports.audit_page import render as render_audit
from reports.compare_page import render_models, render_runs
from reports.gate_page import to_html
from reports.reproduce_page import render as render_reproduction
from reports.sweep_page import render


def saved(tab: Tab, button: Any) -> bytes:
    """What a button puts into the downloads."""
    with tab.page.expect_download(timeout=60_000) as waiting:
        button.click()
    return Path(waiting.value.path()).read_bytes()


def test_links_lead_to_sections_and_rows(browser: Any, pages: dict[str, Path]):
    address = pages["sweep"].as_uri()
    with Tab(browser, address) as tab:
        tab.page.locator("#devices a.link").click()
        assert tab.page.url == f"{address}#devices"
        top = "document.getElementById('devices').getBoundingClientRect().top"
        assert abs(tab.page.evaluate(top)) < 900
    # a sorting and a filter are an address, too, and open the fold they are in
    with Tab(browser, f"{address}#table-runs?filter=s1-slimming-0.6&sort=-5") as tab:
        shown = tab.page.locator("#table-runs tbody tr:visible")
        names = [text.split("\t")[0] for text in shown.all_inner_texts()]
        assert names == ["f1-s1-slimming-0.60", "f1-s1-slimming-0.65"]
        assert tab.page.locator("#table-runs th[aria-sort]").get_attribute("aria-sort") == (
            "descending"
        )


def test_sorting_and_filtering(browser: Any, pages: dict[str, Path], record: dict[str, Any]):
    with Tab(browser, pages["sweep"].as_uri()) as tab:
        tab.page.locator("summary", has_text="runs, one line each").click()
        table = tab.page.locator("#table-runs")
        button = table.get_by_role("button", name="Sort by parameters")
        button.click()
        column = [cell.inner_text() for cell in table.locator("thead th").all()].index(
            button.inner_text()
        )
        cells = table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
        numbers = [int(cell.replace(",", "")) for cell in cells if cell != "–"]
        assert numbers == sorted(numbers) and len(numbers) == 23
        assert cells[-1] == "–"  # what failed has no figure: always last
        button.click()
        cells = table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
        numbers = [int(cell.replace(",", "")) for cell in cells if cell != "–"]
        assert numbers == sorted(numbers, reverse=True)
        tab.page.get_by_role("searchbox", name="Filter: all runs").fill("failed")
        rows = table.locator("tbody tr:visible").all_inner_texts()
        failed = [point["id"] for point in record["points"] if point["status"] == "failed"]
        assert [row.split("\t")[0] for row in rows] == failed
        assert "filter=failed" in tab.page.url


def test_copy_and_downloads(browser: Any, pages: dict[str, Path], record: dict[str, Any]):
    with Tab(
        browser, pages["sweep"].as_uri(), permissions=["clipboard-read", "clipboard-write"]
    ) as tab:
        inside = tab.page.evaluate("JSON.parse(document.getElementById('record').text)")
        tab.page.get_by_role("button", name="Copy the data of this page as JSON").click()
        tab.page.locator(".said", has_text="clipboard").wait_for()
        assert json.loads(tab.page.evaluate("navigator.clipboard.readText()")) == inside
        role = tab.page.get_by_role
        text = saved(tab, role("button", name="Download the data of this page as JSON"))
        assert json.loads(text) == inside
        text = saved(tab, role("button", name="Download every run as CSV, with all digits"))
        rows = list(csv.DictReader(io.StringIO(text.decode())))
        assert [row["id"] for row in rows] == [point["id"] for point in record["points"]]
        for row, point in zip(rows, record["points"], strict=True):
            after = point.get("after_finetune")
            assert row["accuracy_after"] == ("" if after is None else repr(after["accuracy"]))
        text = saved(tab, role("button", name="Download as CSV: devices"))
        header, *rest = csv.reader(io.StringIO(text.decode()))
        assert header[:2] == ["device", "dense"] and rest[0][0] == "a (seen)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_as_files(browser: Any, pages: dict[str, Path], scheme: str):
    with Tab(browser, pages["sweep"].as_uri(), color_scheme=scheme) as tab:
        figures = tab.page.locator("figure")
        assert figures.count() == 9
        for index, figure in enumerate(figures.all()):
            name = figure.get_attribute("id")
            svg = saved(tab, tab.page.get_by_role("button", name=f"Download as SVG: {name}"))
            root = ET.fromstring(svg)
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert b"currentColor" not in svg and float(root.get("width", 0)) > 300
            if index == 2:
                label = f"Download as PNG: {name}"
                image = saved(tab, tab.page.get_by_role("button", name=label))
                assert image[:8] == b"\x89PNG\r\n\x1a\n"
                width = int.from_bytes(image[16:20], "big")
                assert width == 2 * float(root.get("width", 0))
        assert tab.messages == []


def test_tooltips_and_legend_filters(browser: Any, pages: dict[str, Path]):
    with Tab(browser, pages["sweep"].as_uri()) as tab:
        curve = tab.page.locator("#fig-curve .wide svg.live")
        points = curve.locator("g.mark-symbol.role-mark path")
        points.first.hover()
        tip = tab.page.locator("#tip")
        tip.wait_for(state="visible")
        assert tip.inner_text().startswith("slimming 0.50, after fine-tuning\n")
        opacity = "ps => ps.map(p => Number(p.getAttribute('opacity') ?? 1))"
        assert set(points.evaluate_all(opacity)) == {1}
        curve.locator(".role-legend-label text", has_text="before fine-tuning").click()
        tab.page.wait_for_function(
            'document.querySelectorAll("#fig-curve .wide g.mark-symbol.role-mark path'
            "[opacity='0.12']\").length === 7"
        )
        # the bare wheel scrolls the page; with the shift key it zooms
        axis = "svg => svg.querySelector('g.mark-line.role-mark path').getAttribute('d')"
        before = curve.evaluate(axis)
        points.first.hover()
        tab.page.mouse.wheel(0, 120)
        assert curve.evaluate(axis) == before
        points.first.hover()
        tab.page.keyboard.down("Shift")
        tab.page.mouse.wheel(0, -240)
        tab.page.keyboard.up("Shift")
        tab.page.wait_for_function(
            "before => document.querySelector('#fig-curve .wide g.mark-line.role-mark path')"
            ".getAttribute('d') !== before",
            arg=before,
        )


EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\"'`${1}\n{{7*7}} \u202e=1+1"


def evil_pages() -> dict[str, str]:
    sweep = make_sweep(
        ratios=(0.5, 0.6), seeds=(0,), title=EVIL, classes=(EVIL, "b"), methods=(EVIL, "l1")
    )
    for point in sweep["points"]:
        point["model"] = EVIL
        if "layers" in point:
            point["layers"] = {EVIL: [10, 20], **point["layers"]}
    file = make_file(EVIL)
    file["audit"]["layers"][0] |= {"name": EVIL, "kind": EVIL}
    file["audit"]["notes"] = file["audit"]["uncounted"] = [EVIL]
    file["verdicts"][0]["checks"][0] |= {"name": EVIL, "note": EVIL}
    paper = make_reproduction(title=EVIL, name=EVIL)
    paper["data"]["classes"] = [EVIL, "bus", "park"]
    return {
        "sweep": render(sweep),
        "audit": render_audit(make_audit(file)),
        "models": render_models(make_audit(file, make_file())),
        "runs": render_runs([(EVIL, sweep), ("b", sweep)]),
        "gate": to_html(make_gate(EVIL)),
        "reproduce": render_reproduction(paper),
    }


def test_hostile_names_come_out_as_text(browser: Any, tmp_path: Path):
    for kind, text in evil_pages().items():
        page = Page(text)
        check_nothing_is_fetched(page)
        assert page.unclosed == []
        file = tmp_path / f"{kind}.html"
        file.write_text(text, encoding="utf-8")
        with Tab(browser, file.as_uri()) as tab:
            assert tab.messages == [] and tab.requests == [file.as_uri()]
            assert tab.page.evaluate("document.images.length") == 0
            shown = tab.page.locator("main").inner_text()
            assert "<img src=x onerror=alert(1)></script>" in shown and "{{7*7}}" in shown
            if kind == "sweep":
                tab.page.locator("#fig-curve .wide g.mark-symbol.role-mark path").first.hover()
                tip = tab.page.locator("#tip")
                tip.wait_for(state="visible")
                assert "<img src=x" in tip.inner_text()
                table = saved(tab, tab.page.get_by_role("button", name="Download as CSV: classes"))
                assert b'\n"<img' in table  # quoted: one cell
                assert tab.messages == []
