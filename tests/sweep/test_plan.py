"""The grid of a sweep."""

from __future__ import annotations

import pytest

from compressor.errors import UsageError
from compressor.sweep.plan import (
    Grid,
    build_plan,
    parse_integers,
    parse_ratios,
    remaining,
    settings_hash,
    tag,
)


@pytest.mark.parametrize(
    ("text", "ratios"),
    [
        # == on floats is meant: each must be the float that its digits name (0.5 + 3 * 0.05 is not)
        ("0.5:0.8", (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)),
        ("0.5:0.8:0.1", (0.5, 0.6, 0.7, 0.8)),
        ("0.5:0.8:0.2", (0.5, 0.7)),
        ("0.3:0.3", (0.3,)),
        ("0.5,0.6,0.7", (0.5, 0.6, 0.7)),
        (" 0.7, 0.5 ", (0.5, 0.7)),
        ("0.65", (0.65,)),
        ("0.1:0.9:0.4", (0.1, 0.5, 0.9)),
        ("5e-1:0.525:0.025", (0.5, 0.525)),
    ],
)
def test_ratios(text: str, ratios: tuple[float, ...]) -> None:
    assert parse_ratios(text) == ratios


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("half", "'half' is not a number"),
        ("0.5:", "'' is not a number"),
        ("0.5,,0.6", "'' is not a number"),
        ("0.5:0.8:0.1:2", "4 parts"),
        ("0.8:0.5", "ends (0.5) before it starts (0.8)"),
        ("0.5:0.8:0", "must be over 0"),
        ("0.5:0.8:-0.05", "must be over 0"),
        ("0.5:0.8:0.0001", "over 1000"),
        ("0:0.5", "ratio 0 is outside"),
        ("0.5:1", "ratio 1 is outside"),
        ("1", "ratio 1 is outside"),
        ("50", "outside"),
        ("-0.5", "outside"),
        ("nan", "not a finite number"),
        ("inf", "not a finite number"),
        ("0.5,0.50", "twice"),
    ],
)
def test_bad_ratios(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ratios(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0", (0,)),
        ("3", (3,)),
        ("0,1,2", (0, 1, 2)),
        ("1:5", (1, 2, 3, 4, 5)),
        ("4,0:1", (0, 1, 4)),
    ],
)
def test_integers(text: str, values: tuple[int, ...]) -> None:
    assert parse_integers(text, "--seeds") == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a whole number"),
        ("a", "'a' is not a whole number"),
        ("1.5", "'1.5' is not a whole number"),
        ("5:1", "ends before it starts"),
        ("1:2:3", "3 parts"),
        ("0,0", "twice"),
        ("0:2,1", "twice"),
        ("-1", "-1 is under 0"),
        ("0:1000000000", "over 1000"),
    ],
)
def test_bad_integers(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_integers(text, "--seeds")
    assert words in str(caught.value)
    assert "--seeds" in str(caught.value)


def test_plan_of_the_grid() -> None:
    jobs = build_plan(Grid((1, 2), (0, 7), (0.5, 0.65)), dense={"a": 1}, point={"b": 2})
    assert [job.id for job in jobs] == [
        *("f1-s0-dense", "f1-s0-slimming-0.50", "f1-s0-slimming-0.65"),
        *("f1-s7-dense", "f1-s7-slimming-0.50", "f1-s7-slimming-0.65"),
        *("f2-s0-dense", "f2-s0-slimming-0.50", "f2-s0-slimming-0.65"),
        *("f2-s7-dense", "f2-s7-slimming-0.50", "f2-s7-slimming-0.65"),
    ]
    ids = {job.id for job in jobs}
    for job in jobs:
        assert job.needs == (() if job.kind == "dense" else (f"f{job.fold}-s{job.seed}-dense",))
        assert ids.issuperset(job.needs)
    assert len({job.settings_hash for job in jobs}) == len(jobs)


def test_ids_tell_kinds_of_ratio_apart() -> None:
    by_params = Grid((1,), (0,), (0.5,), prune_by="params", target_params=30_000)
    jobs = build_plan(by_params, dense={}, point={})
    assert [job.id for job in jobs[1:]] == ["f1-s0-slimming-p0.50", "f1-s0-slimming-to30000"]
    assert (jobs[2].prune_by, jobs[2].prune_ratio, jobs[2].target_params) == (
        "target",
        None,
        30_000,
    )


def test_hash_follows_what_decides_the_result() -> None:
    grid = Grid((1,), (0,), (0.5,))

    def hashes(dense: dict[str, object], point: dict[str, object]) -> list[str]:
        return [job.settings_hash for job in build_plan(grid, dense=dense, point=point)]

    base = hashes({"epochs": 40, "lr": 0.1}, {"epochs": 5})
    assert hashes({"lr": 0.1, "epochs": 40}, {"epochs": 5}) == base
    other_training = hashes({"epochs": 41, "lr": 0.1}, {"epochs": 5})
    assert other_training[0] != base[0] and other_training[1] != base[1]
    other_fine_tuning = hashes({"epochs": 40, "lr": 0.1}, {"epochs": 6})
    assert other_fine_tuning[0] == base[0] and other_fine_tuning[1] != base[1]
    with pytest.raises(ValueError, match="JSON"):
        settings_hash({"lr": float("nan")})


def test_growing_the_grid_keeps_the_hashes() -> None:
    small = build_plan(Grid((1,), (0,), (0.5,)), dense={"a": 1}, point={})
    large = build_plan(Grid((1, 2), (0, 1), (0.5, 0.6)), dense={"a": 1}, point={})
    found = {job.id: job.settings_hash for job in large}
    assert all(found[job.id] == job.settings_hash for job in small)
    left = remaining(large, {job.id for job in small})
    assert len(left) == len(large) - len(small)


def test_empty_grid() -> None:
    with pytest.raises(UsageError, match="no point"):
        build_plan(Grid((1,), (0,), ()), dense={}, point={})


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.5, "0.50"), (0.525, "0.525"), (1e-4, "0.0001"), (0.0, "0.00")]
)
def test_tag(ratio: float, text: str) -> None:
    assert tag(ratio) == text
