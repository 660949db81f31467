"""Number types in the report: what is compared with what, which is best, and the page's table."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from make_sweep import make_sweep, verdict
from page_reader import Page

from reports import markdown
from reports.summary import summarise
from reports.sweep_page import render
from reports.verdict import verdict as words_of
from reports.ways import best_entry, cost_words, entries, front, stored_bytes, ways_table

RATIOS = (0.5, 0.7)
WIDTHS = {"fp16": 2, "int8-qat": 1}
LOSS = {"fp16": 0.001, "int8-qat": 0.010}


def typed(record: dict[str, Any], types: tuple[str, ...] = ("fp16", "int8-qat")) -> dict[str, Any]:
    """Each network of `record` in further types: smaller, and worse by a fixed loss."""
    record = copy.deepcopy(record)
    more = []
    for point in record["points"]:
        point |= {"quantize": "none", "bytes_stored": 4 * point["params"]}
        for name in types:
            size = WIDTHS[name] * point["params"]
            score = {**point["after_finetune"]}
            score["accuracy"] -= LOSS[name]
            judged = verdict(2023, {"bytes_float16": size, "macs_official": point["macs_official"]})
            more.append(
                {
                    **point,
                    "id": f"{point['id']}-{name}",
                    "quantize": name,
                    "bytes_stored": size,
                    "before_finetune": None,
                    "after_finetune": score,
                    "float": point["after_finetune"],
                    "verdicts": [judged],
                }
            )
    record["points"] += more
    return record


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return typed(make_sweep(ratios=RATIOS, seeds=(0,), methods=("slimming", "l1")))


def test_float_curves_are_as_without_types(record: dict[str, Any]) -> None:
    plain = summarise(make_sweep(ratios=RATIOS, seeds=(0,), methods=("slimming", "l1")))
    found = summarise(record)
    assert plain.ways == ()
    assert [series.label for series in found.series] == ["slimming", "l1"]
    for one, other in zip(plain.series, found.series, strict=True):
        assert [level.after for level in one.levels] == [level.after for level in other.levels]
        assert one.knee == other.knee or (one.knee and other.knee)
    assert plain.dense is not None
    assert found.dense is not None
    assert plain.dense.after == found.dense.after


def test_every_way_begins_with_the_dense_network_of_its_type(record: dict[str, Any]) -> None:
    ways = summarise(record).ways
    assert [(way.method, way.quantize) for way in ways] == [
        (method, name) for name in ("none", "fp16", "int8-qat") for method in ("slimming", "l1")
    ]
    for way in ways:
        assert [level.ratio for level in way.levels] == [0.0, 0.5, 0.7]
    # one dense network and two methods at two ratios, in three types
    assert len(entries(summarise(record))) == 3 * 5


def test_change_is_against_the_float_of_the_same_network(record: dict[str, Any]) -> None:
    for way in summarise(record).ways:
        for level in way.levels:
            if way.quantize == "none":
                assert level.to_float is None
            else:
                assert level.to_float is not None
                assert level.to_float.mean == pytest.approx(-LOSS[way.quantize])


def test_cost_in_words(record: dict[str, Any]) -> None:
    text = cost_words(summarise(record))
    assert "Float16 −0.1 points on average, at worst −0.1" in text
    assert "int8 QAT −1.0 points on average, at worst −1.0" in text


def test_front_by_hand() -> None:
    """Sizes 100, 50, 25 with 0.80, 0.82, 0.70: the largest is beaten by a smaller, better one."""
    base = make_sweep(ratios=RATIOS, seeds=(0,))
    base["points"] = base["points"][:3]
    for point, size, score in zip(base["points"], (100, 50, 25), (0.80, 0.82, 0.70), strict=True):
        point |= {"params": size, "quantize": "none", "bytes_stored": size}
        point["after_finetune"]["accuracy"] = score
    half = {**copy.deepcopy(base["points"][0]), "id": "x", "quantize": "fp16", "bytes_stored": 60}
    half["after_finetune"]["accuracy"] = 0.82  # as accurate as the one of 50, but larger
    base["points"].append(half)
    summary = summarise(base)
    best = [stored_bytes(way, level) for way, level in front(entries(summary))]
    assert [size.mean for size in best if size] == [25, 50]
    table = ways_table(summary)
    assert table is not None
    assert [row[2] for row in table.rows] == ["100", "60", "50", "25"]
    assert [row[-1] for row in table.rows] == ["", "", "best", "best"]


def test_best_within_the_limit(record: dict[str, Any]) -> None:
    """Only what passes counts, and of those the most accurate."""
    summary = summarise(record)
    entry = best_entry(summary)
    assert entry is not None
    passing = [
        level.after.mean
        for way, level in entries(summary)
        # float16 networks were measured: they stand for the float32 ones, which fit only as such
        if level.after and level.budget.status == "pass" and way.quantize != "none"
    ]
    assert entry[1].after is not None
    assert entry[1].after.mean == max(passing)
    found = words_of(summary)
    # at 0.5 and in the dense network the MACs are too many (88 M at 0), whatever the number type
    assert found.headline.startswith(
        "Best within the 2023 limit: slimming at ratio 0.70 as float16"
    )
    assert [fact.label for fact in found.facts][:2] == ["Best of all number types", "Number types"]
    for point in record["points"]:
        point["verdicts"][0]["status"] = "fail"
    try:
        assert best_entry(summarise(record)) is None
    finally:
        for point in record["points"]:
            passed = all(c["status"] == "pass" for c in point["verdicts"][0]["checks"])
            point["verdicts"][0]["status"] = "pass" if passed else "fail"


def test_the_page_shows_every_network(record: dict[str, Any]) -> None:
    text = render(record)
    page = Page(text)
    header, *rows = page.tables["table-ways"]
    assert len(rows) == 15
    by_id = {point["id"]: point for point in record["points"]}
    cells = dict(
        zip(header, next(r for r in rows if r[:2] == ["l1 0.70", "int8 QAT"]), strict=True)
    )
    point = by_id["f1-s0-l1-0.70-int8-qat"]
    assert cells["bytes"] == f"{point['params']:,}"
    assert cells["accuracy"] == f"{100 * point['after_finetune']['accuracy']:.1f}"
    assert cells["change against float32"] == "−1.0"
    assert "pruned and quantised on" in text
    assert 'id="fig-ways"' in text
    assert 'id="fig-types"' in text
    assert "accuracies on this page are not those of int8" not in text
    assert "## Every method and number type" in markdown.render(record)


def test_the_page_of_float_networks_has_no_such_section() -> None:
    text = render(make_sweep(ratios=RATIOS, seeds=(0,)))
    assert "Every method and number type" not in text
    assert "accuracies on this page are not those of int8" in text


def test_the_dense_network_alone_in_several_types(record: dict[str, Any]) -> None:
    alone = {**record, "points": [p for p in record["points"] if p["method"] == "dense"]}
    ways = summarise(alone).ways
    assert [(way.method, way.quantize) for way in ways] == [
        ("", "none"),
        ("", "fp16"),
        ("", "int8-qat"),
    ]
    assert len(Page(render(alone)).tables["table-ways"]) == 1 + 3


def test_names_cannot_leave_the_charts(record: dict[str, Any]) -> None:
    evil = copy.deepcopy(record)
    for point in evil["points"]:
        if point["method"] == "l1":
            point["method"] = "</svg><script>alert(1)</script>"
        if point["quantize"] == "fp16":
            point["quantize"] = "<b>half</b>"
    text = render(evil)
    assert "<script>alert" not in text
    assert "<b>half" not in text
