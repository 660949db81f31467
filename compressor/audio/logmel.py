"""Log-mel front-ends of the five papers and the challenge baselines (numpy only).

`preset("speakin2021")(waveform)` gives float32 (C, M, T): channel, mel band, frame. A preset's
`source` says what its paper states and, after "Not given:", what had to be chosen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from compressor.audio.front_end import LogMel
from compressor.errors import ConfigError, UnknownNameError

__all__ = ["PRESETS", "LogMel", "preset"]

_BASELINE = LogMel(  # dcase_util's MelExtractor as the three baselines configure it
    name="dcase2021_baseline",
    source=(
        "DCASE 2021 Task 1A baseline (task1a.yaml): 44.1 kHz, Hamming 40 ms, hop 20 ms, FFT 2048, "
        "40 mel bands 0-22050 Hz on Slaney's scale with area normalisation (librosa's default), "
        "magnitude spectrum, ln. 10 s give 501 centred frames; the baseline uses the first 500"
    ),
    sample_rate_hz=44_100,
    n_fft=2048,
    win_length=1764,
    hop_length=882,
    n_mels=40,
    f_min_hz=0.0,
    f_max_hz=22_050.0,
    mel_scale="slaney",
    mel_norm="slaney",
    power=1.0,
    log="ln",
    log_floor=float(np.finfo(np.float64).eps),  # dcase_util adds numpy.spacing(1)
    center=True,
    window="hamming",
)

_SPEAKIN = replace(
    _BASELINE,
    name="speakin2021",
    source=(
        "SpeakIn 2021, section 3.2: 40 log-mel dimensions (including energy), 40 ms frames, 50 % "
        "hop; 44.1 kHz is the data set's rate. Not given: FFT size (2048), window (Hann), scale "
        "(htk, 20-22050 Hz), power (2), floor (1e-6), which dimension is the energy (none: 40 mel; "
        "speakin2021_energy: the first)"
    ),
    f_min_hz=20.0,
    mel_scale="htk",
    mel_norm="none",
    power=2.0,
    log_floor=1e-6,
    window="hann",
)

_SCUT = LogMel(
    name="scut2023",
    source=(
        "SCUT 2023, section 2.1: 44.1 kHz, Hann 4096, 256 mel bands, deltas stacked: 2 x 256 x 44. "
        "Its 'overlap 25 %' is a 25 % hop (1024 samples gives the 44 frames). From the published "
        "code: htk scale, Slaney norm, power 2, log10(x + 1e-10), delta window 5, each channel "
        "standardised per clip"
    ),
    sample_rate_hz=44_100,
    n_fft=4096,
    win_length=4096,
    hop_length=1024,
    n_mels=256,
    f_min_hz=0.0,
    f_max_hz=22_050.0,
    mel_scale="htk",
    mel_norm="slaney",
    power=2.0,
    log="log10",
    log_floor=1e-10,
    center=True,
    window="hann",
    deltas=True,
    delta_window=5,
    standardize="clip",
)

_BUPT = replace(
    _SCUT,
    name="bupt2020",
    source=(
        "BUPT 2020, section 2.1: binaural, resampled from 48 to 44.1 kHz, windows of '2018' "
        "samples (2048), 256 mel bands, 280 x 256 x 2. Its hop of 1536 gives 288 frames in 10 s; "
        "280 need 1576-1580: 1578 is taken. Not given: Hann, htk scale, Slaney norm, power 2, "
        "log10(x + 1e-10)"
    ),
    n_fft=2048,
    win_length=2048,
    hop_length=1578,
    audio_channels=2,
    deltas=False,
    standardize="none",
)

_PKU = replace(
    _SCUT,
    name="pku2022",
    source=(
        "PKU/Xiaomi 2022 names no front-end; its network is valeo.ai's Cnn6_60k, so: 44.1 kHz, "
        "window 2048, hop 1024, 256 mel bands: 1 x 256 x 44. At 44 frames the official MACs are "
        "46.0 M; hop 1604 gives the 28 frames that keep the 30 M rule. Not given: Hann, htk scale, "
        "Slaney norm, power 2, log10(x + 1e-10)"
    ),
    n_fft=2048,
    win_length=2048,
    deltas=False,
    standardize="none",
)


def _deepsound(mels: int) -> LogMel:
    return replace(
        _SCUT,
        name=f"deepsound2021_{mels}",
        source=(
            f"Deepsound 2021, section 2.1: 44.1 kHz, Hann 2760, hop 690, 640 frames in 10 s, "
            f"{mels} of its 32/64/128/160 mel bands, 10-16000 Hz. Not given: FFT size (4096), "
            "scale (htk), norm (none), power (2), floor (ln(x + 1e-6))"
        ),
        n_fft=4096,
        win_length=2760,
        hop_length=690,
        n_mels=mels,
        f_min_hz=10.0,
        f_max_hz=16_000.0,
        mel_norm="none",
        log="ln",
        log_floor=1e-6,
        deltas=False,
        standardize="none",
    )


_ALL = (
    _SPEAKIN,
    replace(
        _SPEAKIN,
        name="speakin2021_energy",
        source=(
            "SpeakIn 2021, section 3.2, read to the letter: 40 dimensions including energy, so the "
            "log of the frame's energy and 39 mel bands; the rest as speakin2021"
        ),
        energy=True,
    ),
    _SCUT,
    _BUPT,
    *(_deepsound(mels) for mels in (160, 128, 64, 32)),
    _PKU,
    replace(
        _BASELINE,
        name="dcase2020_baseline",
        source=(
            "DCASE 2020 Task 1B baseline: as 2021 at 48 kHz (1920 / 960 samples, 0-24000 Hz). "
            "10 s give 501 centred frames; the baseline uses the first 500"
        ),
        sample_rate_hz=48_000,
        win_length=1920,
        hop_length=960,
        f_max_hz=24_000.0,
    ),
    _BASELINE,
    replace(
        _BASELINE,
        name="dcase2022_baseline",
        source="DCASE 2022 and 2023 baseline (task1_features.yaml): as 2021; 1 s gives 51 frames",
    ),
    LogMel(
        name="dcase2024_baseline",
        source=(
            "DCASE 2024 and 2025 baseline: 32 kHz, FFT 4096, window 3072, hop 500, 256 mel bands: "
            "1 x 256 x 65 for 1 s. torchaudio's defaults for the rest (Hann, htk, no norm, power "
            "2), ln(x + 1e-5)"
        ),
        sample_rate_hz=32_000,
        n_fft=4096,
        win_length=3072,
        hop_length=500,
        n_mels=256,
        f_min_hz=0.0,
        f_max_hz=16_000.0,
        mel_scale="htk",
        mel_norm="none",
        power=2.0,
        log="ln",
        log_floor=1e-5,
        center=True,
        window="hann",
    ),
)

PRESETS: Mapping[str, LogMel] = MappingProxyType({entry.name: entry for entry in _ALL})


def preset(name: str) -> LogMel:
    """The front-end of that name.

    "speakin2021@16000" is `preset("speakin2021").at_rate(16000)`, and "scut2023:n_mels=64" is
    `preset("scut2023").changed("n_mels=64")`; both together as "scut2023:n_mels=64@16000".

    Raises:
        UnknownNameError: no such preset or setting; offers close names.
        ConfigError: what stands after "@" is not a rate, or a setting that cannot work.
    """
    text, _, rate = name.partition("@")
    base, _, changes = text.partition(":")
    if base not in PRESETS:
        raise UnknownNameError("front-end preset", base, PRESETS)
    found = PRESETS[base].changed(changes) if changes else PRESETS[base]
    if not rate:
        return found
    if not rate.isdecimal() or int(rate) < 1:
        raise ConfigError(f"front-end {name!r}: {rate!r} is not a sampling rate in whole Hz")
    return found.at_rate(int(rate))
