"""What-if steps and places against a naive ranking that is done again after every change."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressor.audit.ranking import CRITERIA, TIES, standings
from compressor.audit.rules import rules_for
from compressor.audit.rules_ranking import Criterion
from compressor.audit.standing import standing_of
from compressor.audit.systems import Table
from compressor.audit.whatif import what_if

Row = tuple[float, ...]
COLUMNS = ("accuracy", "bytes", "macs")


def naive_rank(values: Sequence[float], value: float, ties: str) -> Fraction:
    better = [other for other in values if other < value]
    same = sum(other == value for other in values)
    if ties == "dense":
        return Fraction(len(set(better)) + 1)
    if ties == "min":
        return Fraction(len(better) + 1)
    return Fraction(len(better)) + Fraction(same + 1, 2)


def naive_places(
    rows: Sequence[Row], ties: str, criteria: Sequence[Criterion] = CRITERIA
) -> list[int]:
    """Places by the definition, O(n^2), in exact fractions."""
    scores = [Fraction(0)] * len(rows)
    for at, criterion in enumerate(criteria):
        sign = -1 if criterion.best == "highest" else 1
        column = [sign * row[at] for row in rows]
        weight = Fraction(str(criterion.weight))
        for index, value in enumerate(column):
            scores[index] += weight * naive_rank(column, value, ties)
    return [1 + sum(other < own for other in scores) for own in scores]


def changed(rows: Sequence[Row], index: int, at: int, value: float) -> list[Row]:
    new = list(rows)
    new[index] = (*rows[index][:at], value, *rows[index][at + 1 :])
    return new


# Accuracy in steps of 1/10: half a step (0.05) is never taken, so "over 0.6" is tried as 0.65.
TABLES = st.lists(
    st.tuples(
        st.integers(0, 10).map(lambda tenth: tenth / 10), st.integers(0, 6), st.integers(0, 9)
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(rows=TABLES, ties=st.sampled_from(TIES), weights=st.tuples(*[st.integers(1, 9)] * 3))
def test_places_are_those_of_the_definition(
    rows: list[Row], ties: str, weights: tuple[int, int, int]
) -> None:
    criteria = [
        Criterion(c.column, c.best, weight / 10)
        for c, weight in zip(CRITERIA, weights, strict=True)
    ]
    found = standings(np.array(rows, dtype=float), criteria, ties)
    assert found.places().tolist() == naive_places(rows, ties, criteria)


@settings(max_examples=200, deadline=None)
@given(rows=TABLES, ties=st.sampled_from(TIES), choice=st.integers(0, 7))
def test_every_step_is_the_smallest_change_that_gains_its_place(
    rows: list[Row], ties: str, choice: int
) -> None:
    """All values that could be taken are tried one by one, from the smallest change on."""
    index = choice % len(rows)
    place = naive_places(rows, ties)[index]
    found = what_if(np.array(rows, dtype=float), CRITERIA, index, ties)
    for at, column in enumerate(COLUMNS):
        own = rows[index][at]
        if at == 0:
            tried = [tenth / 20 for tenth in range(21) if tenth / 20 > own]
        else:
            tried = list(range(int(own) - 1, -1, -1))
        expected = []
        best = place
        for value in tried:
            reached = naive_places(changed(rows, index, at, value), ties)[index]
            if reached < best:
                best = reached
                expected.append((reached, value))
        steps = [(s.place, round(s.value + 0.05 * s.beyond, 9)) for s in found[column]]
        assert steps == [(reached, pytest.approx(value)) for reached, value in expected]
        assert all(s.change == pytest.approx(s.value - own) for s in found[column])


def test_by_hand() -> None:
    """Dense ranks; each step is applied by hand below.

    accuracy a1 b1 c2 d3; memory b1 c1 a2 d3; MACs c1 d2 a3 b4:
    a .5+.5+.75 = 1.75, b .5+.25+1 = 1.75, c 1+.25+.25 = 1.5, d 1.5+.75+.5 = 2.75.
    """
    table = Table(
        ("a", "b", "c", "d"),
        CRITERIA,
        ((0.60, 100, 30), (0.60, 80, 40), (0.55, 80, 10), (0.50, 120, 20)),
    )
    found = standing_of(table, 1)
    assert (found.place, found.score, found.of) == (2, 1.75, 4)
    assert found.places == {"dense": 2, "min": 1, "average": 1}
    steps = {c: [(s.place, s.value, s.beyond) for s in found.steps[c]] for c in COLUMNS}
    # b over 0.6: b .5+.25+1 = 1.75, a 1+.5+.75, c 1.5+.25+.25 = 2: b is first
    # b at 79 B: b .5+.25+1 = 1.75, c 1+.5+.25 = 1.75: shares the first place
    # b at 30 MACs: b .5+.25+.75 = 1.5, c 1.5: shares the first place
    assert steps == {
        "accuracy": [(1, 0.6, True)],
        "bytes": [(1, 79, False)],
        "macs": [(1, 30, False)],
    }


def test_no_step_for_the_first_and_none_that_is_impossible() -> None:
    rows = [(1.0, 0, 0), (0.5, 0, 0)]
    assert what_if(np.array(rows), CRITERIA, 0) == {"accuracy": (), "bytes": (), "macs": ()}
    steps = what_if(np.array(rows), CRITERIA, 1)
    # bytes and MACs cannot fall below 0; accuracy 1.0 shares the first place
    assert [(s.place, s.value, s.beyond) for s in steps["accuracy"]] == [(1, 1.0, False)]
    assert steps["bytes"] == steps["macs"] == ()


def test_fractions_of_a_byte_are_not_offered() -> None:
    rows = [(0.5, 10, 5), (0.5, 11, 5), (0.5, 12, 5)]
    steps = what_if(np.array(rows, dtype=float), CRITERIA, 2, "min")
    # between 10 and 11 stands no whole number: 11 shares the second place, 10 the first
    assert [(s.place, s.value) for s in steps["bytes"]] == [(2, 11), (1, 10)]
    kilobytes = what_if(np.array([(0.5, 10.5, 5), (0.5, 11.5, 5)]), CRITERIA, 1)
    assert [(s.place, s.value, s.beyond) for s in kilobytes["bytes"]] == [(1, 10.5, False)]


def test_a_year_of_one_figure() -> None:
    rules = rules_for(2022)
    table = Table(("a", "b", "c"), rules.ranking, ((1.2,), (1.4,), (1.3,)))
    found = standing_of(table, 1)
    assert found.place == 3
    assert [(s.place, s.value, s.beyond) for s in found.steps["log_loss"]] == [
        (2, 1.3, False),
        (1, 1.2, False),
    ]


def test_a_hundred_thousand_systems() -> None:
    generator = random.Random(7)
    rows = [
        (generator.random(), generator.randrange(99_999), generator.randrange(9_999))
        for _ in range(100_000)
    ]
    values = np.array(rows, dtype=float)
    start = time.process_time()
    found = {ties: what_if(values, CRITERIA, 5, ties) for ties in TIES}
    assert time.process_time() - start < 60  # comparing all pairs would take minutes
    # the first step of two columns, applied: its place is reached, one unit less changes nothing
    place = int(standings(values).places()[5])
    for at in (1, 2):
        step = found["dense"][COLUMNS[at]][0]
        for less, expected in ((0, step.place), (1, place)):
            new = values.copy()
            new[5, at] = step.value + less
            assert int(standings(new).places()[5]) == expected
