"""Accuracy against size: the axis, and where the names of the points stand."""

from __future__ import annotations

import re
from typing import Any

import pytest
from make_sweep import make_sweep

from reports.sweep_page import render
from reports.trade_chart import _Frame, _log_ticks, _without_overlap

# ratio, bytes and accuracy of a curve that goes up and down within a few bytes
CURVE = {
    "0.50": (16_875, 26.4),
    "0.60": (14_135, 28.3),
    "0.65": (13_062, 27.3),
    "0.70": (11_912, 28.5),
    "0.80": (8_662, 25.4),
}


def rows() -> list[dict[str, Any]]:
    made = [
        {"size": size, "accuracy": accuracy, "line": "l1", "text": name, "knee": name == "0.70"}
        for name, (size, accuracy) in CURVE.items()
    ]
    return [*made, {**made[0], "size": 109_640, "accuracy": 29.8, "line": "dense", "text": "dense"}]


@pytest.mark.parametrize("log", [False, True])
def test_names_stand_inside_and_on_nothing(log: bool) -> None:
    frame = _Frame([6_700 if log else 0, 147_000], [22, 33], 310, 230, log=log)
    shown = _without_overlap(rows(), 128_000, frame)
    assert "0.70" in [row["text"] for row in shown]  # the knee before the others
    boxes = []
    for row in shown:
        x, y = frame.x(row["size"]), frame.y(row["accuracy"])
        wide = 7 * len(row["text"])
        left = x - 9 - wide if row["side"] == "left" else x + 9
        assert left >= 0 and left + wide <= 310
        for other in rows():
            there = frame.x(other["size"]), frame.y(other["accuracy"])
            inside = left <= there[0] <= left + wide and y + 4 <= there[1] <= y + 15
            assert not inside, (row["text"], other["text"])
        boxes.append((left, left + wide, y))
    for index, (left, right, y) in enumerate(boxes):
        assert all(right <= b or left >= c or abs(y - d) > 11 for b, c, d in boxes[index + 1 :])


def test_ticks_of_a_logarithmic_axis() -> None:
    assert _log_ticks(6_700, 147_000) == [10_000, 20_000, 50_000, 100_000]
    assert _log_ticks(90, 1_100_000) == [100, 1_000, 10_000, 100_000, 1_000_000]
    assert _log_ticks(21_000, 49_000) == []  # never so narrow: the axis begins at a factor of 8


def test_the_axis_is_logarithmic_where_sizes_lie_far_apart() -> None:
    near = render(make_sweep(ratios=(0.5, 0.6)), static=True)
    assert "log scale" not in near
    record = make_sweep(ratios=(0.5, 0.6))
    for point in record["points"]:
        if point["prune_ratio"]:
            point["bytes_float16"] = 5_000
    assert re.search("bytes in float16, log scale", render(record, static=True))
