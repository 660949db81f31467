"""ESC-50 (K. J. Piczak, ESC: Dataset for Environmental Sound Classification, 2015) as published."""

from __future__ import annotations

from pathlib import Path

from compressor.data.dataset import Clip, SceneSet, choose_fold
from compressor.data.files import read_header
from compressor.data.tables import (
    check_files,
    check_parts,
    label_index,
    read_table,
    shared_groups,
    whole_number,
)
from compressor.errors import DataError

__all__ = ["is_esc50", "open_esc50"]


def is_esc50(root: Path) -> bool:
    """Whether a folder is ESC-50 as published."""
    return (root / "meta" / "esc50.csv").is_file()


def open_esc50(root: Path, *, fold: int | None = None, subset: str = "") -> SceneSet:
    """Opens ESC-50 (Piczak 2015): 2,000 clips of 5 s, 50 classes, 5 official folds.

    Args:
        root: folder with meta/esc50.csv and audio/.
        fold: the fold that is the test part, the other four are the training part; None for 1.
        subset: "esc10" for the ten-class subset of 400 clips.

    Raises:
        DataError: names the row, the value and the fix.
    """
    if subset not in ("", "esc10"):
        raise DataError(f"{root} is ESC-50, which has no part {subset!r}; allowed: esc10")
    table = read_table(
        root / "meta" / "esc50.csv", ("filename", "fold", "target", "category", "esc10", "src_file")
    )
    rows = [row for row in table.rows if not subset or row["esc10"] == "True"]
    if not rows:
        raise DataError(f"{table.path}: no row has esc10 = True, so there is no ESC-10 subset")
    # Published targets are the alphabet-free order of the paper; ESC-10 is numbered anew in it.
    names = dict(sorted((whole_number(table, row, "target"), row["category"]) for row in rows))
    classes = tuple(names.values())
    if len(set(classes)) != len(classes) or len({row["category"] for row in rows}) != len(classes):
        raise DataError(f"{table.path}: columns target and category do not name the same classes")
    fold_of = [whole_number(table, row, "fold") for row in rows]
    folds = tuple(sorted(set(fold_of)))
    what = "ESC-10" if subset else "ESC-50"
    fold = choose_fold(fold, folds, what)
    clips = [
        Clip(
            path=root / "audio" / row["filename"],
            label=label_index(table, row, row["category"], classes),
            group=row["src_file"],
            list_file=table.path.name,
            row=row.line,
        )
        for row in rows
    ]
    train = tuple(clip for clip, one in zip(clips, fold_of, strict=True) if one != fold)
    test = tuple(clip for clip, one in zip(clips, fold_of, strict=True) if one == fold)
    check_parts(what, classes, train, test)
    check_files(clips)
    frames, rate, _ = read_header(clips[0].path)
    return SceneSet(
        name=what.lower(),
        title=what,
        root=root,
        classes=classes,
        train=train,
        test=test,
        split=f"{what} fold {fold} is the test part, the other {len(folds) - 1} the training part",
        fold=fold,
        folds=folds,
        synthetic=False,
        clip_s=frames / rate,
        sample_rate_hz=rate,
        # Four source recordings of the published set lie in two folds, each time with two classes.
        notes=shared_groups(train, test),
    )
