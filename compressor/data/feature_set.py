"""The features of one part of a data set, and the statistics that standardise them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.data.levels import LevelReader
from compressor.data.mapped import read_rows
from compressor.data.row_stack import RowStack
from compressor.errors import DataError

__all__ = ["CLIPS_PER_READ", "FeatureSet", "Standardizer"]

CLIPS_PER_READ = 256
"""Rows read from the memory map at once when statistics are taken."""


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
        x: (clips in the cache, C, M, T) float16, a read-only memory map, or a stack of several;
            take rows from it by their numbers.
        index: rows of `x` that belong to this part, int64.
        y: int64 labels, one per entry of `index`.
        devices: device of each clip of the part; `groups`: its location or source recording.
        classes: class names, indexed by `y`.
        paths: recording of each clip; () for features that come from none.
        speed: speed at which each clip was played, float32; None where all are unchanged.
        level_reader: how loud recordings are; None where there are none.
        log_unit: `LogMel.log_unit` of plain log-mels; None where features are something else
            (slopes, clips standardised one by one) or nobody said.
        standardized_per_clip: whether the front-end brought each clip to mean 0 and deviation 1.
    """

    x: NDArray[np.float16] | RowStack
    index: NDArray[np.int64]
    y: NDArray[np.int64]
    devices: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    paths: tuple[Path, ...] = ()
    speed: NDArray[np.float32] | None = None
    level_reader: LevelReader | None = None
    log_unit: float | None = None
    standardized_per_clip: bool = False

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
            paths=tuple(self.paths[place] for place in places) if self.paths else (),
            speed=None if self.speed is None else self.speed[places],
        )

    def original(self) -> FeatureSet:
        """The clips at their own speed: what may be validated or measured on."""
        if self.speed is None:
            return self
        return replace(self.subset(self.speed == 1.0), speed=None)

    def take(self, rows: NDArray[Any]) -> NDArray[np.float16]:
        """Features of the clips at these places of the part: (len(rows), C, M, T), in memory."""
        return read_rows(self.x, self.index[rows])

    def array(self) -> NDArray[np.float16]:
        """The part's features in memory: float16 (N, C, M, T)."""
        return np.asarray(self.x[self.index])

    def mean_spectra(self) -> NDArray[np.float32]:
        """Features of each clip averaged over time, (N, C, M); reads all of them once."""
        _, channels, mels, _ = self.x.shape
        spectra = np.empty((len(self), channels, mels), dtype=np.float32)
        # In the order of the file, whatever that of the part.
        order = np.argsort(self.index)
        for first in range(0, len(self), CLIPS_PER_READ):
            places = order[first : first + CLIPS_PER_READ]
            spectra[places] = self.take(places).mean(axis=-1, dtype=np.float32)
        return spectra

    @property
    def levels_db(self) -> NDArray[np.float32]:
        """A-weighted level of each clip's recording in dB, (N,) (`audio.level.level_db`).

        Read from the recordings once and remembered in the cache; a clip at another speed has the
        level of its original.

        Raises:
            DataError: the features come from no recordings, or one cannot be read.
        """
        if self.level_reader is None or len(self.paths) != len(self):
            raise DataError(
                "these features know no recordings, so nothing tells how loud their clips are; "
                'extract them from a data set, or use mixup_kind = "plain"'
            )
        return self.level_reader(self.paths)
