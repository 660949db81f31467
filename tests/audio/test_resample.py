"""Resampling against a convolution with the whole kernel, and against tones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from compressor.audio.resample import resample
from compressor.errors import UsageError


def dense(wave: np.ndarray, orig_hz: int, new_hz: int) -> np.ndarray:
    """The published algorithm as one strided conv1d, a whole kernel per phase, in float64."""
    divisor = math.gcd(orig_hz, new_hz)
    orig, new = orig_hz // divisor, new_hz // divisor
    cutoff = 0.99 * min(orig, new)
    width = math.ceil(6 * orig / cutoff)
    kernels = torch.zeros(new, 1, 2 * width + orig, dtype=torch.float64)
    for phase in range(new):
        position = torch.arange(-width, width + orig, dtype=torch.float64) / orig
        t = ((position - phase / new) * cutoff).clamp(-6, 6)
        kernels[phase, 0] = torch.sinc(t) * torch.cos(math.pi * t / 12) ** 2 * cutoff / orig
    padded = torch.nn.functional.pad(torch.from_numpy(wave).double(), (width, width + orig))
    out = torch.nn.functional.conv1d(padded[:, None], kernels, stride=orig)
    flat = out.transpose(1, 2).reshape(wave.shape[0], -1)
    return flat[:, : math.ceil(new * wave.shape[1] / orig)].numpy()


@pytest.mark.parametrize(
    ("orig_hz", "new_hz", "samples"),
    [
        (44_100, 16_000, 4411),
        (48_000, 44_100, 4800),
        (44_100, 32_000, 2000),
        (16_000, 44_100, 1603),
        (16_000, 8_000, 999),
        (8_000, 16_000, 1),
        (1000, 997, 2500),  # no common divisor: many blocks of phases
    ],
)
def test_equals_the_dense_convolution(orig_hz: int, new_hz: int, samples: int) -> None:
    wave = np.random.default_rng(3).standard_normal((2, samples)).astype(np.float32)
    ours = resample(wave, orig_hz, new_hz)
    reference = dense(wave, orig_hz, new_hz)
    assert ours.dtype == np.float32
    assert ours.shape == reference.shape == (2, math.ceil(samples * new_hz / orig_hz))
    np.testing.assert_allclose(ours, reference, rtol=0, atol=2e-6 * max(1, new_hz / orig_hz))


def tone(hz: float, rate: int) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32)


@pytest.mark.parametrize(
    ("orig_hz", "new_hz"), [(44_100, 16_000), (48_000, 44_100), (16_000, 44_100)]
)
def test_a_tone_stays_the_same_tone(orig_hz: int, new_hz: int) -> None:
    ours = resample(tone(1000.0, orig_hz), orig_hz, new_hz)
    inside = slice(new_hz // 100, -new_hz // 100)  # the ends see the silence outside
    np.testing.assert_allclose(ours[inside], tone(1000.0, new_hz)[inside], atol=2e-3)


def test_a_tone_above_the_new_nyquist_vanishes() -> None:
    ours = resample(tone(12_000.0, 44_100), 44_100, 16_000)
    level_db = 20 * np.log10(np.abs(ours[200:-200]).max())
    assert level_db < -55


def test_one_dimension_equal_rates_and_nothing() -> None:
    wave = tone(100.0, 8000)
    np.testing.assert_array_equal(resample(wave, 8000, 8000), wave)
    np.testing.assert_array_equal(resample(wave, 8000, 4000), resample(wave[None], 8000, 4000)[0])
    assert resample(wave[:0], 8000, 4000).shape == (0,)


@pytest.mark.parametrize(("orig_hz", "new_hz"), [(0, 16_000), (16_000, -1)])
def test_bad_rates_are_named(orig_hz: int, new_hz: int) -> None:
    with pytest.raises(UsageError, match="positive whole number of Hz"):
        resample(np.zeros(10, dtype=np.float32), orig_hz, new_hz)
