"""How loud a recording is: its A-weighted level (numpy only).

Y. Tokozume, Y. Ushiku and T. Harada (ICLR 2018, section 3.2) weigh the spectrum of windows of about
0.1 s by the A curve and take the loudest window. Plain power would mostly tell how much wind,
handling and traffic rumble a microphone lets through: A weighting is 19 dB down at 100 Hz.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from compressor.audio.spectrum import FloatArray

__all__ = ["SILENCE_DB", "a_weighting_db", "level_db"]

SILENCE_DB = -80.0
"""Lowest level returned, that of digital silence too (as in Tokozume et al.'s published code)."""

_WINDOW_S = 0.1


def a_weighting_db(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The A curve in dB (IEC 61672-1, annex E): 0 at 1 kHz, minus infinity at 0 Hz; any shape."""
    f2 = np.square(np.asarray(hz, dtype=np.float64))
    with np.errstate(divide="ignore"):
        response = np.log10(
            12_194.0**2
            * f2**2
            / ((f2 + 20.6**2) * np.sqrt((f2 + 107.7**2) * (f2 + 737.9**2)) * (f2 + 12_194.0**2))
        )
    return np.asarray(20.0 * response + 2.0, dtype=np.float64)


def level_db(waveform: FloatArray, sample_rate_hz: int) -> float:
    """A-weighted level of the loudest 0.1 s of a recording.

    Windows (Hann) overlap by half; channels are averaged as powers.

    Args:
        waveform: (samples,) or (channels, samples), full scale +-1.
        sample_rate_hz: its rate.

    Returns:
        dB relative to a constant of amplitude 1 at unit weight: a full-scale sine of 1 kHz has
        -3.01 dB. Not below `SILENCE_DB`.
    """
    audio = np.atleast_2d(np.asarray(waveform, dtype=np.float32))
    window = max(2, round(_WINDOW_S * sample_rate_hz))
    if audio.shape[1] < window:
        audio = np.pad(audio, ((0, 0), (0, window - audio.shape[1])))
    taper = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)).astype(np.float32)
    frames = sliding_window_view(audio, window, axis=-1)[:, :: window // 2] * taper
    spectrum = np.fft.rfft(frames, axis=-1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    bins_hz = np.arange(window // 2 + 1) * (sample_rate_hz / window)
    weights = 10.0 ** (a_weighting_db(bins_hz) / 10.0)
    # One-sided spectrum: all bins but the first and (for even lengths) the last stand for two.
    weights[1 : (window + 1) // 2] *= 2.0
    energy = (power @ weights).mean(axis=0).max() / (window * np.square(taper).sum())
    return max(SILENCE_DB, 10.0 * float(np.log10(energy))) if energy > 0.0 else SILENCE_DB
