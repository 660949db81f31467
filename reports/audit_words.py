"""What an audit's record says of one file: verdict in words, tables of limits and layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compressor.errors import UsageError
from reports.budget import limit_words
from reports.formats import NONE, capital, count, headroom, joined, short, used, year_ranges
from reports.gate_words import number
from reports.tables import Table
from reports.verdict import Fact

__all__ = [
    "check_document",
    "figure_facts",
    "headline",
    "layer_table",
    "limit_rows",
    "limits_table",
    "status_of",
]

Record = Mapping[str, Any]

SCHEMA = 1
CONVENTIONS = {"nessi": "official"}  # what tables and the terminal call it
_WORDS = {"fail": "Fails", "unknown": "Not known for", "depends": "Open for", "pass": "Passes"}


def check_document(document: object, name: str = "audit") -> Record:
    """Returns an audit's record if the pages can read it.

    Raises:
        UsageError: it is not one, or one of a newer schema.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("files"), Sequence):
        raise UsageError(
            f"{name}: not the record of an audit; write one with compressor audit --format json"
        )
    if document.get("schema") != SCHEMA:
        raise UsageError(
            f"{name}: schema is {document.get('schema')!r}, this version reads {SCHEMA}; "
            "run compressor audit again"
        )
    for index, file in enumerate(document["files"]):
        if not isinstance(file, Mapping) or not isinstance(file.get("file"), str):
            raise UsageError(f"{name}: file {index} has no name; run compressor audit again")
        if "error" not in file and not isinstance(file.get("audit"), Mapping):
            raise UsageError(f"{name}: file {index} has no figures; run compressor audit again")
    return document


def status_of(file: Record) -> str:
    """pass, fail, open or unknown: the worst over all rules the file was held against."""
    if "error" in file:
        return "unknown"
    states = [verdict["status"] for verdict in file.get("verdicts", ())]
    for state, status in (("fail", "fail"), ("unknown", "unknown"), ("depends", "open")):
        if state in states:
            return status
    return "pass" if states else "unknown"


def headline(file: Record) -> str:
    """The verdict in a sentence, with the margin of the tightest limit."""
    if "error" in file:
        return f"Could not be measured: {file['error']}"
    verdicts = file.get("verdicts", ())
    if not verdicts:
        return "Measured; it was held against no rules."
    parts = []
    for state, word in _WORDS.items():
        names = [str(verdict["label"]) for verdict in verdicts if verdict["status"] == state]
        if names:
            parts.append(f"{word.lower()} {joined(names)}")
    tight = _tightest(verdicts)
    return capital("; ".join(parts)) + (f"; {tight}" if tight else "") + "."


def _tightest(verdicts: Sequence[Record]) -> str:
    """The limit with the least room, relative to it; over it or not."""
    found = [
        (check["margin"] / check["limit"], verdict["label"], check)
        for verdict in verdicts
        for check in verdict["checks"]
        if isinstance(check["margin"], (int, float)) and check["limit"]
    ]
    if not found:
        return ""
    _, label, check = min(found, key=lambda one: one[0])
    unit = "" if check["unit"] == check["name"] else f" {check['unit']}"
    amount = f"{count(abs(check['margin']))}{unit}"
    side = "over" if check["margin"] < 0 else "to spare"
    return f"tightest is {check['name']} of {label}, {amount} {side}"


def limits_table(file: Record) -> Table | None:
    """Every limit of every year: value, limit, margin, headroom, evidence, what it says."""
    rows = []
    for verdict in file.get("verdicts", ()):
        for check in verdict["checks"]:
            room = check.get("headroom_percent")
            rows.append(
                (
                    str(verdict["label"]),
                    str(check["name"]),
                    str(check["status"]),
                    number(check["value"]),
                    number(check["limit"]),
                    number(check["margin"]).replace("-", "−"),
                    NONE if room is None else headroom(room),
                    str(check["unit"]),
                    str(check["evidence"]),
                    str(check["note"]),
                )
            )
    if not rows:
        return None
    return Table(
        caption="Every limit: what counts, what is allowed, the room below it. Evidence: V read at "
        "the organisers', S quoted by a third party, I inferred, N not to be had.",
        columns=(
            *("rules", "limit of", "verdict", "value", "limit", "margin", "headroom, %"),
            *("unit", "evidence", "note"),
        ),
        rows=tuple(rows),
        texts=frozenset({0, 1, 2, 7, 8, 9}),
        what="limits",
    )


def limit_rows(file: Record) -> list[dict[str, Any]]:
    """Bars of the limits that are numbers: see `reports.limit_charts.limit_bars`."""
    rows = []
    for verdict in file.get("verdicts", ()):
        for check in verdict["checks"]:
            value, limit = check["value"], check["limit"]
            if not isinstance(value, (int, float)) or not isinstance(limit, (int, float)):
                continue
            if not limit:
                continue
            name = f"{verdict['label']} {check['name']}"
            rows.append(
                {
                    "name": name,
                    "used": value / limit,
                    "over": value > limit,
                    "text": used(value / limit),
                    "tip": f"{name}\n{count(value)} of {limit_words(limit, str(check['unit']))}",
                }
            )
    return rows


def figure_facts(file: Record) -> list[Fact]:
    """The figures of a file in words, as the terminal says them."""
    audit = file["audit"]
    types = ", ".join(f"{count(size)} B {name}" for name, size in audit["bytes_by_dtype"].items())
    macs = audit["macs_by_convention"]
    shape = "x".join(map(str, audit["input_shape"])) or "not told by the file"
    peak = audit["peak_activation_bytes"]
    counted = [
        f"{CONVENTIONS.get(name, name)} {count(value)}"
        for name, value in macs.items()
        if value is not None
    ] or ["unknown"]
    facts = [
        Fact("Parameters", f"{count(audit['params'])} ({count(audit['nonzero_params'])} not zero)"),
        Fact("Parameter bytes", f"{count(audit['param_bytes'])} B ({types})"),
        Fact("Buffers", f"{count(audit['buffer_bytes'])} B beside the parameters"),
        Fact("Input", shape),
        Fact("MACs", ", ".join(counted)),
        Fact(
            "Peak activations",
            "unknown" if peak is None else f"{count(peak)} B at {audit['peak_activation_layer']}",
        ),
        Fact(
            "Status",
            audit["status"]
            + "".join(
                f"; {name} {status}"
                for name, status in audit["statuses"].items()
                if status != "exact"
            ),
        ),
    ]
    if audit["scale_bytes"]:
        text = f"{count(audit['scale_bytes'])} B of scales and zero points, in neither of the two"
        facts.insert(3, Fact("Scales", text))
    if audit["deployed_bytes"] is not None:
        text = f"{count(audit['deployed_bytes'])} B once the numbers are as narrow as they run"
        facts.insert(2, Fact("As deployed", text))
    fixes: dict[str, list[str]] = {}
    for verdict in file.get("verdicts", ()):
        for fix in verdict.get("fixes", ()):
            fixes.setdefault(str(fix), []).append(str(verdict["label"]))
    ways: dict[str, list[str]] = {}
    for fix, labels in fixes.items():
        ways.setdefault(f"To pass {year_ranges(labels)}", []).append(fix)
    facts += [Fact(label, "; or ".join(some)) for label, some in ways.items()]
    return facts


def layer_table(file: Record) -> Table | None:
    """One row a layer; the rows add up to the totals."""
    rows = [
        (
            row["name"] or "(whole network)",
            row["kind"] or NONE,
            count(row["params"]),
            count(row["nonzero_params"]),
            count(row["param_bytes"]),
            row["dtype"] or NONE,
            count(row["macs"]),
            count(row["macs_official"]),
            "x".join(map(str, row["output_shape"])) or NONE,
            str(row["calls"]),
        )
        for row in file["audit"]["layers"]
        if row["params"] or row["macs"] or row["macs_official"]
    ]
    if not rows:
        return None
    return Table(
        caption="Every layer that has parameters or MACs; the rows add up to the totals. MACs: "
        "strict count; official: as the challenge's counter does. Calls: how often one inference "
        "runs it.",
        columns=(
            *("layer", "kind", "parameters", "non-zero", "bytes", "number type"),
            *("MACs", "official MACs", "output", "calls"),
        ),
        rows=tuple(rows),
        texts=frozenset({0, 1, 5, 8}),
        what="layers",
    )


def short_name(file: str) -> str:
    """A path's last part, for labels of charts."""
    return file.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or file


def in_short(file: Record) -> str:
    """A file's figures in a line."""
    audit = file["audit"]
    macs = audit["macs"]
    words = "MACs unknown" if macs is None else f"{short(macs)} MACs"
    return f"{count(audit['params'])} parameters, {count(audit['param_bytes'])} B, {words}"
