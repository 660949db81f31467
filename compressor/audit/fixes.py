"""What would bring a figure under its limit: the least change of each kind, computed.

Three kinds of change: another number type, fewer numbers, and both. Every figure that is shown is
the result of the change, or the smallest amount that suffices; nothing is guessed about accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from compressor.audit.planned import PLANNED_SCHEMES, planned_bytes, planned_nonzero_bytes
from compressor.audit.readers.widths import WIDTHS
from compressor.audit.records import AuditResult
from compressor.audit.rules import Limit
from compressor.audit.verdict_checks import readings

__all__ = ["fewest_removed", "fixes_for"]


def fixes_for(result: AuditResult, limit: Limit) -> Iterator[str]:
    """Says what would bring one figure under its limit, under every reading of the limit.

    Args:
        result: of the audit.
        limit: that it does not pass, or does not certainly pass.
    """
    if limit.metric == "number_type":
        yield from _other_type(result, limit)
        return
    found = readings(result, limit)
    if not found:
        return
    over = max(found.values()) - limit.strictest
    if over <= 0:
        return
    if limit.metric in {"param_bytes", "nonzero_bytes"}:
        yield from _fewer_bytes(result, limit, found, over)
    elif limit.metric in {"params", "nonzero_params"}:
        whole = max(found.values())
        kind = "parameters" if limit.metric == "params" else "non-zero parameters"
        share = f"{_share(over, whole)} {kind} ({_percent(over, whole)})"
        yield f"remove {share}: {_largest(result, limit.metric)}"
    elif limit.metric == "macs":
        official = any(row.macs_official for row in result.layers)
        strict = max(found, key=found.__getitem__) == "strict"
        field = "macs_official" if official and not strict else "macs"
        whole = max(found.values())
        yield f"remove {over:,} MACs ({_percent(over, whole)}): {_largest(result, field)}"
    elif limit.metric == "peak_activation_bytes":
        where = f" at {result.peak_activation_layer}" if result.peak_activation_layer else ""
        share = _percent(over, max(found.values()))
        yield f"shrink the activations alive{where} by {over:,} B ({share})"


def _other_type(result: AuditResult, limit: Limit) -> Iterator[str]:
    if limit.only in result.deployed_bytes_by_dtype and result.deployed_bytes is not None:
        yield f"write the file as it is deployed ({_types(result)}) → {result.deployed_bytes:,} B"
    elif limit.only == "int8" and result.params:
        yield f"int8 weights, int32 biases → {planned_bytes(result, 'int8'):,} B"
    elif limit.only in WIDTHS:
        yield f"{limit.only} → {WIDTHS[limit.only] * result.params:,} B"


def _fewer_bytes(
    result: AuditResult, limit: Limit, found: dict[str, int], over: int
) -> Iterator[str]:
    """Masks baked in, another number type, fewer numbers, both."""
    nonzero_only = limit.metric == "nonzero_bytes"
    allowed, value = limit.strictest, max(found.values())
    masks = found.get("masks not baked in", 0)
    if masks == value:
        baked = max(size for name, size in found.items() if size != masks)
        if baked <= allowed:
            yield (f"bake the pruning masks in (torch.nn.utils.prune.remove) → {baked:,} B, fits")
            return
    deployed = found.get("as deployed")
    if deployed is not None and deployed <= allowed:
        yield f"write the file as it is deployed ({_types(result)}) → {deployed:,} B, fits"
        return
    open_schemes = []
    for scheme in PLANNED_SCHEMES:
        size = _planned(result, limit, scheme)
        if scheme == "float32" or size >= value:
            continue
        most = "at most " if nonzero_only and scheme == "int8" and _zeros(result) else ""
        if size <= allowed:
            yield f"{scheme} → {most}{size:,} B, fits"
        else:
            yield f"{scheme} → {most}{size:,} B, over by {size - allowed:,} B"
            open_schemes.append((scheme, size - allowed))
    kind = "non-zero parameters" if nonzero_only else "parameters"
    held = result.nonzero_params if nonzero_only else result.params
    fewest = fewest_removed(result, over)
    if fewest is not None and fewest <= held:
        yield f"remove {_share(fewest, held)} {kind} ({_percent(fewest, held)})"
    for scheme, rest in open_schemes:
        # In int8 a weight is one byte, and weights are what pruning removes.
        number, width = ("weights", 1) if scheme == "int8" else (kind, 2)
        available = sum(row.weight_params for row in result.layers) if width == 1 else held
        fewest = ceil(rest / width)
        if fewest <= available:
            share = f"{_share(fewest, available)} {number} ({_percent(fewest, available)})"
            yield f"{scheme} and remove {share}"


def _types(result: AuditResult) -> str:
    return ", ".join(sorted(result.deployed_bytes_by_dtype))


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def _planned(result: AuditResult, limit: Limit, scheme: str) -> int:
    if limit.metric == "param_bytes":
        return planned_bytes(result, scheme)
    conventions = {limit.convention, limit.also_convention or limit.convention}
    return max(planned_nonzero_bytes(result, scheme, name) for name in conventions)


def _zeros(result: AuditResult) -> bool:
    return result.nonzero_params < result.params


def fewest_removed(result: AuditResult, over: int) -> int | None:
    """Returns the fewest numbers whose bytes add up to `over`, the widest number types first.

    Args:
        result: of the audit; its bytes by number type say how many numbers there are of each.
        over: bytes to get rid of.

    Returns:
        The count; None where a number type of unknown width is stored, or nothing would suffice.
    """
    widths = []
    for dtype, size in result.bytes_by_dtype.items():
        if dtype not in WIDTHS:
            return None
        widths.append((WIDTHS[dtype], size // WIDTHS[dtype]))
    count = 0
    for width, numbers in sorted(widths, reverse=True):
        needed = min(numbers, ceil(over / width))
        count += needed
        over -= needed * width
        if over <= 0:
            return count
    return None


def _percent(part: int, whole: int) -> str:
    """A share that is never understated: rounded up to one decimal."""
    return f"{ceil(1000 * part / whole) / 10:.1f} %" if whole else "all"


def _largest(result: AuditResult, field: str, most: int = 2) -> str:
    rows = sorted(result.layers, key=lambda row: -int(getattr(row, field)))[:most]
    named = [f"{row.name or row.kind} ({getattr(row, field):,})" for row in rows]
    if len(named) == 1:
        return f"the only layer is {named[0]}"
    return f"the two largest layers are {' and '.join(named)}"
