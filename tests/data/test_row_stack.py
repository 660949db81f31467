from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compressor.data.mapped import read_rows
from compressor.data.row_stack import RowStack
from compressor.errors import DataError


@pytest.fixture
def parts(tmp_path: Path) -> list[np.ndarray]:
    """Two memory maps of 900 and 3 rows (longer than a page) and an array of 4."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((n, 1, 40, 51)).astype(np.float16) for n in (900, 3, 4)]
    for number, array in enumerate(arrays[:2]):
        np.save(tmp_path / f"{number}.npy", array)
    maps = [np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(2)]
    return [*maps, arrays[2]]


def test_reads_as_the_arrays_put_together(parts: list[np.ndarray]) -> None:
    stack, together = RowStack(parts), np.concatenate(parts)
    assert (len(stack), stack.shape, stack.dtype) == (907, (907, 1, 40, 51), np.float16)
    assert stack.firsts == (0, 900, 903)
    rows = np.array([906, 0, 899, 900, 900, 902, 903, 5])
    for choice in (rows, slice(898, 905), together[:, 0, 0, 0] > 0, 901, np.int64(3)):
        assert np.array_equal(stack[choice], together[choice])
    with pytest.raises(IndexError):
        stack[np.array([907])]


def test_rows_read_with_advice_are_the_rows(parts: list[np.ndarray]) -> None:
    together = np.concatenate(parts)
    rows = np.random.default_rng(1).permutation(907)[:64]
    assert np.array_equal(read_rows(RowStack(parts), rows), together[rows])
    assert np.array_equal(read_rows(parts[0], rows[rows < 900]), together[rows[rows < 900]])
    last = read_rows(parts[0], np.array([899, 0]))  # the file's last page and its first
    assert np.array_equal(last, together[[899, 0]])
    assert last.flags.writeable
    assert not isinstance(last, np.memmap)
    assert len(read_rows(parts[0], np.empty(0, np.int64))) == 0


def test_rows_of_two_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(1, 2, 3\), \(1, 2, 4\) cannot be read as one"):
        RowStack([np.zeros((2, 1, 2, 3), np.float16), np.zeros((2, 1, 2, 4), np.float16)])
    with pytest.raises(DataError, match="shapes none"):
        RowStack([])
