from __future__ import annotations

import pytest

from compressor.data import scene_groups
from compressor.data.tau import SCENES, THREE_CLASSES


def test_the_ten_scenes_fall_into_the_official_three_groups() -> None:
    """As the 3Class set was made: BUPT 2020, figure 2."""
    expected = {
        "indoor": {"airport", "shopping_mall", "metro_station"},
        "outdoor": {"street_pedestrian", "public_square", "street_traffic", "park"},
        "transportation": {"bus", "tram", "metro"},
    }
    groups = scene_groups(SCENES)
    assert groups is not None
    found: dict[str, set[str]] = {name: set() for name in THREE_CLASSES}
    for scene, group in zip(SCENES, groups, strict=True):
        found[THREE_CLASSES[group]].add(scene)
    assert found == expected
    assert scene_groups(SCENES[::-1]) == groups[::-1]
    assert scene_groups(("tram", "park")) == (2, 1)


@pytest.mark.parametrize("classes", [(), THREE_CLASSES, ("dog", "rain"), (*SCENES, "beach")])
def test_other_sets_have_no_groups(classes: tuple[str, ...]) -> None:
    assert scene_groups(classes) is None
