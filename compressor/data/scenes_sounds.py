"""People, signals, machines and animals of the embedded synthetic scenes.

Each sound is a function ``(rng, character) -> samples``: ``rng`` gives what differs from clip to
clip, ``character`` in 0..1 what stays the same at one location (the tiles of that hall, the chime
of that station). Levels do not matter here: the mixer scales each sound by its loudest 100 ms.
Kinds that share a frequency range are told apart by their movement in time, as in real scenes.
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
    noise,
    ones,
    overtones,
    pulses,
    rings,
    shaped,
    tone,
    unit,
    voice,
)

SOUNDS: Final = Registry()


# --- people


@SOUNDS.add
def talker(rng: Rng, character: float) -> FloatArray:
    """One person close by."""
    return voice(rng, rng.choice([115.0, 205.0]) * rng.uniform(0.85, 1.2), rng.uniform(3.5, 5.5))


@SOUNDS.add
def babble(rng: Rng, character: float) -> FloatArray:
    """A crowd: three talkers and their blurred copies, hardly any syllables left."""
    voices = [talker(rng, character) for _ in range(3)]
    shifts = rng.integers(0, SAMPLES, 6)
    crowd = sum((np.roll(voices[k % 3], int(s)) for k, s in enumerate(shifts)), start=voices[0])
    return unit(crowd)


@SOUNDS.add
def children(rng: Rng, character: float) -> FloatArray:
    """Children calling: high voices that rise and fall far."""
    call = voice(rng, rng.uniform(300, 420), rng.uniform(2.0, 3.5))
    return call + 0.6 * np.roll(voice(rng, rng.uniform(300, 460), 3.0), int(rng.integers(SAMPLES)))


@SOUNDS.add
def announcement(rng: Rng, character: float) -> FloatArray:
    """A voice through a loudspeaker: narrow band, few pauses."""
    speech = voice(rng, between(character, 170, 240), rng.uniform(4.0, 5.0))
    return shaped(np.tanh(2 * unit(speech)), band(500, 3200, 2.0))


@SOUNDS.add
def footsteps(rng: Rng, character: float) -> FloatArray:
    """One walker on a hard floor: heel, then sole."""
    times = beats(rng, rng.uniform(1.6, 2.3), 0.03)
    heel = bursts(times, rng.uniform(0.6, 1, len(times)), 0.012, 0.001)
    sole = bursts(times + 0.07, rng.uniform(0.2, 0.6, len(times)), 0.02, 0.004)
    knock = noise(rng, between(character, 250, 500), between(character, 1600, 3200), -2)
    return knock * heel + noise(rng, 1500, 6000) * sole * np.float32(0.5)


@SOUNDS.add
def crowd_steps(rng: Rng, character: float) -> FloatArray:
    """Many walkers: irregular steps at ten or more a second."""
    times = rng.uniform(0, 1, int(rng.integers(9, 15)))
    envelope = bursts(times, rng.uniform(0.3, 1, len(times)), 0.015, 0.001)
    return noise(rng, 300, between(character, 2500, 4500), -2) * envelope


@SOUNDS.add
def gravel(rng: Rng, character: float) -> FloatArray:
    """Steps on gravel: each step is a long crunch of many grains."""
    times = beats(rng, rng.uniform(1.6, 2.1), 0.03)
    grains = np.repeat(times, 9) + rng.uniform(0, 0.17, 9 * len(times))
    envelope = bursts(grains, rng.uniform(0.2, 1, len(grains)), 0.006, 0.001)
    return noise(rng, between(character, 1200, 2400), 9000) * envelope


@SOUNDS.add
def rolling_bag(rng: Rng, character: float) -> FloatArray:
    """Wheels of a suitcase over tile joints: a fast steady rattle over a low roll."""
    times = beats(rng, between(character, 9, 14) * rng.uniform(0.93, 1.07), 0.06)
    envelope = bursts(times, rng.uniform(0.6, 1, len(times)), 0.014, 0.002)
    return noise(rng, 350, 3800, -2) * (envelope + np.float32(0.12))


@SOUNDS.add
def trolley(rng: Rng, character: float) -> FloatArray:
    """A shopping trolley: the sound of the rolling bag, but slower and uneven."""
    times = beats(rng, between(character, 4, 7), 0.3)
    envelope = bursts(times, rng.uniform(0.2, 1, len(times)), 0.03, 0.002)
    return noise(rng, 350, 3800, -2) * (envelope + np.float32(0.12))


# --- signals and music


def _beep_train(rng: Rng, pitch_hz: float, rate_hz: float, share: float) -> FloatArray:
    on = ((np.arange(SAMPLES) * rate_hz / SAMPLES + rng.uniform()) % 1.0 < share).astype(np.float32)
    return overtones(pitch_hz, (1.0, 0.0, 0.3)) * on


@SOUNDS.add
def door_beeps(rng: Rng, character: float) -> FloatArray:
    """Closing doors: quick even beeps."""
    return _beep_train(rng, between(character, 1300, 2300), rng.uniform(5.0, 6.5), 0.5)


@SOUNDS.add
def ticket_beep(rng: Rng, character: float) -> FloatArray:
    """A ticket reader or crossing signal: beeps of the same pitch range, slower and shorter."""
    return _beep_train(rng, between(character, 1300, 2300), rng.uniform(2.2, 3.2), 0.25)


@SOUNDS.add
def checkout_beep(rng: Rng, character: float) -> FloatArray:
    """A till: one or two short beeps."""
    times = np.array([rng.uniform(), rng.uniform()])[: int(rng.integers(1, 3))]
    pitch = between(character, 1300, 2300)
    out = np.zeros(SAMPLES, np.float32)
    for start in times:
        out += gate(float(start), 0.09, 0.004)
    return out * overtones(pitch, (1.0, 0.0, 0.3))


def _chime(rng: Rng, notes: tuple[float, ...], base_hz: float, decay_s: float) -> FloatArray:
    start = rng.uniform()
    out = np.zeros(SAMPLES, np.float32)
    for index, ratio in enumerate(notes):
        pitch = base_hz * ratio
        out += rings([start + 0.22 * index], [pitch, 2 * pitch, 3 * pitch], [1, 0.4, 0.2], decay_s)
    return out


@SOUNDS.add
def chime_down(rng: Rng, character: float) -> FloatArray:
    """Gong before an announcement: notes going down."""
    return _chime(rng, (1.5, 1.25, 1.0), between(character, 480, 680), 0.18)


@SOUNDS.add
def chime_up(rng: Rng, character: float) -> FloatArray:
    """Gong before an announcement: notes going up."""
    return _chime(rng, (1.0, 1.25, 1.5), between(character, 480, 680), 0.18)


@SOUNDS.add
def tram_bell(rng: Rng, character: float) -> FloatArray:
    """A foot bell: fast dull strokes."""
    base = between(character, 650, 950)
    times = beats(rng, rng.uniform(4.5, 6.0), 0.05)
    return rings(times, base * np.array([1, 2.4, 3.9]), [1, 0.7, 0.4], 0.07)


@SOUNDS.add
def bicycle_bell(rng: Rng, character: float) -> FloatArray:
    """A bicycle bell: two bright trills."""
    base = rng.uniform(2300, 3300)
    start = rng.uniform()
    times = np.concatenate([start + 0.035 * np.arange(4), start + 0.3 + 0.035 * np.arange(4)])
    return rings(times, base * np.array([1, 1.7, 2.6]), [1, 0.7, 0.4], 0.06)


@SOUNDS.add
def church_bell(rng: Rng, character: float) -> FloatArray:
    """A far bell: one stroke, inharmonic, long."""
    base = between(character, 280, 480)
    partials = base * np.array([1.0, 1.2, 1.5, 2.0, 2.7, 3.0])
    return rings([rng.uniform()], partials, [0.8, 1, 0.5, 0.9, 0.4, 0.3], 0.45)


@SOUNDS.add
def clinks(rng: Rng, character: float) -> FloatArray:
    """Cups and cutlery: short high rings at random times."""
    out = np.zeros(SAMPLES, np.float32)
    for _ in range(3):
        times = rng.uniform(0, 1, 2)
        base = rng.uniform(2600, 5200)
        out += rings(times, base * np.array([1, 1.53]), [1, 0.6], 0.03)
    return out


@SOUNDS.add
def music(rng: Rng, character: float) -> FloatArray:
    """Shop music: a chord change on each beat and a light cymbal."""
    root = between(character, 220, 330)
    period = between(character, 0.33, 0.25)
    start = rng.uniform(0, period)
    out = np.zeros(SAMPLES, np.float32)
    for index in range(3):
        chord = root * rng.choice([1.0, 1.125, 1.335, 1.5])
        notes = chord * np.array([1, 1.26, 1.5, 2.0, 3.0])
        out += rings([start + index * period], notes, [1, 0.8, 0.8, 0.5, 0.3], 0.16)
    hat = np.arange(start, 1, period / 2)
    return out + np.float32(0.4) * noise(rng, 6000, 12000) * bursts(hat, ones(hat), 0.02, 0.001)


# --- machines and nature


@SOUNDS.add
def hum(rng: Rng, character: float) -> FloatArray:
    """Ventilation: harmonics of the mains with a slow beat."""
    harmonics = 100 * np.arange(1, 7)
    out = np.zeros(SAMPLES, np.float32)
    for frequency in harmonics:
        out += np.float32(rng.uniform(0.2, 1)) * tone(float(frequency) * (1 + 0.01 * character))
    return out


@SOUNDS.add
def escalator(rng: Rng, character: float) -> FloatArray:
    """Steps of an escalator: a soft even clatter with a hum."""
    times = beats(rng, between(character, 4.5, 6.5), 0.02)
    clatter = noise(rng, 300, 2800, -2) * bursts(times, ones(times), 0.035, 0.012)
    return clatter + np.float32(0.25) * hum(rng, character)


@SOUNDS.add
def chirps(rng: Rng, character: float) -> FloatArray:
    """A songbird: repeated quick sweeps, up in one species and down in another."""
    rate = rng.uniform(4, 7)
    phase = (np.arange(SAMPLES) * rate / SAMPLES + rng.uniform()) % 1.0
    span = rng.choice([-0.7, 0.7])
    pitch = between(character, 2400, 4200) * np.exp2(span * np.minimum(phase / 0.5, 1.0))
    shape = np.sin(np.pi * np.minimum(phase / 0.5, 1.0)).astype(np.float32)
    return tone(pitch) * shape * gate(rng.uniform(), rng.uniform(0.4, 0.9), 0.03)


@SOUNDS.add
def trill(rng: Rng, character: float) -> FloatArray:
    """A trilling bird: pitch wavers faster than notes can be told apart."""
    pitch = rng.uniform(3000, 5500) * np.exp2(0.12 * tone(rng.uniform(16, 24)).astype(np.float64))
    return tone(pitch) * gate(rng.uniform(), rng.uniform(0.3, 0.7), 0.05)


@SOUNDS.add
def pigeons(rng: Rng, character: float) -> FloatArray:
    """Cooing, with a clap of wings."""
    pitch = rng.uniform(380, 520) * np.exp2(0.08 * tone(rng.uniform(2, 3)).astype(np.float64))
    coo = tone(pitch) * (1 + tone(rng.uniform(2.2, 3.4), rng.uniform())).astype(np.float32)
    times = rng.uniform() + np.arange(6) / rng.uniform(11, 15)
    return coo + np.float32(0.5) * noise(rng, 700, 5000) * bursts(times, ones(times), 0.018, 0.006)


@SOUNDS.add
def dog(rng: Rng, character: float) -> FloatArray:
    """One or two barks."""
    pitch = rng.uniform(350, 650)
    times = rng.uniform() + np.array([0.0, 0.33])[: int(rng.integers(1, 3))]
    bark = pulses(pitch * np.exp2(0.15 * drift(rng, 6)), 0.0) * 5 + noise(rng, 600, 4000) * 0.2
    return shaped(bark, band(600, 2600, -1)) * bursts(times, ones(times), 0.05, 0.02)


@SOUNDS.add
def leaves(rng: Rng, character: float) -> FloatArray:
    """Wind in leaves: bright noise in slow gusts."""
    gust = np.exp(0.9 * drift(rng, 4)).astype(np.float32)
    return noise(rng, between(character, 1500, 2600), 9000, -2) * gust


@SOUNDS.add
def fountain(rng: Rng, character: float) -> FloatArray:
    """Falling water: the same band as leaves, with the grain of drops."""
    times = rng.uniform(0, 1, 45)
    grain = np.float32(0.5) + bursts(times, rng.uniform(0.3, 1.6, 45), 0.012, 0.001)
    return noise(rng, between(character, 1500, 2600), 9000, -2) * grain
