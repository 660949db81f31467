"""The official TAU Urban Acoustic Scenes layouts: 2020 3Class, 2020 Mobile and 2022 Mobile.

    audio/<scene>-<city>-<location>-<segment>[-<part>][-<device>].wav
    meta.csv                                   filename, scene_label, identifier, source_label
    evaluation_setup/fold1_train.csv           filename, scene_label
    evaluation_setup/fold1_evaluate.csv        filename, scene_label (CRLF as published)
    evaluation_setup/fold1_test.csv            filename only; used when there is no evaluate list
    split{5,10,25,50,100}.csv                  DCASE 2024 training subsets: filename, ...

Lists are tab separated. `identifier` is city-location and becomes a clip's group.
"""

from __future__ import annotations

import re
from pathlib import Path

from compressor.data.dataset import Clip, SceneSet, choose_fold
from compressor.data.files import read_header
from compressor.data.tables import (
    Row,
    Table,
    check_files,
    check_parts,
    label_index,
    read_table,
    shared_groups,
)
from compressor.errors import DataError

__all__ = ["SCENES", "THREE_CLASSES", "is_tau", "open_tau"]

SCENES = (
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
)
THREE_CLASSES = ("indoor", "outdoor", "transportation")

# Files in meta.csv of the published development sets; fewer means an excerpt, and is said so.
_PUBLISHED_CLIPS = {
    "tau-2020-3class": 14_400,
    "tau-2020-mobile": 23_040,
    "tau-2022-mobile": 230_350,
}
_TITLES = {
    "tau-2020-3class": "TAU Urban Acoustic Scenes 2020 3Class",
    "tau-2020-mobile": "TAU Urban Acoustic Scenes 2020 Mobile",
    "tau-2022-mobile": "TAU Urban Acoustic Scenes 2022 Mobile",
}
_DEVICE = re.compile(r"-(a|b|c|d|s\d+)\.[A-Za-z0-9]+$")
_FOLD = re.compile(r"fold(\d+)_train\.csv$")


def is_tau(root: Path) -> bool:
    """Whether a folder looks like the official layout."""
    return (root / "evaluation_setup").is_dir()


def open_tau(root: Path, *, fold: int | None = None, subset: str = "") -> SceneSet:
    """Opens a TAU development set in the official layout.

    Args:
        root: folder with meta.csv, evaluation_setup/ and audio/.
        fold: official fold; None for the first.
        subset: "split5" ... "split100" (or their file name) trains on a DCASE 2024 subset list.

    Raises:
        DataError: names the list, the row, the value, what is allowed and the fix.
    """
    setup = root / "evaluation_setup"
    folds = sorted(int(m[1]) for one in setup.iterdir() if (m := _FOLD.fullmatch(one.name)))
    if not folds:
        raise DataError(f"{setup} holds no fold1_train.csv; unpack the set's meta archive there")
    fold = choose_fold(fold, folds, str(root))
    meta = read_table(root / "meta.csv", ("filename", "scene_label"))
    classes = _classes(meta)
    known = _index(meta)

    train_list = read_table(setup / f"fold{fold}_train.csv", ("filename",))
    evaluate = setup / f"fold{fold}_evaluate.csv"
    test_list = read_table(
        evaluate if evaluate.exists() else setup / f"fold{fold}_test.csv", ("filename",)
    )
    train = _clips(root, train_list, meta, known, classes)
    test = _clips(root, test_list, meta, known, classes)
    notes = []
    unused = len(meta.rows) - len(train) - len(test)
    if unused > 0:
        notes.append(f"{unused} of {len(meta.rows)} clips of meta.csv are in neither list: unused")
    split = f"official lists, fold {fold}"
    if subset:
        listed = read_table(_subset_file(root, subset), ("filename",))
        wanted = set(_index(listed))
        _all_known(listed, {row["filename"] for row in train_list.rows}, train_list.path)
        whole = len(train)
        train = [
            clip
            for clip, row in zip(train, train_list.rows, strict=True)
            if row["filename"] in wanted
        ]
        split += f", training part cut to {listed.path.name}"
        notes.append(f"trained on {len(train)} of the fold's {whole} training clips")
    check_parts(str(root), classes, train, test)
    check_files([*train, *test])

    notes += shared_groups(train, test)
    frames, rate, channels = read_header(train[0].path)
    clip_s = frames / rate
    name, title = _name(root, classes, clip_s, len(meta.rows))
    if channels > 1:
        notes.append(f"recordings have {channels} channels")
    return SceneSet(
        name=name,
        title=title,
        root=root,
        classes=classes,
        train=tuple(train),
        test=tuple(test),
        split=split,
        fold=fold,
        folds=tuple(folds),
        synthetic=False,
        clip_s=clip_s,
        sample_rate_hz=rate,
        notes=tuple(notes),
    )


def _classes(meta: Table) -> tuple[str, ...]:
    """The set's classes: the ten scenes, the three groups, or whatever a set of one's own names.

    A list that has most of its labels from one of the official sets is held to that set, so that a
    typo is an error and not an eleventh class.
    """
    labels = [row["scene_label"] for row in meta.rows]
    present = set(labels)
    for official in (SCENES, THREE_CLASSES):
        if 2 * sum(label in official for label in labels) > len(labels):
            if present <= set(official):
                return tuple(label for label in official if label in present)
            return official  # the odd label is reported with its row when its clip is read
    return tuple(sorted(present))


def _index(table: Table) -> dict[str, Row]:
    """Filename -> row; a file listed twice is an error."""
    index: dict[str, Row] = {}
    for row in table.rows:
        name = row["filename"]
        if name in index:
            raise table.error(row, f"{name} is listed twice, first in line {index[name].line}")
        index[name] = row
    return index


def _clips(
    root: Path, listed: Table, meta: Table, known: dict[str, Row], classes: tuple[str, ...]
) -> list[Clip]:
    """The clips of one list, with what meta.csv says of them."""
    _all_known(listed, known, meta.path)
    labels: dict[str, int] = {}
    base = str(root) + "/"
    clips = []
    for row in listed.rows:
        facts = known[row["filename"]]
        label = facts["scene_label"]
        if label not in labels:
            labels[label] = label_index(meta, facts, label, classes)
        said = row.cells.get("scene_label")
        if said and said != label:
            label_index(listed, row, said, classes)
            raise listed.error(
                row,
                f"{row['filename']} is {said!r} here but {label!r} in meta.csv line {facts.line}; "
                "make both agree",
            )
        group = facts.cells.get("identifier", "")
        device = facts.cells.get("source_label", "")
        if not device:
            match = _DEVICE.search(row["filename"])
            device = match[1] if match else ""
        clips.append(
            Clip(
                path=Path(base + row["filename"]),
                label=labels[label],
                device=device,
                group=group or row["filename"],
                city=group.rpartition("-")[0] or group,
                list_file=listed.path.name,
                row=row.line,
            )
        )
    return clips


def _all_known(listed: Table, known: dict[str, Row] | set[str], where: Path) -> None:
    """Raises DataError for the first listed file that `where` does not name."""
    for row in listed.rows:
        if row["filename"] not in known:
            raise listed.error(
                row, f"{row['filename']} is not in {where.name}; the two lists must fit together"
            )


def _subset_file(root: Path, subset: str) -> Path:
    name = subset if subset.endswith(".csv") else f"{subset}.csv"
    places = [root / name, root / "evaluation_setup" / name, root / "split_setup" / name]
    for place in places:
        if place.is_file():
            return place
    found = sorted(
        one.stem
        for place in places
        if place.parent.is_dir()
        for one in place.parent.glob("split*.csv")
    )
    raise DataError(
        f"{root} has no subset list {name}; found: {', '.join(found) or 'none'}; "
        "put the DCASE 2024 lists split5.csv ... split100.csv beside meta.csv"
    )


def _name(root: Path, classes: tuple[str, ...], clip_s: float, clips: int) -> tuple[str, str]:
    """(short name, title) of the published set this is, or the folder's own name."""
    if set(classes) <= set(THREE_CLASSES):
        name = "tau-2020-3class"
    elif set(classes) <= set(SCENES):
        name = "tau-2022-mobile" if clip_s < 5.0 else "tau-2020-mobile"
    else:
        return root.name, root.name
    published = _PUBLISHED_CLIPS[name]
    excerpt = "" if clips == published else f", {clips:,} of {published:,} clips"
    return name + ("-excerpt" if excerpt else ""), f"{_TITLES[name]}{excerpt}"
