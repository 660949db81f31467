"""Tensor records of a torch archive against their stored bytes: checked and counted.

Zeros are counted on the bits, so that every number type of torch works, also those numpy lacks. A
network of challenge size is counted without numpy (importing it costs more than the counting);
larger ones, masked and strided tensors use it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from compressor.audit.readers.safecalls import TensorRef
from compressor.audit.readers.widths import WIDTHS
from compressor.errors import ModelFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Counted", "Source", "StorageReader"]

_MAX_STORAGE = 4 << 30
_UNSIGNED: Mapping[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SIGNED_ZERO = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
_COMPLEX = {"complex64": "float32", "complex128": "float64"}  # two numbers each
_NUMPY_PAYS_OFF = 300_000  # elements; below, plain Python has counted before numpy is imported
_USED_NIBBLES = bytes((byte & 15 > 0) + (byte >> 4 > 0) for byte in range(256))  # of a byte
_CHUNK = 1 << 22  # elements: bounds the temporaries


class Counted(NamedTuple):
    """Stored elements, those not zero, and those not zero that a pruning mask keeps."""

    numel: int
    nonzero: int
    effective: int


class Source(Protocol):
    """What holds the bytes: an archive, or a plain file with a table of contents."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def read(self, member: str, most: int) -> bytes:
        """Returns the bytes of a member, refusing more than `most`."""


class StorageReader:
    """Reads the storages of one archive, keeping the last one."""

    def __init__(
        self,
        archive: Source,
        prefix: str,
        byteorder: str = "little",
        numpy_from: int = _NUMPY_PAYS_OFF,
    ) -> None:
        """Takes an open archive, the folder its members stand in and the order of its bytes."""
        self._archive = archive
        self._prefix = prefix
        self._swapped = byteorder != sys.byteorder
        self._last: tuple[str, bytes] = ("", b"")
        self._seen = 0
        self._numpy_from = numpy_from

    def count(self, tensor: TensorRef, name: str, mask: TensorRef | None = None) -> Counted:
        """Counts a tensor; one that repeats elements (stride 0) by what is stored.

        Args:
            tensor: the record.
            name: what messages call it.
            mask: its pruning mask, if it has one of the same shape.

        Raises:
            ModelFileError: the storage is missing or not of the size the tensor says, or the tensor
                reaches beyond it.
        """
        piece, span = self._piece(tensor, name)
        numel = prod(tensor.shape)
        count = min(numel, span)
        self._seen += count
        if tensor.quantised:  # zero is where the zero point is: every element is taken as used
            return Counted(count, count, count)
        dtype = tensor.storage.dtype
        if mask is not None and mask.shape == tensor.shape and numel == count:
            held = self._array(tensor, piece, span)
            kept = self._array(mask, *self._piece(mask, name))
            keep = ~_zeros(kept, mask.storage.dtype, self._swapped)
            used = ~_zeros(held, dtype, self._swapped)
            return Counted(count, int(used.sum()), int((used & keep).sum()))
        if numel >= span and dtype not in _COMPLEX and self._seen <= self._numpy_from:
            nonzero = count - _plain_zeros(piece, dtype, self._swapped)
        else:
            flat = self._array(tensor, piece, span).reshape(-1)
            nonzero = count - sum(
                int(_zeros(flat[at : at + _CHUNK], dtype, self._swapped).sum())
                for at in range(0, flat.size, _CHUNK)
            )
        return Counted(count, nonzero, nonzero)

    def count_nibbles(self, tensor: TensorRef, name: str, numel: int) -> int:
        """Counts the numbers that are not zero where two of 4 bits share a byte.

        Args:
            tensor: the record, bytes in a row.
            name: what messages call it.
            numel: numbers it holds.

        Raises:
            ModelFileError: as `count`, or an odd count with something behind the last number.
        """
        piece, _ = self._piece(tensor, name)
        if numel % 2 and piece[-1] >> 4:
            raise ModelFileError(
                f"{self._archive.name}: {name} holds {numel:,} numbers of 4 bits, but the half of "
                "a byte behind the last one is not empty"
            )
        self._seen += numel
        used = bytes(piece).translate(_USED_NIBBLES)
        return used.count(1) + 2 * used.count(2)

    def _piece(self, tensor: TensorRef, name: str) -> tuple[memoryview, int]:
        """Returns the bytes a tensor spans and how many elements those are."""
        storage = tensor.storage
        width = WIDTHS[storage.dtype]
        if self._last[0] != storage.key:
            data = self._archive.read(f"{self._prefix}data/{storage.key}", _MAX_STORAGE)
            self._last = (storage.key, data)
        data = self._last[1]
        if len(data) != storage.numel * width:
            raise ModelFileError(
                f"{self._archive.name}: {name} lies about its storage: {storage.numel:,} x "
                f"{width} B declared, {len(data):,} B stored"
            )
        steps = zip(tensor.shape, tensor.stride, strict=True)
        span = 1 + sum((size - 1) * step for size, step in steps) if prod(tensor.shape) else 0
        if tensor.offset + span > storage.numel:
            raise ModelFileError(
                f"{self._archive.name}: {name} reaches beyond its storage: element "
                f"{tensor.offset + span:,} of {storage.numel:,}"
            )
        return memoryview(data)[tensor.offset * width :][: span * width], span

    def _array(self, tensor: TensorRef, piece: memoryview, span: int) -> NDArray[Any]:
        """Returns the bits of a tensor in its own shape; flat where elements repeat."""
        import numpy as np

        width = WIDTHS[tensor.storage.dtype]
        if tensor.storage.dtype in _COMPLEX:
            return np.frombuffer(piece, dtype=f"V{width}")  # split in two by `_zeros`
        flat = np.frombuffer(piece, dtype=f"u{width}")
        if prod(tensor.shape) > span or not span:
            return flat
        steps = tuple(step * width for step in tensor.stride)
        return np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False)


def _minus_zero(dtype: str, swapped: bool) -> int:
    """Returns the bits of minus zero as this machine reads them; 0 for types without."""
    if dtype not in _SIGNED_ZERO:
        return 0
    bits = 1 << (8 * WIDTHS[dtype] - 1)
    if swapped:
        bits = int.from_bytes(bits.to_bytes(WIDTHS[dtype], "little"), "big")
    return bits


def _plain_zeros(piece: memoryview, dtype: str, swapped: bool) -> int:
    if not piece:
        return 0
    values: list[int] = piece.cast(_UNSIGNED[WIDTHS[dtype]]).tolist()
    minus = _minus_zero(dtype, swapped)
    return values.count(0) + (values.count(minus) if minus else 0)


def _zeros(bits: NDArray[Any], dtype: str, swapped: bool) -> NDArray[Any]:
    """Returns where an array of bits is zero; a complex number is where both its parts are."""
    import numpy as np

    if dtype in _COMPLEX:
        part = _COMPLEX[dtype]
        pairs = bits.view(f"u{WIDTHS[part]}").reshape(-1, 2)
        return np.asarray(_zeros(pairs, part, swapped).all(axis=1))
    minus = _minus_zero(dtype, swapped)
    zero = np.asarray(bits == 0)
    return np.logical_or(zero, bits == minus) if minus else zero
