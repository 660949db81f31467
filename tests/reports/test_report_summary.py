"""The summary and the verdict's words against numbers worked out from the record here."""

from __future__ import annotations

import copy
import statistics
from typing import Any

import pytest
from make_sweep import LIMIT_BYTES, LIMIT_MACS, make_sweep

from compressor.errors import UsageError
from reports.summary import summarise
from reports.verdict import verdict


def level(record: dict[str, Any], ratio: float) -> list[dict[str, Any]]:
    return [p for p in record["points"] if p["prune_ratio"] == ratio and p["status"] == "ok"]


def fact(record: dict[str, Any], label: str) -> str:
    found = [f.text for f in verdict(summarise(record)).facts if f.label == label]
    assert len(found) == 1, label
    return found[0]


def set_curve(record: dict[str, Any], accuracies: dict[float, float], dense: float = 0.75) -> None:
    """Give every run of a ratio the same accuracy."""
    for point in record["points"]:
        if point["method"] == "dense":
            point["after_finetune"]["accuracy"] = dense
        else:
            point["after_finetune"]["accuracy"] = accuracies[point["prune_ratio"]]
            point["dense"]["accuracy"] = dense


def test_means_and_paired_changes(record: dict[str, Any]):
    summary = summarise(record)
    (series,) = summary.series
    assert [one.ratio for one in series.levels] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8]
    for one in series.levels:
        points = level(record, one.ratio)
        after = [p["after_finetune"]["accuracy"] for p in points]
        change = [p["after_finetune"]["accuracy"] - p["dense"]["accuracy"] for p in points]
        assert one.runs == len(points) == (2 if one.ratio == 0.75 else 3)
        assert one.after is not None and one.change is not None
        assert one.after.mean == statistics.fmean(after)
        assert one.after.sd == statistics.stdev(after)
        assert one.change.mean == pytest.approx(statistics.fmean(change), abs=1e-12)
        assert one.sizes["params"].mean == statistics.fmean(p["params"] for p in points)
        bus = [p["after_finetune"]["class_accuracy"]["bus"] for p in points]
        assert one.classes["bus"].mean == pytest.approx(statistics.fmean(bus))
        kept = [p["kept_channels"]["layers.1.0.conv2"][0] for p in points]
        assert one.kept["layers.1.0.conv2"] == (pytest.approx(statistics.fmean(kept)), 32)
    assert summary.seeds == (0, 1, 2) and summary.folds == (1,)
    assert [p["id"] for p in summary.failed] == ["f1-s0-slimming-0.75"]


def test_budget_follows_the_verdicts_of_the_record(record: dict[str, Any]):
    (series,) = summarise(record).series
    for one in series.levels:
        fits = all(
            p["bytes_float16"] <= LIMIT_BYTES and p["macs_official"] <= LIMIT_MACS
            for p in level(record, one.ratio)
        )
        assert one.budget.status == ("pass" if fits else "fail")
    keys = {check.name: check.key for check in series.levels[0].budget.checks}
    assert keys == {"model size": "bytes_float16", "MACs": "macs_official"}


def test_limits_for_other_segments_are_said_to_be():
    record = make_sweep(seeds=(0,))
    record["run"]["budget"]["segment_s"] = 1.0
    assert "Segment" not in {f.label for f in verdict(summarise(record)).facts}
    record["run"]["clip_s"] = 5.0
    assert fact(record, "Segment").startswith(
        "One inference takes 5 s of audio here; 2023 limits are for segments of 1 s."
    )


def test_words_of_budget_and_margin():
    record = make_sweep(seeds=(0,))
    words = verdict(summarise(record))
    first = level(record, 0.65)[0]
    assert words.status == "pass"
    text = fact(record, "Budget")
    assert "the 2023 limit (128,000 B, 30 M MACs) from ratio 0.65 on" in text
    assert f"{LIMIT_BYTES - first['bytes_float16']:,} B in float16" in text
    assert f"{LIMIT_MACS - first['macs_official']:,} MACs by the official count" in text
    dense = level(record, 0.0)[0]
    assert f"{dense['macs_official']:,} MACs by the official count" in text
    assert f"({dense['macs_official'] / LIMIT_MACS:.2f} × the limit)" in text


def test_words_of_accuracy_and_knee():
    record = make_sweep(ratios=(0.5, 0.6, 0.7, 0.8), seeds=(0, 1))
    set_curve(record, {0.5: 0.748, 0.6: 0.742, 0.7: 0.70, 0.8: 0.40})
    text = fact(record, "Accuracy")
    assert text == (
        "Held within 1 point of dense up to ratio 0.60 (74.2 ± 0.0 %, 0.8 ± 0.0 points below "
        "dense); falls beyond: ratio 0.70 has 70.0 ± 0.0 %, 5.0 ± 0.0 points below dense; "
        "ratio 0.80 has 40.0 ± 0.0 %, 35.0 ± 0.0 points below dense."
    )
    # heights above the chord, by hand: 0.5: 0.994-0.375, 0.6: 0.977-0.25, 0.7: 0.857-0.125
    assert fact(record, "Knee").startswith("The curve bends at ratio 0.70 (70.0 ± 0.0 %)")


def test_words_when_nothing_falls_or_all_falls():
    record = make_sweep(ratios=(0.5, 0.6, 0.7), seeds=(0,))
    set_curve(record, {0.5: 0.75, 0.6: 0.752, 0.7: 0.748})
    assert "at every tested ratio; at ratio 0.70 it is 74.8 %" in fact(record, "Accuracy")
    assert fact(record, "Knee") == "No knee: the curve falls by no more than 1 point."
    set_curve(record, {0.5: 0.6, 0.6: 0.5, 0.7: 0.745})
    text = fact(record, "Accuracy")
    assert text.startswith("Not held within 1 point of dense at the smallest tested ratio")
    assert text.endswith("Back within 1 point at ratio 0.70.")


def test_a_loss_just_over_one_point_is_not_written_as_one():
    record = make_sweep(ratios=(0.5, 0.6), seeds=(0,))
    set_curve(record, {0.5: 0.75, 0.6: 0.7396})
    assert "1.04 points below dense" in fact(record, "Accuracy")


def test_nothing_fits():
    record = make_sweep(ratios=(0.5, 0.55), seeds=(0,))
    words = verdict(summarise(record))
    assert words.status == "fail"
    assert words.headline.startswith("No tested ratio fits the 2023 limit; ")
    macs = level(record, 0.55)[0]["macs_official"]
    assert f"Nearest is ratio 0.55: {macs:,} MACs" in fact(record, "Budget")


def test_no_verdicts_in_the_record_are_replaced_by_an_own_count():
    record = make_sweep(seeds=(0,), verdicts=False)
    summary = summarise(record)
    assert not summary.budget.judged
    assert [one.ratio for one in summary.series[0].fitting] == [0.65, 0.7, 0.75, 0.8]


def test_no_budget():
    record = make_sweep(seeds=(0,), verdicts=False, budget={})
    words = verdict(summarise(record))
    assert words.status == "unknown"
    assert fact(record, "Budget") == "No limit was set for this run."


def test_a_rule_that_asks_for_a_number_type_is_open():
    record = make_sweep(seeds=(0,), budget={"year": 2022})
    for point in record["points"]:
        (checks,) = [entry["checks"] for entry in point["verdicts"]]
        point["verdicts"][0] |= {"year": 2022, "status": "depends"}
        for check in checks:
            check["status"] = "pass"
        kind = {"name": "number type", "limit": "int8", "value": "float16", "margin": None}
        checks.append({**kind, "unit": "", "status": "depends", "evidence": "V", "note": "fixed"})
    words = verdict(summarise(record))
    assert words.status == "open"
    assert "number type must be only int8, this is float16" in fact(record, "Budget")


def test_spread_words_say_what_varies():
    one = make_sweep(seeds=(0,))
    assert "One run a ratio (fold 1, seed 0): no spread can be given." in fact(one, "Data")
    folds = make_sweep(seeds=(3,), folds=(1, 2, 3), synthetic=False, title="ESC-50")
    text = fact(folds, "Data")
    assert "3 folds (1, 2 and 3), seed 3" in text
    assert "between folds, not between trainings" in text
    assert "SYNTHETIC" not in text
    assert "SYNTHETIC" in fact(one, "Data")


def test_dense_level_from_pruned_points_when_no_dense_point_is_there():
    record = make_sweep(seeds=(0, 1))
    expected = [p["after_finetune"]["accuracy"] for p in record["points"] if p["method"] == "dense"]
    record["points"] = [p for p in record["points"] if p["method"] != "dense"]
    dense = summarise(record).dense
    assert dense is not None and dense.after is not None
    assert dense.after.mean == pytest.approx(statistics.fmean(expected))


def test_networks_pruned_to_a_number_of_parameters():
    record = make_sweep(ratios=(0.5, 0.6), seeds=(0,))
    extra = copy.deepcopy(record["points"][-1])
    extra |= {"id": "to40000", "prune_ratio": None, "target_params": 40_000, "prune_by": "target"}
    record["points"].append(extra)
    first, second = summarise(record).series
    assert (first.label, second.label) == ("slimming by channels", "slimming by target")
    assert second.levels[0].name == "40,000 parameters"
    assert second.knee is None and second.until is None


def test_several_methods_each_have_a_verdict():
    record = make_sweep(methods=("slimming", "magnitude"))
    words = verdict(summarise(record))
    assert words.headline.startswith(
        "Best of 2 methods within the 2023 limit: slimming at ratio 0.65"
    )
    labels = [one.label for one in words.facts]
    assert "Budget, slimming" in labels and "Knee, magnitude" in labels


def test_only_the_dense_network_and_only_failures():
    record = make_sweep(ratios=(0.5,), seeds=(0,), fail=("f1-s0-slimming-0.50",))
    words = verdict(summarise(record))
    assert words.headline == "Only the dense network finished: there is no pruning curve yet."
    record["points"] = record["points"][1:]
    words = verdict(summarise(record))
    assert words.headline == "No run finished: there is nothing to judge."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema is 2, this version reads 1; update compressor"),
        ({"schema": None}, "schema is None"),
        ({"run": []}, "run must be an object, found list"),
        ({"points": "x"}, "points must be a list, found str"),
        ({"points": [{"method": "slimming", "status": "half"}]}, "status is 'half'"),
        ({"points": [{"status": "ok"}]}, "point 0: method must be a text, found nothing"),
        (
            {"points": [{"method": "m", "status": "ok", "prune_ratio": "0.5"}]},
            "prune_ratio must be a number, found '0.5'",
        ),
    ],
)
def test_broken_records_are_named(change: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words.replace("'", ".")):
        summarise({**make_sweep(ratios=(0.5,), seeds=(0,)), **change})
