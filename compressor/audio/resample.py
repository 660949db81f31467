"""Windowed-sinc resampling, equal to torchaudio.functional.resample with its default settings.

Resamplers are not interchangeable: the top mel bands of a clip move by up to 1.9 log units between
two of them, so a network must be fed by the one its training used. This one is numpy only.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from compressor.audio.spectrum import FloatArray
from compressor.errors import UsageError

__all__ = ["resample"]

# torchaudio's defaults: zero crossings of the sinc on each side, and the share of the lower Nyquist
# frequency at which the low-pass stands.
_LOWPASS_FILTER_WIDTH = 6
_ROLLOFF = 0.99
# Output phases filtered by one matrix product. Each phase sees 2 * width taps at its own place; a
# block of neighbours shares one short stretch of input, so the mostly-zero full kernel (up to
# orig x new entries for rates without a common divisor) is never formed.
_PHASES_PER_BLOCK = 32


@lru_cache(maxsize=8)
def _kernel_blocks(orig: int, new: int) -> tuple[int, tuple[tuple[int, int, FloatArray], ...]]:
    """The filter for coprime rates: (left padding, blocks of (input start, phase start, taps)).

    Taps of a block are float32 (input stretch, phases). Index 0 of the padded input lies `width`
    samples before the first sample.
    """
    base = min(orig, new) * _ROLLOFF
    width = math.ceil(_LOWPASS_FILTER_WIDTH * orig / base)
    blocks = []
    for first in range(0, new, _PHASES_PER_BLOCK):
        phases = np.arange(first, min(first + _PHASES_PER_BLOCK, new))
        # Sample k of the period lies (k / orig - phase / new) seconds from the output sample.
        start = (phases[0] * orig) // new
        stop = min(-(-(phases[-1] * orig) // new) + 2 * width + 1, orig + 2 * width)
        samples = (np.arange(start, stop) - width) / orig
        t = (samples[:, None] - phases[None, :] / new) * base
        t = np.clip(t, -_LOWPASS_FILTER_WIDTH, _LOWPASS_FILTER_WIDTH)
        window = np.cos(t * np.pi / _LOWPASS_FILTER_WIDTH / 2.0) ** 2
        taps = (np.sinc(t) * window * (base / orig)).astype(np.float32)
        taps.flags.writeable = False
        blocks.append((int(start), first, taps))
    return width, tuple(blocks)


def resample(waveform: FloatArray, orig_hz: int, new_hz: int) -> FloatArray:
    """Changes the sampling rate of (..., samples) to float32 (..., ceil(samples * new / orig)).

    Hann-windowed sinc interpolation, six zero crossings, roll-off 0.99.

    Raises:
        UsageError: a rate that is not a positive whole number.
    """
    for name, rate in (("orig_hz", orig_hz), ("new_hz", new_hz)):
        if rate != int(rate) or rate <= 0:
            raise UsageError(f"{name} is {rate}; a sampling rate is a positive whole number of Hz")
    audio = np.asarray(waveform, dtype=np.float32)
    if orig_hz == new_hz or audio.shape[-1] == 0:
        return audio
    divisor = math.gcd(int(orig_hz), int(new_hz))
    orig, new = int(orig_hz) // divisor, int(new_hz) // divisor
    samples = audio.shape[-1]
    width, blocks = _kernel_blocks(orig, new)
    flat = audio.reshape(-1, samples)
    padded = np.pad(flat, ((0, 0), (width, width + orig)))
    periods = (padded.shape[-1] - (2 * width + orig)) // orig + 1
    out = np.empty((flat.shape[0], periods, new), dtype=np.float32)
    for start, first, taps in blocks:
        stretch = sliding_window_view(padded[:, start:], taps.shape[0], axis=-1)
        rows = np.ascontiguousarray(stretch[:, : (periods - 1) * orig + 1 : orig])
        out[:, :, first : first + taps.shape[1]] = rows @ taps
    target = math.ceil(new * samples / orig)
    return out.reshape(*audio.shape[:-1], -1)[..., :target]
