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
from compressor.data.files import atomic_write, content_hashes
from compressor.errors import DataError, MeasureError

__all__ = ["FeatureSet", "Features", "Standardizer", "extract"]

# Rows read from the memory map at once when statistics are taken.
_CLIPS_PER_READ = 256

_NOTES = {
    "padded": "{n} of {all} clips are shorter than {s:g} s: zeros appended",
    "cropped": "{n} of {all} clips are longer than {s:g} s: cropped at the end",
    "resampled": "{n} of {all} clips resampled to {hz} Hz",
    "mixed_down": "{n} of {all} clips have two channels: averaged",
    "duplicated": "{n} of {all} clips have one channel: repeated for the two-channel front-end",
}


@dataclass(frozen=True)
class Standardizer:
    """Mean and standard deviation of every mel band of every channel, (C, M), of a training part.

    A band that never changes has the deviation 1, so that it becomes zero and not infinite.
    """

    mean: tuple[tuple[float, ...], ...]
    std: tuple[tuple[float, ...], ...]

    def apply(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(x - mean) / std of (..., C, M, T) as float32."""
        mean = np.asarray(self.mean, dtype=np.float32)[..., None]
        std = np.asarray(self.std, dtype=np.float32)[..., None]
        return (np.asarray(x, dtype=np.float32) - mean) / std

    def to_dict(self) -> dict[str, object]:
        """Plain lists, for JSON."""
        return {"mean": [list(row) for row in self.mean], "std": [list(row) for row in self.std]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Standardizer:
        """The inverse of `to_dict`.

        Raises:
            DataError: keys or numbers are missing.
        """
        try:
            mean, std = (
                tuple(tuple(float(number) for number in row) for row in values[key])
                for key in ("mean", "std")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"standardizer: {error!r}; needed: mean and std, one list of numbers per channel"
            ) from error
        return cls(mean, std)


@dataclass(frozen=True)
class FeatureSet:
    """The features of one part.

    Attributes:
        x: (clips in the cache, C, M, T) float16, a read-only memory map.
        index: rows of `x` that belong to this part, int64.
        y: int64 labels, one per entry of `index`.
        devices: device of each clip of the part; `groups`: its location or source recording.
        classes: class names, indexed by `y`.
    """

    x: NDArray[np.float16]
    index: NDArray[np.int64]
    y: NDArray[np.int64]
    devices: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.index)

    def subset(self, rows: Sequence[int] | NDArray[Any]) -> FeatureSet:
        """The clips at these places of the part (numbers or a boolean mask), in this order."""
        places = np.arange(len(self))[np.asarray(rows)] if len(rows) else np.empty(0, np.int64)
        return replace(
            self,
            index=self.index[places],
            y=self.y[places],
            devices=tuple(self.devices[place] for place in places),
            groups=tuple(self.groups[place] for place in places),
        )

    def array(self) -> NDArray[np.float16]:
        """The part's features in memory: float16 (N, C, M, T)."""
        return np.asarray(self.x[self.index])


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
) -> Features:
    """Features of all clips of a data set, from the cache where it has them.

    Recordings at a lower rate than the front-end's are not blown up: the front-end comes down to
    their rate (`LogMel.at_rate`). Recordings at a higher rate are resampled.

    Args:
        dataset: from `open_dataset`.
        front_end: what to compute.
        cache: cache folder, see `cache_dir`.
        workers: processes; None takes one per core this process may use.
        on_progress: called with (clips done, clips in all) while features are computed.

    Raises:
        DataError: a clip that cannot be read, with the list's row; no room in the cache.
        ShapeError: clips too short for the front-end.
        MeasureError: a worker process died repeatedly.
    """
    if workers is not None and workers < 1:
        raise DataError(f"{workers} workers; allowed: 1 or more")
    home = cache_dir(cache)
    front_end = front_end.at_rate(min(front_end.sample_rate_hz, dataset.sample_rate_hz))
    shape = front_end.shape(dataset.clip_s)
    # Train and test together, in an order that no fold changes.
    clips = sorted((*dataset.train, *dataset.test), key=lambda clip: clip.path)
    hashes = content_hashes([clip.path for clip in clips], home)
    entry = home / "features" / _key(front_end, dataset.clip_s, hashes)
    whole = open_entry(entry, (len(clips), *shape))
    cached = whole is not None
    # More than one round only if another process clears a damaged entry at the same moment.
    for _ in range(3):
        if whole is not None:
            break
        try:
            fill_entry(
                entry,
                clips,
                front_end,
                dataset.clip_s,
                workers=workers,
                on_progress=on_progress,
            )
        except OSError as error:
            raise DataError(
                f"cannot write features to {entry}: {error.strerror or error}; free some room or "
                "name another folder with --cache or COMPRESSOR_CACHE"
            ) from error
        whole = open_entry(entry, (len(clips), *shape))
    if whole is None:
        raise MeasureError(f"features in {entry} cannot be read back; is the disk failing?")
    x, counts = whole
    places = {clip.path: place for place, clip in enumerate(clips)}
    train = _part(dataset.train, x, places, dataset.classes)
    return Features(
        train=train,
        test=_part(dataset.test, x, places, dataset.classes),
        standardizer=_standardizer(entry, train),
        front_end=front_end,
        data_hash=_data_hash(dataset, clips, hashes),
        dataset=dataset,
        notes=tuple(
            _NOTES[kind].format(
                n=counts[kind], all=len(clips), s=dataset.clip_s, hz=front_end.sample_rate_hz
            )
            for kind in COUNTS
            if counts[kind]
        ),
        cached=cached,
    )


def _key(front_end: LogMel, clip_s: float, hashes: Sequence[str]) -> str:
    """Names a cache entry by everything its numbers depend on (not by names and prose)."""
    settings = front_end.to_dict()
    del settings["name"], settings["source"]
    facts = json.dumps([CACHE_VERSION, settings, clip_s, list(hashes)], sort_keys=True)
    return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()


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
) -> FeatureSet:
    return FeatureSet(
        x=x,
        index=np.array([places[clip.path] for clip in clips], dtype=np.int64),
        y=np.array([clip.label for clip in clips], dtype=np.int64),
        devices=tuple(clip.device for clip in clips),
        groups=tuple(clip.group for clip in clips),
        classes=classes,
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
    for first in range(0, len(rows), _CLIPS_PER_READ):
        block = train.x[rows[first : first + _CLIPS_PER_READ]].astype(np.float32)
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
