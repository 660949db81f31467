from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from compressor.audio.logmel import preset
from compressor.data import Clip, SceneSet
from compressor.errors import UsageError
from compressor.reproduce import load_recipe
from compressor.reproduce.check import made_up_clips, made_up_set
from compressor.reproduce.prepare import GROUPS, average_notes, fit_settings, relabel

TAU = ("airport", "bus", "metro", "metro_station", "park", "public_square", "shopping_mall",
       "street_pedestrian", "street_traffic", "tram")  # fmt: skip


def scenes(
    classes: tuple[str, ...] = TAU, clip_s: float = 1.0, devices: tuple[str, ...] = ("a", "b")
) -> SceneSet:
    clips = tuple(
        Clip(Path(f"{i}.wav"), i, device=devices[i % len(devices)]) for i in range(len(classes))
    )
    return SceneSet(
        name="set", title="A set", root=Path(), classes=classes, train=clips, test=clips,
        split="all", fold=1, folds=(1,), synthetic=False, clip_s=clip_s, sample_rate_hz=44_100,
    )  # fmt: skip


def test_ten_scenes_become_three_groups() -> None:
    made, notes = relabel(scenes(), load_recipe("bupt2020"))
    assert made.classes == GROUPS
    # airport, bus, metro, metro_station, park, square, mall, pedestrian, traffic, tram
    assert [clip.label for clip in made.train] == [0, 2, 2, 0, 1, 1, 0, 1, 1, 2]
    assert notes == ("ten scenes taken together as indoor, outdoor and transportation",)


def test_other_classes_stay_and_the_note_says_so() -> None:
    dogs = scenes(("cat", "dog"))
    made, notes = relabel(dogs, load_recipe("bupt2020"))
    assert made == dogs
    assert "its own 2 classes" in notes[0]
    assert relabel(scenes(GROUPS), load_recipe("bupt2020"))[1] == ()


def test_frames_shrink_with_shorter_clips() -> None:
    recipe = load_recipe("speakin2021")  # warp of 40 frames of 10 s
    settings, notes = fit_settings(recipe, scenes(clip_s=1.0), preset(recipe.front_end))
    assert settings.time_warp_frames == 4
    assert notes == ("clips of 1 s in place of 10 s: time warp shortened alike",)
    whole, none = fit_settings(recipe, scenes(clip_s=10.0), preset(recipe.front_end))
    assert (whole, none) == (recipe.training, ())


def test_the_crop_keeps_its_share() -> None:
    recipe = load_recipe("deepsound2021:32")
    front_end = preset(recipe.front_end)  # hop of 690 samples at 44.1 kHz, centred
    whole, _ = fit_settings(recipe, scenes(clip_s=10.0), front_end)
    assert whole.crop_frames == 1 + 8 * 44_100 // 690
    half, notes = fit_settings(recipe, scenes(clip_s=5.0), front_end)
    assert half.crop_frames == 1 + 4 * 44_100 // 690
    assert notes == ("clips of 5 s in place of 10 s: crop shortened alike",)


def test_a_crop_longer_than_the_clips_names_its_setting() -> None:
    recipe = load_recipe("deepsound2021:32", ["features.crop_s=11"])
    for clip_s in (10.0, 5.0):
        with pytest.raises(UsageError, match=r"crop_s is 11, .* set it to at most 10"):
            fit_settings(recipe, scenes(clip_s=clip_s), preset(recipe.front_end))


def test_one_task_and_no_correction_where_the_data_has_no_groups_and_devices() -> None:
    recipe = load_recipe("scut2023")
    settings, notes = fit_settings(
        recipe, scenes(("cat", "dog"), devices=("",)), preset(recipe.front_end)
    )
    expected = dataclasses.replace(
        recipe.training, tasks="scene", pcgrad=False, spectrum_correction=False
    )
    assert settings == expected
    assert any("one task" in note for note in notes)
    assert any("no spectrum correction" in note for note in notes)
    kept, none = fit_settings(recipe, scenes(), preset(recipe.front_end))
    assert (kept, none) == (recipe.training, ())


@pytest.mark.parametrize("devices", [("a",), ("b", "c"), ("", "a")])
def test_correction_needs_device_a_and_another(devices: tuple[str, ...]) -> None:
    recipe = load_recipe("scut2023")
    settings, _ = fit_settings(recipe, scenes(devices=devices), preset(recipe.front_end))
    assert not settings.spectrum_correction


def test_a_moving_average_of_few_steps_is_said() -> None:
    few = ("epochs=10", "batch_size=8", "validation_share=0", "early_stop_epochs=0")
    recipe = load_recipe("deepsound2021:32", [f"training.{change}" for change in few])
    part = made_up_clips((1, 32, 4), made_up_set(recipe), 72)  # 9 steps an epoch
    (note,) = average_notes(part, recipe.training)
    # (1 + 90) / (10 + 90) and 1 / (1 - 0.91)
    assert "90 steps are too few for its decay of 0.999, which rises to 0.91 (about" in note
    assert note.endswith("the last 11 steps)")
    once = dataclasses.replace(recipe.training, epochs=1, batch_size=72)
    # one step: 2 / 11
    assert average_notes(part, once)[0].endswith("; 18.2% of it is the untrained network")
    assert average_notes(part, dataclasses.replace(once, ema_decay=0.0)) == ()
    assert average_notes(part, dataclasses.replace(recipe.training, ema_decay=0.9)) == ()
