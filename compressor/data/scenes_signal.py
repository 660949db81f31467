"""Signal primitives of the embedded synthetic scenes: noise, tones, rings, bursts and voices.

Everything is one second at 44.1 kHz, so that one FFT bin is one hertz and frequencies index
spectra directly. Signals are periodic: what runs over the end comes in again at the start, as in
an excerpt of a longer recording, and convolution by multiplied spectra needs no padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]
Rng = np.random.Generator

Sound = Callable[[Rng, float], FloatArray]

SAMPLE_RATE_HZ: Final = 44_100
CLIP_S: Final = 1.0
SAMPLES: Final = 44_100
BINS: Final = SAMPLES // 2 + 1
KNOTS_HZ: Final = np.array([31, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000], np.float64)

_LOG_BIN: Final[NDArray[np.float64]] = np.log2(np.maximum(np.arange(BINS), 16))
_LOG_KNOTS: Final = np.log2(KNOTS_HZ)
_TIME_S: Final = np.arange(SAMPLES) / SAMPLE_RATE_HZ
_BLOCKS: Final = 10  # events are levelled by their loudest 100 ms

# Formants 1 to 3 of nine vowels in Hz, men (Peterson and Barney 1952, Table II, rounded)
_VOWELS: Final = np.array(
    [
        (270, 2290, 3010),
        (390, 1990, 2550),
        (530, 1840, 2480),
        (660, 1720, 2410),
        (730, 1090, 2440),
        (570, 840, 2410),
        (440, 1020, 2240),
        (300, 870, 2240),
        (490, 1350, 1690),
    ],
    np.float64,
)
_SYLLABLE: Final = 8820  # 200 ms frames, half overlapping, one vowel each
_SYLLABLE_WINDOW: Final = np.hanning(_SYLLABLE + 1)[:-1].astype(np.float32)
_SYLLABLE_HZ: Final = np.arange(_SYLLABLE // 2 + 1) * (SAMPLE_RATE_HZ / _SYLLABLE)


class Registry(dict[str, Sound]):
    """Sounds by the name of the function that makes them."""

    def add(self, function: Sound) -> Sound:
        """Enter a sound; used as a decorator."""
        self[function.__name__] = function
        return function


def between(character: float, low: float, high: float) -> float:
    """Geometric interpolation: characters 0..1 spread evenly over octaves."""
    return float(low * (high / low) ** character)


def ones(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equal gains for all times."""
    return np.ones(len(times))


def _linear(decibels: NDArray[np.float64]) -> FloatArray:
    return np.asarray(10.0 ** (decibels / 20), np.float32)


def curve(knots_db: ArrayLike) -> FloatArray:
    """Turn levels in dB at ``KNOTS_HZ`` into a linear gain for each of the ``BINS`` bins."""
    decibels = np.interp(_LOG_BIN, _LOG_KNOTS, np.asarray(knots_db, np.float64))
    return _linear(decibels)


def band(low_hz: float, high_hz: float, slope_db: float = 0.0) -> FloatArray:
    """Gain of a band with soft edges of a third of an octave and a slope in dB an octave."""
    low, high = np.log2(low_hz), np.log2(high_hz)
    outside = np.maximum(np.maximum(low - _LOG_BIN, _LOG_BIN - high), 0.0)
    decibels = -36.0 * outside + slope_db * (_LOG_BIN - low)
    return _linear(decibels)


def spectrum_noise(rng: Rng, gain: FloatArray) -> FloatArray:
    """Gaussian noise whose magnitude follows ``gain`` (BINS,); samples (SAMPLES,)."""
    parts = rng.standard_normal((2, BINS), np.float32)
    spectrum = np.empty(BINS, np.complex64)
    spectrum.real = parts[0] * gain
    spectrum.imag = parts[1] * gain
    spectrum[0] = 0
    return np.fft.irfft(spectrum, SAMPLES).astype(np.float32)


def noise(rng: Rng, low_hz: float, high_hz: float, slope_db: float = 0.0) -> FloatArray:
    """Band-limited Gaussian noise of unit root mean square."""
    return unit(spectrum_noise(rng, band(low_hz, high_hz, slope_db)))


def shaped(signal: FloatArray, gain: NDArray[np.float32] | NDArray[np.complex64]) -> FloatArray:
    """Filter ``signal`` with a zero-phase (or complex) frequency response of ``BINS`` bins."""
    return np.fft.irfft(np.fft.rfft(signal) * gain, SAMPLES).astype(np.float32)


def unit(signal: FloatArray) -> FloatArray:
    """Scale to unit root mean square; silence stays silence."""
    rms = float(np.sqrt(np.mean(np.square(signal), dtype=np.float64)))
    return signal if rms < 1e-9 else (signal / np.float32(rms)).astype(np.float32)


def loudest_unit(signal: FloatArray) -> FloatArray:
    """Scale so that the loudest 100 ms block has unit root mean square."""
    power = np.mean(np.square(signal).reshape(_BLOCKS, -1), axis=1, dtype=np.float64)
    rms = float(np.sqrt(power.max()))
    return signal if rms < 1e-9 else (signal / np.float32(rms)).astype(np.float32)


def drift(rng: Rng, points: int) -> NDArray[np.float64]:
    """Smooth random curve through about ``points`` independent normal values; (SAMPLES,)."""
    return np.interp(_TIME_S, np.linspace(0, CLIP_S, points + 1), rng.standard_normal(points + 1))


def glide(start: float, end: float) -> NDArray[np.float64]:
    """Straight line from ``start`` to ``end`` over the clip; (SAMPLES,)."""
    return start + (end - start) * _TIME_S


def tone(frequency_hz: NDArray[np.float64] | float, phase: float = 0.0) -> FloatArray:
    """Sine whose frequency may change from sample to sample."""
    if isinstance(frequency_hz, np.ndarray):
        cycles = np.cumsum(frequency_hz) * (1 / SAMPLE_RATE_HZ) + phase
    else:
        cycles = _TIME_S * frequency_hz + phase
    # the phase is wrapped in double precision: single-precision sines are quick but need small
    # arguments
    return np.sin((cycles % 1.0 * (2 * np.pi)).astype(np.float32))


def overtones(frequency_hz: NDArray[np.float64] | float, gains: Sequence[float]) -> FloatArray:
    """Sum of a tone and its harmonics, the first gain being that of the fundamental."""
    out = np.zeros(SAMPLES, np.float32)
    for number, gain in enumerate(gains, start=1):
        if gain:
            out += np.float32(gain) * tone(frequency_hz * number)
    return out


def pulses(frequency_hz: NDArray[np.float64], phase: float) -> FloatArray:
    """Unit impulses at the given rate: the source of engines and voices."""
    cycles = np.floor(np.cumsum(frequency_hz) * (1 / SAMPLE_RATE_HZ) + phase)
    return np.diff(cycles, prepend=np.floor(phase)).astype(np.float32)


def bursts(
    times_s: ArrayLike, gains: ArrayLike, decay_s: float, attack_s: float = 0.003
) -> FloatArray:
    """Envelope with a fast rise and an exponential fall at each time (taken modulo the clip)."""
    length = int(min(CLIP_S, attack_s + 6 * decay_s) * SAMPLE_RATE_HZ)
    time_s = _TIME_S[:length]
    kernel = np.minimum(time_s / attack_s, 1.0) * np.exp(
        -np.maximum(time_s - attack_s, 0) / decay_s
    )
    kernel = kernel.astype(np.float32)
    out = np.zeros(2 * SAMPLES, np.float32)
    starts = (np.asarray(times_s, np.float64) % CLIP_S * SAMPLE_RATE_HZ).astype(np.int64)
    for start, gain in zip(starts.tolist(), np.asarray(gains, np.float32).tolist(), strict=True):
        out[start : start + length] += kernel * np.float32(gain)
    return out[:SAMPLES] + out[SAMPLES:]


def gate(start_s: float, duration_s: float, edge_s: float = 0.02) -> FloatArray:
    """Window that is 1 for ``duration_s`` from ``start_s`` on, with straight edges; wraps."""
    time_s = (_TIME_S - start_s) % CLIP_S
    rise = np.minimum(time_s, duration_s - time_s) / edge_s
    return np.clip(rise, 0.0, 1.0).astype(np.float32)


def beats(rng: Rng, rate_hz: float, jitter: float = 0.0) -> NDArray[np.float64]:
    """Times of a steady beat with a random start; ``jitter`` is a share of the period."""
    period = 1.0 / rate_hz
    times = np.arange(rng.uniform(0, period), CLIP_S, period)
    return times + jitter * period * rng.standard_normal(len(times))


def rings(
    times_s: ArrayLike, partials_hz: ArrayLike, gains: ArrayLike, decay_s: float
) -> FloatArray:
    """Struck bodies: the sum of the partials under one decaying envelope."""
    times = np.asarray(times_s, np.float64)
    body = np.zeros(SAMPLES, np.float32)
    for frequency, gain in zip(
        np.asarray(partials_hz, np.float64).tolist(),
        np.asarray(gains, np.float64).tolist(),
        strict=True,
    ):
        body += np.float32(gain) * tone(frequency)
    return body * bursts(times, np.ones(len(times)), decay_s)


def voice(rng: Rng, pitch_hz: float, syllables_hz: float) -> FloatArray:
    """One talker: glottal pulses and breath through vowels that change with the syllables."""
    pitch = pitch_hz * np.exp2(0.12 * drift(rng, 4) + glide(0.1, -0.1))
    source = pulses(pitch, rng.uniform()) * 6 + 0.15 * rng.standard_normal(SAMPLES, np.float32)
    doubled = np.concatenate([source, source[:_SYLLABLE]])
    half = _SYLLABLE // 2
    frames = np.lib.stride_tricks.sliding_window_view(doubled, _SYLLABLE)[:SAMPLES:half]
    size = 1.0 + 0.25 * np.clip((pitch_hz - 120) / 150, 0, 1)  # shorter tracts go with high pitch
    formants = size * _VOWELS[rng.integers(0, len(_VOWELS), len(frames))]
    distance = (_SYLLABLE_HZ[None, None] - formants[:, :, None]) / np.array([45, 60, 90])[:, None]
    response = (np.array([1.0, 0.5, 0.25])[:, None] / (1 + distance**2)).sum(1)
    spectra = np.fft.rfft(frames * _SYLLABLE_WINDOW) * response.astype(np.float32)
    spoken = np.fft.irfft(spectra, _SYLLABLE).astype(np.float32)
    out = np.zeros(SAMPLES + _SYLLABLE, np.float32)
    for index, frame in enumerate(spoken):
        out[index * half : index * half + _SYLLABLE] += frame
    out[:_SYLLABLE] += out[SAMPLES:]
    times = beats(rng, syllables_hz, 0.15)
    stress = rng.uniform(0.25, 1.0, len(times)) * (rng.random(len(times)) > 0.12)
    spoken_env = bursts(times, stress, 0.09, 0.03)
    hiss_env = bursts(times - 0.04, stress * (rng.random(len(times)) < 0.3), 0.03, 0.02)
    hiss = noise(rng, 4000, 9000)
    return unit(out[:SAMPLES]) * spoken_env + np.float32(0.25) * hiss * hiss_env
