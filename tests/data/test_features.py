"""Standardizer, feature sets, and the cache: hits, keys, damage, interruption, company."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from compressor.audio.logmel import preset
from compressor.audio.resample import resample
from compressor.data import SceneSet, extraction, open_dataset
from compressor.data.features import Features, FeatureSet, Standardizer, extract
from compressor.errors import DataError, MeasureError, ShapeError

Wav = Callable[..., Path]
FRONT_END = preset("speakin2021").at_rate(8000)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def count_clips(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths of all clips read by this process, in order."""
    read: list[Path] = []
    original = extraction.read_clip

    def spy(path: Path, *rest: object) -> object:
        read.append(path)
        return original(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "read_clip", spy)
    return read


@pytest.fixture
def many(tmp_path: Path, wav: Wav) -> Path:
    """Two labels of 65 clips each: 130 clips are three shards."""
    for label in ("a", "b"):
        for n in range(65):
            wav(tmp_path / "many" / label / f"{label}{n:02d}.wav", seconds=0.2)
    return tmp_path / "many"


def entry(cache: Path) -> Path:
    (only,) = (cache / "features").iterdir()
    return only


def same(one: Features, other: Features) -> bool:
    return (
        np.array_equal(one.train.array(), other.train.array())
        and np.array_equal(one.test.array(), other.test.array())
        and one.standardizer == other.standardizer
        and one.data_hash == other.data_hash
    )


def test_features_are_those_of_the_front_end(tau: Path) -> None:
    scenes = open_dataset(tau)
    result = extract(scenes, FRONT_END, workers=1)
    assert result.train.x.dtype == np.float16
    assert result.train.x.shape == (12, *FRONT_END.shape(0.5))
    assert result.front_end == FRONT_END
    for part, clips in ((result.train, scenes.train), (result.test, scenes.test)):
        assert part.y.tolist() == [clip.label for clip in clips]
        assert part.devices == tuple(clip.device for clip in clips)
        assert part.groups == tuple(clip.group for clip in clips)
        for place, clip in enumerate(clips):
            audio, _ = soundfile.read(clip.path, dtype="float32")
            np.testing.assert_array_equal(part.array()[place], FRONT_END(audio).astype(np.float16))


def test_standardizer_by_hand(tau: Path) -> None:
    result = extract(open_dataset(tau), FRONT_END, workers=1)
    train = result.train.array().astype(np.float64)
    np.testing.assert_allclose(result.standardizer.mean, train.mean(axis=(0, 3)), rtol=1e-5)
    np.testing.assert_allclose(result.standardizer.std, train.std(axis=(0, 3)), rtol=1e-4)
    small = Standardizer(mean=((1.0, 2.0),), std=((2.0, 4.0),))
    x = np.array([[[[3.0, 5.0], [2.0, 10.0]]]], dtype=np.float16)  # (1, 1, 2, 2)
    np.testing.assert_array_equal(small.apply(x), [[[[1.0, 2.0], [0.0, 2.0]]]])
    assert small.apply(x).dtype == np.float32
    assert Standardizer.from_dict(json.loads(json.dumps(small.to_dict()))) == small
    with pytest.raises(DataError, match="needed: mean and std"):
        Standardizer.from_dict({"mean": [[1.0]]})


def test_a_band_that_never_changes_becomes_zero(tmp_path: Path, wav: Wav) -> None:
    for label in "ab":
        for n in range(2):
            wav(tmp_path / "set" / label / f"{label}{n}.wav", fill=0.0)
    result = extract(open_dataset(tmp_path / "set"), FRONT_END, workers=1)
    assert set(np.ravel(result.standardizer.std)) == {1.0}
    np.testing.assert_allclose(result.standardizer.apply(result.train.array()), 0.0, atol=1e-2)


def test_feature_set_subset() -> None:
    x = np.arange(5, dtype=np.float16).reshape(5, 1, 1, 1)
    part = FeatureSet(
        x=x,
        index=np.array([4, 2, 0]),
        y=np.array([1, 0, 1]),
        devices=("a", "b", "c"),
        groups=("g", "h", "i"),
        classes=("no", "yes"),
    )
    assert len(part) == 3
    assert part.array().ravel().tolist() == [4, 2, 0]
    for rows in ([2, 0], np.array([2, 0])):
        chosen = part.subset(rows)
        assert chosen.array().ravel().tolist() == [0, 4]
        assert (chosen.y.tolist(), chosen.devices, chosen.groups) == (
            [1, 1],
            ("c", "a"),
            ("i", "g"),
        )
    assert part.subset(np.array([True, False, True])).index.tolist() == [4, 0]
    assert len(part.subset([])) == 0


def test_second_call_reads_no_clip(tau: Path, count_clips: list[Path]) -> None:
    scenes = open_dataset(tau)
    progress: list[tuple[int, int]] = []
    first = extract(scenes, FRONT_END, workers=1, on_progress=lambda *at: progress.append(at))
    assert len(count_clips) == 12
    assert (progress[0], progress[-1]) == ((0, 12), (12, 12))
    assert not first.cached
    again = extract(scenes, FRONT_END, workers=1, on_progress=lambda *at: progress.append(at))
    assert again.cached
    assert len(count_clips) == 12
    assert len(progress) == 2
    assert same(first, again)


def test_all_folds_share_one_entry(many: Path, cache: Path, count_clips: list[Path]) -> None:
    hashes = {extract(open_dataset(many, fold=n), FRONT_END, workers=1).data_hash for n in (1, 2)}
    assert len(count_clips) == 130
    assert len(hashes) == 1
    assert entry(cache).is_dir()


def test_key_follows_content_and_settings_not_names(
    tau: Path, cache: Path, count_clips: list[Path], wav: Wav
) -> None:
    scenes = open_dataset(tau)
    first = extract(scenes, FRONT_END, workers=1)
    extract(scenes, replace(FRONT_END, name="other", source="elsewhere"), workers=1)
    moved = tau.rename(tau.with_name("moved"))
    assert extract(open_dataset(moved), FRONT_END, workers=1).cached
    assert len(count_clips) == 12
    changed = extract(open_dataset(moved), replace(FRONT_END, n_mels=32), workers=1)
    assert not changed.cached
    assert changed.train.x.shape[2] == 32
    clip = open_dataset(moved).train[0].path
    size = clip.stat().st_size
    wav(clip, fill=0.25)  # same name and size, other content
    assert clip.stat().st_size == size
    other = extract(open_dataset(moved), FRONT_END, workers=1)
    assert not other.cached
    assert other.data_hash != first.data_hash
    assert len(list((cache / "features").iterdir())) == 3


def test_workers_compute_the_same(many: Path, tmp_path: Path, cache: Path) -> None:
    scenes = open_dataset(many)
    alone = extract(scenes, FRONT_END, workers=1, cache=tmp_path / "alone")
    progress: list[tuple[int, int]] = []
    together = extract(scenes, FRONT_END, workers=2, on_progress=lambda *at: progress.append(at))
    assert same(alone, together)
    assert progress[0] == (0, 130)
    assert sorted(done for done, _ in progress[1:]) == [done for done, _ in progress[1:]]
    assert progress[-1] == (130, 130)
    assert {path.name for path in entry(cache).iterdir()} >= {"x.npy", "meta.json"}
    assert not list(entry(cache).glob("part-*"))


def test_two_processes_extract_the_same_set_at_once(
    many: Path, cache: Path, tmp_path: Path
) -> None:
    code = """
import sys
from pathlib import Path
from compressor.audio.logmel import preset
from compressor.data import open_dataset
from compressor.data.features import extract
result = extract(open_dataset(sys.argv[1]), preset("speakin2021").at_rate(8000), workers=1)
print(result.data_hash, len(result.train), float(result.train.array().astype("f8").sum()))
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", code, many], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = {run.communicate(timeout=60)[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(answers) == 1
    alone = extract(open_dataset(many), FRONT_END, workers=1, cache=tmp_path / "alone")
    total = float(alone.train.array().astype("f8").sum())
    assert answers == {f"{alone.data_hash} {len(alone.train)} {total}\n"}
    assert not list(entry(cache).glob("part-*"))


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "header", "no meta", "bad meta"])
def test_damaged_entry_is_recovered(tau: Path, cache: Path, damage: str) -> None:
    scenes = open_dataset(tau)
    first = extract(scenes, FRONT_END, workers=1)
    expected = first.train.array()
    x, meta = entry(cache) / "x.npy", entry(cache) / "meta.json"
    content = x.read_bytes()
    del first
    if damage == "truncated":
        x.write_bytes(content[:-100])
    elif damage == "overwritten":
        x.write_bytes(content[:-100] + bytes(100))
    elif damage == "header":
        x.write_bytes(b"\0" * len(content))
    elif damage == "no meta":
        meta.unlink()
    else:
        meta.write_text("{}")
    again = extract(scenes, FRONT_END, workers=1)
    assert not again.cached
    np.testing.assert_array_equal(again.train.array(), expected)
    assert extract(scenes, FRONT_END, workers=1).cached


def test_touched_but_whole_entry_is_kept(tau: Path, cache: Path) -> None:
    scenes = open_dataset(tau)
    extract(scenes, FRONT_END, workers=1)
    os.utime(entry(cache) / "x.npy", (1, 1))
    assert extract(scenes, FRONT_END, workers=1).cached


def test_interrupted_extraction_goes_on(
    many: Path, cache: Path, tmp_path: Path, count_clips: list[Path]
) -> None:
    class StopError(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done >= total / 2:
            raise StopError

    scenes = open_dataset(many)
    with pytest.raises(StopError):
        extract(scenes, FRONT_END, workers=1, on_progress=interrupt)
    before = len(count_clips)
    parts = sorted(entry(cache).glob("part-*.npy"))
    assert 0 < before < 130
    # One of the finished shards is damaged: it alone is computed again.
    parts[0].write_bytes(parts[0].read_bytes()[:-10])
    lost = len(range(int(parts[0].stem.split("-")[1]), 130)[:50])
    result = extract(scenes, FRONT_END, workers=1)
    assert len(count_clips) == 130 + lost
    assert same(result, extract(scenes, FRONT_END, workers=1, cache=tmp_path / "alone"))


def test_worker_that_dies_is_replaced_once(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = open_dataset(many)
    start = extraction._start
    dead = [True]

    def dying() -> subprocess.Popen[str]:
        process = start()
        if dead[0]:
            dead[0] = False
            process.kill()
            process.wait()
        return process

    monkeypatch.setattr(extraction, "_start", dying)
    assert len(extract(scenes, FRONT_END, workers=2).train) == 104


def test_worker_that_always_dies_is_an_error(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = extraction._start

    def dying() -> subprocess.Popen[str]:
        process = start()
        process.kill()
        process.wait()
        return process

    monkeypatch.setattr(extraction, "_start", dying)
    with pytest.raises(MeasureError, match=r"ended with code -9 .* twice"):
        extract(open_dataset(many), FRONT_END, workers=2)


def test_workers_import_no_torch(tmp_path: Path) -> None:
    code = "import compressor.data.extraction, sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_low_rate_data_brings_the_front_end_down(tau: Path) -> None:
    result = extract(open_dataset(tau), preset("scut2023"), workers=1)
    assert result.front_end == preset("scut2023").at_rate(8000)
    assert result.train.x.shape[1:] == preset("scut2023").at_rate(8000).shape(0.5)
    assert result.notes == ()


def test_what_was_done_to_clips_is_told(tmp_path: Path, wav: Wav) -> None:
    home = tmp_path / "set"
    clips = {
        "a/full1": {"seconds": 1.0},
        "a/full2": {"seconds": 1.0},
        "a/short": {"seconds": 0.5},
        "b/long": {"seconds": 1.5},
        "b/stereo": {"seconds": 1.0, "channels": 2},
        "b/fast": {"seconds": 1.0, "rate": 16_000},
    }
    paths = {name: wav(home / f"{name}.wav", **options) for name, options in clips.items()}
    scenes = open_dataset(home)
    result = extract(scenes, FRONT_END, workers=1)
    assert result.notes == (
        "1 of 6 clips are shorter than 1 s: zeros appended",
        "1 of 6 clips are longer than 1 s: cropped at the end",
        "1 of 6 clips resampled to 8000 Hz",
        "1 of 6 clips have two channels: averaged",
    )
    audio = {name: soundfile.read(path, dtype="float32")[0] for name, path in paths.items()}
    expected = {
        "a/short": np.concatenate([audio["a/short"], np.zeros(4000, np.float32)]),
        "b/long": audio["b/long"][:8000],
        "b/stereo": audio["b/stereo"].mean(axis=1),
        "b/fast": resample(audio["b/fast"], 16_000, 8000),
    }
    row_of = {
        clip.path: row
        for row, clip in enumerate(sorted((*scenes.train, *scenes.test), key=lambda c: c.path))
    }
    for name, wave in expected.items():
        np.testing.assert_array_equal(
            result.train.x[row_of[paths[name]]], FRONT_END(wave).astype(np.float16)
        )
    two = extract(scenes, replace(FRONT_END, audio_channels=2), workers=1)
    assert two.train.x.shape[1] == 2
    assert "5 of 6 clips have one channel: repeated for the two-channel front-end" in two.notes


@pytest.mark.parametrize("workers", [1, 2])
def test_unusable_clip_is_named_with_its_row(
    tau: Path, many: Path, wav: Wav, write_list: Callable[..., Path], workers: int
) -> None:
    rows = [(f"{label}/{label}{n:02d}.wav", label) for label in "ab" for n in range(65)]
    clips = write_list(many / "clips.csv", "filename label", rows, sep=",")
    wav(many / "b" / "b00.wav", seconds=0.2, fill=float("nan"))
    message = r"b00.wav \(clips.csv, line 67\) holds samples that are not numbers"
    with pytest.raises(DataError, match=message):
        extract(open_dataset(clips), FRONT_END, workers=workers)
    broken = open_dataset(tau)
    broken.test[1].path.write_bytes(b"no audio")
    message = r"-s4.wav \(fold1_evaluate.csv, line 3\) cannot be read as audio"
    with pytest.raises(DataError, match=message):
        extract(broken, FRONT_END, workers=workers)


def test_too_many_channels_and_too_short_clips(tmp_path: Path, wav: Wav) -> None:
    for label in "ab":
        for n in range(2):
            wav(tmp_path / "set" / label / f"{label}{n}.wav", channels=3, seconds=0.05)
    scenes = open_dataset(tmp_path / "set")
    with pytest.raises(ShapeError, match="too short"):
        extract(scenes, preset("scut2023"), workers=1)
    with pytest.raises(DataError, match="has 3 channels; allowed: 1 or 2"):
        extract(scenes, FRONT_END, workers=1)


def test_vanished_clip_and_bad_workers(tau: Path) -> None:
    scenes: SceneSet = open_dataset(tau)
    with pytest.raises(DataError, match="0 workers; allowed: 1 or more"):
        extract(scenes, FRONT_END, workers=0)
    scenes.train[0].path.unlink()
    with pytest.raises(DataError, match=r"0-a.wav.* cannot be read: No such file"):
        extract(scenes, FRONT_END, workers=1)


def test_old_leftovers_are_removed_and_fresh_ones_kept(many: Path, cache: Path) -> None:
    scenes = open_dataset(many)
    extract(scenes, FRONT_END, workers=1)
    (entry(cache) / "meta.json").unlink()
    old, fresh = entry(cache) / ".x.npy.1.tmp", entry(cache) / ".x.npy.2.tmp"
    old.write_bytes(b"")
    fresh.write_bytes(b"")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    extract(scenes, FRONT_END, workers=1)
    assert (old.exists(), fresh.exists()) == (False, True)
