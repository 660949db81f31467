"""The record of one gate run: every check that was made and every problem, as plain data.

The same input gives the same bytes: no time, no machine, no absolute path of its own making.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import compressor
from compressor.audit.submission.problems import Problem
from compressor.gate.checks import CHECKS
from compressor.gate.config import GateConfig
from compressor.gate.waivers import Waivers

__all__ = ["SCHEMA", "SCHEMA_VERSION", "Recorder"]

SCHEMA = "compressor-gate"
SCHEMA_VERSION = 1  # goes up when a key changes its meaning or goes away, not when one is added
_PACKAGES = ("numpy", "PyYAML")
_ORDER = ("skip", "pass", "waived", "warn", "unmeasured", "fail")  # the worst last


class Recorder:
    """Collects what the checks find.

    Attributes:
        config: the settings of the run.
    """

    def __init__(self, config: GateConfig, today: date) -> None:
        """Takes the settings, and the day that waivers are held against."""
        self.config = config
        self._waivers = Waivers(config.waivers, today)
        self._checks: dict[tuple[str, str, str], dict[str, Any]] = {}  # in order of appearance
        self._findings: list[dict[str, Any]] = []
        self._files: dict[str, dict[str, Any]] = {}
        self._models: list[dict[str, Any]] = []
        self._targets: list[dict[str, Any]] = []

    # -- what was looked at -----------------------------------------------------------------------

    def target(self, path: str, kind: str, **more: object) -> None:
        """Notes one thing that was gated: "model" or "package"."""
        self._targets.append({"path": path, "kind": kind, **more})

    def file(self, path: str, role: str, digest: str | None, size: int | None) -> None:
        """Notes a file that was read."""
        self._files.setdefault(path, {"path": path, "role": role, "sha256": digest, "bytes": size})

    def model(self, record: Mapping[str, Any]) -> None:
        """Notes the audit of a model."""
        self._models.append(dict(record))

    # -- what was found ---------------------------------------------------------------------------

    def check(
        self,
        check: str,
        subject: str,
        name: str = "",
        *,
        value: int | float | str | None = None,
        limit: int | float | str | None = None,
        unit: str = "",
        evidence: str = "",
    ) -> None:
        """Notes that a check was made; it has passed unless a problem follows.

        Args:
            check: id.
            subject: the file it is about.
            name: which of several; "" for the title of the check.
            value: what was found.
            limit: what is allowed.
            unit: of both.
            evidence: how the limit is known: V, S, I or N; "" for an own one.
        """
        entry = self._entry(check, subject, name)
        entry.update(value=value, limit=limit, unit=unit, evidence=evidence)

    def _entry(self, check: str, subject: str, name: str) -> dict[str, Any]:
        level = self.config.level(check)
        return self._checks.setdefault(
            (check, subject, name),
            {
                "index": len(self._checks),
                "id": check,
                "name": name or CHECKS[check].title,
                "subject": subject,
                "level": level,
                "status": "skip" if level == "off" else "pass",
                "value": None,
                "limit": None,
                "unit": "",
                "evidence": "",
            },
        )

    def problem(
        self,
        problem: Problem,
        name: str = "",
        *,
        unmeasured: bool = False,
        soften: bool = False,
    ) -> None:
        """Notes a problem, at the level that the settings give its check, and its waiver.

        Args:
            problem: what was found.
            name: of the check, as in `check`.
            unmeasured: nothing failed, but it could not be measured.
            soften: a warning at most.
        """
        level = self.config.level(problem.check)
        entry = self._entry(problem.check, problem.file, name)
        if level == "off":
            return
        if soften:
            level = "warn"
        found = self._waivers.find(problem.check, problem.file)
        status = "warn" if level == "warn" else "unmeasured" if unmeasured else "fail"
        message, waiver = problem.message, None
        if found is not None:
            used, expired = found
            waiver = {
                "reason": used.reason,
                "expires": used.expires.isoformat(),
                "expired": expired,
            }
            if expired:
                message += f" (its waiver expired after {used.expires.isoformat()})"
            else:
                status = "waived"
        self._findings.append(
            {
                "id": problem.check,
                "check": entry["index"],
                "level": level,
                "status": status,
                "file": problem.file,
                "line": problem.line,
                "message": message,
                "fix": problem.fix,
                "waiver": waiver,
            }
        )
        entry["status"] = max(entry["status"], status, key=_ORDER.index)

    def problems(self, problems: Iterable[Problem]) -> None:
        """Notes several problems."""
        for problem in problems:
            self.problem(problem)

    # -- the result -------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """Returns the record; waivers that nothing asked for are noted first."""
        for waiver in self._waivers.unused():
            about = f"{waiver.id} of {waiver.file}" if waiver.file else waiver.id
            self.problem(
                Problem(
                    "waiver-unused",
                    self.config.source,
                    f"the waiver for {about} is not needed",
                    "take it out",
                )
            )
        statuses = [finding["status"] for finding in self._findings]
        status = next((s for s in ("fail", "unmeasured") if s in statuses), "pass")
        checks = list(self._checks.values())
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "status": status,
            "exit_code": {"pass": 0, "fail": 1, "unmeasured": 3}[status],
            "counts": {
                "checks": sum(check["status"] != "skip" for check in checks),
                "passed": sum(check["status"] == "pass" for check in checks),
                **{
                    key: statuses.count(name)
                    for key, name in (
                        ("errors", "fail"),
                        ("unmeasured", "unmeasured"),
                        ("warnings", "warn"),
                        ("waived", "waived"),
                    )
                },
            },
            "tool": {"name": "compressor", "version": compressor.__version__},
            "versions": _versions(),
            "settings": _settings(self.config),
            "targets": self._targets,
            "files": [self._files[path] for path in sorted(self._files)],
            "findings": self._findings,
            "checks": checks,
            "models": self._models,
        }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _settings(config: GateConfig) -> dict[str, Any]:
    """What decided the result, as plain data."""
    accuracy, base = config.accuracy, config.base
    return {
        "config": config.source or None,
        "years": list(config.years),
        "rules": list(config.rules),
        "convention": config.convention,
        "input_shape": list(config.input_shape) if config.input_shape else None,
        "allow_partial": config.allow_partial,
        "tolerance": config.tolerance,
        "rows": config.rows,
        "limits": dict(config.limits),
        "levels": dict(config.levels),
        "accuracy": None
        if accuracy is None
        else {"file": accuracy.file, "floor": accuracy.floor, "column": accuracy.column or None},
        "base": None
        if base is None
        else {
            "file": base.file,
            "growth": {figure: growth.shown for figure, growth in base.growth.items()},
        },
    }
