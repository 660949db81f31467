"""Input shapes as a caller gives them."""

from __future__ import annotations

from typing import Any

from compressor.errors import UsageError

__all__ = ["parse_shapes"]


def parse_shapes(given: Any) -> tuple[tuple[int, ...], ...]:
    """Types one shape or a sequence of shapes; (1, 3) and [(1, 3)] are the same.

    Raises:
        UsageError: neither.
    """
    try:
        items = list(given)
        single = bool(items) and all(isinstance(n, int) for n in items)
        shapes = tuple(tuple(shape) for shape in ([items] if single else items))
    except TypeError:
        shapes = ()
    if not shapes or not all(
        shape and all(type(n) is int and 0 < n < 1 << 40 for n in shape) for shape in shapes
    ):
        raise UsageError(
            f"input shape {given!r}: expected positive sizes with the batch axis, as "
            "(1, 1, 40, 51), or a sequence of such shapes"
        )
    return shapes
