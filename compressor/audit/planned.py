"""How large a model would be under a number type it does not have yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from compressor.audit.records import AuditResult, LayerCount
from compressor.errors import UnknownNameError

__all__ = ["PLANNED_SCHEMES", "Scheme", "planned_bytes"]

Scheme = Literal["float32", "float16", "int8"]
PLANNED_SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


def planned_bytes(layers: AuditResult | Iterable[LayerCount], scheme: str) -> int:
    """Returns the bytes of all parameters under a scheme; buffers and scales are not parameters.

    Args:
        layers: an audit result or its rows.
        scheme: "float32" (4 bytes each), "float16" (2), or "int8": 1 byte for each weight of a
            tensor with two or more axes, 4 for each bias and BatchNorm parameter. BatchNorm is
            taken as it stands, not folded.

    Raises:
        UnknownNameError: no such scheme.
    """
    rows = list(layers.layers if isinstance(layers, AuditResult) else layers)
    params = sum(row.params for row in rows)
    if scheme == "float32":
        return 4 * params
    if scheme == "float16":
        return 2 * params
    if scheme == "int8":
        weights = sum(row.weight_params for row in rows)
        return weights + 4 * (params - weights)
    raise UnknownNameError("number scheme", scheme, PLANNED_SCHEMES)
