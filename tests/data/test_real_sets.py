"""The loaders and the cache on real recordings."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from compressor.audio.logmel import preset
from compressor.data import open_dataset
from compressor.data.features import extract

pytestmark = pytest.mark.data


@pytest.fixture
def tau_excerpt(recordings: Path) -> Path:
    root = recordings / "TAU-urban-acoustic-scenes-2022-mobile-development"
    if not root.is_dir():
        pytest.skip(f"no TAU excerpt at {root}")
    return root


def test_tau_excerpt(tau_excerpt: Path) -> None:
    scenes = open_dataset(tau_excerpt)
    assert len(scenes.classes) == 10
    assert (len(scenes.train), len(scenes.test)) == (355, 270)
    assert Counter(clip.device for clip in scenes.train) == {
        "a": 255,
        **dict.fromkeys(("b", "c", "s1", "s2", "s3"), 20),
    }
    assert set(Counter(clip.device for clip in scenes.test).values()) == {30}
    assert set(Counter(clip.label for clip in scenes.test).values()) == {27}
    assert scenes.unseen_devices == ("s4", "s5", "s6")
    assert len({clip.city for clip in (*scenes.train, *scenes.test)}) == 10
    assert not {c.group for c in scenes.train} & {c.group for c in scenes.test}
    assert (scenes.clip_s, scenes.sample_rate_hz) == (1.0, 44_100)


def test_tau_excerpt_features(tau_excerpt: Path, tmp_path: Path) -> None:
    result = extract(open_dataset(tau_excerpt), preset("dcase2024_baseline"), cache=tmp_path)
    assert result.train.x.shape == (625, 1, 256, 65)
    assert result.notes == ("625 of 625 clips resampled to 32000 Hz",)
    assert np.isfinite(result.standardizer.apply(result.test.array())).all()


def test_esc50(recordings: Path) -> None:
    tested: Counter[Path] = Counter()
    for fold in range(1, 6):
        scenes = open_dataset(recordings / "ESC-50", fold=fold)
        assert (len(scenes.train), len(scenes.test)) == (1600, 400)
        assert set(Counter(clip.label for clip in scenes.test).values()) == {8}
        # Four source recordings lie in two folds each (2 and 3, 4 and 5): so in the published set.
        shared = {c.group for c in scenes.train} & {c.group for c in scenes.test}
        assert len(shared) == (0 if fold == 1 else 2)
        assert len(scenes.notes) == (0 if fold == 1 else 1)
        tested.update(clip.path for clip in scenes.test)
    assert len(tested) == 2000
    assert set(tested.values()) == {1}
    assert scenes.classes[:3] == ("dog", "rooster", "pig")
    assert scenes.classes[49] == "hand_saw"
    assert (scenes.clip_s, scenes.sample_rate_hz) == (5.0, 16_000)
    small = open_dataset(f"{recordings / 'ESC-50'}:esc10")
    assert len(small.classes) == 10
    assert (len(small.train), len(small.test)) == (320, 80)


@pytest.mark.slow
def test_esc50_cache_hit_is_fast(recordings: Path, tmp_path: Path) -> None:
    scenes = open_dataset(recordings / "ESC-50")
    first = extract(scenes, preset("speakin2021"), cache=tmp_path, workers=2)
    assert first.train.x.shape == (2000, 1, 40, 251)
    began = time.process_time()
    again = extract(scenes, preset("speakin2021"), cache=tmp_path)
    assert again.cached
    assert time.process_time() - began < 0.3
    assert again.standardizer == first.standardizer
