"""Means, spreads, held and knee against arithmetic by hand and against `statistics`."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.spread import held_until, knee_of, spread


def test_mean_and_spread_by_hand():
    found = spread([0.70, 0.74, 0.72])
    assert found is not None
    assert found.n == 3
    assert found.mean == pytest.approx(0.72)
    assert found.sd == pytest.approx(0.02)  # deviations -0.02, 0.02, 0 -> sqrt(0.0008 / 2)
    assert found.se == pytest.approx(0.02 / math.sqrt(3))
    assert (found.low, found.high) == (0.70, 0.74)


def test_one_value_has_no_spread():
    found = spread([0.5])
    assert found is not None
    assert found.sd is None and found.se is None


def test_what_is_no_number_is_left_out():
    assert spread([]) is None
    assert spread([None, "x", float("nan"), True]) is None
    found = spread([None, 2, float("inf"), 4.0])
    assert found is not None and (found.n, found.mean) == (2, 3.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_spread_equals_the_standard_library(values: list[float]):
    found = spread(values)
    assert found is not None and found.sd is not None
    assert found.mean == statistics.fmean(values)
    assert found.sd == statistics.stdev(values)


@pytest.mark.parametrize(
    ("changes", "until", "broke", "again"),
    [
        ([0.002, -0.004, -0.02, -0.3], 1, 2, ()),
        ([-0.01, -0.0101], 0, 1, ()),  # exactly one point is held
        ([-0.02, -0.03], None, 0, ()),
        ([0.0, -0.02, -0.005], 0, 1, (2,)),
        ([0.01, 0.0], 1, None, ()),
        ([], None, None, ()),
    ],
)
def test_held(changes: list[float], until: int | None, broke: int | None, again: tuple[int, ...]):
    found = held_until(changes)
    assert (found.until, found.broke, found.again) == (until, broke, again)


def test_knee_is_farthest_above_the_chord():
    x = [0.0, 0.5, 0.6, 0.7, 0.8]
    y = [0.80, 0.79, 0.78, 0.50, 0.30]
    # scaled heights above the chord: 0, 0.605, 0.71, 0.275, 0
    assert knee_of(x, y) == 2


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([0.0, 0.5, 0.8], [0.8, 0.8, 0.3]),  # too few
        ([0.0, 0.5, 0.6, 0.8], [0.80, 0.81, 0.80, 0.79]),  # no fall
        ([0.0, 0.2, 0.4, 0.6], [0.8, 0.6, 0.4, 0.2]),  # straight
        ([0.0, 0.2, 0.4, 0.6], [0.8, 0.3, 0.25, 0.2]),  # falls at once
    ],
)
def test_no_knee(x: list[float], y: list[float]):
    assert knee_of(x, y) is None
