"""Several feature arrays read as one, without copying them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import DataError

__all__ = ["RowStack"]


class RowStack:
    """Arrays (rows, C, M, T) of one shape a row, numbered through: what a `FeatureSet` needs of x.

    Training clips at other speeds have files of their own in the cache. This reads them behind the
    unchanged ones; rows are copied only when they are asked for.

    Args:
        parts: float16 arrays or memory maps.

    Raises:
        DataError: rows of different shapes, or nothing at all.
    """

    def __init__(self, parts: Sequence[NDArray[np.float16]]) -> None:
        if len({part.shape[1:] for part in parts}) != 1:
            raise DataError(
                f"features of shapes {', '.join(str(part.shape[1:]) for part in parts) or 'none'} "
                "cannot be read as one; allowed: at least one array, all of one shape a row"
            )
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def firsts(self) -> tuple[int, ...]:
        """Number of the first row of each part."""
        return (0, *(int(end) for end in self._ends[:-1]))

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows of all parts, C, M, T)."""
        return (len(self), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[np.float16]:
        """float16."""
        return self.parts[0].dtype

    def __getitem__(self, rows: int | slice | NDArray[Any]) -> NDArray[np.float16]:
        """One row, a slice of rows, or the rows of an index or mask array, as a new array.

        Raises:
            IndexError: a row that is not there (as an array would).
        """
        if isinstance(rows, int | np.integer):
            return np.asarray(self[np.array([rows])][0])
        numbers = np.arange(len(self))[rows]
        result = np.empty((len(numbers), *self.parts[0].shape[1:]), dtype=self.dtype)
        part_of = np.searchsorted(self._ends, numbers, side="right")
        for place, (part, first) in enumerate(zip(self.parts, self.firsts, strict=True)):
            mine = np.flatnonzero(part_of == place)
            result[mine] = part[numbers[mine] - first]
        return result
