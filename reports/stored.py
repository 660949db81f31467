"""Which record a stored file is, and the page that belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

__all__ = ["Kind", "kind_of", "page_of", "read_any"]

Kind = Literal["sweep", "audit", "gate", "reproduction"]

FILES = ("results.json", "audit.json", "gate.json")


def read_any(path: Path) -> tuple[Kind, dict[str, Any]]:
    """Read a stored record: a run folder, its `results.json`, or the JSON of an audit or a gate.

    Raises:
        UsageError: it cannot be read, or is none of the records a page is made from.
    """
    from reports.record import check, load

    file = path
    if path.is_dir():
        file = next((path / name for name in FILES if (path / name).is_file()), path / FILES[0])
    record = load(file)
    kind = kind_of(record)
    if kind == "sweep":
        return kind, check(record, str(file))
    return kind, dict(record)


def kind_of(record: object) -> Kind:
    """What a record is of; a sweep where nothing says otherwise: its reader names what is wrong."""
    if isinstance(record, Mapping):
        if record.get("schema") == "compressor-gate":
            return "gate"
        if record.get("kind") == "reproduction":
            return "reproduction"
        if "files" in record and "points" not in record:
            return "audit"
    return "sweep"


def page_of(kind: Kind, record: Mapping[str, Any], *, static: bool = False) -> str:
    """The page of a record.

    Raises:
        UsageError: the record has not the shape that the page reads.
    """
    if kind == "gate":
        from reports.gate_page import to_html

        return to_html(record, static=static)
    if kind == "reproduction":
        from reports.reproduce_page import render as reproduction

        return reproduction(record, static=static)
    if kind == "audit":
        from reports.audit_page import render as audit

        return audit(record, static=static)
    from reports.sweep_page import render

    return render(record, static=static)
