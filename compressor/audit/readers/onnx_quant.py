"""Quantised weights of ONNX: which number means zero, and what packed bytes hold."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from compressor.audit.readers.onnx_values import Call, Packed, Stored, ZeroPoint

__all__ = ["packed_matrix", "zero_point"]

# Operator -> inputs that may be quantised weights -> input with their zero point, its axis.
_ZEROS: Mapping[str, Mapping[int, tuple[int, int]]] = {
    "ConvInteger": {1: (3, 0)},
    "MatMulInteger": {0: (2, 0), 1: (3, -1)},
    "QLinearConv": {0: (2, 0), 3: (5, 0), 8: (-1, 0)},
    "QLinearMatMul": {0: (2, 0), 3: (5, -1)},
    "com.microsoft.DynamicQuantizeMatMul": {1: (3, -1)},
    "com.microsoft.MatMulIntegerToFloat": {0: (4, 0), 1: (5, -1)},
    "com.microsoft.QAttention": {1: (7, -1)},
    "com.microsoft.QGemm": {0: (2, 0), 3: (5, 0), 6: (-1, 0)},
    "com.microsoft.QLinearAdd": {0: (2, 0), 3: (5, 0)},
    "com.microsoft.QLinearConv": {0: (2, 0), 3: (5, 0), 8: (-1, 0)},
    "com.microsoft.QLinearMul": {0: (2, 0), 3: (5, 0)},
}
_DEQUANTISE = frozenset({"DequantizeLinear", "com.microsoft.DequantizeLinear"})


def zero_point(call: Call) -> None:
    """Notes with every quantised weight that an operator reads which number means zero."""
    if call.op in _DEQUANTISE:
        axis, block = call.integer("axis", 1), call.integer("block_size", 0)
        _note(call, 0, 2, axis, block)
        return
    for weight, (zero, axis) in _ZEROS.get(call.op, {}).items():
        _note(call, weight, zero, axis, 0)


def _note(call: Call, weight: int, zero: int, axis: int, block: int) -> None:
    given = call.given(weight)
    if given is None:
        return
    point = call.given(zero) if zero >= 0 else None
    stored = point.direct if point is not None else None
    for origin in given.origins:
        if origin.zero is None:
            same = given.direct is origin
            origin.zero = ZeroPoint(stored, axis if same else 0, block if same else -1)


def packed_matrix(call: Call) -> None:
    """Notes the true matrix inside the packed weight of a MatMulNBits.

    Raises:
        ValueError: the bytes do not fit the matrix.
    """
    if call.op != "com.microsoft.MatMulNBits":
        return
    given = call.value(1)
    rows, columns = call.integer("K", 0), call.integer("N", 0)
    bits, block = call.integer("bits", 4), call.integer("block_size", 0)
    if min(rows, columns, block) < 1 or not 2 <= bits <= 8:
        raise ValueError(f"{rows} x {columns} weights of {bits} bits in blocks of {block}")
    stored: Stored | None = given.direct
    if stored is None:
        return
    held = prod(stored.shape) * stored.bits
    wanted = columns * -(-rows // block) * -(-block * bits // 8) * 8
    if held != wanted:
        raise ValueError(f"{held // 8:,} B for a packed weight of {wanted // 8:,} B")
    stored.packed = Packed(columns, rows, bits, block)
    point = call.given(3)
    stored.zero = ZeroPoint(point.direct if point is not None else None, -1, block)
