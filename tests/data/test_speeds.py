"""Training clips at other speeds, and what a feature set tells the loop of its clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from compressor.audio.level import level_db
from compressor.audio.logmel import preset
from compressor.audio.resample import resample
from compressor.data import extraction, levels, open_dataset
from compressor.data.extraction import read_clip
from compressor.data.features import FeatureSet, extract
from compressor.errors import ConfigError, DataError

Wav = Callable[..., Path]
FRONT_END = preset("speakin2021").at_rate(8000)
SPEEDS = (0.9, 1.0, 1.1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tone(path: Path, rate: int, seconds: float = 2.0, hz: float = 500.0) -> Path:
    t = np.arange(round(rate * seconds)) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * hz * t), rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize(("rate", "speed"), [(8000, 0.9), (8000, 1.1), (11_025, 1.1)])
def test_a_tone_moves_with_the_speed(tmp_path: Path, rate: int, speed: float) -> None:
    path = tone(tmp_path / "tone.wav", rate)
    wave, done = read_clip(path, FRONT_END, 2.0, speed)
    assert wave.shape == (1, 16_000)
    assert done["padded"] == done["cropped"] == 0
    spectrum = np.abs(np.fft.rfft(wave[0, 2000:10_000] * np.hanning(8000)))
    assert spectrum.argmax() == pytest.approx(500 * speed, abs=1)  # 1 Hz a bin


def test_what_a_faster_clip_lacks_is_its_own_beginning(wav: Wav, tmp_path: Path) -> None:
    path = wav(tmp_path / "noise.wav", rate=8000, seconds=1.1)
    wave, _ = read_clip(path, FRONT_END, 1.1, 1.1)
    whole = resample(soundfile.read(path, dtype="float32")[0], 8800, 8000)
    assert len(whole) == 8000
    assert np.array_equal(wave[0], np.concatenate([whole, whole[:800]]))
    slow, _ = read_clip(path, FRONT_END, 1.1, 0.9)
    assert np.array_equal(
        slow[0], resample(soundfile.read(path, dtype="float32")[0], 7200, 8000)[:8800]
    )


def test_the_training_part_is_three_times_as_long_and_the_test_part_is_not(
    tau: Path, cache: Path
) -> None:
    scenes = open_dataset(tau)
    plain = extract(scenes, FRONT_END, workers=1)
    result = extract(scenes, FRONT_END, workers=1, speeds=SPEEDS)
    train, n = result.train, len(plain.train)
    assert len(train) == 3 * n
    assert train.speed is not None
    assert train.speed.tolist() == pytest.approx([1.0] * n + [0.9] * n + [1.1] * n)
    assert np.array_equal(train.array()[:n], plain.train.array())
    for place, clip in enumerate(scenes.train):
        for block, speed in enumerate((1.0, 0.9, 1.1)):
            row = block * n + place
            wave, _ = read_clip(clip.path, FRONT_END, scenes.clip_s, speed)
            assert np.array_equal(train.take(np.array([row]))[0], np.float16(FRONT_END(wave)))
            assert (train.y[row], train.devices[row], train.groups[row], train.paths[row]) == (
                (clip.label, clip.device, clip.group, clip.path)
            )
    assert np.array_equal(result.test.array(), plain.test.array())
    assert result.test.speed is None
    assert result.standardizer == plain.standardizer
    assert result.data_hash == plain.data_hash
    assert "0.9 and 1.1 times their speed" in result.notes[-1]
    assert len(list((cache / "features").iterdir())) == 3
    again = extract(scenes, FRONT_END, workers=1, speeds=SPEEDS)
    assert again.cached
    assert np.array_equal(again.train.array(), train.array())


def test_no_test_clip_is_ever_played_at_another_speed(
    tau: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[tuple[Path, float]] = []
    original = extraction.read_clip

    def spy(path: Path, front_end: object, clip_s: float, speed: float) -> object:
        played.append((path, speed))
        return original(path, front_end, clip_s, speed)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "read_clip", spy)
    scenes = open_dataset(tau)
    extract(scenes, FRONT_END, workers=1, speeds=SPEEDS)
    trained = {clip.path for clip in scenes.train}
    assert {path for path, speed in played if speed != 1.0} == trained
    assert len(played) == len(scenes.train) * 3 + len(scenes.test)


def test_workers_compute_the_same(wav: Wav, tmp_path: Path) -> None:
    """130 clips are three shards, two of them of the training part."""
    for label in ("a", "b"):
        for n in range(65):
            wav(tmp_path / "many" / label / f"{label}{n:02d}.wav", seconds=0.2)
    scenes = open_dataset(tmp_path / "many")
    parallel = extract(scenes, FRONT_END, cache=tmp_path / "two", workers=2, speeds=(1.0, 1.1))
    single = extract(scenes, FRONT_END, cache=tmp_path / "one", workers=1, speeds=(1.0, 1.1))
    assert np.array_equal(parallel.train.array(), single.train.array())


def test_copies_of_a_clip_share_a_group_and_can_be_left_out(tau: Path) -> None:
    scenes = open_dataset(tau)
    alone = replace(scenes, train=tuple(replace(clip, group="") for clip in scenes.train))
    train = extract(alone, FRONT_END, workers=1, speeds=SPEEDS).train
    n = len(scenes.train)
    assert len(set(train.groups)) == n
    assert train.groups[:n] == train.groups[n : 2 * n] == train.groups[2 * n :]
    original = train.original()
    assert original.speed is None
    assert np.array_equal(original.index, train.index[:n])
    odd = train.subset(np.arange(1, 3 * n, 2))
    assert odd.speed is not None
    assert odd.speed.tolist() == train.speed[1::2].tolist()  # type: ignore[index]
    assert odd.original().paths == tuple(train.paths[1:n:2])
    assert original.original() is original


@pytest.mark.parametrize("speeds", [(), (0.9, 1.1), (1.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1, 3.0)])
def test_speeds_that_cannot_be(tau: Path, speeds: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"speeds are .*; allowed: 1.0 and others from 0.5 to 2"):
        extract(open_dataset(tau), FRONT_END, workers=1, speeds=speeds)


def test_levels_are_read_once_and_remembered(tau: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = open_dataset(tau)
    train = extract(scenes, FRONT_END, workers=1, speeds=(1.0, 0.9)).train
    asked: list[Path] = []
    ask = levels.LevelReader._ask

    def spy(reader: levels.LevelReader, path: Path) -> float:
        asked.append(path)
        return ask(reader, path)

    monkeypatch.setattr(levels.LevelReader, "_ask", spy)
    expected = [level_db(*soundfile.read(path, dtype="float32")) for path in train.paths]
    assert train.levels_db.tolist() == pytest.approx(expected, abs=1e-3)
    assert train.levels_db.dtype == np.float32
    assert len(asked) == len(scenes.train)
    few = train.subset([3, 1])
    assert few.levels_db.tolist() == pytest.approx([expected[3], expected[1]], abs=1e-3)
    assert len(asked) == len(scenes.train)


def test_levels_hear_only_the_clip(tmp_path: Path) -> None:
    path = tmp_path / "late.wav"
    soundfile.write(path, np.concatenate([np.zeros(8000), np.ones(8000)]), 8000, subtype="FLOAT")
    assert levels.LevelReader(tmp_path, 0.9)([path]).tolist() == [-80.0]
    assert levels.LevelReader(tmp_path, 2.0)([path])[0] > -60


def test_features_without_recordings_have_no_levels() -> None:
    part = FeatureSet(
        np.zeros((2, 1, 2, 3), np.float16),
        np.arange(2),
        np.zeros(2, np.int64),
        ("", ""),
        ("", ""),
        ("one",),
    )
    with pytest.raises(DataError, match="know no recordings"):
        part.levels_db  # noqa: B018


def test_mean_spectra_follow_the_part(tau: Path) -> None:
    part = extract(open_dataset(tau), FRONT_END, workers=1).train.subset([5, 0, 3])
    expected = np.asarray(part.array(), dtype=np.float64).mean(axis=3)
    assert part.mean_spectra() == pytest.approx(expected, abs=1e-4)


def test_what_the_loop_must_know_of_the_front_end(tau: Path) -> None:
    scenes = open_dataset(tau)
    plain = extract(scenes, FRONT_END, workers=1).train
    assert (plain.log_unit, plain.standardized_per_clip) == (1.0, False)
    scut = extract(scenes, preset("scut2023").at_rate(8000), workers=1).test
    assert (scut.log_unit, scut.standardized_per_clip) == (None, True)
