"""The page: its numbers are those of the record, its text is text, and it fetches nothing."""

from __future__ import annotations

import copy
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from make_sweep import make_sweep
from page_reader import Page, check_nothing_is_fetched

from reports.sweep_page import render, write

EVIL = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)> \"double\" 'single' & "
    "{{7*7}} {% x %}\nline \x1b[31m\u2028 ]]>-->"
)


def test_table_equals_the_record(page: Page, record: dict[str, Any]):
    header, *rows = page.tables["table-main"]
    assert header[0] == "ratio" and len(rows) == 8
    for row in rows:
        ratio = 0.0 if row[0] == "dense" else float(row[0].split()[0])
        points = [p for p in record["points"] if p["prune_ratio"] == ratio and p["status"] == "ok"]
        cells = dict(zip(header, row, strict=True))
        for column, key in (
            ("parameters", "params"),
            ("non-zero", "nonzero_params"),
            ("bytes float16", "bytes_float16"),
            ("bytes int8", "bytes_int8"),
            ("MACs", "macs"),
            ("official MACs", "macs_official"),
        ):
            assert cells[column] == f"{round(statistics.fmean(p[key] for p in points)):,}"
        after = [100 * p["after_finetune"]["accuracy"] for p in points]
        expected = f"{statistics.fmean(after):.1f} ± {statistics.stdev(after):.1f}"
        assert cells["accuracy after"] == expected
        loss = [p["after_finetune"]["log_loss"] for p in points]
        assert cells["log loss"] == f"{statistics.fmean(loss):.3f} ± {statistics.stdev(loss):.3f}"
        fits = {p["verdicts"][0]["status"] for p in points} == {"pass"}
        assert (cells["2023 limit"] == "fits") is fits
    assert sum("(knee)" in row[0] for row in rows) == 1


def test_every_run_stands_in_the_table_of_runs(page: Page, record: dict[str, Any]):
    header, *rows = page.tables["table-runs"]
    assert [row[0] for row in rows] == [point["id"] for point in record["points"]]
    for row, point in zip(rows, record["points"], strict=True):
        cells = dict(zip(header, row, strict=True))
        after = point.get("after_finetune")
        shown = f"{100 * after['accuracy']:.2f}" if after else "–"
        assert cells["accuracy after"] == shown and cells["status"] == point["status"]


def test_the_data_inside_is_the_record(page: Page, record: dict[str, Any]):
    data = page.record()
    assert data["run"] == record["run"]
    rows = [
        {**data["constants"], **dict(zip(data["columns"], r, strict=True))} for r in data["rows"]
    ]
    assert len(rows) == len(record["points"])
    for mine, theirs in zip(rows, record["points"], strict=True):
        for key in ("id", "status", "params", "macs_official", "fold", "seed", "prune_ratio"):
            assert mine.get(key) == theirs.get(key)
        for part, key in (("before", "before_finetune"), ("after", "after_finetune")):
            for name in ("accuracy", "log_loss"):
                # every digit: the page, the CSV and results.json are the same numbers
                assert mine[f"{name}_{part}"] == (theirs.get(key) or {}).get(name)
    level = next(one for one in data["levels"] if one["name"] == "0.60")
    points = [p for p in record["points"] if p["prune_ratio"] == 0.6]
    shares = [p["after_finetune"]["accuracy"] for p in points]
    assert level["accuracy_after"]["mean"] == pytest.approx(statistics.fmean(shares))
    tram = [p["after_finetune"]["class_accuracy"]["tram"] for p in points]
    found = level["class_accuracy"][data["classes"].index("tram")]
    assert found[0] == pytest.approx(statistics.fmean(tram), abs=1e-6)


def test_devices_are_marked_and_averaged(page: Page, record: dict[str, Any]):
    rows = {row[0]: row[1:] for row in page.tables["table-devices"]}
    assert {"a (seen)", "s6 (unseen)"} <= set(rows)
    dense = [
        p["after_finetune"]["device_accuracy"] for p in record["points"] if not p["prune_ratio"]
    ]
    unseen = statistics.fmean(100 * d[name] for d in dense for name in ("s4", "s5", "s6"))
    assert rows["mean of unseen devices"][0] == f"{unseen:.1f}"


def test_failed_runs_show_their_last_lines(page: Page):
    assert "f1-s0-slimming-0.75" in page.text("h3")
    assert "MemoryError: worker 3 was killed after 3 tries" in page.text("pre")
    assert "1 of 24 runs failed" in page.text("dd")


def test_verdict_comes_first_and_synthetic_is_said_everywhere(page: Page):
    assert page.elements.index(("h2", {"id": "verdict-title"})) < [
        tag for tag, _ in page.elements
    ].index("svg")
    assert "synthetic" in page.text("title").lower()
    assert "synthetic" in page.text("h1").lower()
    assert "SYNTHETIC" in page.text("dd")
    captions = page.text("figcaption").split("Data:")[1:]
    assert len(captions) == 9
    assert all("synthetic data, split: official fold 1; 1 fold, 3 seeds" in c for c in captions)


def test_synthetic_data_with_a_harmless_title_is_still_named():
    page = Page(render(make_sweep(ratios=(0.5,), seeds=(0,), title="scenes")))
    assert page.text("h1") == "seresnet18 pruned on scenes (synthetic data)"
    assert page.text("title") == page.text("h1")


def test_recordings_are_not_called_synthetic():
    page = Page(render(make_sweep(ratios=(0.5,), seeds=(0,), synthetic=False, title="ESC-50")))
    for tag in ("title", "h1", "h2", "p", "dd", "figcaption"):
        assert "synthetic" not in page.text(tag).lower(), tag


def test_nothing_is_fetched(page: Page, page_text: str):
    check_nothing_is_fetched(page)
    specs = [text for found, text in page.scripts if found.get("type") == "application/json"]
    plain = page_text
    for text in specs:  # a Vega specification names the address of its own schema, as a name
        plain = plain.replace(text, "")
    # the namespace of SVG, for files that are saved: a name, nothing is fetched
    plain = plain.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in plain and "https:" not in plain
    assert page.unclosed == []


def test_charts_need_no_styles_and_ids_are_unique(page: Page):
    ids = [value for _, value in page.attributes("id")]
    assert len(ids) == len(set(ids))
    pictures = [found for tag, found in page.elements if tag == "svg"]
    assert len(pictures) == 9 + 3  # the wide ones are drawn again for a phone
    for found in pictures:
        assert found["role"] == "img" and found["aria-label"]
        assert found["viewbox"] and float(found["width"] or 0) <= 1040
    narrow = [f for f in pictures if float(f["width"] or 0) <= 344]
    assert len(narrow) == 3


def test_each_chart_has_a_table(page: Page):
    assert set(page.tables) == {
        *("table-budget", "table-curve", "table-main", "table-kept", "table-devices"),
        *("table-classes", "table-runs", "table-settings", "table-costs"),
        *("table-pairs", "table-confusion"),
    }
    labelled = {value for tag, value in page.attributes("aria-labelledby") if tag == "table"}
    assert labelled == {f"{name}-caption" for name in page.tables}
    assert labelled <= {value for _, value in page.attributes("id")}
    scopes = [value for tag, value in page.attributes("scope") if tag == "th"]
    assert len(scopes) == sum(len(rows[0]) for rows in page.tables.values())


def test_curve_chart_names_dense_knee_and_what_fits(page: Page, record: dict[str, Any]):
    text = page.text("svg")
    dense = [p["after_finetune"]["accuracy"] for p in record["points"] if p["method"] == "dense"]
    for words in (f"{100 * statistics.fmean(dense):.1f} %", "knee 0.65", "limit 128,000 B"):
        assert words in text
    assert "0.65fits" in text and "0.60over" in text
    assert "Knee at ratio 0.65" in page.text("figcaption")


def test_ink_follows_the_page(page_text: str):
    for picture in re.findall(r"<svg.*?</svg>", page_text, re.S):
        colors = set(re.findall(r'(?:fill|stroke)="([^"]+)"', picture))
        assert "currentColor" in colors
        assert not colors & {"black", "white", "#000", "#fff", "#000000", "#010101", "#888", "#ddd"}


def test_hostile_names_come_out_as_text():
    record = make_sweep(
        ratios=(0.5, 0.6, 0.7),
        seeds=(0,),
        title=EVIL,
        classes=(EVIL, "b"),
        seen=(EVIL,),
        unseen=("<b>u</b>",),
        methods=(EVIL, "two"),
        fail=(f"f1-s0-{EVIL}-0.60",),
    )
    record["run"] |= {"split": EVIL, "command": ["compressor", EVIL], "versions": {EVIL: EVIL}}
    for point in record["points"]:
        point["model"] = EVIL
        point["error"] = EVIL
        if point["status"] == "ok" and point["method"] != "dense":
            point["kept_channels"] = {EVIL: [1, 2], **point["kept_channels"]}
            point["verdicts"][0]["checks"][0] |= {"name": EVIL, "note": EVIL, "unit": "B"}
    text = render(record)
    page = Page(text)
    check_nothing_is_fetched(page)
    assert page.unclosed == []
    assert page.record()["run"]["title"] == EVIL
    # the same, but for control characters, which no page may hold
    shown = " ".join(EVIL.replace("\x1b", "\ufffd").split())
    assert shown in page.text("h1") and shown in page.text("pre")
    assert "\x1b" not in text


def test_numbers_that_json_has_not_become_null():
    record = make_sweep(ratios=(0.5,), seeds=(0,))
    record["points"][-1]["after_finetune"]["log_loss"] = float("nan")
    page = Page(render(record))
    data = page.record()
    assert data["rows"][-1][data["columns"].index("log_loss_after")] is None
    header, *_, last = page.tables["table-main"]
    assert last[header.index("log loss")] == "–"


@pytest.mark.parametrize(
    "options",
    [
        {"ratios": (0.5,), "seeds": (0,)},
        {"ratios": (0.5, 0.6), "seeds": (0,), "folds": (1, 2), "seen": (), "unseen": ()},
        {"ratios": (0.5, 0.6), "seeds": (0,), "classes": tuple(f"c{i}" for i in range(50))},
        {"ratios": (0.5,), "seeds": (0,), "fail": ("f1-s0-slimming-0.50",)},
        {"ratios": (0.5,), "seeds": (0,), "verdicts": False, "budget": {}},
        {"ratios": (0.5, 0.525, 0.6), "seeds": (0,), "methods": ("slimming", "magnitude")},
    ],
)
def test_other_shapes_of_runs(options: dict[str, Any]):
    page = Page(render(make_sweep(**options)))
    check_nothing_is_fetched(page)
    assert page.unclosed == []
    assert ("table-devices" in page.tables) is (options.get("seen") != ())
    if options.get("classes"):
        assert len(page.tables["table-classes"]) == 51


def test_sparse_records(record: dict[str, Any]):
    """What an older or stopped run may lack: nothing of it may break the page."""
    sparse = copy.deepcopy(record)
    sparse["run"] = {}
    for point in sparse["points"]:
        for key in ("kept_channels", "verdicts", "provenance", "macs_official", "seconds", "dense"):
            point.pop(key, None)
        point["before_finetune"] = None
    page = Page(render(sparse))
    assert "unnamed data set" in page.text("h1")
    sparse["points"] = []
    assert "No run finished" in Page(render(sparse)).text("h2")


def test_write_is_whole_and_makes_folders(tmp_path: Path, record: dict[str, Any], page_text: str):
    path = tmp_path / "new" / "report.html"
    assert write(record, path) == path
    assert path.read_text(encoding="utf-8") == page_text
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_page_of_a_lone_surrogate_can_be_written(tmp_path: Path):
    record = make_sweep(ratios=(0.5,), seeds=(0,), title="caf\udce9")
    assert write(record, tmp_path / "r.html").stat().st_size > 10_000
