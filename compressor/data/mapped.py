"""Reading scattered rows of a memory map without waiting for the disk row by row."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.data.row_stack import RowStack

__all__ = ["read_rows"]


def read_rows(x: NDArray[np.float16] | RowStack, rows: NDArray[np.int64]) -> NDArray[np.float16]:
    """`x[rows]`, having told the system first which parts of the file are needed.

    The rows of a batch lie far from each other. Left alone, the system fetches each of them when it
    is touched, one after another, and with it neighbours that nobody wants; told of all of them, it
    reads them side by side. Where the file is in memory already this costs a microsecond a row.

    Args:
        x: (clips, C, M, T), a memory map, an array or a stack of either.
        rows: (n,) row numbers.

    Returns:
        (n, C, M, T) float16, a new array in memory.
    """
    if isinstance(x, RowStack):
        for part, first in zip(x.parts, x.firsts, strict=True):
            _announce(part, rows[(rows >= first) & (rows < first + len(part))] - first)
    else:
        _announce(x, rows)
    return np.asarray(x[rows])


def _announce(x: NDArray[np.float16], rows: NDArray[Any]) -> None:
    """Ask for the pages of these rows; does nothing for arrays in memory."""
    mapping = getattr(x, "_mmap", None)
    if not isinstance(x, np.memmap) or mapping is None or not hasattr(mmap, "MADV_WILLNEED"):
        return
    row_bytes = x.strides[0]
    begins = x.offset % mmap.ALLOCATIONGRANULARITY + rows * row_bytes
    starts = begins - begins % mmap.PAGESIZE
    for start, end in zip(starts.tolist(), (begins + row_bytes).tolist(), strict=True):
        mapping.madvise(mmap.MADV_WILLNEED, start, end - start)
