"""The official TAU layouts, on made-up sets."""

from __future__ import annotations

import shutil
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import compressor.data
from compressor.data import open_dataset
from compressor.errors import DataError

Edit = Callable[[Path, str, str], None]


def test_parts_labels_devices_groups_and_cities(tau: Path) -> None:
    scenes = open_dataset(tau)
    assert scenes.classes == ("airport", "bus")
    assert (len(scenes.train), len(scenes.test)) == (8, 4)
    assert scenes.seen_devices == ("a", "s1")
    assert scenes.unseen_devices == ("s4",)
    assert {clip.group for clip in scenes.train} == {"paris-0", "paris-1"}
    assert {(clip.city, clip.group) for clip in scenes.test} == {("lyon", "lyon-2")}
    first = scenes.test[0]  # of the CRLF list
    assert first.path == tau / "audio/airport-lyon-2-200-0-a.wav"
    assert (first.label, first.device, first.list_file, first.row) == (
        0,
        "a",
        "fold1_evaluate.csv",
        2,
    )
    assert scenes.split == "official lists, fold 1"
    assert (scenes.fold, scenes.folds) == (1, (1,))
    assert (scenes.clip_s, scenes.sample_rate_hz, scenes.synthetic) == (0.5, 8000, False)
    assert scenes.notes == ("1 of 13 clips of meta.csv are in neither list: unused",)
    assert scenes.name == "tau-2022-mobile-excerpt"
    assert scenes.title == "TAU Urban Acoustic Scenes 2022 Mobile, 13 of 230,350 clips"


def test_test_list_without_labels_is_enough(tau: Path) -> None:
    whole = open_dataset(tau).test
    (tau / "evaluation_setup/fold1_evaluate.csv").unlink()
    fallback = open_dataset(tau).test
    assert [(clip.path, clip.label) for clip in fallback] == [
        (clip.path, clip.label) for clip in whole
    ]
    assert fallback[0].list_file == "fold1_test.csv"


def test_three_class_set_without_devices(tau: Path) -> None:
    for path in [tau / "meta.csv", *(tau / "evaluation_setup").iterdir()]:
        lines = path.read_text().splitlines()
        cells = [line.split("\t")[:3] for line in lines]
        text = "\n".join("\t".join(row) for row in cells) + "\n"
        text = text.replace("\tairport", "\tindoor").replace("\tbus", "\ttransportation")
        path.write_text(text.replace("-a.wav", ".wav").replace("-s1.wav", "-1.wav"))
    for path in (tau / "audio").iterdir():
        path.rename(str(path).replace("-a.wav", ".wav").replace("-s1.wav", "-1.wav"))
    scenes = open_dataset(tau)
    assert scenes.classes == ("indoor", "transportation")
    assert scenes.name == "tau-2020-3class-excerpt"
    assert scenes.seen_devices == ()
    assert {clip.device for clip in scenes.test} == {"", "s4"}


def test_device_comes_from_the_name_when_the_column_is_missing(tau: Path) -> None:
    lines = (tau / "meta.csv").read_text().splitlines()
    (tau / "meta.csv").write_text("\n".join(line.rpartition("\t")[0] for line in lines))
    assert open_dataset(tau).seen_devices == ("a", "s1")
    assert open_dataset(tau).unseen_devices == ("s4",)


@pytest.mark.parametrize("place", [".", "split_setup", "evaluation_setup"])
def test_dcase_2024_subset(tau: Path, place: str) -> None:
    (tau / place).mkdir(exist_ok=True)
    names = [f"audio/{scene}-paris-0-000-0-a.wav" for scene in ("bus", "airport")]
    (tau / place / "split25.csv").write_text("filename\n" + "\n".join(names))
    scenes = open_dataset(f"{tau}:split25")
    assert {clip.path.name for clip in scenes.train} == {Path(name).name for name in names}
    assert len(scenes.test) == 4
    assert scenes.split == "official lists, fold 1, training part cut to split25.csv"
    assert "trained on 2 of the fold's 8 training clips" in scenes.notes
    with pytest.raises(DataError, match=r"no subset list split5.csv; found: split25"):
        open_dataset(f"{tau}:split5")


def test_the_archives_own_folder_inside_the_named_one_is_found(tau: Path) -> None:
    assert open_dataset(tau.parent).root == tau


def test_own_labels_in_the_official_layout(tau: Path) -> None:
    for path in [tau / "meta.csv", *(tau / "evaluation_setup").iterdir()]:
        text = path.read_bytes().decode()
        path.write_bytes(
            text.replace("\tairport", "\tkitchen").replace("\tbus", "\tcellar").encode()
        )
    scenes = open_dataset(tau)
    assert scenes.classes == ("cellar", "kitchen")
    assert scenes.title == "tau"


TRAIN = "evaluation_setup/fold1_train.csv"
EVALUATE = "evaluation_setup/fold1_evaluate.csv"
TRAIN_1 = "audio/airport-paris-0-000-0-a.wav"
TEST_1 = "audio/airport-lyon-2-200-0-a.wav"
TRAIN_2 = "audio/airport-paris-0-000-0-s1.wav"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("meta.csv", "scene_label", "scene_lab", r"no column 'scene_label'.*'scene_lab' meant"),
        (
            "meta.csv",
            "\tairport\t",
            "\tairprot\t",
            r"meta.csv, line 2: unknown label 'airprot'; .* mean airport",
        ),
        ("meta.csv", "\tairport\t", "\t\t", r"meta.csv, line 2: column 'scene_label' is empty"),
        ("meta.csv", TRAIN_2, TRAIN_1, r"meta.csv, line 3: .* is listed twice, first in line 2"),
        (TRAIN, TRAIN_1, "audio/x.wav", r"fold1_train.csv, line 2: audio/x.wav is not in meta.csv"),
        (
            TRAIN,
            "\tairport",
            "\tbus",
            r"train.csv, line 2: .*'bus' here but 'airport' in meta.csv line 2",
        ),
        (
            TRAIN,
            "\tairport",
            "\tairbort",
            r"train.csv, line 2: unknown label 'airbort'; .* mean airport",
        ),
        (TRAIN, TRAIN_2, TRAIN_1, r"twice in the training part: .*train.csv line 2 and .* line 3"),
        (EVALUATE, TEST_1, TRAIN_1, r"in both parts: .*train.csv line 2 and .*evaluate.csv line 2"),
        (
            EVALUATE,
            "airport\r",
            "airport\textra\r",
            r"fold1_evaluate.csv, line 2: 3 cells under 2 columns",
        ),
    ],
)
def test_errors_name_the_file_and_the_row(
    tau: Path, edit: Edit, file: str, old: str, new: str, message: str
) -> None:
    edit(tau / file, old, new)
    with pytest.raises(DataError, match=message):
        open_dataset(tau)


def test_missing_clip(tau: Path) -> None:
    (tau / TRAIN_2).unlink()
    message = r"fold1_train.csv, line 3\): the file is missing \(1 of 12 listed files are\)"
    with pytest.raises(DataError, match=message):
        open_dataset(tau)


def test_missing_audio_folder(tau: Path) -> None:
    (tau / "audio").rename(tau / "sound")
    with pytest.raises(
        DataError, match=r"12 of 12 listed files are\); the folder .*audio does not"
    ):
        open_dataset(tau)


@pytest.mark.parametrize("file", ["meta.csv", TRAIN])
def test_missing_list(tau: Path, file: str) -> None:
    (tau / file).unlink()
    with pytest.raises(DataError, match=Path(file).name):
        open_dataset(tau)


def test_list_that_is_no_text(tau: Path) -> None:
    (tau / "meta.csv").write_bytes(b"filename\tscene_label\n\xff\xfe\x00\n")
    with pytest.raises(DataError, match=r"meta.csv is not a text list"):
        open_dataset(tau)


@pytest.mark.parametrize("file", [TRAIN, EVALUATE])
def test_empty_list(tau: Path, file: str) -> None:
    (tau / file).write_text("filename\tscene_label\n")
    with pytest.raises(DataError, match=r"has a header but no rows"):
        open_dataset(tau)


def test_class_that_is_tested_but_not_trained(tau: Path) -> None:
    lines = (tau / TRAIN).read_text().splitlines()
    (tau / TRAIN).write_text("\n".join(line for line in lines if "bus" not in line))
    with pytest.raises(DataError, match=r"class 'bus' is tested .*fold1_evaluate.csv, line 4"):
        open_dataset(tau)


def test_fold_that_does_not_exist(tau: Path) -> None:
    with pytest.raises(DataError, match="has no fold 3; allowed: 1"):
        open_dataset(tau, fold=3)


def test_clip_that_is_no_audio(tau: Path) -> None:
    (tau / TRAIN_1).write_bytes(b"not audio")
    with pytest.raises(DataError, match=r"airport-paris-0-000-0-a.wav cannot be read as audio"):
        open_dataset(tau)


def test_embedded_set_is_made_once_and_says_that_it_is_synthetic(
    tau: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def generate(root: Path, *, clips: int, seed: int, on_progress: object) -> Path:
        made.append(root)
        assert on_progress is print
        shutil.copytree(tau, root)
        return root

    fake = types.SimpleNamespace(VERSION="7", generate=generate)
    monkeypatch.setattr(compressor.data, "scenes", fake, raising=False)
    for spec in (None, "synthetic"):
        scenes = open_dataset(spec, cache=tmp_path / "cache", on_progress=print)
        assert scenes.synthetic
        assert (scenes.name, scenes.title) == ("synthetic-scenes", "embedded synthetic scenes")
        assert len(scenes.train) == 8
    assert made == [tmp_path / "cache" / "scenes" / "7-1500-2021"]
