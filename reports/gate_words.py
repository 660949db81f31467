"""What every format of a gate record says: the headline, the facts, the tables, as harmless text.

The record is untrusted where it quotes files and names. `harmless` makes each text one printable
line before any format sees it; the formats then escape for their own syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from compressor.errors import UsageError
from reports.formats import plural
from reports.tables import Table

__all__ = [
    "LEVEL_WORDS",
    "STATUS_WORDS",
    "check_table",
    "checked",
    "facts",
    "file_table",
    "harmless",
    "headline",
    "where",
]

SCHEMA, VERSION = "compressor-gate", 1
STATUS_WORDS = {"pass": "PASS", "fail": "FAIL", "unmeasured": "NOT MEASURED"}
LEVEL_WORDS = {
    "fail": "error",
    "unmeasured": "not measured",
    "warn": "warning",
    "waived": "waived",
    "pass": "pass",
    "skip": "off",
}
MAX_TEXT = 600  # a message names one thing; longer ones quote too much

_BREAKS = re.compile(r"[\s\x1c-\x1f\x85\u2028\u2029]+")


def harmless(value: Any) -> Any:
    """The same record with every text made one printable line.

    Line breaks become spaces; escapes, control characters, right-to-left marks and lone surrogates
    become "?"; "##[" (a command in a CI log, wherever it stands in a line) is broken up.
    """
    if isinstance(value, str):
        line = _BREAKS.sub(" ", value)
        if not line.isprintable():
            line = "".join(c if c.isprintable() else "?" for c in line)
        line = line.replace("##[", "## [")
        return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 3] + "..."
    if isinstance(value, Mapping):
        return {harmless(key): harmless(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [harmless(item) for item in value]
    return value


def checked(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a record that the formats can read, made harmless.

    Raises:
        UsageError: not a gate record, or one of a newer schema.
    """
    if record.get("schema") != SCHEMA or record.get("schema_version") != VERSION:
        raise UsageError(
            f"not a gate record of version {VERSION}: schema {record.get('schema')!r}, version "
            f"{record.get('schema_version')!r}"
        )
    slim = {key: value for key, value in record.items() if key != "models"}
    made: dict[str, Any] = harmless(slim)
    return made


def where(finding: Mapping[str, Any]) -> str:
    """Place of a finding: file:line, or the file."""
    line = finding["line"]
    file = finding["file"] or "(settings)"
    return f"{file}:{line}" if line else str(file)


def headline(record: Mapping[str, Any]) -> str:
    """The verdict in one line, after the word of the status."""
    counts = record["counts"]
    parts = [
        plural(counts[key], *nouns)
        for key, nouns in (
            ("errors", ("error",)),
            ("unmeasured", ("thing not measured", "things not measured")),
            ("warnings", ("warning",)),
            ("waived", ("waived", "waived")),
        )
        if counts[key]
    ]
    parts.append(f"{counts['passed']} of {plural(counts['checks'], 'check')} passed")
    targets = [target["path"] for target in record["targets"]]
    names = ", ".join(targets[:3]) + (f" and {len(targets) - 3} more" if len(targets) > 3 else "")
    tight = _tightest(record)
    return "; ".join([*([tight] if tight else []), f"{', '.join(parts)}: {names}"])


def _tightest(record: Mapping[str, Any]) -> str:
    """The limit that decides: least room where all passed, most over where one failed."""
    rooms = [
        (1.0 - check["value"] / check["limit"], check)
        for check in record["checks"]
        if check["id"].startswith(("limit-", "own-"))
        and check["status"] == record["status"] != "unmeasured"
        and isinstance(check["value"], (int, float))
        and isinstance(check["limit"], (int, float))
        and check["limit"]
    ]
    if not rooms:
        return ""
    _, check = min(rooms, key=lambda room: room[0])
    room = check["limit"] - check["value"]
    side = "to spare" if room >= 0 else "over"
    amount = f"{number(abs(room))} {check['unit']}".rstrip()
    return f"{amount} {side} ({check['name']})"


def facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the verdict rests on, as label and text."""
    settings = record["settings"]
    years = ", ".join(map(str, settings["years"])) or "none"
    yield "Rules", years + "".join(f", {name}" for name in settings["rules"])
    inferred = {t["year"] for t in record["targets"] if t.get("evidence", "V") != "V"}
    if inferred:
        years = ", ".join(map(str, sorted(inferred)))
        yield "Package form", f"{years}: inferred (I), no checker of the organisers could be read"
    yield "Settings", settings["config"] or "defaults"
    yield "Convention", f"{settings['convention']} (own limits and growth)"
    if settings["input_shape"]:
        yield "Input", "x".join(map(str, settings["input_shape"]))
    if settings["allow_partial"]:
        yield "Partial figures", "allowed"
    yield (
        "Made by",
        f"compressor {record['tool']['version']}, "
        + ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    )


def number(value: object) -> str:
    """A figure as text: thousands separated; words as they are; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def check_table(record: Mapping[str, Any]) -> Table | None:
    """Every check that compared a figure."""
    rows = tuple(
        (
            check["name"],
            check["subject"],
            number(check["value"]),
            number(check["limit"]),
            check["unit"],
            LEVEL_WORDS[check["status"]],
            "" if check["evidence"] == "V" else check["evidence"],
        )
        for check in record["checks"]
        if check["value"] is not None or check["limit"] is not None
    )
    if not rows:
        return None
    columns = ("check", "of", "value", "limit or measured", "unit", "result", "source")
    caption = (
        "Figures that were compared. Source of a limit: blank = organisers or own, S = third "
        "party, I = inferred, N = not to be had."
    )
    return Table(caption, columns, rows, frozenset({0, 1, 4, 5, 6}))


def file_table(record: Mapping[str, Any]) -> Table | None:
    """Every file that was read, with its SHA-256."""
    rows = tuple(
        (file["path"], file["role"], number(file["bytes"]), file["sha256"] or "–")
        for file in record["files"]
    )
    if not rows:
        return None
    return Table(
        "Every file that was read, with its checksum.",
        ("file", "role", "bytes", "SHA-256"),
        rows,
        frozenset({0, 1, 3}),
    )
