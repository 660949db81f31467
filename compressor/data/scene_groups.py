"""The second task of the TAU sets: indoor, outdoor or transportation."""

from __future__ import annotations

from collections.abc import Sequence

from compressor.data.tau import THREE_CLASSES

__all__ = ["scene_groups"]

_GROUP_OF = {
    "airport": "indoor",
    "metro_station": "indoor",
    "shopping_mall": "indoor",
    "park": "outdoor",
    "public_square": "outdoor",
    "street_pedestrian": "outdoor",
    "street_traffic": "outdoor",
    "bus": "transportation",
    "metro": "transportation",
    "tram": "transportation",
}


def scene_groups(classes: Sequence[str]) -> tuple[int, ...] | None:
    """The group of each class, as an index into `tau.THREE_CLASSES`.

    The grouping is that of TAU Urban Acoustic Scenes 2020 3Class, which BUPT (2020, figure 2) and
    SCUT (2023, table 1) use; SCUT's table splits street_pedestrian by a comma into two names.

    Args:
        classes: class names of a data set, indexed by its labels.

    Returns:
        One of 0 (indoor), 1 (outdoor), 2 (transportation) for each class; None where a class is
        none of the ten TAU scenes, for such a set has no such groups.
    """
    if not classes or any(name not in _GROUP_OF for name in classes):
        return None
    return tuple(THREE_CLASSES.index(_GROUP_OF[name]) for name in classes)
