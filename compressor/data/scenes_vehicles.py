"""Vehicles of the embedded synthetic scenes: engines, tyres, rails and brakes.

Functions ``(rng, character) -> samples`` as in `scenes_sounds`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from compressor.data.scenes_signal import (
    SAMPLES,
    FloatArray,
    Registry,
    Rng,
    band,
    beats,
    between,
    bursts,
    drift,
    gate,
    glide,
    noise,
    ones,
    overtones,
    pulses,
    shaped,
    tone,
)

SOUNDS: Final = Registry()


def _motor(rng: Rng, start_hz: float, end_hz: float, low_hz: float, high_hz: float) -> FloatArray:
    """Firing impulses through a body resonance, with a cycle that is not quite even."""
    rate = glide(start_hz, end_hz) * np.exp2(0.015 * drift(rng, 12))
    source = pulses(rate, rng.uniform()) + np.float32(0.5) * pulses(rate / 2, rng.uniform())
    return shaped(source, band(low_hz, high_hz, -4.0))


@SOUNDS.add
def bus_engine(rng: Rng, character: float) -> FloatArray:
    """A large diesel from inside: slow firing, revs drifting or rising."""
    start = between(character, 26, 38) * rng.uniform(0.9, 1.25)
    return _motor(rng, start, start * rng.choice([1.0, 1.0, 1.3, 0.8]), 60, 900)


@SOUNDS.add
def car_engine(rng: Rng, character: float) -> FloatArray:
    """A car pulling away: faster firing, revs rise clearly."""
    start = rng.uniform(45, 75)
    swell = np.float32(0.35) + gate(rng.uniform(), rng.uniform(0.5, 0.9), 0.25)
    return _motor(rng, start, start * rng.uniform(1.15, 1.6), 80, 2200) * swell


@SOUNDS.add
def car_pass(rng: Rng, character: float) -> FloatArray:
    """Tyres going by: a broad swell whose upper edge is highest at the nearest point."""
    nearest = rng.uniform(0.1, 0.9)
    width = rng.uniform(0.12, 0.3)
    near = (1 / (1 + np.square((glide(0, 1) - nearest) / width))).astype(np.float32)
    low = noise(rng, 400, between(character, 1400, 2200), -2)
    return low * near + np.float32(0.6) * noise(rng, 1500, 6000, -3) * near * near * near


@SOUNDS.add
def horn(rng: Rng, character: float) -> FloatArray:
    """A car horn: two steady notes rich in overtones."""
    low = rng.uniform(340, 430)
    chord = pulses(glide(low, low), 0.0) + pulses(glide(low * 1.26, low * 1.26), 0.5)
    return shaped(chord, band(400, 3600, -1)) * gate(rng.uniform(), rng.uniform(0.2, 0.6))


@SOUNDS.add
def siren(rng: Rng, character: float) -> FloatArray:
    """A siren in the distance, sweeping up or down."""
    low, high = rng.uniform(500, 700), rng.uniform(1000, 1500)
    start, end = (low, high) if rng.random() < 0.5 else (high, low)
    sweep = glide(start, end)
    return overtones(sweep, (1.0, 0.4, 0.2))


@SOUNDS.add
def air_brake(rng: Rng, character: float) -> FloatArray:
    """Compressed air let go: sudden hiss that dies away."""
    start = rng.uniform()
    envelope = bursts([start], [1.0], rng.uniform(0.08, 0.2), 0.004)
    return noise(rng, between(character, 2000, 3500), 12000, 1) * envelope


@SOUNDS.add
def indicator(rng: Rng, character: float) -> FloatArray:
    """The relay of a direction indicator: tick, tock."""
    period = between(character, 0.3, 0.4)
    times = np.arange(rng.uniform(0, period), 1, period)
    pitch = np.where(np.arange(len(times)) % 2 == 0, 1.0, 0.6)
    return noise(rng, 1800, 5000) * bursts(times, pitch, 0.006, 0.0005)


@SOUNDS.add
def rattle(rng: Rng, character: float) -> FloatArray:
    """Panels and handles shaken by the road: irregular clusters."""
    centre = rng.uniform(0, 1, int(rng.integers(2, 4)))
    times = np.repeat(centre, 5) + rng.normal(0, 0.05, 5 * len(centre))
    envelope = bursts(times, rng.uniform(0.2, 1, len(times)), 0.009, 0.001)
    return noise(rng, between(character, 900, 1800), 5500) * envelope


@SOUNDS.add
def rail_joints(rng: Rng, character: float) -> FloatArray:
    """Wheels over rail joints: pairs of low thuds."""
    times = beats(rng, between(character, 1.8, 3.0), 0.02)
    gap = rng.uniform(0.09, 0.13)
    pairs = np.concatenate([times, times + gap])
    gains = np.concatenate([ones(times), 0.7 * ones(times)])
    return noise(rng, 90, 1400, -3) * bursts(pairs, gains, 0.03, 0.002)


@SOUNDS.add
def single_joints(rng: Rng, character: float) -> FloatArray:
    """Wheels over street crossings: single thuds, slower and wider."""
    times = beats(rng, between(character, 1.6, 2.8), 0.05)
    return noise(rng, 90, 1400, -3) * bursts(times, rng.uniform(0.6, 1, len(times)), 0.05, 0.002)


@SOUNDS.add
def inverter(rng: Rng, character: float) -> FloatArray:
    """A drive inverter: a chord that climbs (or falls) in steps."""
    ratios = (1.0, 1.14, 1.3, 1.48, 1.69)
    if rng.random() < 0.35:
        ratios = ratios[::-1]
    first, count = int(rng.integers(0, 2)), int(rng.integers(3, 5))
    index = np.minimum(np.arange(SAMPLES) * count // SAMPLES + first, len(ratios) - 1)
    pitch = between(character, 350, 600) * np.asarray(ratios, np.float64)[index]
    return overtones(pitch, (1.0, 0.5, 0.35))


@SOUNDS.add
def gear_whine(rng: Rng, character: float) -> FloatArray:
    """Axle gears: one tone that glides without steps."""
    start = between(character, 380, 700) * rng.uniform(0.9, 1.1)
    pitch = glide(start, start * rng.choice([0.75, 1.3])) * np.exp2(0.01 * drift(rng, 20))
    return overtones(pitch, (1.0, 0.5, 0.35))


@SOUNDS.add
def squeal(rng: Rng, character: float) -> FloatArray:
    """Flanges in a curve: a trembling high pair of tones."""
    pitch = between(character, 1800, 3400) * np.exp2(0.02 * drift(rng, 30))
    partner = pitch * rng.uniform(1.35, 1.6)
    flutter = (1 + 0.6 * tone(rng.uniform(6, 11), rng.uniform())).astype(np.float32)
    out = (tone(pitch) + np.float32(0.6) * tone(partner)) * flutter
    return out * gate(rng.uniform(), rng.uniform(0.4, 0.9), 0.1)


@SOUNDS.add
def brake_squeal(rng: Rng, character: float) -> FloatArray:
    """A train coming to a stop: one tone that sinks and steadies, over a falling rumble."""
    top = between(character, 2000, 3300)
    pitch = np.asarray(top * np.exp2(glide(0.25, -0.35)), np.float64)
    rumble = noise(rng, 100, 900, -3) * glide(1.0, 0.3).astype(np.float32)
    return tone(pitch) + np.float32(0.4) * tone(pitch * 1.5) + rumble


@SOUNDS.add
def train_arrival(rng: Rng, character: float) -> FloatArray:
    """A train entering: rumble and wind that grow, wheels that slow down."""
    grow = np.square(glide(0.25, 1.0)).astype(np.float32)
    if rng.random() < 0.4:
        grow = grow[::-1]
    beat = 1 + 0.7 * tone(glide(rng.uniform(7, 9), rng.uniform(4, 6)), rng.uniform())
    return noise(rng, 120, between(character, 1500, 3000), -3) * grow * beat.astype(np.float32)
