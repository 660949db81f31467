"""Means, spreads, pooled accuracy, knee: against numbers worked out by hand."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pytest

from compressor.sweep.summary import COLUMNS, figures, row, summarise, to_csv


def record(
    ratio: float, accuracy: float, *, seed: int = 0, fold: int = 1, n: int = 100, **more: Any
) -> dict[str, Any]:
    """A record with what the summary reads; the dense network of each fold has 0.80."""
    dense = ratio == 0
    part = {"n": n, "accuracy": accuracy, "macro_accuracy": accuracy - 0.02, "log_loss": 0.7}
    return {
        "id": f"f{fold}-s{seed}-{ratio}",
        "status": "ok",
        "method": "dense" if dense else "slimming",
        "prune_by": "channels",
        "prune_ratio": ratio,
        "target_params": None,
        "fold": fold,
        "seed": seed,
        "params": round(1000 * (1 - ratio)),
        "before_finetune": None if dense else {**part, "accuracy": accuracy / 2},
        "after_finetune": part,
        "dense": None if dense else {"accuracy": 0.80},
        "verdicts": [{"year": 2023, "status": "fail" if dense else "pass", "checks": []}],
        **more,
    }


def group(summary: dict[str, Any], ratio: float) -> dict[str, Any]:
    """The line of a ratio."""
    return next(line for line in summary["groups"] if line["prune_ratio"] == ratio)


def test_mean_and_sample_standard_deviation() -> None:
    # (0.70 + 0.74 + 0.78) / 3 = 0.74; squares 0.0016 + 0 + 0.0016 = 0.0032, over n - 1 = 2: 0.0016
    accuracies = (0.70, 0.74, 0.78)
    line = group(summarise([record(0.5, a, seed=i) for i, a in enumerate(accuracies)], 2023), 0.5)
    assert line["accuracy"] == {
        "mean": pytest.approx(0.74),
        "std": pytest.approx(0.04),
        "min": 0.70,
        "max": 0.78,
        "n": 3,
    }
    assert line["accuracy_before"]["mean"] == pytest.approx(0.37)
    assert line["macro_accuracy"]["mean"] == pytest.approx(0.72)
    # -0.10, -0.06, -0.02 under their dense networks
    assert line["accuracy_change"]["mean"] == pytest.approx(-0.06)
    assert line["accuracy_change"]["std"] == pytest.approx(0.04)
    assert (line["n"], line["seeds"], line["folds"]) == (3, [0, 1, 2], [1])
    assert line["verdicts"] == {"pass": 3}
    assert line["params"]["mean"] == 500


def test_one_run_has_no_spread() -> None:
    assert figures([0.5]) == {"mean": 0.5, "std": None, "min": 0.5, "max": 0.5, "n": 1}
    assert figures([]) == {"mean": None, "std": None, "min": None, "max": None, "n": 0}
    assert figures([None, 2.0])["n"] == 1


def test_folds_are_pooled_by_their_clips() -> None:
    records = [
        record(0.5, 0.9, fold=1, n=300),  # 270 right
        record(0.5, 0.5, fold=2, n=100),  # 50 right: 320 of 400
        record(0.5, 0.8, fold=1, n=300, seed=1),  # 240
        record(0.5, 0.4, fold=2, n=100, seed=1),  # 40: 280 of 400
    ]
    line = group(summarise(records, 2023), 0.5)
    assert line["pooled_accuracy"] == {
        "mean": pytest.approx(0.75),
        "std": pytest.approx(0.05 * math.sqrt(2)),
        "min": pytest.approx(0.70),
        "max": pytest.approx(0.80),
        "n": 2,
        "folds": 2,
    }
    assert line["accuracy"]["mean"] == pytest.approx(0.65)
    # a seed that lacks a fold says nothing about the whole set
    line = group(summarise(records[:3], 2023), 0.5)
    assert line["pooled_accuracy"]["n"] == 1
    assert group(summarise(records[:1], 2023), 0.5)["pooled_accuracy"] is None


def curve(*accuracies: float) -> list[dict[str, Any]]:
    """Dense 0.80, then ratios from 0.5 in steps of 0.1."""
    points = [record(round(0.5 + 0.1 * i, 2), a) for i, a in enumerate(accuracies)]
    return [record(0.0, 0.80), *points]


def test_knee_and_held() -> None:
    # Chord from (0, 0.80) to (0.8, 0.40); scaled heights of 0.5: (0.8-0.4)/0.4 - 0.3/0.8 = 0.625,
    # of 0.6: 0.39/0.4 - 0.25 = 0.725, of 0.7: 0.20/0.4 - 0.125 = 0.375: the knee is at 0.6.
    found = summarise(curve(0.80, 0.79, 0.60, 0.40), 2023)["curves"]
    assert found == [
        {
            "method": "slimming",
            "prune_by": "channels",
            "knee": {"prune_ratio": 0.6, "accuracy": 0.79},
            "within_points_of_dense": [
                {"points": 1.0, "prune_ratio": 0.6},  # exactly one point below still holds
                {"points": 2.0, "prune_ratio": 0.6},
                {"points": 5.0, "prune_ratio": 0.6},
            ],
        }
    ]


def test_held_needs_every_smaller_ratio() -> None:
    found = summarise(curve(0.75, 0.80, 0.80, 0.70), 2023)["curves"][0]
    held = {part["points"]: part["prune_ratio"] for part in found["within_points_of_dense"]}
    assert held == {1.0: None, 2.0: None, 5.0: 0.7}


def test_a_flat_curve_has_no_knee() -> None:
    assert summarise(curve(0.80, 0.80, 0.80, 0.80), 2023)["curves"][0]["knee"] is None


def test_without_the_dense_network() -> None:
    found = summarise(curve(0.8, 0.7)[1:], 2023)["curves"][0]
    assert (found["knee"], found["within_points_of_dense"]) == (None, [])


def test_failed_points_are_listed_and_not_counted() -> None:
    broken = {**record(0.6, 0.5), "status": "failed", "error": "out of memory", "id": "x"}
    summary = summarise([record(0.0, 0.8), record(0.5, 0.8), broken], 2023)
    assert summary["failed"] == [{"id": "x", "error": "out of memory"}]
    assert (summary["n_records"], summary["n_ok"]) == (3, 2)
    assert [line["prune_ratio"] for line in summary["groups"]] == [0.0, 0.5]


def test_order_of_the_lines() -> None:
    target = {"prune_by": "target", "target_params": 9}
    records = [
        record(0.6, 0.5, **target),
        record(0.6, 0.5),
        record(0.5, 0.5, prune_by="params"),
        record(0.5, 0.5),
        record(0.0, 0.8),
    ]
    lines = summarise(records, 2023)["groups"]
    assert [(g["method"], g["prune_by"], g["prune_ratio"]) for g in lines] == [
        ("dense", "channels", 0.0),
        ("slimming", "channels", 0.5),
        ("slimming", "channels", 0.6),
        ("slimming", "params", 0.5),
        ("slimming", "target", None),
    ]


def test_csv_holds_the_numbers_of_the_records() -> None:
    third = 1 / 3  # a float whose digits a careless format would cut
    records = [record(0.0, third), record(0.5, 0.1 + 0.2, seconds=12.25)]
    lines = list(csv.DictReader(io.StringIO(to_csv(records, 2023))))
    assert [tuple(line) for line in lines] == [COLUMNS, COLUMNS]
    assert float(lines[0]["accuracy_after"]) == third
    assert float(lines[1]["accuracy_after"]) == 0.1 + 0.2
    assert (lines[0]["accuracy_before"], lines[0]["verdict"]) == ("", "fail")
    assert row(records[1], 2023)["seconds"] == 12.25
    assert row(records[1], 1999)["verdict"] is None
    json.dumps(summarise(records, 2023), allow_nan=False)
