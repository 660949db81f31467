"""How the embedded synthetic scenes are mixed: recipes, locations and recording devices.

A clip is a bed of coloured noise plus a few sounds drawn from the scene's list, through the room
of its location and the microphone, noise and dynamic compression of its device. Levels in dB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compressor.data import scenes_sounds, scenes_vehicles
from compressor.data.scenes_recipes import RECIPES, Recipe
from compressor.data.scenes_signal import (
    KNOTS_HZ,
    SAMPLES,
    FloatArray,
    Registry,
    Rng,
    curve,
    drift,
    loudest_unit,
    spectrum_noise,
    unit,
)

SOUNDS: Final = Registry(scenes_sounds.SOUNDS | scenes_vehicles.SOUNDS)


@dataclass(frozen=True)
class Device:
    """A recorder: response at ``KNOTS_HZ``, own noise (dB full scale), compression ratio, gain."""

    response_db: tuple[float, ...]
    noise_db: float
    ratio: float
    gain_db: float


# a: a good binaural recorder; b, c: a telephone and an action camera; s1-s6: simulated telephones,
# s4-s6 (only in the evaluation part) somewhat further from a than s1-s3.
DEVICES: Final = MappingProxyType(
    {
        "a": Device((-1, 0, 0, 0, 0, 0, 0, 0, 0, -1), -84, 1.0, 0),
        "b": Device((-26, -14, -6, -2, 0, 1, 3, 4, 0, -9), -70, 1.5, 3),
        "c": Device((-30, -18, -9, -3, 0, 0, 2, 5, 6, -4), -68, 2.0, 5),
        "s1": Device((-20, -12, -5, 0, 3, 0, -3, 2, -4, -14), -72, 1.6, 0),
        "s2": Device((-12, -6, -1, 2, -2, 0, 4, 6, 2, -6), -70, 2.2, 2),
        "s3": Device((-28, -20, -10, -4, 1, 3, 2, -3, -7, -16), -74, 1.3, -2),
        "s4": Device((-32, -22, -12, -3, 4, 2, -2, 5, 3, -18), -66, 2.5, 4),
        "s5": Device((-10, -5, 1, 4, 1, -2, 1, -4, -11, -22), -69, 1.8, -3),
        "s6": Device((-36, -26, -15, -8, -3, 2, 6, 7, -2, -12), -64, 3.0, 6),
    }
)

LEAD_SHARE: Final = 0.95  # of the clips hold a lead
SECOND_SHARE: Final = 0.4  # of those hold a second one
LEAD_DB: Final = (8.0, 16.0)  # level of leads over the bed
EXTRA_DB: Final = (-6.0, 5.0)  # level of all other sounds over the bed
_EQ_DB: Final = 3.0  # standard deviation of a location's colour at each knot
_CLIP_EQ_DB: Final = 1.5  # the same from clip to clip (another spot, another direction)
_TILT_DB: Final = 1.5  # standard deviation of a location's tilt, dB an octave
_BLOCK: Final = 441  # 10 ms: the step of the dynamic compression


@dataclass(frozen=True)
class Place:
    """One location of one scene: what all its clips have in common."""

    scene: str
    colour_db: tuple[float, ...]
    level_db: float
    response: NDArray[np.complex64]  # (BINS,) room, direct sound included
    characters: dict[str, float]  # sound kind -> 0..1
    odds: tuple[float, ...]  # probability of each lead of the recipe; sums to 1


def _odds(recipe: Recipe, rng: Rng) -> tuple[float, ...]:
    weights = np.array([weight for _, weight in recipe.leads]) * rng.uniform(
        0.5, 1.5, len(recipe.leads)
    )
    return tuple((weights / weights.sum()).tolist())


@lru_cache(maxsize=64)
def place(scene: str, seed: int, key: tuple[int, ...]) -> Place:
    """Draw the location that ``(seed, key)`` names; equal arguments give equal places."""
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))
    recipe = RECIPES[scene]
    octaves = np.log2(KNOTS_HZ / 1000)
    colour = rng.normal(0, _EQ_DB, len(KNOTS_HZ)) + rng.normal(0, _TILT_DB) * octaves
    reverb_s, wet = rng.uniform(*recipe.reverb_s), rng.uniform(*recipe.wet)
    time_s = np.arange(SAMPLES, dtype=np.float32) / SAMPLES
    tail = rng.standard_normal(SAMPLES, np.float32) * np.exp(-6.9 * time_s / np.float32(reverb_s))
    tail *= np.float32(wet) / np.sqrt(np.square(tail).sum())
    tail[0] += 1.0
    return Place(
        scene=scene,
        colour_db=tuple(colour.tolist()),
        level_db=float(rng.normal(-30, 3)),
        response=np.fft.rfft(tail).astype(np.complex64),
        characters={kind: float(rng.uniform()) for kind in sorted(SOUNDS)},
        odds=_odds(recipe, rng),
    )


def scene_signal(at: Place, rng: Rng) -> FloatArray:
    """What is to be heard at ``at`` in one second, before any device; unit root mean square."""
    recipe = RECIPES[at.scene]
    colour = np.asarray(at.colour_db) + rng.normal(0, _CLIP_EQ_DB, len(KNOTS_HZ))
    weight = curve(np.asarray(recipe.bed_db) + colour)
    bed = unit(spectrum_noise(rng, weight)) * np.exp(0.15 * drift(rng, 5)).astype(np.float32)
    heard: list[tuple[str, tuple[float, float]]] = []
    if rng.random() < LEAD_SHARE:
        count = 1 + int(rng.random() < SECOND_SHARE)
        chosen = rng.choice(len(at.odds), count, replace=False, p=np.asarray(at.odds))
        heard += [(recipe.leads[int(i)][0], LEAD_DB) for i in chosen]
    heard += [(kind, EXTRA_DB) for kind, share in recipe.extras if rng.random() < share]
    events = np.zeros(SAMPLES, np.float32)
    for kind, levels in heard:
        sound = loudest_unit(SOUNDS[kind](rng, at.characters[kind]))
        gain = 10 ** (rng.uniform(*levels) / 20)
        events += np.roll(sound, int(rng.integers(SAMPLES))) * np.float32(gain)
    wet = np.fft.irfft(np.fft.rfft(events) * at.response, SAMPLES).astype(np.float32)
    return unit(bed + wet)


def record(signal: FloatArray, device: str, level_db: float, rng: Rng) -> NDArray[np.int16]:
    """Record ``signal`` (SAMPLES,) with ``device`` at ``level_db`` (dB full scale); 16 bit."""
    unit_of = DEVICES[device]
    heard = np.fft.irfft(np.fft.rfft(signal) * curve(unit_of.response_db), SAMPLES)
    gain = np.float32(10 ** ((level_db + unit_of.gain_db) / 20))
    own = unit(spectrum_noise(rng, curve(np.linspace(0, -6, len(KNOTS_HZ)))))
    x = heard.astype(np.float32) * gain + own * np.float32(10 ** (unit_of.noise_db / 20))
    if unit_of.ratio > 1:
        power = np.mean(np.square(x).reshape(-1, _BLOCK), axis=1, dtype=np.float64)
        power = np.convolve(np.pad(power, 3, "wrap"), np.full(7, 1 / 7), "valid")  # 70 ms
        target = 10 ** (-27 / 20)  # levels are pulled towards -27 dB full scale
        change = (np.sqrt(power) / target + 1e-6) ** (1 / unit_of.ratio - 1)
        at = np.arange(SAMPLES) / _BLOCK - 0.5
        x = x * np.interp(at, np.arange(len(change)), np.minimum(change, 8)).astype(np.float32)
    limited = np.float32(0.95) * np.tanh(x / np.float32(0.95))
    return np.rint(limited * 32767).astype(np.int16)
