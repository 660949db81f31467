from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from compressor.errors import DataError
from compressor.training.validation import split_rows


def test_whole_groups_and_nothing_lost(make_part: Callable[..., object]) -> None:
    part = make_part(240, classes=4)
    train, held = split_rows(part, 0.2)
    assert sorted([*train, *held]) == list(range(240))
    groups = np.array(part.groups)
    assert not set(groups[train]) & set(groups[held])


def test_share_is_met_class_by_class(make_part: Callable[..., object]) -> None:
    part = make_part(600, classes=5)  # 120 clips a class in 30 groups of 4
    _, held = split_rows(part, 0.1)
    assert np.bincount(part.y[held], minlength=5).tolist() == [12] * 5


def test_uneven_groups_stay_near_the_share(make_part: Callable[..., object]) -> None:
    part = make_part(600, classes=5)
    rng = np.random.default_rng(3)
    groups = tuple(f"{k}-{g}" for k, g in zip(part.y, rng.integers(0, 15, 600), strict=True))
    _, held = split_rows(dataclasses.replace(part, groups=groups), 0.15)
    counts = np.bincount(part.y[held], minlength=5)
    assert (abs(counts - 18) <= 8).all()  # groups have about 8 clips


def test_groups_of_many_classes(make_part: Callable[..., object]) -> None:
    """Recording sessions that hold every class: still whole, still balanced."""
    part = make_part(300, classes=3)
    groups = tuple(f"session{i // 15}" for i in range(300))
    train, held = split_rows(dataclasses.replace(part, groups=groups), 0.2)
    assert not {groups[i] for i in train} & {groups[i] for i in held}
    assert np.bincount(part.y[held]).tolist() == [20, 20, 20]


def test_a_class_of_big_groups_is_not_left_out(make_part: Callable[..., object]) -> None:
    part = make_part(90, classes=3)  # 30 clips a class
    big = tuple(f"big{i // 45}" if k == 0 else f"{k}-{i}" for i, k in enumerate(part.y))
    _, held = split_rows(dataclasses.replace(part, groups=big), 0.1)
    # class 0 has two groups of 15 against a target of 3: one of them is half, and still allowed
    assert np.bincount(part.y[held]).tolist() == [15, 3, 3]


def test_clips_without_a_group_are_groups_of_their_own(make_part: Callable[..., object]) -> None:
    part = make_part(100, classes=2)
    _, held = split_rows(dataclasses.replace(part, groups=("",) * 100), 0.1)
    assert np.bincount(part.y[held]).tolist() == [5, 5]


def test_same_part_same_split(make_part: Callable[..., object]) -> None:
    part = make_part()
    assert split_rows(part, 0.2)[1].tolist() == split_rows(part, 0.2)[1].tolist()


def test_zero_share_holds_nothing_back(make_part: Callable[..., object]) -> None:
    train, held = split_rows(make_part(), 0.0)
    assert (len(train), len(held)) == (96, 0)


def test_one_group_cannot_be_split(make_part: Callable[..., object]) -> None:
    part = dataclasses.replace(make_part(), groups=("only",) * 96)
    with pytest.raises(DataError, match=r"1 group.*validation_share = 0"):
        split_rows(part, 0.1)
