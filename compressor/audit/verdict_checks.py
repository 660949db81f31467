"""One limit against one result: every reading of the rule must agree for pass or fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from compressor.audit.records import AuditResult
from compressor.audit.rules import Limit

__all__ = ["Check", "VerdictStatus", "check_limit", "readings"]

VerdictStatus = Literal["pass", "fail", "depends", "unknown"]

# The status of which measured figure a limit leans on.
_STATUS_OF: Mapping[str, str] = {
    "params": "params",
    "nonzero_params": "nonzero_params",
    "nonzero_bytes": "nonzero_params",
    "param_bytes": "param_bytes",
    "macs": "macs",
    "peak_activation_bytes": "peak_activation_bytes",
}
# Formats that the official counters do not read. Their formula on the same layers stands beside the
# strict figure all the same: a folded BatchNorm leaves biases that it counts.
_NOT_READ = frozenset({"onnx", "keras"})
_EIGHT_BITS = frozenset({"int8", "uint8", "qint8", "quint8"})
_BIASES = frozenset({"int32", "qint32"})
SAME_SEGMENT = (0.75, 1.25)  # of the rule's segment: frames round, and some clips are padded


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

    @property
    def headroom_percent(self) -> float | None:
        """The margin in percent of the limit; None without a figure or a limit above 0."""
        if self.margin is None or not isinstance(self.limit, int) or self.limit <= 0:
            return None
        return round(100 * self.margin / self.limit, 4)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-able Python."""
        return {**asdict(self), "headroom_percent": self.headroom_percent}


def check_limit(result: AuditResult, limit: Limit, segment_s: float | None) -> Check:
    """Compares one figure with one limit.

    Args:
        result: of the audit.
        limit: of a year's rules or a user's own.
        segment_s: seconds of audio that the rules give one inference; None where they do not say.
    """
    if limit.metric == "number_type":
        return _number_type(result, limit)
    assert limit.max is not None  # rules.py: every figure has one
    notes = [limit.note] if limit.note else []
    convention, value = _measured(result, limit)
    if limit.metric == "macs":
        notes += _macs_notes(result, limit, segment_s, convention)
    status: VerdictStatus
    if value is None:
        status = "unknown"
        notes.append(f"{_words(limit)} unknown")
    else:
        found = readings(result, limit)
        if (true := found.get("strict", value)) > value and limit.metric == "macs":
            notes.append(f"the true figure is {true:,} MACs")
        if min(found.values()) > limit.max:
            status = "fail"  # also where something was left out: more would not help
        elif not _certain(result, limit):
            status = "unknown"
            notes.append(f"{_words(limit)} only partly counted")
        elif max(found.values()) <= limit.strictest:
            status = "pass"
        else:
            status = "depends"
            notes.append(_why(limit, found, value))
    margin = None if value is None else limit.max - value
    note = "; ".join(notes)
    return Check(limit.name, limit.max, value, margin, limit.unit, status, limit.evidence, note)


def _words(limit: Limit) -> str:
    return "MACs" if limit.metric == "macs" else limit.metric.replace("_", " ")


def _measured(result: AuditResult, limit: Limit) -> tuple[str, int | None]:
    """The convention that was taken and its figure; strict where the official one has none."""
    if limit.metric != "macs":
        return limit.convention, _size(result, limit, limit.convention)
    official = limit.convention != "strict" and result.format not in _NOT_READ
    for convention in (limit.convention if official else "strict", "strict"):
        if (macs := result.macs_by_convention.get(convention)) is not None:
            return convention, macs
    return limit.convention, None


def _size(result: AuditResult, limit: Limit, convention: str) -> int | None:
    if limit.metric == "params":
        return result.params_by_convention[convention]
    if limit.metric == "nonzero_params":
        return result.nonzero_by_convention[convention]
    if limit.metric == "nonzero_bytes":
        return result.bytes_by_convention[convention]
    if limit.metric == "peak_activation_bytes":
        return result.peak_activation_bytes
    return result.param_bytes


def readings(result: AuditResult, limit: Limit) -> dict[str, int]:
    """What else the figure could be taken for, where sources or the file leave it open.

    Returns:
        Reading -> figure, the rule's own first; empty for a number type or an unknown figure.
    """
    if limit.metric == "number_type":
        return {}
    convention, value = _measured(result, limit)
    if value is None:
        return {}
    found = {convention: value}
    if limit.metric == "macs":
        strict = result.macs_by_convention.get("strict")
        if strict is not None and strict > value:
            found["strict"] = strict
        for name in (limit.convention, limit.also_convention):
            if (also := result.macs_by_convention.get(name)) is not None:
                found.setdefault(name, also)
        return found
    if limit.also_convention:
        also = _size(result, limit, limit.also_convention)
        assert also is not None  # sizes stand under every convention
        found[limit.also_convention] = also
    if limit.metric == "peak_activation_bytes":
        return found
    if limit.metric.startswith("nonzero") and "masked" in result.details:
        hidden = _masked(result)
        width = result.param_bytes // result.params if result.params else 0
        found["masks not baked in"] = value + hidden * (
            width if limit.metric == "nonzero_bytes" else 1
        )
    if result.deployed_bytes is not None and limit.metric == "param_bytes":
        found["as deployed"] = result.deployed_bytes
    if _roles_by_name(result):  # at most everything stored counts; a number has one byte or more
        found["all stored tensors, at most"] = value + result.buffer_bytes
    return found


def _roles_by_name(result: AuditResult) -> bool:
    """Tells whether parameters and buffers were told apart by name only."""
    return result.statuses["params"] == "partial"


def _certain(result: AuditResult, limit: Limit) -> bool:
    """Tells whether the figure is exact, or bounded by one of the readings."""
    status = result.statuses[_STATUS_OF[limit.metric]]
    return status == "exact" or (
        status == "partial" and _roles_by_name(result) and limit.metric != "macs"
    )


def _masked(result: AuditResult) -> int:
    """Numbers that masks hide although they are stored: as stored minus with the masks."""
    masked = result.details["masked"].values()
    return sum(int(item["stored_nonzero"] - item["effective_nonzero"]) for item in masked)


def _macs_notes(
    result: AuditResult, limit: Limit, segment_s: float | None, convention: str
) -> list[str]:
    notes = []
    length = _segment(result)
    if length is not None and segment_s is not None:
        low, high = SAME_SEGMENT
        if not low < length / segment_s < high:
            notes.append(
                f"counted on about {length:.1f} s of audio, the rule is for {segment_s:g} s"
            )
    if convention != limit.convention and result.macs_by_convention.get("strict") is not None:
        notes.append(f"the official counter reads no {result.format} file: the strict figure")
    return notes


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


def _why(limit: Limit, found: Mapping[str, int], value: int) -> str:
    assert limit.max is not None
    if limit.strictest < value <= limit.max:
        return "depends on the unit: over one reading of the limit, within the other"
    counted = ", ".join(f"{name} {reading:,}" for name, reading in found.items())
    return f"depends on who counts: {counted}"


def _number_type(result: AuditResult, limit: Limit) -> Check:
    """Only one number type is allowed; biases of an int8 network are int32.

    A network in another type is no failure: the rule is about the file that is sent in, and its
    int8 version may well pass. So it depends, and the note says on what.
    """
    held = dict(result.bytes_by_dtype)
    allowed = _EIGHT_BITS if limit.only == "int8" else frozenset({limit.only})
    beside = _BIASES if limit.only == "int8" else frozenset()
    right = allowed & held.keys()
    wrong = sorted(held.keys() - allowed - beside)
    stored = "+".join(sorted(held)) or "none"
    notes = [limit.note] if limit.note else []
    status: VerdictStatus = "pass" if right and not wrong else "depends"
    if not held:
        notes.append("no parameters are stored")
    elif wrong and right:
        notes.append(
            f"{sum(held[name] for name in right):,} B are {limit.only}, but beside them stand "
            + " and ".join(f"{held[name]:,} B of {name}" for name in wrong)
        )
    elif wrong:
        notes.append(f"stored as {' and '.join(wrong)}")
    if wrong and allowed & result.deployed_bytes_by_dtype.keys():
        notes.append(f"{' and '.join(sorted(result.deployed_bytes_by_dtype))} as deployed")
    note = "; ".join(notes)
    return Check(limit.name, limit.only, stored, None, limit.unit, status, limit.evidence, note)
