"""A gate record as JUnit XML, for the test panels of GitLab, Jenkins and GitHub.

A check is a test case: failed (`failure`), not measured (`error`), waived or off (`skipped`). A
warning passes and stands in the case's output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from reports.gate_words import LEVEL_WORDS, checked, where

__all__ = ["to_junit"]


def to_junit(record: Mapping[str, Any]) -> str:
    """Writes the record as one test suite a subject."""
    shown = checked(record)
    findings: dict[int, list[Mapping[str, Any]]] = {}
    for finding in shown["findings"]:
        findings.setdefault(finding["check"], []).append(finding)
    subjects: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for index, check in enumerate(shown["checks"]):
        subjects.setdefault(check["subject"], []).append((index, check))
    root = ET.Element("testsuites", name="compressor gate")
    totals = [0, 0, 0, 0]
    for subject, checks in subjects.items():
        suite = ET.SubElement(root, "testsuite", name=subject or "settings")
        counts = _counts([check["status"] for _, check in checks])
        _set_counts(suite, counts)
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        for index, check in checks:
            _case(suite, subject, check, findings.get(index, []))
    _set_counts(root, totals)
    ET.indent(root)
    return "<?xml version='1.0' encoding='utf-8'?>\n" + ET.tostring(root, "unicode") + "\n"


def _counts(statuses: Sequence[str]) -> list[int]:
    """Tests, failures, errors, skipped."""
    return [
        len(statuses),
        statuses.count("fail"),
        statuses.count("unmeasured"),
        statuses.count("waived") + statuses.count("skip"),
    ]


def _set_counts(element: ET.Element, counts: Sequence[int]) -> None:
    for name, count in zip(("tests", "failures", "errors", "skipped"), counts, strict=True):
        element.set(name, str(count))


def _case(
    suite: ET.Element,
    subject: str,
    check: Mapping[str, Any],
    findings: Sequence[Mapping[str, Any]],
) -> None:
    name = f"{check['id']}: {check['name']}"
    case = ET.SubElement(suite, "testcase", classname=f"compressor.gate.{check['id']}", name=name)
    if subject:
        case.set("file", subject)
    status = check["status"]
    # no line begins with a quoted text: a CI log may take one for a command
    lines = [
        f"{LEVEL_WORDS[f['status']]}: {where(f)}: {f['message']} (fix: {f['fix']})"
        for f in findings
    ]
    if status in {"fail", "unmeasured"}:
        decisive = [f for f in findings if f["status"] == status]
        tag = "failure" if status == "fail" else "error"
        mark = ET.SubElement(case, tag, message=decisive[0]["message"], type=check["id"])
        mark.text = "\n".join(lines)
    elif status == "waived":
        waiver = findings[0]["waiver"]
        reason = f"waived until {waiver['expires']}: {waiver['reason']}"
        ET.SubElement(case, "skipped", message=reason).text = "\n".join(lines)
    elif status == "skip":
        ET.SubElement(case, "skipped", message="off in the settings")
    elif lines:
        ET.SubElement(case, "system-out").text = "\n".join(lines)
