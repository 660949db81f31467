"""ESC-50, lists and label folders, on made-up sets; and what open_dataset says of wrong paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from compressor.data import cache_dir, open_dataset
from compressor.errors import DataError

Wav = Callable[..., Path]
WriteList = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def esc50(tmp_path: Path, wav: Wav, write_list: WriteList) -> Path:
    root = tmp_path / "esc"
    rows = []
    for fold in range(1, 6):
        for target, category, esc10 in (
            (0, "dog", "True"),
            (7, "rooster", "True"),
            (3, "cow", "False"),
        ):
            name = f"{fold}-{fold}{target}-A-{target}.wav"
            wav(root / "audio" / name)
            rows.append((name, str(fold), str(target), category, esc10, f"{fold}{target}", "A"))
    (root / "meta").mkdir()
    columns = "filename fold target category esc10 src_file take"
    write_list(root / "meta/esc50.csv", columns, rows, sep=",")
    return root


def test_esc50_folds_and_classes(esc50: Path) -> None:
    scenes = open_dataset(esc50)
    assert scenes.classes == ("dog", "cow", "rooster")  # in the order of target
    assert (scenes.fold, scenes.folds) == (1, (1, 2, 3, 4, 5))
    assert (len(scenes.train), len(scenes.test)) == (12, 3)
    other = open_dataset(esc50, fold=4)
    assert {clip.path.name for clip in other.test} == {
        "4-40-A-0.wav",
        "4-47-A-7.wav",
        "4-43-A-3.wav",
    }
    assert {clip.group for clip in other.test} == {"40", "47", "43"}
    assert other.split == "ESC-50 fold 4 is the test part, the other 4 the training part"


def test_esc10(esc50: Path) -> None:
    scenes = open_dataset(f"{esc50}:esc10", fold=5)
    assert scenes.classes == ("dog", "rooster")
    assert scenes.name == "esc-10"
    assert [(clip.path.name, clip.label) for clip in scenes.test] == [
        ("5-50-A-0.wav", 0),
        ("5-57-A-7.wav", 1),
    ]
    with pytest.raises(DataError, match="no part 'esc20'; allowed: esc10"):
        open_dataset(f"{esc50}:esc20")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",7,rooster", ",seven,rooster", r"line 3: target is 'seven'; allowed: a whole number"),
        (",7,rooster", ",0,rooster", "target and category do not name the same classes"),
        ("src_file", "source", "no column 'src_file'"),
    ],
)
def test_esc50_errors(
    esc50: Path, edit: Callable[[Path, str, str], None], old: str, new: str, message: str
) -> None:
    edit(esc50 / "meta/esc50.csv", old, new)
    with pytest.raises(DataError, match=message):
        open_dataset(esc50)


def test_esc50_fold_and_missing_file(esc50: Path) -> None:
    with pytest.raises(DataError, match="ESC-50 has no fold 6; allowed: 1, 2, 3, 4, 5"):
        open_dataset(esc50, fold=6)
    (esc50 / "audio/2-20-A-0.wav").rename(esc50 / "audio/2-20-A-0.ogg")
    message = r"esc50.csv, line 5\): the file is missing .*; the folder holds '2-20-A-0.ogg'"
    with pytest.raises(DataError, match=message):
        open_dataset(esc50)


@pytest.fixture
def labels(tmp_path: Path, wav: Wav) -> Path:
    """Three labels; each with three recordings of three pieces and six clips on their own."""
    root = tmp_path / "mine"
    for label in ("door", "rain", "wind"):
        for recording in range(3):
            for piece in range(3):
                wav(root / label / f"r{recording}" / f"{label}{recording}{piece}.wav")
        for single in range(6):
            wav(root / label / f"{label}{single}.wav")
    (root / "readme.txt").write_text("not a class")
    return root


def test_label_folders_get_a_stratified_split_of_whole_groups(labels: Path) -> None:
    tests = []
    for fold in range(1, 6):
        scenes = open_dataset(labels, fold=fold)
        assert scenes.classes == ("door", "rain", "wind")
        assert not {c.group for c in scenes.train} & {c.group for c in scenes.test}
        counts = Counter(clip.label for clip in scenes.test)
        assert set(counts) == {0, 1, 2}  # 15 clips a class in 5 folds
        assert all(3 <= count <= 4 for count in counts.values()) or fold > 3
        tests += [clip.path for clip in scenes.test]
    assert len(tests) == len(set(tests)) == 45  # each clip is tested exactly once
    assert scenes.folds == (1, 2, 3, 4, 5)
    assert "whole groups together, seed 2021; fold 5 is the test part" in scenes.split
    assert open_dataset(labels, fold=5) == scenes  # the same again
    assert "door/r0" in {c.group for c in (*scenes.train, *scenes.test)}


def test_few_groups_give_few_folds(tmp_path: Path, wav: Wav) -> None:
    for label in ("a", "b"):
        for take in range(3):
            wav(tmp_path / "set" / label / f"{label}{take}.wav")
    assert open_dataset(tmp_path / "set").folds == (1, 2, 3)
    for take in (1, 2):
        (tmp_path / "set/b" / f"b{take}.wav").unlink()
    with pytest.raises(DataError, match=r"class 'b' has a single group of clips .*b0.wav"):
        open_dataset(tmp_path / "set")


def test_train_and_test_folders(tmp_path: Path, wav: Wav) -> None:
    root = tmp_path / "set"
    for part in ("train", "test"):
        for label in ("a", "b"):
            wav(root / part / label / "x.wav")
    scenes = open_dataset(root)
    assert [clip.path.parent.parent.name for clip in scenes.test] == ["test", "test"]
    assert scenes.split == "folders train/ and test/"
    assert scenes.folds == (1,)
    assert scenes.notes == ()
    wav(root / "test" / "c" / "y.wav")
    with pytest.raises(DataError, match=r"class 'c' is tested .* but has no clip in the training"):
        open_dataset(root)


Table = Callable[[Path, str, list[tuple[str, ...]]], Path]


@pytest.fixture
def table(wav: Wav, write_list: WriteList) -> Table:
    """Writes the clips of a list, and the list."""

    def write(root: Path, columns: str, rows: list[tuple[str, ...]]) -> Path:
        for name, *_ in rows:
            wav(root / name)
        return write_list(root / "clips.csv", columns, rows, sep=",")

    return write


def test_list_with_split_device_and_group(tmp_path: Path, table: Table) -> None:
    rows = [
        ("1.wav", "dog", "train", "a", "x"),
        ("2.wav", "cat", "train", "b", "y"),
        ("3.wav", "dog", "test", "c", "z"),
        ("4.wav", "dog", "test", "a", "x"),
    ]
    path = table(tmp_path, "filename label split device group", rows)
    for spec in (path, tmp_path):
        scenes = open_dataset(spec)
        assert scenes.classes == ("cat", "dog")
        assert [clip.path.name for clip in scenes.test] == ["3.wav", "4.wav"]
        assert scenes.unseen_devices == ("c",)
        assert scenes.notes == (
            "no test clip of class cat",
            "1 group(s) have clips in the training and in the test part (e.g. x): "
            "the parts are not independent",
        )


def test_list_with_folds_beside_an_audio_folder(tmp_path: Path, table: Table) -> None:
    rows = [(f"{n}.wav", "dog" if n % 2 else "cat", str(n // 4)) for n in range(12)]
    path = table(tmp_path / "audio", "filename label fold", rows)
    path = path.rename(tmp_path / "clips.csv")
    scenes = open_dataset(path, fold=2)
    assert scenes.folds == (0, 1, 2)
    assert [clip.path.name for clip in scenes.test] == ["8.wav", "9.wav", "10.wav", "11.wav"]
    assert scenes.split == "column 'fold' of the list; fold 2 is the test part"


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        ("file label", ("1.wav", "x"), "no column 'filename'"),
        (
            "filename label split",
            ("1.wav", "x", "dev"),
            r"line 2: split is 'dev'; allowed: train, test",
        ),
        ("filename label fold", ("1.wav", "x", "two"), r"line 2: fold is 'two'; allowed: a whole"),
        ("filename label fold split", ("1.wav", "x", "1", "test"), "keep one of them"),
        ("filename label", ("", "x"), r"line 2: column 'filename' is empty"),
        ("filename label split", ("1.wav", "x", "test"), "the training part is empty"),
    ],
)
def test_list_errors(
    tmp_path: Path,
    wav: Wav,
    write_list: WriteList,
    columns: str,
    row: tuple[str, ...],
    message: str,
) -> None:
    wav(tmp_path / "1.wav")
    write_list(tmp_path / "clips.csv", columns, [row], sep=",")
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / "clips.csv")


def test_misspelt_label_of_a_list(tmp_path: Path, table: Table) -> None:
    rows = [
        (f"{n}.wav", label)
        for n, label in enumerate(["street", "street", "park", "park", "streat"])
    ]
    path = table(tmp_path, "filename label", rows)
    with pytest.raises(
        DataError, match=r"class 'streat' .*if 'street' is meant, correct the label"
    ):
        open_dataset(path)


def test_unreadable_clip_of_a_list_is_named_with_its_row(tmp_path: Path, table: Table) -> None:
    rows = [(f"{n}.wav", "ab"[n % 2]) for n in range(4)]
    path = table(tmp_path, "filename label", rows)
    (tmp_path / "2.wav").write_bytes(b"RIFF but no more")
    with pytest.raises(DataError, match=r"2.wav \(clips.csv, line 4\) cannot be read as audio"):
        open_dataset(path)


def test_mixed_lengths_and_rates_are_told(tmp_path: Path, wav: Wav) -> None:
    for n, (seconds, rate) in enumerate(
        [(0.5, 8000), (1, 8000), (1, 8000), (2, 8000), (1, 16_000)]
    ):
        for label in "ab":
            wav(tmp_path / "set" / label / f"{label}{n}.wav", seconds=seconds, rate=rate)
    scenes = open_dataset(tmp_path / "set")
    assert (scenes.clip_s, scenes.sample_rate_hz) == (1.0, 8000)
    assert scenes.notes == (
        "clips last 0.50 to 2.00 s; all are brought to their median 1.00 s "
        "(shorter: zeros appended, longer: cropped at the end)",
        "sampling rates differ (8 clips at 8000 Hz, 2 clips at 16000 Hz); "
        "8000 Hz, the most common, counts as the set's rate",
    )
    asked = open_dataset(tmp_path / "set", clip_s=0.5)
    assert asked.clip_s == 0.5
    assert "clips are brought to 0.5 s as asked (the set's own: 1 s)" in asked.notes


def test_wrong_paths(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    with pytest.raises(DataError, match=r"holds no 'recordigs'; did you mean recordings\?"):
        open_dataset(tmp_path / "recordigs" / "deep")
    with pytest.raises(DataError, match=r"'sinthetic'; did you mean synthetic\?"):
        open_dataset("sinthetic")
    with pytest.raises(DataError, match=r"holds 0 folder\(s\) with audio files"):
        open_dataset(tmp_path / "recordings")
    (tmp_path / "recordings" / "list.csv").write_text("name,class\n1.wav,dog\n")
    with pytest.raises(DataError, match=r"list.csv: no columns filename and label"):
        open_dataset(tmp_path / "recordings")
    (tmp_path / "x.wav").write_bytes(b"")
    with pytest.raises(DataError, match="is a file but no list"):
        open_dataset(tmp_path / "x.wav")
    with pytest.raises(DataError, match="clip length 0 s"):
        open_dataset(tmp_path, clip_s=0)


def test_cache_dir_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "env"))
    assert cache_dir(tmp_path / "mine") == tmp_path / "mine"
    assert cache_dir() == tmp_path / "env"
    assert (tmp_path / "env").is_dir()
    monkeypatch.delenv("COMPRESSOR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir().name == "compressor"
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="name another one with --cache or COMPRESSOR_CACHE"):
        cache_dir(tmp_path / "file" / "x")
