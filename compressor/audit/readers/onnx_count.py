"""Elements, non-zeros and bytes of one stored tensor of an ONNX file."""

from __future__ import annotations

from math import prod

from compressor.audit.inventory import StoredTensor
from compressor.audit.readers.onnx_payload import FLOATS
from compressor.audit.readers.onnx_values import Packed, Stored, ZeroPoint
from compressor.audit.readers.onnx_walk import Walker

__all__ = ["counted"]

MAX_CODES = 1 << 26  # elements of a tensor whose zero point differs from place to place


def counted(stored: Stored, first: str, walker: Walker) -> StoredTensor:
    """Counts a stored tensor at its stored width.

    Args:
        stored: the tensor, named.
        first: the name of the tensor it shares its bytes with; its own name otherwise.
        walker: the walk it was found on; doubts are noted there.
    """
    shape, dtype = stored.shape, stored.dtype
    numel = prod(shape)
    nbytes = (numel * stored.bits + 7) // 8
    if dtype == "string":
        nbytes = stored.tensor.strings[1]
    if stored.packed is not None:
        packed = stored.packed
        shape, dtype = (packed.columns, packed.rows), f"uint{packed.bits}"
        numel = prod(shape)
        nbytes = (numel * packed.bits + 7) // 8
    elif stored.index_bytes:
        numel = prod(stored.tensor.dims if not stored.shape else stored.shape)
        nbytes = (prod(stored.tensor.dims) * stored.bits + 7) // 8
    nonzero = _nonzero(stored, walker)
    if nonzero is None:
        nonzero = numel
        walker.doubt(
            ("nonzero_params",),
            f"{stored.name}: its zero points cannot be compared, every element is taken as used",
        )
    return StoredTensor(
        name=stored.name,
        shape=shape,
        dtype=dtype,
        role=stored.role or "constant",
        numel=numel,
        nonzero=nonzero,
        effective_nonzero=nonzero,
        nbytes=nbytes,
        first=first,
    )


def _nonzero(stored: Stored, walker: Walker) -> int | None:
    """Counts what is not zero, and for quantised weights what is not the zero point."""
    payload, zero = walker.shelf.payload, stored.zero
    if stored.role in {"scale", "constant"}:  # listed, not counted as weights
        return prod(stored.shape)
    if stored.packed is not None:
        return _packed_nonzero(stored, stored.packed, zero, walker)
    if zero is None or zero.tensor is None or stored.dtype in FLOATS:
        return payload.nonzero(stored.tensor, stored.region)
    points = payload.codes(zero.tensor.tensor, zero.tensor.region, MAX_CODES)
    if not points:  # zero points of 16 or 32 bits: only one value for all
        wide = set(payload.small(zero.tensor.tensor, zero.tensor.region, 4096) or ())
        if len(wide) != 1:
            return None
        return payload.nonzero(stored.tensor, stored.region, int(wide.pop()))
    if len(set(points)) == 1:
        return payload.nonzero(stored.tensor, stored.region, points[0])
    return _varying(stored, zero, points, walker)


def _varying(stored: Stored, zero: ZeroPoint, points: bytes, walker: Walker) -> int | None:
    """Zero points that differ along an axis, or from block to block of it."""
    codes = walker.shelf.payload.codes(stored.tensor, stored.region, MAX_CODES)
    shape = stored.shape
    if codes is None or zero.block < 0 or not -len(shape) <= zero.axis < len(shape):
        return None
    axis = zero.axis % len(shape)
    size, inner, outer = shape[axis], prod(shape[axis + 1 :]), prod(shape[:axis])
    zeros = 0
    if not zero.block:
        runs = size if inner == 1 else outer * size
        if len(points) != size or not walker.shelf.payload.afford(runs):
            return None
        for channel, point in enumerate(points):
            if inner == 1:
                zeros += codes[channel::size].count(point)
                continue
            for start in range(channel * inner, len(codes), size * inner):
                zeros += codes[start : start + inner].count(point)
        return len(codes) - zeros
    blocks = -(-size // zero.block)
    if len(points) != outer * blocks * inner or not walker.shelf.payload.afford(len(points)):
        return None
    for place, point in enumerate(points):
        lead, rest = divmod(place, blocks * inner)
        block, column = divmod(rest, inner)
        last = min((block + 1) * zero.block, size)
        start = (lead * size + block * zero.block) * inner + column
        zeros += codes[start : (lead * size + last) * inner : inner].count(point)
    return len(codes) - zeros


def _packed_nonzero(
    stored: Stored, packed: Packed, zero: ZeroPoint | None, walker: Walker
) -> int | None:
    """A MatMulNBits weight: columns x blocks x bytes; what pads the last block does not count."""
    data = walker.shelf.payload.codes(stored.tensor, stored.region, MAX_CODES)
    if data is None or packed.bits not in {2, 4, 8}:
        return None
    codes = walker.shelf.payload.expand(data, packed.bits)
    per_column = -(-packed.rows // packed.block)
    if not walker.shelf.payload.afford(packed.columns * per_column):
        return None
    points = [1 << (packed.bits - 1)] * (packed.columns * per_column)
    if zero is not None and zero.tensor is not None:
        held = walker.shelf.payload.codes(zero.tensor.tensor, zero.tensor.region, MAX_CODES)
        if held is None or zero.tensor.dtype != "uint8" or len(held) % packed.columns:
            return None
        spread = walker.shelf.payload.expand(held, packed.bits)
        row = len(spread) // packed.columns
        if row < per_column:
            return None
        points = [
            spread[column * row + block]
            for column in range(packed.columns)
            for block in range(per_column)
        ]
    zeros = 0
    for place, point in enumerate(points):
        block = place % per_column
        start = place * packed.block
        used = min(packed.block, packed.rows - block * packed.block)
        zeros += codes[start : start + used].count(point)
    return packed.columns * packed.rows - zeros
