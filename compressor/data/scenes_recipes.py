"""What the ten synthetic scenes consist of: background, room, and the sounds that may be heard.

Scenes of one kind (halls, cabins, open air) share background and room, and many sounds; each has a
few *leads* of its own, of which a clip holds one or two (or, rarely, none), so that a network needs
a filter or more for each of some thirty leads to know all scenes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Recipe:
    """One scene: the colour of its bed at ``KNOTS_HZ``, its room and its sounds.

    Attributes:
        bed_db: level of the background noise at ``KNOTS_HZ``.
        reverb_s: range of the reverberation times of its locations.
        wet: range of the level of the reverberation against the direct sound (linear).
        leads: what gives the scene away, with the odds of each.
        extras: what may also be heard, with the probability of each in a clip.
    """

    bed_db: tuple[float, ...]
    reverb_s: tuple[float, float]
    wet: tuple[float, float]
    leads: tuple[tuple[str, float], ...]
    extras: tuple[tuple[str, float], ...]


_CABIN: Final = (0.0, -1, -5, -11, -17, -23, -29, -36, -44, -54)
_HALL: Final = (-6.0, -6, -7, -11, -14, -19, -25, -32, -41, -52)
_OPEN: Final = (-4.0, -4, -7, -12, -15, -18, -24, -31, -41, -52)
_CABIN_ROOM: Final = ((0.08, 0.15), (0.2, 0.5))
_HALL_ROOM: Final = ((0.25, 0.7), (0.3, 0.8))
_OPEN_ROOM: Final = ((0.05, 0.2), (0.05, 0.3))

_RECIPES: Final = {
    "airport": Recipe(
        _HALL,
        *_HALL_ROOM,
        leads=(("rolling_bag", 4), ("chime_up", 4), ("announcement", 2)),
        extras=(
            ("babble", 0.5),
            ("hum", 0.3),
            ("footsteps", 0.2),
            ("ticket_beep", 0.1),
            ("clinks", 0.05),
            ("children", 0.1),
            ("escalator", 0.05),
        ),
    ),
    "bus": Recipe(
        _CABIN,
        *_CABIN_ROOM,
        leads=(("bus_engine", 5), ("air_brake", 2), ("indicator", 3)),
        extras=(
            ("rattle", 0.3),
            ("talker", 0.3),
            ("ticket_beep", 0.1),
            ("car_pass", 0.1),
            ("announcement", 0.08),
        ),
    ),
    "metro": Recipe(
        _CABIN,
        *_CABIN_ROOM,
        leads=(("rail_joints", 4), ("inverter", 4), ("door_beeps", 2)),
        extras=(
            ("talker", 0.3),
            ("rattle", 0.2),
            ("squeal", 0.15),
            ("announcement", 0.1),
            ("hum", 0.15),
        ),
    ),
    "metro_station": Recipe(
        _HALL,
        *_HALL_ROOM,
        leads=(("train_arrival", 4), ("brake_squeal", 2), ("escalator", 3), ("chime_down", 3)),
        extras=(
            ("babble", 0.4),
            ("footsteps", 0.25),
            ("announcement", 0.3),
            ("door_beeps", 0.1),
            ("hum", 0.3),
        ),
    ),
    "park": Recipe(
        _OPEN,
        *_OPEN_ROOM,
        leads=(("chirps", 4), ("trill", 2), ("gravel", 3), ("leaves", 2)),
        extras=(
            ("dog", 0.2),
            ("children", 0.15),
            ("talker", 0.15),
            ("car_pass", 0.05),
            ("crowd_steps", 0.05),
        ),
    ),
    "public_square": Recipe(
        _OPEN,
        *_OPEN_ROOM,
        leads=(("fountain", 4), ("pigeons", 3), ("church_bell", 3)),
        extras=(
            ("children", 0.25),
            ("crowd_steps", 0.12),
            ("talker", 0.2),
            ("bicycle_bell", 0.06),
            ("car_pass", 0.1),
            ("chirps", 0.08),
        ),
    ),
    "shopping_mall": Recipe(
        _HALL,
        *_HALL_ROOM,
        leads=(("music", 4), ("checkout_beep", 3), ("clinks", 2), ("trolley", 3)),
        extras=(
            ("babble", 0.6),
            ("escalator", 0.1),
            ("footsteps", 0.25),
            ("children", 0.15),
            ("announcement", 0.15),
            ("hum", 0.15),
        ),
    ),
    "street_pedestrian": Recipe(
        _OPEN,
        *_OPEN_ROOM,
        leads=(("crowd_steps", 5), ("bicycle_bell", 3), ("babble", 3)),
        extras=(
            ("talker", 0.4),
            ("footsteps", 0.3),
            ("music", 0.08),
            ("rolling_bag", 0.08),
            ("car_pass", 0.1),
            ("children", 0.1),
        ),
    ),
    "street_traffic": Recipe(
        _OPEN,
        *_OPEN_ROOM,
        leads=(("car_pass", 5), ("car_engine", 4), ("horn", 2), ("siren", 1)),
        extras=(
            ("footsteps", 0.15),
            ("talker", 0.1),
            ("air_brake", 0.06),
            ("bus_engine", 0.08),
            ("tram_bell", 0.04),
        ),
    ),
    "tram": Recipe(
        _CABIN,
        *_CABIN_ROOM,
        leads=(("single_joints", 4), ("gear_whine", 4), ("tram_bell", 2)),
        extras=(
            ("squeal", 0.15),
            ("talker", 0.3),
            ("rattle", 0.25),
            ("door_beeps", 0.06),
            ("announcement", 0.1),
        ),
    ),
}

RECIPES: Final[Mapping[str, Recipe]] = MappingProxyType(_RECIPES)
