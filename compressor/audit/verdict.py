"""Does it pass? One verdict a year, with the margin and what would make it pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from compressor.audit.planned import PLANNED_SCHEMES, planned_bytes
from compressor.audit.records import AuditResult
from compressor.audit.rules import Limit, Rules, rules_for
from compressor.audit.rules import years as rule_years

__all__ = ["Check", "Verdict", "VerdictStatus", "verdict_for", "verdicts"]

VerdictStatus = Literal["pass", "fail", "depends", "unknown"]

_ORDER: dict[VerdictStatus, int] = {"pass": 0, "depends": 1, "unknown": 2, "fail": 3}


@dataclass(frozen=True)
class Check:
    """One limit compared.

    Attributes:
        name: of the limit; limit: largest value allowed; value: what was measured;
        margin: limit - value (negative: over by that much); unit: of the three;
        status: pass, fail, depends (sources or readings disagree), unknown (not measured exactly);
        evidence: of the limit (V, S, I, N); note: what is counted, and why it depends.
    """

    name: str
    limit: int | str
    value: int | str | None
    margin: int | None
    unit: str
    status: VerdictStatus
    evidence: str
    note: str


@dataclass(frozen=True)
class Verdict:
    """All limits of one year; `status` is the worst check, `fixes` says what would make it pass."""

    year: int
    task: str
    status: VerdictStatus
    checks: tuple[Check, ...]
    fixes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-able Python."""
        plain = asdict(self)
        plain["checks"] = [asdict(check) for check in self.checks]
        plain["fixes"] = list(self.fixes)
        return plain


def verdicts(result: AuditResult, years: Iterable[int] | str | int = "all") -> tuple[Verdict, ...]:
    """Compares a result with the rules.

    Args:
        result: of `audit`.
        years: "all", one year, or some years.

    Raises:
        UnknownNameError: a year without rules.
    """
    if years == "all":
        wanted: Iterable[int] = rule_years()
    elif isinstance(years, (str, int)):
        wanted = [_year(years)]
    else:
        wanted = years
    return tuple(verdict_for(result, rules_for(_year(year))) for year in wanted)


def _year(year: str | int) -> int:
    from compressor.errors import UnknownNameError

    try:
        return int(year)
    except ValueError:
        raise UnknownNameError(
            "challenge year", str(year), ["all", *map(str, rule_years())]
        ) from None


def verdict_for(result: AuditResult, rules: Rules) -> Verdict:
    """Compares a result with the rules of one year (or with a user's own)."""
    checks = tuple(_check(result, limit, rules.segment_s) for limit in rules.limits)
    status = max((check.status for check in checks), key=_ORDER.__getitem__)
    fixes = tuple(
        fix
        for limit, check in zip(rules.limits, checks, strict=True)
        if check.status in {"fail", "depends"}
        for fix in _fixes(result, limit, check)
    )
    return Verdict(rules.year, rules.task, status, checks, fixes)


def _measured(result: AuditResult, limit: Limit, convention: str) -> int | None:
    if limit.metric == "macs":
        return result.macs_by_convention.get(convention)
    if limit.metric == "params":
        return result.params_by_convention[convention]
    if limit.metric == "nonzero_bytes":
        return result.bytes_by_convention[convention]
    return result.param_bytes


def _check(result: AuditResult, limit: Limit, segment_s: float) -> Check:
    """Compares one figure under every reading of the rule; they must agree for pass or fail."""
    if limit.metric == "number_type":
        return _number_type(result, limit)
    assert limit.max is not None  # rules.py: every figure has one
    value = _measured(result, limit, limit.convention)
    notes = [limit.note] if limit.note else []
    length = _segment(result) if limit.metric == "macs" else None
    if length is not None and not 0.75 < length / segment_s < 1.25:
        notes.append(f"counted on about {length:.1f} s of audio, the rule is for {segment_s:g} s")
    limits = {limit.max, limit.max_strictest if limit.max_strictest is not None else limit.max}
    status: VerdictStatus
    if value is None:
        status = "unknown"
        notes.append(f"{limit.metric} unknown")
    else:
        readings = {limit.convention: value, **_other_readings(result, limit, value)}
        strict = readings.get("strict", value)
        if limit.metric == "macs" and strict > value:
            notes.append(f"the true figure is {strict:,} MACs")
        if min(readings.values()) > max(limits):
            status = "fail"  # also where something was left out: more would not help
        elif limit.metric == "macs" and result.statuses["macs"] != "exact":
            status = "unknown"
            notes.append("MACs only partly counted")
        elif max(readings.values()) <= min(limits):
            status = "pass"
        else:
            status = "depends"
            notes.append(_why(limits, readings, value))
    margin = None if value is None else limit.max - value
    note = "; ".join(notes)
    return Check(limit.name, limit.max, value, margin, limit.unit, status, limit.evidence, note)


def _other_readings(result: AuditResult, limit: Limit, value: int) -> dict[str, int]:
    """What else the figure could be taken for, where sources or files leave it open."""
    readings = {}
    if limit.also_convention:
        also = _measured(result, limit, limit.also_convention)
        if also is not None:
            readings[limit.also_convention] = also
    if limit.metric == "macs":
        strict = result.macs_by_convention.get("strict")
        if strict is not None and strict > value:
            readings["strict"] = strict
        return readings
    if limit.metric == "nonzero_bytes" and "masked" in result.details:
        readings["masks not baked in"] = value + _masked_bytes(result)
    if result.statuses["params"] != "exact":  # buffers told by name: at most everything counts
        readings["all stored tensors"] = value + result.buffer_bytes
    return readings


def _segment(result: AuditResult) -> float | None:
    """Seconds of audio behind the input, where the file names its front-end; else None."""
    front_end = result.meta.get("front_end")
    shape, layout = result.input_shape, result.meta.get("layout")
    if not isinstance(front_end, Mapping) or len(shape) != 4 or layout not in {"CFT", "CTF"}:
        return None
    hop, rate = front_end.get("hop_length"), front_end.get("sample_rate_hz")
    if not isinstance(hop, int) or not isinstance(rate, int) or hop < 1 or rate < 1:
        return None
    return shape[3 if layout == "CFT" else 2] * hop / rate


def _why(limits: set[int], readings: dict[str, int], value: int) -> str:
    if min(limits) < value <= max(limits):
        return "depends on the unit: over one reading of the limit, within the other"
    counted = ", ".join(f"{name} {reading:,}" for name, reading in readings.items())
    return f"depends on who counts: {counted}"


def _masked_bytes(result: AuditResult) -> int:
    """Bytes that unbaked masks hide: as stored minus with the masks, at the mean stored width."""
    width = result.param_bytes // result.params if result.params else 0
    masked = result.details["masked"].values()
    hidden = sum(int(item["stored_nonzero"] - item["effective_nonzero"]) for item in masked)
    return width * hidden


def _number_type(result: AuditResult, limit: Limit) -> Check:
    stored = "+".join(sorted(result.bytes_by_dtype)) or "none"
    eight = {"int8", "uint8"}
    held = set(result.bytes_by_dtype)
    fits = bool(held & eight) and held <= {*eight, "int32"}
    status: VerdictStatus = "pass" if fits else "depends"
    return Check(
        limit.name, limit.only, stored, None, limit.unit, status, limit.evidence, limit.note
    )


def _fixes(result: AuditResult, limit: Limit, check: Check) -> Iterable[str]:
    """Says, computed, what would bring one figure under its limit."""
    if limit.metric == "number_type":
        yield f"int8 weights, int32 biases → {planned_bytes(result, 'int8'):,} B"
        return
    assert limit.max is not None
    allowed = min(limit.max, limit.max_strictest or limit.max)
    if limit.metric in {"param_bytes", "nonzero_bytes"}:
        nonzero_only = limit.metric == "nonzero_bytes"
        for scheme in PLANNED_SCHEMES:
            size = planned_bytes(result, scheme)
            if scheme == "float32" or size >= result.param_bytes:
                continue
            fits = size <= allowed
            zeros = " (or less: zeros do not count)" if nonzero_only and not fits else ""
            effect = "fits" if fits else f"over by {size - allowed:,} B{zeros}"
            yield f"{scheme} → {size:,} B, {effect}"
            if fits:
                return
    if limit.metric == "params" and isinstance(check.value, int) and check.value > allowed:
        yield f"remove {check.value - allowed:,} parameters: {_largest(result, 'params')}"
    if limit.metric == "macs" and isinstance(check.value, int):
        over = max(check.value, result.macs_by_convention.get("strict") or 0) - allowed
        if over > 0:
            yield f"remove {over:,} MACs: {_largest(result, 'macs_official')}"


def _largest(result: AuditResult, field: str, most: int = 2) -> str:
    rows = sorted(result.layers, key=lambda layer: -int(getattr(layer, field)))[:most]
    named = " and ".join(f"{row.name or row.kind} ({getattr(row, field):,})" for row in rows)
    return f"the largest layers are {named}"
