"""Features of a whole data set: computed once, in parallel, kept as float16 on disk.

One folder in the cache per (front-end, clip length, content of the files) holds the features of all
clips of all parts, so that every fold of a set shares it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.audio.logmel import LogMel
from compressor.data.dataset import Clip, Progress, SceneSet, cache_dir
from compressor.data.extraction import COUNTS
from compressor.data.feature_cache import CACHE_VERSION, fill_entry, open_entry
from compressor.data.feature_set import CLIPS_PER_READ, FeatureSet, Standardizer
from compressor.data.files import atomic_write, content_hashes
from compressor.data.levels import LevelReader
from compressor.data.row_stack import RowStack
from compressor.errors import ConfigError, DataError, MeasureError

__all__ = ["FeatureSet", "Features", "Standardizer", "extract"]

# Beyond these a scene is another scene.
_SLOWEST, _FASTEST = 0.5, 2.0

_NOTES = {
    "padded": "{n} of {all} clips are shorter than {s:g} s: zeros appended",
    "cropped": "{n} of {all} clips are longer than {s:g} s: cropped at the end",
    "resampled": "{n} of {all} clips resampled to {hz} Hz",
    "mixed_down": "{n} of {all} clips have two channels: averaged",
    "duplicated": "{n} of {all} clips have one channel: repeated for the two-channel front-end",
}


@dataclass(frozen=True)
class Features:
    """What `extract` returns: both parts, the training part's standardizer, and where from.

    Attributes:
        front_end: the one that was used (at the data's rate when that is lower).
        data_hash: 32 hexadecimal digits of the files' content and labels, the same for every fold.
        notes: what was done to clips (padded, cropped, resampled, ...), with counts.
        cached: whether nothing had to be computed.
    """

    train: FeatureSet
    test: FeatureSet
    standardizer: Standardizer
    front_end: LogMel
    data_hash: str
    dataset: SceneSet
    notes: tuple[str, ...] = ()
    cached: bool = False


def extract(
    dataset: SceneSet,
    front_end: LogMel,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
    speeds: Sequence[float] = (1.0,),
) -> Features:
    """Features of all clips of a data set, from the cache where it has them.

    Recordings at a lower rate than the front-end's are not blown up: the front-end comes down to
    their rate (`LogMel.at_rate`). Recordings at a higher rate are resampled.

    Args:
        dataset: from `open_dataset`.
        front_end: what to compute.
        cache: cache folder, see `cache_dir`.
        workers: processes; None takes one per core this process may use.
        on_progress: called with (clips done, clips in all) while features are computed; begins
            anew for each speed.
        speeds: at which training clips are played (`extraction.read_clip`): (0.9, 1.0, 1.1) makes
            the training part three times as long. Always with 1.0, in the first rows. The test part
            and the standardizer are those of the unchanged clips.

    Raises:
        ConfigError: speeds without 1.0, twice the same, or none that sound can be played at.
        DataError: a clip that cannot be read, with the list's row; no room in the cache.
        ShapeError: clips too short for the front-end.
        MeasureError: a worker process died repeatedly.
    """
    if workers is not None and workers < 1:
        raise DataError(f"{workers} workers; allowed: 1 or more")
    others = _other_speeds(speeds)
    home = cache_dir(cache)
    front_end = front_end.at_rate(min(front_end.sample_rate_hz, dataset.sample_rate_hz))
    # Train and test together, in an order that no fold changes.
    clips = sorted((*dataset.train, *dataset.test), key=lambda clip: clip.path)
    hashes = content_hashes([clip.path for clip in clips], home)
    places = {clip.path: place for place, clip in enumerate(clips)}
    store = _Cache(home, front_end, dataset.clip_s, workers, on_progress)
    entry, x, counts, cached = store.entry(clips, hashes)
    shared = {
        "level_reader": LevelReader(home, dataset.clip_s),
        "log_unit": None
        if front_end.deltas or front_end.standardize != "none"
        else front_end.log_unit,
        "standardized_per_clip": front_end.standardize == "clip",
    }
    train = _part(dataset.train, x, places, dataset.classes, shared)
    standardizer = _standardizer(entry, train)
    if others:
        # The training part alone: no feature of a test clip at another speed ever exists.
        rows = np.unique(train.index)
        changed = []
        for speed in others:
            _, there, _, was_there = store.entry(
                [clips[row] for row in rows], [hashes[row] for row in rows], speed
            )
            changed.append(there)
            cached = cached and was_there
        train = _with_speeds(train, dataset.root, x, changed, others)
    notes = [
        _NOTES[kind].format(
            n=counts[kind], all=len(clips), s=dataset.clip_s, hz=front_end.sample_rate_hz
        )
        for kind in COUNTS
        if counts[kind]
    ]
    if others:
        notes.append(
            f"{len(dataset.train)} training clips also played at "
            f"{' and '.join(f'{speed:g}' for speed in others)} times their speed"
        )
    return Features(
        train=train,
        test=_part(dataset.test, x, places, dataset.classes, shared),
        standardizer=standardizer,
        front_end=front_end,
        data_hash=_data_hash(dataset, clips, hashes),
        dataset=dataset,
        notes=tuple(notes),
        cached=cached,
    )


def _other_speeds(speeds: Sequence[float]) -> tuple[float, ...]:
    """The speeds beside 1, in their order; raises ConfigError for what cannot be asked for."""
    bad = [speed for speed in speeds if not _SLOWEST <= speed <= _FASTEST]
    if bad or 1.0 not in speeds or len(set(speeds)) != len(speeds):
        raise ConfigError(
            f"speeds are {', '.join(f'{speed:g}' for speed in speeds) or 'none'}; allowed: 1.0 and "
            f"others from {_SLOWEST:g} to {_FASTEST:g}, each once, as in (0.9, 1.0, 1.1)"
        )
    return tuple(float(speed) for speed in speeds if speed != 1.0)


@dataclass(frozen=True)
class _Cache:
    """How features are made and where they are kept."""

    home: Path
    front_end: LogMel
    clip_s: float
    workers: int | None
    on_progress: Progress | None

    def entry(
        self, clips: Sequence[Clip], hashes: Sequence[str], speed: float = 1.0
    ) -> tuple[Path, NDArray[np.float16], dict[str, int], bool]:
        """The entry of these clips, filled if need be: folder, features, counts, was it there."""
        shape = (len(clips), *self.front_end.shape(self.clip_s))
        entry = self.home / "features" / _key(self.front_end, self.clip_s, hashes, speed)
        whole = open_entry(entry, shape)
        cached = whole is not None
        # More than one round only if another process clears a damaged entry at the same moment.
        for _ in range(3):
            if whole is not None:
                break
            try:
                fill_entry(
                    entry,
                    clips,
                    self.front_end,
                    self.clip_s,
                    speed=speed,
                    workers=self.workers,
                    on_progress=self.on_progress,
                )
            except OSError as error:
                raise DataError(
                    f"cannot write features to {entry}: {error.strerror or error}; free some room "
                    "or name another folder with --cache or COMPRESSOR_CACHE"
                ) from error
            whole = open_entry(entry, shape)
        if whole is None:
            raise MeasureError(f"features in {entry} cannot be read back; is the disk failing?")
        return entry, *whole, cached


def _key(front_end: LogMel, clip_s: float, hashes: Sequence[str], speed: float) -> str:
    """Names a cache entry by everything its numbers depend on (not by names and prose)."""
    settings = front_end.to_dict()
    del settings["name"], settings["source"]
    facts: list[object] = [CACHE_VERSION, settings, clip_s, list(hashes)]
    if speed != 1.0:
        facts.append({"speed": speed})
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _data_hash(dataset: SceneSet, clips: Sequence[Clip], hashes: Sequence[str]) -> str:
    lines = sorted(
        f"{content} {dataset.classes[clip.label]} {clip.device} {clip.group}"
        for clip, content in zip(clips, hashes, strict=True)
    )
    return hashlib.blake2b(os.fsencode("\n".join(lines)), digest_size=16).hexdigest()


def _part(
    clips: Sequence[Clip],
    x: NDArray[np.float16],
    places: Mapping[Path, int],
    classes: tuple[str, ...],
    shared: Mapping[str, Any],
) -> FeatureSet:
    return FeatureSet(
        x=x,
        index=np.array([places[clip.path] for clip in clips], dtype=np.int64),
        y=np.array([clip.label for clip in clips], dtype=np.int64),
        devices=tuple(clip.device for clip in clips),
        groups=tuple(clip.group for clip in clips),
        classes=classes,
        paths=tuple(clip.path for clip in clips),
        **shared,
    )


def _with_speeds(
    train: FeatureSet,
    root: Path,
    x: NDArray[np.float16],
    changed: Sequence[NDArray[np.float16]],
    speeds: Sequence[float],
) -> FeatureSet:
    """The training part followed by itself at other speeds."""
    stack = RowStack([x, *changed])
    within = np.searchsorted(np.unique(train.index), train.index)  # row in each of `changed`
    copies = 1 + len(speeds)
    # A clip that is a group of its own must stay on one side of a validation split with its copies.
    groups = tuple(
        group or str(path.relative_to(root) if path.is_relative_to(root) else path)
        for group, path in zip(train.groups, train.paths, strict=True)
    )
    return replace(
        train,
        x=stack,
        index=np.concatenate([train.index, *(first + within for first in stack.firsts[1:])]),
        y=np.tile(train.y, copies),
        devices=train.devices * copies,
        groups=groups * copies,
        paths=train.paths * copies,
        speed=np.repeat(np.array([1.0, *speeds], dtype=np.float32), len(train)),
    )


def _standardizer(entry: Path, train: FeatureSet) -> Standardizer:
    """Statistics of a training part, remembered beside the features."""
    rows = np.unique(train.index)
    name = hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()
    file = entry / f"standardizer-{name}.json"
    with contextlib.suppress(OSError, ValueError, DataError):
        return Standardizer.from_dict(json.loads(file.read_bytes()))
    _, channels, mels, frames = train.x.shape
    total = np.zeros((channels, mels))
    squares = np.zeros((channels, mels))
    # Against the first clip's means, so that the difference of two large numbers never matters.
    shift = train.x[rows[0]].astype(np.float64).mean(axis=-1)
    for first in range(0, len(rows), CLIPS_PER_READ):
        block = train.x[rows[first : first + CLIPS_PER_READ]].astype(np.float32)
        block -= shift.astype(np.float32)[:, :, None]
        total += block.sum(axis=(0, 3), dtype=np.float64)
        squares += np.einsum("ncmt,ncmt->cm", block, block, dtype=np.float64)
    count = len(rows) * frames
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean * mean, 0.0))
    std[std < 1e-4] = 1.0
    result = Standardizer(
        tuple(tuple(row) for row in (mean + shift.astype(np.float32)).tolist()),
        tuple(tuple(row) for row in std.tolist()),
    )
    with contextlib.suppress(OSError), atomic_write(file) as stream:
        stream.write(json.dumps(result.to_dict()).encode())
    return result
