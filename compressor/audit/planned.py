"""How large a model would be under a number type it does not have yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from compressor.audit.conventions import is_batchnorm
from compressor.audit.records import AuditResult, LayerCount
from compressor.errors import UnknownNameError

__all__ = ["PLANNED_SCHEMES", "Scheme", "planned_bytes", "planned_nonzero_bytes"]

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


def planned_nonzero_bytes(result: AuditResult, scheme: str, convention: str) -> int:
    """Returns the bytes of the non-zero parameters under a scheme, as one convention counts them.

    Exact for float32 and float16. For int8 a result does not say which of a layer's numbers are
    zero: the bound takes biases and BatchNorm (4 bytes) as the ones that are not, so that the true
    figure is this one or less; without zeros it is exact.

    Args:
        result: of the audit.
        scheme: as in `planned_bytes`.
        convention: who counts: "keras-2020" leaves BatchNorm layers out, "keras-2021" adds their
            moving statistics (four bytes each in int8).

    Raises:
        UnknownNameError: no such scheme.
    """
    nonzero = result.nonzero_by_convention[convention]
    if scheme == "float32":
        return 4 * nonzero
    if scheme == "float16":
        return 2 * nonzero
    if scheme != "int8":
        raise UnknownNameError("number scheme", scheme, PLANNED_SCHEMES)
    size = 0
    for row in result.layers:
        if convention == "keras-2020" and is_batchnorm(row.kind):
            continue
        wide = min(row.nonzero_params, row.params - row.weight_params)
        size += 4 * wide + (row.nonzero_params - wide)
        nonzero -= row.nonzero_params
    return size + 4 * max(nonzero, 0)  # what no layer holds: moving statistics
