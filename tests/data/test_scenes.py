"""The embedded synthetic set, read by hand: layout, split, determinism, devices and levels."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compressor.data import scenes
from compressor.data.scenes_mix import DEVICES, SOUNDS, place, record, scene_signal
from compressor.data.scenes_recipes import RECIPES
from compressor.data.scenes_workers import render
from compressor.errors import ConfigError, DataError

CLIPS = 120
TAU_SCENES = [
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes.generate(tmp_path_factory.mktemp("cache") / "set", clips=CLIPS, workers=2)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def samples(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert (file.getframerate(), file.getnframes()) == (44_100, 44_100)
        return np.frombuffer(file.readframes(44_100), "<i2")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_layout_is_the_official_one(root: Path) -> None:
    meta = rows(root / "meta.csv")
    assert list(meta[0]) == ["filename", "scene_label", "identifier", "source_label"]
    assert len(meta) == CLIPS
    assert {row["filename"] for row in meta} == {
        f"audio/{p.name}" for p in (root / "audio").iterdir()
    }
    for row in meta:
        scene, city, location, segment, part, device = Path(row["filename"]).stem.split("-")
        assert scene == row["scene_label"]
        assert f"{city}-{location}" == row["identifier"]
        assert device == row["source_label"]
        assert int(segment) % 10 == int(part)
    assert sorted({row["scene_label"] for row in meta}) == TAU_SCENES
    setup = root / "evaluation_setup"
    listed = rows(setup / "fold1_train.csv") + rows(setup / "fold1_evaluate.csv")
    labels = {row["filename"]: row["scene_label"] for row in meta}
    assert {row["filename"]: row["scene_label"] for row in listed} == labels
    assert len(listed) == CLIPS
    assert [list(row) for row in rows(setup / "fold1_test.csv")] == [["filename"]] * 40
    assert [r["filename"] for r in rows(setup / "fold1_test.csv")] == [
        r["filename"] for r in rows(setup / "fold1_evaluate.csv")
    ]


def test_only_the_evaluate_list_has_crlf(root: Path) -> None:
    setup = root / "evaluation_setup"
    assert (setup / "fold1_evaluate.csv").read_bytes().count(b"\r\n") == 41
    for name in ("fold1_train.csv", "fold1_test.csv", "../meta.csv"):
        assert b"\r" not in (setup / name).read_bytes()


def test_it_says_that_it_is_synthetic(root: Path) -> None:
    facts = json.loads((root / "synthetic.json").read_text())
    assert facts == {"version": scenes.VERSION, "synthetic": True, "seed": 2021, "clips": CLIPS}
    assert scenes.SPEC["synthetic"] is True


def test_default_plan_has_1050_training_and_450_evaluation_clips() -> None:
    plan = scenes.plan()
    train = [clip for clip in plan if clip.train]
    test = [clip for clip in plan if not clip.train]
    assert Counter(clip.scene for clip in train) == dict.fromkeys(TAU_SCENES, 105)
    assert Counter(clip.scene for clip in test) == dict.fromkeys(TAU_SCENES, 45)
    others = dict.fromkeys(["b", "c", "s1", "s2", "s3"], 70)
    assert Counter(clip.device for clip in train) == {"a": 700, **others}
    assert Counter(clip.device for clip in test) == dict.fromkeys(DEVICES, 50)
    assert Counter((clip.scene, clip.device) for clip in test) == {
        (scene, device): 5 for scene in TAU_SCENES for device in DEVICES
    }


@pytest.mark.parametrize("clips", [20, 137, 1500])
def test_no_location_is_in_both_parts(clips: int) -> None:
    plan = scenes.plan(clips)
    assert len(plan) == clips
    assert len({clip.filename for clip in plan}) == clips
    train = {clip.identifier for clip in plan if clip.train}
    test = {clip.identifier for clip in plan if not clip.train}
    assert train
    assert test
    assert not train & test
    assert len({clip.location for clip in plan}) == len({(c.scene, c.location) for c in plan})
    assert not {clip.device for clip in plan if clip.train} & {"s4", "s5", "s6"}
    counts = Counter(clip.scene for clip in plan)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_locations_hold_clips_of_several_devices_and_cities_are_shared() -> None:
    plan = scenes.plan()
    for part in (True, False):
        here = [clip for clip in plan if clip.train is part]
        assert min(Counter(clip.identifier for clip in here).values()) == 5
        devices: dict[str, set[str]] = {}
        for clip in here:
            devices.setdefault(clip.identifier, set()).add(clip.device)
        assert min(len(found) for found in devices.values()) >= 2
    train = {clip.city for clip in plan if clip.train}
    test = {clip.city for clip in plan if not clip.train}
    assert train < test
    assert len(test - train) == 1


def test_samples_do_not_depend_on_run_or_workers(root: Path, tmp_path: Path) -> None:
    again = scenes.generate(tmp_path / "again", clips=CLIPS, workers=1)
    names = sorted(path.name for path in (root / "audio").iterdir())
    for name in names:
        assert (again / "audio" / name).read_bytes() == (root / "audio" / name).read_bytes()
    assert (again / "meta.csv").read_bytes() == (root / "meta.csv").read_bytes()


def test_every_clip_and_every_seed_is_another_one(root: Path) -> None:
    plan = scenes.plan(CLIPS)
    assert len({samples(path).tobytes() for path in (root / "audio").iterdir()}) == CLIPS
    assert not np.array_equal(render(plan[0], 2021), render(plan[0], 2022))


def test_clips_are_audible_and_not_clipped(root: Path) -> None:
    levels = []
    for path in (root / "audio").iterdir():
        clip = samples(path).astype(np.float64) / 32768
        assert np.abs(clip).max() < 0.97
        assert abs(clip.mean()) < 0.01
        levels.append(20 * np.log10(np.sqrt(np.mean(clip**2))))
    assert min(levels) > -60
    assert max(levels) < -6
    assert np.std(levels) > 1.5  # levels differ from place to place


@pytest.mark.parametrize("kind", sorted(SOUNDS))
def test_every_sound_is_finite_and_sounds(kind: str) -> None:
    for seed, character in ((1, 0.0), (2, 0.5), (3, 1.0)):
        sound = SOUNDS[kind](rng(seed), character)
        assert sound.shape == (44_100,)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() > 1e-3


def test_recipes_name_sounds_that_exist_and_use_all_of_them() -> None:
    named = {kind for recipe in RECIPES.values() for kind, _ in (*recipe.leads, *recipe.extras)}
    assert named == set(SOUNDS)


def octave_db(clip: NDArray[Any], low_hz: int, high_hz: int) -> float:
    power = np.abs(np.fft.rfft(clip.astype(np.float64))) ** 2  # one bin is one hertz
    return float(10 * np.log10(power[low_hz:high_hz].sum()))


def test_devices_colour_the_sound_by_their_responses() -> None:
    """White noise through linear device a, and through b's table: -14 dB at 63 Hz, +4 at 4 kHz."""
    white = rng().standard_normal(44_100).astype(np.float32)
    recorded = {name: record(white, name, -30.0, rng(1)) for name in DEVICES}
    shapes = {}
    for name, clip in recorded.items():
        middle = octave_db(clip, 950, 1050)
        shapes[name] = np.array(
            [octave_db(clip, round(0.95 * f), round(1.05 * f)) - middle for f in (250, 4000, 8000)]
        )
    flat = shapes["a"]
    for name, device in DEVICES.items():
        table = np.array(device.response_db)[[3, 7, 8]] - device.response_db[5]
        np.testing.assert_allclose(shapes[name] - flat, table - 0.0, atol=1.5, err_msg=name)
    names = list(DEVICES)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert np.abs(shapes[one] - shapes[other]).max() > 1, (one, other)


def test_devices_have_their_own_noise_floor() -> None:
    silence = np.zeros(44_100, np.float32)
    for name, device in DEVICES.items():
        if device.ratio > 1:
            continue  # compression lifts the floor; seen below
        level = 20 * np.log10(np.std(record(silence, name, -30.0, rng()) / 32768))
        assert level == pytest.approx(device.noise_db, abs=1.5)  # rounding to 16 bit adds some
    floors = {n: np.std(record(silence, n, -30.0, rng())) for n in ("a", "s6")}
    assert floors["s6"] > 10 * floors["a"]


def test_devices_compress_the_dynamics_by_their_ratio() -> None:
    """A step of 12 dB comes out as 12 dB / ratio, away from the step itself."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100)
    step = (tone * np.where(np.arange(44_100) < 22_050, 0.5, 0.5 * 10 ** (12 / 20))).astype(
        np.float32
    )
    for name, device in DEVICES.items():
        clip = record(step, name, -30.0, rng()).astype(np.float64)
        quiet, loud = clip[8_820:17_640], clip[28_665:37_485]
        change = 20 * np.log10(np.std(loud) / np.std(quiet))
        assert change == pytest.approx(12 / device.ratio, abs=0.8), name


def test_locations_differ_more_than_clips_of_one_location() -> None:
    one, same, other = (place("bus", 2021, (1, 1, number)) for number in (3, 3, 4))
    assert one is same
    assert one.colour_db != other.colour_db
    assert one.characters != other.characters
    assert sum(one.odds) == pytest.approx(1)
    first, second = scene_signal(one, rng(1)), scene_signal(one, rng(2))
    assert not np.array_equal(first, second)
    assert np.std(first) == pytest.approx(1, abs=0.01)


def test_a_made_set_is_kept(root: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (root / "audio").iterdir()}
    calls: list[int] = []
    scenes.generate(root, clips=CLIPS, on_progress=lambda done, _: calls.append(done))
    assert {p.name: p.stat().st_mtime_ns for p in (root / "audio").iterdir()} == before
    assert calls == []


def test_progress_ends_at_the_number_of_clips(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    scenes.generate(
        tmp_path / "set", clips=60, workers=2, on_progress=lambda *numbers: calls.append(numbers)
    )
    assert calls[-1] == (60, 60)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_two_at_once_both_end_well(tmp_path: Path) -> None:
    target = tmp_path / "set"
    results: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(scenes.generate(target, clips=20, workers=1))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [target, target]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]  # nothing left over
    assert len(list((target / "audio").iterdir())) == 20


def test_interrupted_generation_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scenes.generate(tmp_path / "set", clips=60, workers=1, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="clips"):
        scenes.generate(root, clips=CLIPS + 1)
    (tmp_path / "thesis.txt").write_text("do not lose")
    with pytest.raises(DataError, match=r"not empty.*remove the folder or name another"):
        scenes.generate(tmp_path, clips=20)
    assert (tmp_path / "thesis.txt").read_text() == "do not lose"


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        scenes.generate(tmp_path / "file" / "set", clips=20)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"clips": 19}, "20 or more"), ({"seed": -1}, "negative"), ({"workers": 0}, "1 or more")],
)
def test_wrong_numbers_are_refused(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scenes.generate(tmp_path / "set", **{"clips": 20, **wrong})


def test_workers_load_neither_torch_nor_pandas() -> None:
    code = "import sys, compressor.data.scenes_workers; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "scipy"} & set(out.stdout.split())


@pytest.mark.parametrize(
    ("index", "filename", "expected_db"),
    [
        (0, "audio/airport-barcelona-0-0-0-a.wav", (-60.5, -40.8, -39.3, -83.6)),
        (777, "audio/public_square-milan-155-777-7-b.wav", (-58.0, -46.3, -31.6, -40.5)),
        (1499, "audio/tram-stockholm-299-1499-9-s6.wav", (-48.5, -29.6, -46.5, -68.3)),
    ],
)
def test_sounds_change_only_with_the_version(
    index: int, filename: str, expected_db: tuple[float, ...]
) -> None:
    """Power of four octaves, dB full scale. A change here needs a new `scenes.VERSION` too."""
    assert scenes.VERSION == "synthetic-scenes-3"
    clip = scenes.plan()[index]
    assert clip.filename == filename
    wave_form = render(clip, 2021) / 32768
    full_scale_db = 20 * np.log10(44_100) - 10 * np.log10(2)
    found = [octave_db(wave_form, low, 2 * low) - full_scale_db for low in (125, 500, 2000, 8000)]
    np.testing.assert_allclose(found, expected_db, atol=0.3)


@pytest.mark.slow
def test_band_statistics_alone_do_not_give_the_scenes_away() -> None:
    """A linear classifier on mean and deviation of 40 band levels: measured 62.9 % (chance 10)."""
    plan = scenes.plan()
    edges = np.unique(np.geomspace(60, 20_000, 41).round().astype(int))
    features = []
    for clip in plan:
        frames = np.lib.stride_tricks.sliding_window_view(render(clip, 2021) / 32768, 1764)[::882]
        power = np.abs(np.fft.rfft(frames * np.hanning(1764), 2048)) ** 2
        bins = np.maximum(np.arange(len(edges)) + 2, edges * 2048 // 44_100)
        levels = np.log(np.add.reduceat(power, bins, axis=1)[:, :-1] + 1e-6)
        features.append(np.concatenate([levels.mean(0), levels.std(0)]))
    train = np.array([clip.train for clip in plan])
    labels = np.array([TAU_SCENES.index(clip.scene) for clip in plan])
    x = np.array(features)
    x = (x - x[train].mean(0)) / x[train].std(0)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    a, targets = x[train], np.eye(10)[labels[train]]
    weights = np.linalg.solve(a.T @ a + 10 * np.eye(x.shape[1]), a.T @ targets)
    accuracy = np.mean((x[~train] @ weights).argmax(1) == labels[~train])
    assert 0.4 < accuracy < 0.66
