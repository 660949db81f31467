"""How an audit is shown: verdict and margin first, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from compressor.audit.rules import EVIDENCE
from compressor.cli.text import fitted, printable, screen_width, wrapped

if TYPE_CHECKING:
    from compressor.audit import AuditResult, Check, Verdict

__all__ = ["audit_lines", "error_lines", "screen_width", "wrapped"]

WORDS = {"pass": "PASS", "fail": "FAIL", "depends": "DEPENDS", "unknown": "UNKNOWN"}
WORST_FIRST = ("fail", "unknown", "depends", "pass")
MAX_LABEL = 12
BARE_WEIGHTS = frozenset({"state-dict", "safetensors", "keras"})


def audit_lines(
    name: str,
    result: AuditResult,
    found: Sequence[Verdict],
    *,
    layers: bool = False,
    width: int | None = None,
) -> Iterator[str]:
    """The text of one file: headline, limits, figures, what would make it pass, notes, layers.

    Args:
        name: of the file, as the user gave it.
        result: of the audit.
        found: verdicts, at least one.
        layers: whether to add the table of layers.
        width: columns of the terminal; None for no limit.
    """
    yield from wrapped([printable(headline(found))], width)
    arch = result.meta.get("arch")
    what = f"{arch}, {result.format}" if arch else result.format
    yield from wrapped([printable(f"{name} ({what})")], width)
    yield ""
    yield from _limits(found, width)
    yield ""
    yield from wrapped(_figures(result), width)
    if notes := list(_notes(result, found)):
        yield ""
        yield from wrapped(map(printable, notes), width)
    if layers:
        yield ""
        yield from _layers(result, width)


def error_lines(name: str) -> Iterator[str]:
    """Stands in the place of a file that could not be measured; why is on standard error."""
    yield "NOT MEASURED"
    yield printable(name)


def headline(found: Sequence[Verdict]) -> str:
    """The verdict and the tightest margin; with several rules, which pass and which fail."""
    if len(found) == 1:
        (verdict,) = found
        word = f"{WORDS[verdict.status]} {verdict.task}"
        decisive = [check for check in verdict.checks if check.status == verdict.status]
        check = _tightest(decisive)
        if check is None:
            return f"{word}: {decisive[0].name}"
        value, limit = _number(check.value), _number(check.limit)
        unit = "" if check.unit == check.name else f" {check.unit}"
        return f"{word}: {check.name} {value}{unit} of {limit} ({_side(check)})"
    groups = [
        f"{WORDS[state]} {_listed([v for v in found if v.status == state])}"
        for state in WORST_FIRST
        if any(verdict.status == state for verdict in found)
    ]
    tightest = _tightest([check for verdict in found for check in verdict.checks])
    if tightest is None:
        return "; ".join(groups)
    label = next(_label(v) for v in found if any(check is tightest for check in v.checks))
    unit = "" if tightest.unit == tightest.name else f" {tightest.unit}"
    side = _side(tightest).replace(" ", f"{unit} ", 1)
    return "; ".join([*groups, f"{label} {tightest.name} {side}"])


def _tightest(checks: Iterable[Check]) -> Check | None:
    """The check with the least room in percent of its limit."""
    rooms = [(room, i, c) for i, c in enumerate(checks) if (room := c.headroom_percent) is not None]
    return min(rooms)[2] if rooms else None


def _side(check: Check) -> str:
    assert check.margin is not None
    return f"{abs(check.margin):,} {'to spare' if check.margin >= 0 else 'over'}"


def _label(verdict: Verdict) -> str:
    label = verdict.label or str(verdict.year)
    return label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…"


def _listed(some: Sequence[Verdict]) -> str:
    """Labels, three or more years in a row as a range."""
    parts: list[list[Verdict]] = []
    for verdict in some:
        if parts and verdict.year and parts[-1][-1].year == verdict.year - 1:
            parts[-1].append(verdict)
        else:
            parts.append([verdict])
    return ", ".join(
        f"{_label(run[0])}-{_label(run[-1])}" if len(run) > 2 else ", ".join(map(_label, run))
        for run in parts
    )


def _limits(found: Sequence[Verdict], width: int | None) -> list[str]:
    marks = any(check.evidence != "V" for verdict in found for check in verdict.checks)
    header = ["year", "verdict", "limit of", "value", "limit", "margin", "headroom", ""]
    rows = [
        [
            _label(verdict) if index == 0 else "",
            WORDS[check.status],
            f"{check.name}, {check.unit}" if check.unit == "B" else check.name,
            _number(check.value),
            _number(check.limit),
            "" if check.margin is None else f"{check.margin:+,}",
            "" if check.headroom_percent is None else _room(check.headroom_percent),
            "" if check.evidence == "V" else check.evidence,
        ]
        for verdict in found
        for index, check in enumerate(verdict.checks)
    ]
    left = {1, 2, 7}
    if not marks:
        header, rows = header[:-1], [row[:-1] for row in rows]
    return fitted(header, rows, left, width, [6])


def _room(percent: float) -> str:
    from reports.formats import headroom

    return f"{headroom(percent)} %".replace("−", "-")  # the minus of every other figure here


def _figures(result: AuditResult) -> Iterator[str]:
    by_dtype = _by_dtype(result.bytes_by_dtype)
    figures = {
        "parameters": f"{result.params:,} ({result.nonzero_params:,} not zero)",
        "parameter bytes": f"{result.param_bytes:,} ({by_dtype or 'none'})",
        "as deployed": ""
        if result.deployed_bytes is None
        else f"{result.deployed_bytes:,} ({_by_dtype(result.deployed_bytes_by_dtype)})",
        "buffers": f"{result.buffer_bytes:,} B beside the parameters",
        "scales": f"{result.scale_bytes:,} B beside the parameters" if result.scale_bytes else "",
        "input": "x".join(map(str, result.input_shape)) or "unknown",
        "MACs strict": _number(result.macs_by_convention.get("strict")),
        "MACs official": _number(result.macs_by_convention.get("nessi")),
        "peak activations": "unknown"
        if result.peak_activation_bytes is None
        else f"{result.peak_activation_bytes:,} B at {result.peak_activation_layer}",
        "status": result.status,
    }
    for name, value in figures.items():
        if value:
            yield printable(f"{name:<17} {value}")


def _by_dtype(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{size:,} B {name}" for name, size in sizes.items())


def _notes(result: AuditResult, found: Sequence[Verdict]) -> Iterator[str]:
    fixes: dict[str, list[Verdict]] = {}
    doubtful: dict[str, list[Verdict]] = {}
    for verdict in found:
        for fix in verdict.fixes:
            fixes.setdefault(fix, []).append(verdict)
        for check in verdict.checks:
            if check.note and (check.status in {"depends", "unknown"} or len(found) == 1):
                doubtful.setdefault(f"{check.name}: {check.note}", []).append(verdict)
    for fix, some in fixes.items():
        yield f"to pass {_listed(some)}: {fix}"
    for text, some in doubtful.items():
        yield f"note {_listed(some)}: {text}"
    for note in result.notes:
        yield f"note: {note}"
    if result.macs is None and result.format in BARE_WEIGHTS:
        yield "note: bare weights: --arch NAME (a zoo network) gives the MACs"
    marks = {check.evidence for verdict in found for check in verdict.checks} - {"V"}
    for mark in sorted(marks):
        yield f"{mark}: the limit is {EVIDENCE[mark]}"


def _layers(result: AuditResult, width: int | None) -> list[str]:
    official = result.convention.startswith("nessi")
    rows = [
        [
            row.name or "(model)",
            row.kind,
            f"{row.params:,}",
            f"{row.nonzero_params:,}",
            f"{row.param_bytes:,}",
            f"{row.macs_official if official else row.macs:,}",
            "x".join(map(str, row.output_shape)),
            row.dtype,
        ]
        for row in result.layers
        if row.params or row.macs or row.macs_official
    ]
    shown = result.macs_by_convention.get("nessi" if official else "strict")
    total = ["total", "", f"{result.params:,}", f"{result.nonzero_params:,}"]
    total += [f"{result.param_bytes:,}", _number(shown), "", ""]
    header = ["layer", "kind", "parameters", "not zero", "bytes"]
    header += ["MACs official" if official else "MACs", "output", "dtype"]
    # What says least goes first where the terminal is narrow.
    return fitted(header, [*rows, total], {0, 1, 6, 7}, width, [7, 3, 1, 6])


def _number(value: int | str | None) -> str:
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else value
