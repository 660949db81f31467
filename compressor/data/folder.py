"""Data sets of one's own: a list with one row per clip, or one folder per label."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from compressor.data.dataset import Clip, SceneSet, cache_dir, choose_fold
from compressor.data.files import read_headers
from compressor.data.folds import Split, stratified_folds
from compressor.data.tables import (
    Row,
    Table,
    check_files,
    check_parts,
    read_header_line,
    read_table,
    shared_groups,
    whole_number,
    with_row,
)
from compressor.errors import DataError

__all__ = [
    "NotADatasetError",
    "find_table",
    "open_folder",
    "open_table",
]

_AUDIO = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"}
_TRAIN = {"train", "training"}
_TEST = {"test", "testing", "evaluate", "evaluation", "eval"}
# A set with one split has one fold, 1, which is its test part.
_TEST_FOLD, _TRAIN_FOLD = 1, 0


class NotADatasetError(DataError):
    """A folder in which no known layout can be seen."""


def find_table(root: Path) -> Path | None:
    """The list in a folder that has the columns `open_table` needs.

    Raises:
        DataError: there are several, so that one has to be named.
    """
    lists = sorted(one for one in root.iterdir() if one.suffix.lower() in {".csv", ".tsv"})
    fitting = [one for one in lists if {"filename", "label"} <= set(read_header_line(one))]
    if len(fitting) > 1:
        names = ", ".join(one.name for one in fitting)
        raise DataError(f"{root} holds several lists ({names}); name the one to use")
    return fitting[0] if fitting else None


def open_table(path: Path, *, fold: int | None = None, cache: Path | None = None) -> SceneSet:
    """Opens a list: columns filename, label and optionally fold or split, device, group, city.

    File names are relative to the list's folder, or to audio/ in it. `split` holds "train" and
    "test"; `fold` holds whole numbers; without either, `stratified_folds` makes five folds.

    Raises:
        DataError: names the row, the value, what is allowed and the fix.
    """
    table = read_table(path, ("filename", "label"))
    if "fold" in table.columns and "split" in table.columns:
        raise DataError(f"{path}: columns 'fold' and 'split' together; keep one of them")
    classes = tuple(sorted({row["label"] for row in table.rows}))
    base = path.parent
    if not (base / table.rows[0]["filename"]).exists() and (base / "audio").is_dir():
        base = base / "audio"
    clips = [
        Clip(
            path=base / row["filename"],
            label=classes.index(row["label"]),
            device=row.cells.get("device", ""),
            group=row.cells.get("group", "") or row["filename"],
            city=row.cells.get("city", ""),
            list_file=path.name,
            row=row.line,
        )
        for row in table.rows
    ]
    if "split" in table.columns:
        split = Split(
            tuple(_part(table, row) for row in table.rows),
            (_TEST_FOLD,),
            "column 'split' of the list",
        )
    elif "fold" in table.columns:
        fold_of = tuple(whole_number(table, row, "fold") for row in table.rows)
        split = Split(fold_of, tuple(sorted(set(fold_of))), "column 'fold' of the list")
    else:
        split = stratified_folds(clips, classes)
    check_files(clips)
    return _scene_set(path, path.stem, classes, clips, split, fold=fold, cache=cache)


def open_folder(root: Path, *, fold: int | None = None, cache: Path | None = None) -> SceneSet:
    """Opens one folder per label, optionally below train/ and test/.

    Folders inside a label's folder are its groups (one recording cut to pieces, one location); a
    clip directly in the label's folder is a group of its own.

    Raises:
        NotADatasetError: there are no label folders with audio files.
        DataError: a clip that is no audio, an empty part.
    """
    tops = {one.name.lower(): one for one in sorted(root.iterdir()) if one.is_dir()}
    train_dir = next((tops[name] for name in sorted(tops) if name in _TRAIN), None)
    test_dir = next((tops[name] for name in sorted(tops) if name in _TEST), None)
    if train_dir and test_dir:
        parts = [(train_dir, _TRAIN_FOLD), (test_dir, _TEST_FOLD)]
    else:
        parts = [(root, _TRAIN_FOLD)]
    found = [
        (label.name, one, label, part)
        for base, part in parts
        for label in sorted(base.iterdir())
        if label.is_dir() and not label.name.startswith(".")
        for one in _audio_files(label)
    ]
    classes = tuple(sorted({label for label, *_ in found}))
    if len(classes) < 2:
        raise NotADatasetError(
            f"{root} holds {len(classes)} folder(s) with audio files; "
            "needed: two or more, one per label"
        )
    clips = [
        Clip(path=one, label=classes.index(label), group=_group(one, home, root))
        for label, one, home, _ in found
    ]
    if train_dir and test_dir:
        words = f"folders {train_dir.name}/ and {test_dir.name}/"
        split = Split(tuple(part for *_, part in found), (_TEST_FOLD,), words)
    else:
        split = stratified_folds(clips, classes)
    return _scene_set(root, root.name, classes, clips, split, fold=fold, cache=cache)


def _audio_files(home: Path) -> list[Path]:
    return sorted(
        Path(base, name)
        for base, _, names in os.walk(home)
        for name in names
        if Path(name).suffix.lower() in _AUDIO and not name.startswith(".")
    )


def _group(path: Path, home: Path, root: Path) -> str:
    inside = path.relative_to(home).parent
    if inside == Path():
        return path.relative_to(root).as_posix()
    return f"{home.name}/{inside.as_posix()}"


def _scene_set(
    source: Path,
    name: str,
    classes: tuple[str, ...],
    clips: Sequence[Clip],
    split: Split,
    *,
    fold: int | None,
    cache: Path | None,
) -> SceneSet:
    fold = choose_fold(fold, split.folds, str(source))
    train = tuple(clip for clip, one in zip(clips, split.fold_of, strict=True) if one != fold)
    test = tuple(clip for clip, one in zip(clips, split.fold_of, strict=True) if one == fold)
    check_parts(str(source), classes, train, test)
    clip_s, rate, notes = _common_length(clips, cache)
    untested = {clip.label for clip in train} - {clip.label for clip in test}
    if untested:
        notes.append(f"no test clip of class {', '.join(classes[one] for one in sorted(untested))}")
    notes += shared_groups(train, test)
    return SceneSet(
        name=name,
        title=name,
        root=source if source.is_dir() else source.parent,
        classes=classes,
        train=train,
        test=test,
        split=split.words + (f"; fold {fold} is the test part" if len(split.folds) > 1 else ""),
        fold=fold,
        folds=split.folds,
        synthetic=False,
        clip_s=clip_s,
        sample_rate_hz=rate,
        notes=tuple(notes),
    )


def _common_length(clips: Sequence[Clip], cache: Path | None) -> tuple[float, int, list[str]]:
    """(clip length in s, rate in Hz, notes): the median length and the most common rate."""
    try:
        headers = read_headers([clip.path for clip in clips], cache_dir(cache))
    except DataError as error:
        raise with_row(error, clips) from None
    lengths = sorted(frames / rate for frames, rate, _ in headers)
    # The lower median is the length of a real clip: at least half of the clips are that long.
    clip_s = lengths[(len(lengths) - 1) // 2]
    rates = Counter(rate for _, rate, _ in headers)
    rate = max(rates, key=lambda one: (rates[one], one))
    notes = []
    if lengths[-1] - lengths[0] > 1e-3:
        notes.append(
            f"clips last {lengths[0]:.2f} to {lengths[-1]:.2f} s; all are brought to their median "
            f"{clip_s:.2f} s (shorter: zeros appended, longer: cropped at the end)"
        )
    if len(rates) > 1:
        notes.append(
            "sampling rates differ ("
            + ", ".join(f"{count} clips at {one} Hz" for one, count in sorted(rates.items()))
            + f"); {rate} Hz, the most common, counts as the set's rate"
        )
    return clip_s, rate, notes


def _part(table: Table, row: Row) -> int:
    value = row.cells.get("split", "").lower()
    if value in _TRAIN:
        return _TRAIN_FOLD
    if value in _TEST:
        return _TEST_FOLD
    raise table.error(row, f"split is {value!r}; allowed: train, test")
