"""Several models of one system as one result: an ensemble costs what its members cost together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compressor.audit.records import AuditResult, worst

__all__ = ["combined"]


def combined(results: Sequence[AuditResult], source: str) -> AuditResult:
    """Adds results up ("in case of ensembles, add up all subsystems").

    Args:
        results: at least one; all under the same convention.
        source: what the sum is called.

    Returns:
        Counts, bytes and MACs as sums; the peak of activations as the largest (members run one
        after the other); statuses as the worst.
    """
    first = results[0]
    if len(results) == 1:
        return first
    peaks = [result.peak_activation_bytes for result in results]
    known = [peak for peak in peaks if peak is not None]
    return replace(
        first,
        source=source,
        macs=_sum([result.macs for result in results]),
        params=sum(result.params for result in results),
        nonzero_params=sum(result.nonzero_params for result in results),
        param_bytes=sum(result.param_bytes for result in results),
        bytes_by_dtype=_sums([result.bytes_by_dtype for result in results]),
        buffer_bytes=sum(result.buffer_bytes for result in results),
        peak_activation_bytes=max(known) if len(known) == len(peaks) else None,
        status=worst(*(result.status for result in results)),
        statuses={
            key: worst(*(result.statuses[key] for result in results)) for key in first.statuses
        },
        layers=tuple(layer for result in results for layer in result.layers),
        macs_by_convention={
            key: _sum([result.macs_by_convention.get(key) for result in results])
            for key in first.macs_by_convention
        },
        params_by_convention=_sums([result.params_by_convention for result in results]),
        nonzero_by_convention=_sums([result.nonzero_by_convention for result in results]),
        bytes_by_convention=_sums([result.bytes_by_convention for result in results]),
        uncounted=tuple(name for result in results for name in result.uncounted),
        notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
        details={},
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _sums(tables: Sequence[Mapping[str, int]]) -> dict[str, int]:
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: sum(table.get(key, 0) for table in tables) for key in keys}
