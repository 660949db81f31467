"""The arithmetic under every front-end: frames, spectra, mel filter banks, deltas (numpy only).

Conventions are those of `torch.stft` and `torchaudio.functional.melscale_fbanks`, so that features
match what the papers' PyTorch code computed: periodic windows, a window shorter than the FFT is
centred in it, centred frames are padded by reflection.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["FloatArray", "deltas", "hz_to_mel", "mel_filter_bank", "mel_to_hz", "spectrogram"]

FloatArray = NDArray[np.float32]

# Slaney's scale (Auditory Toolbox, 1998): linear to 1 kHz, then 27 steps per factor 6.4.
_SLANEY_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_BREAK_MEL = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(hz: NDArray[np.float64], scale: Literal["htk", "slaney"]) -> NDArray[np.float64]:
    """Frequencies in Hz on the mel scale named; any shape, float64."""
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0), dtype=np.float64)
    above = _SLANEY_BREAK_MEL + np.log(np.maximum(hz, 1e-9) / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return np.where(hz < _SLANEY_BREAK_HZ, hz / _SLANEY_HZ_PER_MEL, above)


def mel_to_hz(mel: NDArray[np.float64], scale: Literal["htk", "slaney"]) -> NDArray[np.float64]:
    """The inverse of `hz_to_mel`."""
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0), dtype=np.float64)
    above = _SLANEY_BREAK_HZ * np.exp(_SLANEY_LOG_STEP * (mel - _SLANEY_BREAK_MEL))
    return np.where(mel < _SLANEY_BREAK_MEL, mel * _SLANEY_HZ_PER_MEL, above)


@lru_cache(maxsize=16)
def mel_filter_bank(
    *,
    sample_rate_hz: int,
    n_fft: int,
    n_mels: int,
    f_min_hz: float,
    f_max_hz: float,
    scale: Literal["htk", "slaney"],
    norm: Literal["none", "slaney"],
) -> FloatArray:
    """Triangles that are equally wide in mel, drawn in Hz: float32 (n_mels, n_fft // 2 + 1).

    `norm` "slaney" gives every triangle the area 1 (divides by half its width in Hz).
    """
    bins_hz = np.linspace(0.0, sample_rate_hz / 2.0, n_fft // 2 + 1)
    ends = hz_to_mel(np.array([f_min_hz, f_max_hz]), scale)
    corners_hz = mel_to_hz(np.linspace(ends[0], ends[1], n_mels + 2), scale)
    widths = np.diff(corners_hz)
    rise = (bins_hz[None, :] - corners_hz[:-2, None]) / widths[:-1, None]
    fall = (corners_hz[2:, None] - bins_hz[None, :]) / widths[1:, None]
    bank = np.maximum(0.0, np.minimum(rise, fall))
    if norm == "slaney":
        bank *= 2.0 / (corners_hz[2:] - corners_hz[:-2])[:, None]
    result = bank.astype(np.float32)
    result.flags.writeable = False
    return result


@lru_cache(maxsize=16)
def _window(kind: Literal["hann", "hamming"], win_length: int, n_fft: int) -> FloatArray:
    """A periodic window, centred in n_fft samples as torch.stft does: float32 (n_fft,)."""
    phase = 2.0 * np.pi * np.arange(win_length) / win_length
    offset = 0.5 if kind == "hann" else 0.54
    window = np.zeros(n_fft)
    left = (n_fft - win_length) // 2
    window[left : left + win_length] = offset - (1.0 - offset) * np.cos(phase)
    result = window.astype(np.float32)
    result.flags.writeable = False
    return result


def spectrogram(
    waveform: FloatArray,
    *,
    n_fft: int,
    win_length: int,
    hop_length: int,
    window: Literal["hann", "hamming"],
    center: bool,
    power: float,
) -> FloatArray:
    """|STFT| ** power of (channels, samples): float32 (channels, n_fft // 2 + 1, frames)."""
    if center:
        half = n_fft // 2
        waveform = np.pad(waveform, ((0, 0), (half, half)), mode="reflect")
    frames = sliding_window_view(waveform, n_fft, axis=-1)[:, ::hop_length]
    spectrum = np.fft.rfft(frames * _window(window, win_length, n_fft), axis=-1)
    magnitude = np.square(spectrum.real) + np.square(spectrum.imag)
    if power != 2.0:
        magnitude **= power / 2.0
    return np.ascontiguousarray(magnitude.astype(np.float32, copy=False).transpose(0, 2, 1))


def deltas(features: FloatArray, window: int) -> FloatArray:
    """Regression slope over `window` frames (odd) along the last axis, edges repeated; same shape.

    d_t = sum_n n * (x_{t+n} - x_{t-n}) / (2 * sum_n n^2) for n = 1 .. window // 2: the HTK book's
    formula 5.16, which torchaudio's `compute_deltas` follows too.
    """
    reach = window // 2
    frames = features.shape[-1]
    padded = np.pad(features, [(0, 0)] * (features.ndim - 1) + [(reach, reach)], mode="edge")
    slope = np.zeros_like(features)
    for n in range(1, reach + 1):
        ahead = padded[..., reach + n : reach + n + frames]
        behind = padded[..., reach - n : reach - n + frames]
        slope += np.float32(n) * (ahead - behind)
    return slope / np.float32(2 * sum(n * n for n in range(1, reach + 1)))
