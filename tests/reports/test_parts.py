"""Parts of pages against hand arithmetic: fronts, layers, confusion, limits, comparisons."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from make_audit import make_audit, make_file, make_gate
from make_reproduction import make_reproduction
from make_sweep import make_sweep
from page_reader import Page, check_nothing_is_fetched
from typer.testing import CliRunner

from compressor.cli.main import app
from compressor.errors import UsageError
from reports.audit_page import render as render_audit
from reports.audit_words import headline
from reports.compare_page import render_models, render_runs
from reports.confusion import confusion_pairs, confusion_table
from reports.drawing import altair, draw
from reports.formats import change, headroom, used, year_ranges
from reports.gate_page import to_html
from reports.html import runtime
from reports.layer_charts import level_costs
from reports.pareto import front_words, pareto
from reports.reproduce_page import render as render_reproduction
from reports.summary import summarise
from reports.sweep_page import render

ROOT = Path(__file__).resolve().parents[2]


def test_pareto_by_hand():
    # 10 B with 0.5; 20 B with 0.4 is larger and worse; 30 B with 0.5 no better than 10 B; 40 B: 0.9
    assert pareto([(30, 0.5), (10, 0.5), (40, 0.9), (20, 0.4)]) == [1, 2]
    assert pareto([(10, 0.5), (10, 0.6)]) == [1]
    assert pareto([(10, 0.6), (10, 0.6)]) == [0]
    assert pareto([]) == []


def test_the_front_of_a_run():
    record = make_sweep(ratios=(0.5, 0.6), seeds=(0,))
    for point, size, share in zip(record["points"], (100, 60, 50), (0.7, 0.8, 0.75), strict=True):
        point["bytes_float16"] = point["macs_official"] = size
        point["after_finetune"]["accuracy"] = share
    summary = summarise(record)
    assert summary.dense is not None
    levels = [summary.dense, *summary.series[0].levels]
    words = front_words(summary)
    # dense has 100 B and 0.70: the one of 60 B has 0.80; the one of 50 B is the smallest
    assert [words[id(level)] for level in levels] == ["", "bytes, MACs", "bytes, MACs"]
    header, *rows = Page(render(record, static=True)).tables["table-main"]
    place = header.index("Pareto front")
    assert [row[place] for row in rows] == ["", "bytes, MACs", "bytes, MACs"]


def test_layer_costs_are_means_over_the_runs():
    record = make_sweep(ratios=(0.5,), seeds=(0, 1))
    for point, params in zip(record["points"], (100, 40, 100, 60), strict=True):
        point["layers"] = {"stem": [params, 10 * params]}
    summary = summarise(record)
    (level,) = summary.series[0].levels
    found = level_costs(summary.dense, level)
    assert found == {"params": [("stem", 100.0, 50.0)], "macs": [("stem", 1000.0, 500.0)]}
    rows = Page(render(record, static=True)).tables["table-costs"]
    assert rows[1] == ["stem", "100", "50", "1,000", "500", "50.0"]


def test_older_records_say_what_they_lack():
    record = make_sweep(ratios=(0.5,), seeds=(0,))
    for point in record["points"]:
        for key in ("layers", "audit_status", "uncounted"):
            point.pop(key, None)
    text = Page(render(record, static=True)).text("main")
    assert "Parameters and MACs by layer are not recorded in this run." in text
    assert "Whether the count left operators out is not recorded in this run." in text
    record["points"][0] |= {"audit_status": "partial", "uncounted": ["aten.fft_r2c at front"]}
    text = Page(render(record, static=True)).text("main")
    assert "aten.fft_r2c at front (1 network); those MACs are too low" in text


def test_confusion_counts_every_run():
    counts = ((3, 1, 0), (0, 4, 0), (2, 0, 2))
    table = confusion_table(counts, ("a", "b", "c"), "here")
    assert table is not None
    assert table.rows == (("a", "3", "1", "0"), ("b", "0", "4", "0"), ("c", "2", "0", "2"))
    assert table.shades[0] == (None, 7, 2, 0)  # 3 of 4, 1 of 4
    pairs = confusion_pairs(counts, ("a", "b", "c"), "here")
    assert pairs is not None
    assert pairs.rows == (("c", "a", "2", "4", "50.0"), ("a", "b", "1", "4", "25.0"))
    record = make_sweep(ratios=(0.5,), seeds=(0, 1), classes=("a", "b"))
    for point in record["points"]:
        point["after_finetune"]["confusion"] = [[5, 1], [2, 4]]
    rows = Page(render(record, static=True)).tables["table-confusion"]
    assert rows[1:] == [["a", "10", "2"], ["b", "4", "8"]]


def test_many_classes_have_pairs_and_no_matrix():
    record = make_sweep(ratios=(0.5,), seeds=(0,), classes=tuple(f"c{i}" for i in range(30)))
    page = Page(render(record, static=True))
    assert "table-pairs" in page.tables and "table-confusion" not in page.tables


def test_audit_words_and_tables():
    # 90,000 parameters: 180,000 B of 128,000 B; 54,000,000 of 30,000,000 MACs: 0.8 of it over
    file = make_file(params=90_000)
    assert headline(file) == "Fails 2023; tightest is MACs of 2023, 24,000,000 over."
    page = Page(render_audit(make_audit(file), static=True))
    header, size, macs = page.tables["table-limits"]
    cells = dict(zip(header, size, strict=True))
    assert (cells["value"], cells["limit"], cells["margin"]) == ("180,000", "128,000", "−52,000")
    assert cells["headroom, %"] == "−40.6"
    assert macs[2] == "fail"
    layers = page.tables["table-layers"][1:]
    assert sum(int(row[2].replace(",", "")) for row in layers) == 90_000
    assert page.record()["files"][0]["audit"]["params"] == 90_000
    for wrong, words in (({}, "not the record of an audit"), ({"files": []}, "schema is None")):
        with pytest.raises(UsageError, match=words):
            render_audit(wrong)


def test_room_below_a_limit_is_not_rounded_to_all_or_nothing():
    # 10 of 30,000,000 used leave 99.99997 %; 1 of 128,000 over is 0.0008 %
    told = {99.99997: "> +99.9", 100: "+100.0", 99.94: "+99.9", 0.0008: "< +0.1", 0: "0.0"}
    told |= {-0.0008: "> −0.1", -40.62: "−40.6", 0.06: "+0.1"}
    assert {room: headroom(room) for room in told} == told
    shares = {1e-6: "< 1 %", 0.63: "63 %", 0.9999: "> 99 %", 1: "100 %", 1.0001: "> 100 %"}
    shares |= {0: "0 %", 1.8: "180 %"}
    assert {share: used(share) for share in shares} == shares
    page = Page(render_audit(make_audit(make_file(params=3)), static=True))
    assert [row[6] for row in page.tables["table-limits"][1:]] == ["> +99.9", "> +99.9"]


def test_a_file_that_could_not_be_measured_has_its_message():
    broken = {"file": "x.pt", "status": "error", "error": "x.pt: a text file"}
    page = Page(render_audit(make_audit(make_file(), broken), static=True))
    assert "x.pt: a text file" in page.text("pre")
    assert page.tables["table-models"][2][:2] == ["x.pt", "not measured"]
    alone = Page(render_audit(make_audit(broken), static=True))
    assert "Not measured" in alone.text("h2") and alone.tables == {}


def test_models_side_by_side():
    page = Page(render_models(make_audit(make_file(), make_file("m/big.pt", 75_000)), static=True))
    header, first, second = page.tables["table-models"]
    assert header.count("change, %") == 3
    # 75,000 against 50,000 parameters
    assert (first[3], second[2], second[3]) == ("0.0", "75,000", "+50.0")
    layers = page.tables["table-models-2"]
    assert layers[1] == ["stem", "10,000", "15,000", "6,000,000", "9,000,000"]


def test_models_say_which_is_smallest_and_leave_empty_layers_out():
    small, big = make_file(), make_file("m/big.pt", 75_000)
    empty = {**small["audit"]["layers"][0], "name": "relu", "params": 0, "nonzero_params": 0}
    small["audit"]["layers"].append({**empty, "macs": 0, "macs_official": 0})
    page = Page(render_models(make_audit(big, small), static=True))
    # 150,000 B against 100,000 B; 45,000,000 MACs against 30,000,000
    assert (
        "small.pt has the fewest bytes, 50,000 below big.pt (−33.3 %), with −33.3 % MACs. 2 files:"
        in page.text("h2")
    )
    for table in ("table-models-2", "table-layers-2"):
        assert [row[0] for row in page.tables[table][1:]] == ["stem", "body"]
    first = Page(render_models(make_audit(small, big), static=True)).text("h2")
    assert "None has fewer bytes than small.pt. 2 files:" in first


def test_years_in_a_row_are_a_range():
    assert year_ranges(["2020", "2021", "2023", "2024", "2025", "own"]) == (
        "2020, 2021, 2023–2025, own"
    )
    assert [change(value) for value in (-99.99, -100, -50)] == ["> −99.9", "−100.0", "−50.0"]


def test_bars_of_a_gate_are_told_apart_by_the_begin_of_their_names():
    record = make_gate()
    for check, name in zip(record["checks"], ("memory", "MACs"), strict=True):
        check["name"] = f"DCASE 2023 Task 1: {name}"
    text = to_html(record)
    assert ">2023 memory<" in text and ">2023 MACs<" in text


def test_runs_side_by_side_say_when_data_differ():
    one = make_sweep(ratios=(0.5, 0.8), seeds=(0,))
    same = Page(render_runs([("a", one), ("b", one)], static=True))
    assert "do not compare" not in same.text("h2")
    other = make_sweep(ratios=(0.5,), seeds=(0,), title="others")
    page = Page(render_runs([("x/run", one), ("y/run", other)], static=True))
    assert "not on the same data and split" in page.text("h2")
    assert [row[0] for row in page.tables["table-runs"][1:]] == ["run (1)", "run (2)"]
    assert len(page.tables["table-trade"]) == 1 + 3 + 2  # dense and ratios of both
    check_nothing_is_fetched(page)


def test_reproduction_beside_the_paper():
    page = Page(render_reproduction(make_reproduction(), static=True))
    # ours 59, 62, 62 % as "half": mean 61.0, published 66; no-mixup 57, 59, 61: 59.0 against 60.1
    text = page.text("h2")
    assert "2 of 2 published accuracies with ours beside; the farthest is −5.0 points" in text
    assert "the data are synthetic and 2 of 40 epochs were trained" in text
    header, row = page.tables["table-ablation"]
    assert dict(zip(header, row, strict=True))["difference, points"].startswith("−3.0")
    assert page.record()["kind"] == "reproduction"


def test_the_same_record_gives_the_same_page():
    """Also when other charts were drawn before, which move the library's own counters."""
    record = make_sweep(ratios=(0.5,), seeds=(0,))
    first = render(record)
    alt = altair()
    chart = alt.Chart(alt.Data(values=[{"a": 1}])).mark_point(clip=True).encode(x="a:Q")
    draw(chart.properties(width=300, height=100), "x", "x")
    assert render(record) == first


def test_the_runtime_cannot_end_its_element():
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", runtime())
    assert len(runtime()) < 600_000


def test_the_gate_page_without_the_drawing_libraries(tmp_path: Path):
    """The gate's minimal installation has neither Altair nor vl-convert."""
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n in ('altair', 'vl_convert') else find(n, *a)\n"
        "sys.modules['altair'] = sys.modules['vl_convert'] = None\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from make_audit import make_gate\n"
        "from reports.gate_page import to_html\n"
        "print(to_html(make_gate()))\n"
    )
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(here)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    page = Page(done.stdout)
    assert "table-figures" in page.tables and "svg" not in {tag for tag, _ in page.elements}


MODEL = ROOT / "zoo" / "weights" / "seresnet18-synthetic.pt"


def test_audit_and_compare_commands(tmp_path: Path, record: dict[str, Any]):
    run = CliRunner()
    shown = run.invoke(app, ["audit", str(MODEL), "--format", "html"])
    assert shown.exit_code == 0
    assert Page(shown.stdout).tables["table-limits"][0][0] == "rules"
    out = tmp_path / "c.html"
    both = run.invoke(app, ["compare", str(MODEL), str(MODEL), "--out", str(out), "--static"])
    assert both.exit_code == 0 and both.stdout.strip() == str(out)
    rows = Page(out.read_text(encoding="utf-8")).tables["table-models"]
    assert [row[3] for row in rows[1:]] == ["0.0", "0.0"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(record), encoding="utf-8")
    sides = [str(tmp_path / name) for name in ("one", "two")]
    done = run.invoke(app, ["compare", *sides, "--out", str(out), "--static"])
    assert done.exit_code == 0
    assert [row[0] for row in Page(out.read_text("utf-8")).tables["table-runs"][1:]] == [
        "one",
        "two",
    ]
    for wrong, words in (([sides[0]], "name two or more"), ([sides[0], str(MODEL)], "is a run")):
        failed = run.invoke(app, ["compare", *wrong])
        assert isinstance(failed.exception, UsageError) and words in str(failed.exception)
    missing = run.invoke(app, ["compare", str(MODEL), str(tmp_path / "no.pt")])
    assert "no.pt cannot be read: No such file or directory" in str(missing.exception)
    (tmp_path / "text.pt").write_text("a text")
    told = run.invoke(app, ["compare", str(MODEL), str(tmp_path / "text.pt"), "--out", str(out)])
    assert told.exit_code == 3 and told.stderr.startswith("error: text.pt: ")
