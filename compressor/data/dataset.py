"""What a data set is to the rest of the project, and the one function that opens any of them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compressor.errors import DataError

__all__ = ["Clip", "Progress", "SceneSet", "cache_dir", "open_dataset"]

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

_KINDS = """what can be opened:
  synthetic                the embedded synthetic scenes (the default)
  DIR                      a TAU set in the official layout (meta.csv and evaluation_setup/)
  DIR:split25              the same, trained on the DCASE 2024 subset list split25.csv
  DIR                      ESC-50 (meta/esc50.csv and audio/); DIR:esc10 for its ten-class subset
  DIR                      one folder per label (optionally below train/ and test/)
  FILE.csv                 columns filename, label and optionally fold or split, device, group"""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording.

    Attributes:
        path: audio file.
        label: index into the set's classes.
        device: recording device ("a", "s1", ...); "" where unknown.
        group: location or source recording: clips of one group never stand on both sides of a
            train/validation split.
        city: city of the recording; "" where unknown.
        list_file: the list that names the clip, and `row` its line there (for error messages).
    """

    path: Path
    label: int
    device: str = ""
    group: str = ""
    city: str = ""
    list_file: str = ""
    row: int = 0

    @property
    def where(self) -> str:
        """The clip for an error message: its path and the line that lists it."""
        return f"{self.path}" + (f" ({self.list_file}, line {self.row})" if self.row else "")


@dataclass(frozen=True)
class SceneSet:
    """A data set with its train and test part.

    Attributes:
        name: short name for records; `title` is the name for people.
        classes: class names; a clip's label indexes them.
        split: the split in words.
        fold: the fold in use, one of `folds`.
        synthetic: True only for the embedded made-up set.
        clip_s: length every clip is brought to, in seconds (zeros appended, or cropped at the end).
        sample_rate_hz: rate of the recordings.
        notes: everything done to the data that a reader must know (padding, unused clips, ...).
    """

    name: str
    title: str
    root: Path
    classes: tuple[str, ...]
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    split: str
    fold: int
    folds: tuple[int, ...]
    synthetic: bool
    clip_s: float
    sample_rate_hz: int
    notes: tuple[str, ...] = ()

    @property
    def seen_devices(self) -> tuple[str, ...]:
        """Devices of the training part, sorted."""
        return tuple(sorted({clip.device for clip in self.train} - {""}))

    @property
    def unseen_devices(self) -> tuple[str, ...]:
        """Devices that are in the test part only, sorted."""
        devices = {clip.device for clip in self.test} - {clip.device for clip in self.train}
        return tuple(sorted(devices - {""}))


def cache_dir(explicit: Path | None = None) -> Path:
    """Where features and the embedded set are kept; made when missing.

    `explicit` (the --cache option), else $COMPRESSOR_CACHE, else the user's cache folder.

    Raises:
        DataError: the folder cannot be made.
    """
    if explicit is not None:
        path = Path(explicit)
    elif os.environ.get("COMPRESSOR_CACHE"):
        path = Path(os.environ["COMPRESSOR_CACHE"])
    else:
        import platformdirs

        path = Path(platformdirs.user_cache_dir("compressor"))
    path = path.expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot use {path} as the cache folder: {error.strerror}; "
            "name another one with --cache or COMPRESSOR_CACHE"
        ) from error
    return path


def open_dataset(
    spec: str | Path | None = None,
    *,
    fold: int | None = None,
    cache: Path | None = None,
    clip_s: float | None = None,
    on_progress: Progress | None = None,
) -> SceneSet:
    """Opens a data set; see `_KINDS` for what can be named.

    Args:
        spec: None or "synthetic" for the embedded set, else a folder or CSV file.
        fold: the fold whose part is the test part; None for the first one.
        cache: cache folder, see `cache_dir`.
        clip_s: length in seconds every clip is brought to; None takes the set's own (where clips
            differ: their median length).
        on_progress: called with (done, total) while the embedded set is generated.

    Raises:
        DataError: nothing readable there, with the file, the row and the fix.
    """
    if clip_s is not None and clip_s <= 0:
        raise DataError(f"clip length {clip_s} s; allowed: a length above 0 seconds")
    if spec is None or str(spec) == "synthetic":
        dataset = _open_synthetic(fold, cache, on_progress)
    else:
        try:
            dataset = _open_path(str(spec), fold, cache)
        except OSError as error:
            raise DataError(f"cannot read {error.filename or spec}: {error.strerror}") from error
    if clip_s is not None and clip_s != dataset.clip_s:
        note = f"clips are brought to {clip_s:g} s as asked (the set's own: {dataset.clip_s:g} s)"
        dataset = replace(dataset, clip_s=float(clip_s), notes=(*dataset.notes, note))
    return dataset


def choose_fold(fold: int | None, folds: Sequence[int], what: str) -> int:
    """The fold asked for, the first one for None.

    Raises:
        DataError: the set has no such fold.
    """
    if fold is None:
        return folds[0]
    if fold not in folds:
        raise DataError(
            f"{what} has no fold {fold}; allowed: {', '.join(str(one) for one in folds)}"
        )
    return fold


def _open_synthetic(fold: int | None, cache: Path | None, on_progress: Progress | None) -> SceneSet:
    from compressor.data import scenes, tau

    clips, seed = 1500, 2021
    root = cache_dir(cache) / "scenes" / f"{scenes.VERSION}-{clips}-{seed}"
    if not (root / "meta.csv").is_file():
        root.parent.mkdir(parents=True, exist_ok=True)
        root = scenes.generate(root, clips=clips, seed=seed, on_progress=on_progress)
    return replace(
        tau.open_tau(root, fold=fold),
        name="synthetic-scenes",
        title="embedded synthetic scenes",
        split="synthetic locations and cities, fold 1: no location is in both parts",
        synthetic=True,
    )


def _open_path(spec: str, fold: int | None, cache: Path | None) -> SceneSet:
    from compressor.data import esc50, folder, tau

    path, option = Path(spec).expanduser(), ""
    if not path.exists() and ":" in spec:
        base, _, option = spec.rpartition(":")
        path = Path(base).expanduser()
    if not path.exists():
        raise DataError(f"no data set at {path}: {_nearest(path)}\n{_KINDS}")
    if path.is_file():
        if path.suffix.lower() not in {".csv", ".tsv", ".txt"}:
            raise DataError(f"{path} is a file but no list (.csv, .tsv)\n{_KINDS}")
        _no_option(option, path, "a list")
        return folder.open_table(path, fold=fold, cache=cache)
    path = _descend(path)
    if tau.is_tau(path):
        return tau.open_tau(path, fold=fold, subset=option)
    if esc50.is_esc50(path):
        return esc50.open_esc50(path, fold=fold, subset=option)
    _no_option(option, path, "a folder of labels")
    table = folder.find_table(path)
    if table is not None:
        return folder.open_table(table, fold=fold, cache=cache)
    try:
        return folder.open_folder(path, fold=fold, cache=cache)
    except folder.NotADatasetError as error:
        lists = sorted(one.name for one in path.iterdir() if one.suffix.lower() in {".csv", ".tsv"})
        also = f"; {', '.join(lists)}: no columns filename and label" if lists else ""
        raise DataError(f"{error}{also}\n{_KINDS}") from None


def _descend(path: Path) -> Path:
    """Enters a folder that holds nothing but the set's own folder, as unpacked archives do."""
    from compressor.data import esc50, tau

    if tau.is_tau(path) or esc50.is_esc50(path):
        return path
    inner = [one for one in path.iterdir() if one.is_dir() and not one.name.startswith(".")]
    if len(inner) == 1 and (tau.is_tau(inner[0]) or esc50.is_esc50(inner[0])):
        return inner[0]
    return path


def _no_option(option: str, path: Path, kind: str) -> None:
    if option:
        raise DataError(f"{path} is {kind}, which has no part {option!r}; leave ':{option}' away")


def _nearest(path: Path) -> str:
    """Says which part of a path is missing, and what stands there instead."""
    parent = path.absolute()
    while not parent.exists():
        missing, parent = parent.name, parent.parent
    if not parent.is_dir():
        return f"{parent} is not a folder"
    names = sorted(one.name for one in parent.iterdir())
    if path.parent == Path():
        names.append("synthetic")  # the one set that has a name and no place
    close = difflib.get_close_matches(missing, names, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    return f"{parent} holds no {missing!r}{hint}"
