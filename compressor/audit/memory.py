"""Peak activation memory by liveness over the operator graph."""

from __future__ import annotations

from dataclasses import dataclass

from compressor.audit.graph import Graph

__all__ = ["Peak", "peak_activation"]


@dataclass(frozen=True, slots=True)
class Peak:
    """Most bytes alive at once, the place where, and the bytes of each buffer alive there."""

    bytes: int
    layer: str


def peak_activation(graph: Graph) -> Peak:
    """Finds the moment with the most activation bytes alive.

    A buffer lives from the operator that writes it (an input: from the start) to the last operator
    that reads it or a view of it (an output: to the end). Views and in-place operators take
    nothing. Weights, buffers of the module and the scratch space inside kernels (im2col, padding)
    are not activations; a collapsed recurrent layer carries the scratch of its steps along.
    """
    end = len(graph.ops)
    last: dict[int, int] = {}

    def touch(indices: tuple[int, ...], when: int) -> None:
        for index in indices:
            home = graph.values[index].home
            if isinstance(home, int):
                last[home] = max(last.get(home, -1), when)

    touch(graph.inputs, -1)
    for when, op in enumerate(graph.ops):
        touch(op.inputs, when)
        touch(op.outputs, when)
    touch(graph.outputs, end)

    live: dict[int, int] = {}
    total = 0

    def add(indices: tuple[int, ...]) -> int:
        added = 0
        for index in indices:
            home = graph.values[index].home
            if isinstance(home, int) and home not in live:
                live[home] = graph.storage_bytes[home]
                added += live[home]
        return added

    expiring: dict[int, list[int]] = {}
    for home, when in last.items():
        expiring.setdefault(when, []).append(home)
    total += add(graph.inputs)
    peak = Peak(total, "input")
    for home in expiring.get(-1, ()):  # an input that nothing reads
        total -= live.pop(home, 0)
    for when, op in enumerate(graph.ops):
        total += add(op.outputs)
        scratch = op.attrs.get("scratch_bytes", 0)
        now = total + (scratch if type(scratch) is int and scratch > 0 else 0)
        if now > peak.bytes:
            peak = Peak(now, graph.where(op))
        for home in expiring.get(when, ()):
            total -= live.pop(home, 0)
    return peak
