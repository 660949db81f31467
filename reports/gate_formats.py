"""One gate record, every format: text, JSON, Markdown, GitHub annotations, JUnit, HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from compressor.errors import UnknownNameError
from reports import gate_words as words
from reports.gate_text import to_text
from reports.gate_words import LEVEL_WORDS, STATUS_WORDS, checked, where
from reports.tables import Table

__all__ = ["FORMATS", "SUFFIXES", "render", "to_github", "to_json", "to_markdown", "to_text"]

FORMATS = ("text", "json", "markdown", "github", "junit", "html")
#: Formats by the suffix of the file that they are written to.
SUFFIXES: Mapping[str, str] = {
    ".txt": "text",
    ".json": "json",
    ".md": "markdown",
    ".xml": "junit",
    ".html": "html",
    ".htm": "html",
}

# inside JSON strings only: no text can close a script element, or be a command in a CI log
_JSON_SAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def render(record: Mapping[str, Any], form: str, width: int | None = None) -> str:
    """Writes a gate record in one format; the same record gives the same bytes.

    Args:
        record: of the gate.
        form: one of FORMATS.
        width: columns of the terminal that text is fitted to; None for whole lines.

    Raises:
        UnknownNameError: no such format.
        UsageError: not a gate record.
    """
    if form == "json":
        return to_json(record)
    if form == "text":
        return to_text(record, width)
    if form == "markdown":
        return to_markdown(record)
    if form == "github":
        return to_github(record)
    if form == "junit":
        from reports.gate_junit import to_junit

        return to_junit(record)
    if form == "html":
        from reports.gate_page import to_html

        return to_html(record)
    raise UnknownNameError("output format", form, FORMATS)


def to_json(record: Mapping[str, Any]) -> str:
    """The record itself, in ASCII: marks and escapes in names stay JSON escapes."""
    text = json.dumps(record, indent=1, ensure_ascii=True, allow_nan=False)
    text = "".join(_JSON_SAFE.get(char, char) for char in text)
    return text.replace("##[", "#\\u0023[") + "\n"


def to_markdown(record: Mapping[str, Any]) -> str:
    """GitHub-flavoured Markdown, for a job's summary or a comment."""
    from reports.markdown import table as md_table

    shown = checked(record)
    parts = [
        f"## compressor gate: {STATUS_WORDS[shown['status']]}",
        _md(words.headline(shown)),
    ]
    findings = shown["findings"]
    if findings:
        rows = tuple(
            (
                LEVEL_WORDS[finding["status"]],
                where(finding),
                finding["message"],
                _remedy(finding),
                finding["id"],
            )
            for finding in findings
        )
        columns = ("level", "where", "what", "fix", "check")
        parts.append(md_table(Table("Problems.", columns, rows, frozenset(range(5)))))
    tables = (words.check_table(shown), words.file_table(shown))
    parts += [md_table(table) for table in tables if table]
    parts.append("\n".join(f"- {_md(label)}: {_md(text)}" for label, text in words.facts(shown)))
    return "\n\n".join(parts).replace("@", "&#64;") + "\n"  # nobody is to be mentioned by a file


def _md(text: str) -> str:
    from reports.markdown import escape

    return escape(text)


def _remedy(finding: Mapping[str, Any]) -> str:
    """What a reader should do, or why nothing."""
    waiver = finding["waiver"]
    if finding["status"] == "waived":
        return f"waived until {waiver['expires']}: {waiver['reason']}"
    return str(finding["fix"])


def to_github(record: Mapping[str, Any]) -> str:
    """Workflow commands: one annotation a problem, at its file and line."""
    shown = checked(record)
    lines = []
    for finding in shown["findings"]:
        command = {"fail": "error", "unmeasured": "error", "warn": "warning"}.get(
            finding["status"], "notice"
        )
        properties = [("file", finding["file"])] if finding["file"] else []
        if finding["line"]:
            properties.append(("line", str(finding["line"])))
        properties.append(("title", f"compressor gate: {finding['id']}"))
        said = ",".join(f"{key}={_property(value)}" for key, value in properties)
        lines.append(f"::{command} {said}::{_data(finding['message'])}. {_data(_remedy(finding))}")
    status = STATUS_WORDS[shown["status"]]
    lines.append(f"::notice title=compressor gate::{_data(f'{status} {words.headline(shown)}')}")
    return "\n".join(lines) + "\n"


def _data(text: str) -> str:
    """The message of a workflow command, escaped as GitHub's toolkit does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def suffix_format(names: Sequence[str]) -> str:
    """The format that a file's suffixes ask for.

    Raises:
        UnknownNameError: none of the known ones.
    """
    suffix = names[-1].lower() if names else ""
    if suffix not in SUFFIXES:
        raise UnknownNameError("suffix of an output file", suffix or "(none)", SUFFIXES)
    return SUFFIXES[suffix]
