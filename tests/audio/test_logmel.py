"""Log-mel front-ends against torch.stft and a filter bank written out as loops."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from compressor.audio.logmel import PRESETS, LogMel, preset
from compressor.audio.spectrum import deltas, mel_filter_bank
from compressor.errors import ConfigError, ShapeError, UnknownNameError


def to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        return 1127.01048 * math.log(1 + hz / 700)
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def to_hz(mel: float, scale: str) -> float:
    if scale == "htk":
        return 700 * (math.exp(mel / 1127.01048) - 1)
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def looped_filters(fe: LogMel) -> torch.Tensor:
    low, high = to_mel(fe.f_min_hz, fe.mel_scale), to_mel(fe.f_max_hz, fe.mel_scale)
    step = (high - low) / (fe.n_mels + 1)
    corners = [to_hz(low + i * step, fe.mel_scale) for i in range(fe.n_mels + 2)]
    bank = torch.zeros(fe.n_mels, fe.n_fft // 2 + 1, dtype=torch.float64)
    for band in range(fe.n_mels):
        left, centre, right = corners[band : band + 3]
        for k in range(fe.n_fft // 2 + 1):
            hz = k * fe.sample_rate_hz / fe.n_fft
            if left < hz <= centre:
                bank[band, k] = (hz - left) / (centre - left)
            elif centre < hz < right:
                bank[band, k] = (right - hz) / (right - centre)
        if fe.mel_norm == "slaney":
            bank[band] *= 2 / (right - left)
    return bank


def expected(fe: LogMel, wave: np.ndarray) -> torch.Tensor:
    make = torch.hann_window if fe.window == "hann" else torch.hamming_window
    spectrum = torch.stft(
        torch.from_numpy(wave).double(),
        fe.n_fft,
        fe.hop_length,
        fe.win_length,
        make(fe.win_length, dtype=torch.float64),
        center=fe.center,
        pad_mode="reflect",
        return_complex=True,
    )
    if fe.energy:  # the sum of the spectrum in place of one band
        bands = looped_filters(replace(fe, n_mels=fe.n_mels - 1))
        filters = torch.cat([torch.ones(1, bands.shape[1], dtype=torch.float64), bands])
    else:
        filters = looped_filters(fe)
    mel = filters @ spectrum.abs().pow(fe.power)
    log = torch.log(mel + fe.log_floor)
    if fe.log == "log10":
        log = log / math.log(10)
    if fe.log == "db":
        log = 10 * log / math.log(10)
    if fe.deltas:
        slope = torch.zeros_like(log)
        last = log.shape[-1] - 1
        for t in range(last + 1):
            for n in range(1, fe.delta_window // 2 + 1):
                slope[..., t] += n * (log[..., min(t + n, last)] - log[..., max(t - n, 0)])
        norm = 2 * sum(n * n for n in range(1, fe.delta_window // 2 + 1))
        log = torch.cat([log, slope / norm])
    if fe.standardize == "clip":
        mean = log.mean(dim=(1, 2), keepdim=True)
        log = (log - mean) / log.std(dim=(1, 2), keepdim=True, correction=0)
    return log


def sound(fe: LogMel, seconds: float) -> np.ndarray:
    """Noise, a tone and a fade, different in each audio channel."""
    rng = np.random.default_rng(7)
    t = np.arange(round(seconds * fe.sample_rate_hz)) / fe.sample_rate_hz
    noise = 0.05 * rng.standard_normal((fe.audio_channels, t.size))
    tones = [0.3 * np.sin(2 * np.pi * hz * t) for hz in (440.0, 3000.0)[: fe.audio_channels]]
    return ((noise + tones) * np.linspace(1, 0.01, t.size)).astype(np.float32)


@pytest.mark.parametrize("rate", [None, 16_000])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_equals_the_torch_stft_oracle(name: str, rate: int | None) -> None:
    fe = preset(name) if rate is None else preset(name).at_rate(rate)
    wave = sound(fe, 1.0)
    ours = fe(wave)
    assert ours.dtype == np.float32
    assert ours.shape == fe.shape(1.0)
    np.testing.assert_allclose(ours, expected(fe, wave).numpy(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("log", ["ln", "log10", "db"])
@pytest.mark.parametrize("center", [True, False])
def test_settings_no_preset_uses(log: str, center: bool) -> None:
    fe = replace(PRESETS["dcase2024_baseline"], log=log, center=center, n_fft=3072, power=1.5)
    wave = sound(fe, 0.5)
    np.testing.assert_allclose(fe(wave), expected(fe, wave).numpy(), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "duration_s", "shape"),
    [
        ("speakin2021", 10.0, (1, 40, 501)),
        ("speakin2021_energy", 10.0, (1, 40, 501)),
        ("scut2023", 1.0, (2, 256, 44)),
        ("bupt2020", 10.0, (2, 256, 280)),
        ("deepsound2021_160", 10.0, (1, 160, 640)),
        ("deepsound2021_128", 10.0, (1, 128, 640)),
        ("deepsound2021_64", 10.0, (1, 64, 640)),
        ("deepsound2021_32", 10.0, (1, 32, 640)),
        ("pku2022", 1.0, (1, 256, 44)),
        ("dcase2020_baseline", 10.0, (1, 40, 501)),
        ("dcase2021_baseline", 10.0, (1, 40, 501)),
        ("dcase2022_baseline", 1.0, (1, 40, 51)),
        ("dcase2024_baseline", 1.0, (1, 256, 65)),
    ],
)
def test_published_input_sizes(name: str, duration_s: float, shape: tuple[int, int, int]) -> None:
    assert preset(name).shape(duration_s) == shape


def test_filter_bank_by_hand() -> None:
    # One htk triangle from 0 to 4 kHz: its peak lies at half of 2146.06 mel = 1113.8 Hz.
    peak = 700 * (10 ** (2595 * math.log10(1 + 4000 / 700) / 2 / 2595) - 1)
    assert peak == pytest.approx(1113.8, abs=0.1)
    bank = mel_filter_bank(
        sample_rate_hz=8000,
        n_fft=8,
        n_mels=1,
        f_min_hz=0.0,
        f_max_hz=4000.0,
        scale="htk",
        norm="none",
    )
    by_hand = [0, 1000 / peak, 2000 / (4000 - peak), 1000 / (4000 - peak), 0]
    np.testing.assert_allclose(bank, [by_hand], rtol=1e-6)


def test_deltas_by_hand() -> None:
    squares = np.array([[[0, 1, 4, 9, 16]]], dtype=np.float32)
    # t=0: (1*(1-0) + 2*(4-0)) / 10; t=2: (1*(9-1) + 2*(16-0)) / 10; t=4: (1*(16-9) + 2*(16-4)) / 10
    np.testing.assert_allclose(deltas(squares, 5), [[[0.9, 2.2, 4.0, 4.2, 3.1]]], rtol=1e-6)


def test_mono_front_end_averages_two_channels() -> None:
    fe = preset("speakin2021")
    two = np.random.default_rng(0).standard_normal((2, 44_100)).astype(np.float32)
    np.testing.assert_array_equal(fe(two), fe((two[0] + two[1]) / 2))


def test_two_channel_front_end_repeats_mono() -> None:
    fe = preset("bupt2020")
    features = fe(np.random.default_rng(0).standard_normal(44_100).astype(np.float32))
    np.testing.assert_array_equal(features[0], features[1])


def test_silence_is_finite() -> None:
    for fe in PRESETS.values():
        assert np.isfinite(fe(np.zeros(fe.sample_rate_hz, dtype=np.float32))).all()


def test_at_rate_keeps_milliseconds() -> None:
    fe = preset("speakin2021").at_rate(16_000)
    assert (fe.win_length, fe.hop_length, fe.n_fft) == (640, 320, 1024)  # 40 ms, 20 ms
    assert fe.f_max_hz == 8000.0
    assert fe.name == "speakin2021@16000"
    assert fe.shape(5.0) == (1, 40, 251)
    assert fe.at_rate(44_100).name == "speakin2021@44100"
    assert preset("speakin2021@16000") == fe
    assert preset("speakin2021").at_rate(44_100) is preset("speakin2021")


def test_to_dict_survives_json() -> None:
    for fe in PRESETS.values():
        assert LogMel.from_dict(json.loads(json.dumps(fe.to_dict()))) == fe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"win_length": 5000}, "win_length 5000 is longer than n_fft 2048"),
        ({"f_max_hz": 30_000.0}, "allowed: 0 <= f_min_hz < f_max_hz <= 22050 Hz"),
        ({"hop_length": 0}, "hop_length is 0; allowed: 1 or more"),
        ({"hop_length": 1.5}, "hop_length is 1.5"),
        ({"mel_scale": "bark"}, "mel_scale is 'bark'; allowed: htk, slaney"),
        ({"audio_channels": 3}, "audio_channels is 3; allowed: 1, 2"),
        ({"log_floor": 1e-60}, "must be above 0 in float32"),
        ({"deltas": True, "delta_window": 4}, "delta_window is 4; allowed: an odd number"),
    ],
)
def test_bad_settings_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(preset("speakin2021"), **change)


def test_bad_dicts_are_named() -> None:
    settings = preset("pku2022").to_dict()
    with pytest.raises(ConfigError, match=r"unknown key.*n_mel;"):
        LogMel.from_dict({**settings, "n_mel": 3})
    del settings["n_mels"]
    with pytest.raises(ConfigError, match="n_mels"):
        LogMel.from_dict(settings)


def test_bad_audio_is_named() -> None:
    with pytest.raises(ShapeError, match=r"1000 samples at 44100 Hz is too short.*1025 samples"):
        preset("speakin2021")(np.zeros(1000, dtype=np.float32))
    with pytest.raises(ShapeError, match=r"\(3, 44100\)"):
        preset("speakin2021")(np.zeros((3, 44_100), dtype=np.float32))


def test_changed_settings_are_the_front_end_they_name() -> None:
    named = preset("scut2023:n_mels=64,standardize=none,log_floor=1e-6,deltas=false")
    by_hand = replace(
        PRESETS["scut2023"],
        name="scut2023:n_mels=64,standardize=none,log_floor=1e-6,deltas=false",
        n_mels=64,
        standardize="none",
        log_floor=1e-6,
        deltas=False,
    )
    assert named == by_hand
    assert named.shape(1.0) == (1, 64, 44)  # 1 + 44,100 // 1,024 frames, no deltas
    at_rate = preset("scut2023:n_mels=64@16000")
    assert (at_rate.n_mels, at_rate.sample_rate_hz, at_rate.hop_length) == (64, 16_000, 372)
    assert LogMel.from_dict(named.to_dict()) == named


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("scut2023:n_mel=64", UnknownNameError, "did you mean n_mels"),
        ("scut2023:sample_rate_hz=8000", UnknownNameError, "front-end setting 'sample_rate_hz'"),
        ("scut2023:n_mels", ConfigError, "write key=value"),
        ("scut2023:n_mels=6.5", ConfigError, "must be a whole number"),
        ("scut2023:n_mels=0", ConfigError, "allowed: 1 or more"),
        ("scut2023:log_floor=low", ConfigError, "must be a number"),
        ("scut2023:deltas=1", ConfigError, "allowed: true, false"),
        ("scut2023:log=log2", ConfigError, "allowed: ln, log10, db"),
    ],
)
def test_bad_changes_are_named(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        preset(name)


def test_unknown_preset_offers_close_names() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*speakin2021"):
        preset("speakin2012")
    with pytest.raises(ConfigError, match="'fast' is not a sampling rate"):
        preset("speakin2021@fast")


def test_no_torch_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys, compressor.audio.logmel, compressor.data.features;"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_energy_takes_the_place_of_one_band() -> None:
    """Row 0 is the log of the spectrum's sum, the others are 39 bands of the same range."""
    front_end = preset("speakin2021_energy")
    wave = np.random.default_rng(0).standard_normal(44_100).astype(np.float32)
    found = front_end(wave)
    assert found.shape == front_end.shape(1.0) == (1, 40, 51)
    bands = replace(front_end, n_mels=39, energy=False)
    np.testing.assert_allclose(found[:, 1:], bands(wave), rtol=0, atol=1e-5)
    window = np.hanning(1765)[:-1]
    frame = np.fft.rfft(wave[882 * 25 - 882 : 882 * 25 + 882] * window, 2048)
    assert found[0, 0, 25] == pytest.approx(np.log(np.sum(np.abs(frame) ** 2) + 1e-6), abs=1e-4)


def test_energy_is_no_part_of_older_records() -> None:
    plain, energy = preset("speakin2021"), preset("speakin2021_energy")
    assert "energy" not in plain.to_dict()
    assert LogMel.from_dict(plain.to_dict()) == plain
    assert LogMel.from_dict(energy.to_dict()) == energy
    with pytest.raises(ConfigError, match="n_mels is 1 with energy"):
        replace(energy, n_mels=1)
