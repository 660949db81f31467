"""What a run's budget says about its points, from the verdicts that stand in the record.

The engine's audit has judged every point under every year's rules; here the checks of the budget's
year are only gathered over folds and seeds. Where a record has no such verdict, its sizes in
float16 and its official MACs are held against the limits, and the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reports.formats import count, short
from reports.spread import Spread, spread

__all__ = [
    "Budget",
    "BudgetResult",
    "Check",
    "Status",
    "budget_of",
    "dimension",
    "judge",
    "limit_words",
]

Record = Mapping[str, Any]
Status = Literal["pass", "fail", "depends", "unknown"]

_ORDER: tuple[Status, ...] = ("fail", "unknown", "depends", "pass")  # the worst first
_BYTES = ("bytes_float16", "bytes_int8", "bytes_float32")


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits.

    Attributes:
        year: challenge year; None for a budget of the user's own.
        limits: by unit as the record writes it ("B", "MAC", "parameters"), those that are set.
        judged: the record carries verdicts for the year.
        segment_s: seconds of audio that the rules give one inference; None if not recorded.
    """

    year: int | None
    limits: Mapping[str, float]
    judged: bool
    segment_s: float | None = None

    @property
    def words(self) -> str:
        """The limit in words: the 2023 limit (128,000 B, 30 M MACs)."""
        if not self.limits and self.year is None:
            return "no limit"
        parts = ", ".join(limit_words(value, unit) for unit, value in self.limits.items())
        name = f"the {self.year} limit" if self.year else "the budget"
        return f"{name} ({parts})" if parts else name

    @property
    def name(self) -> str:
        """The limit's short name: 2023 limit."""
        return f"{self.year} limit" if self.year else "budget"


@dataclass(frozen=True, slots=True)
class Check:
    """One limit over all runs of a level.

    Attributes:
        name: the rule's name for it.
        limit: the largest value allowed; None where the rule asks for a kind, not for a size.
        asked: the rule in words: at most 128,000 B, only int8.
        value: what was counted, over folds and seeds; None if it could not be counted.
        found: the kind found, where the rule asks for one.
        unit: unit of both.
        status: the worst over the runs.
        key: the record's size that equals the counted value ("bytes_float16"), "" if none does.
        evidence: V read at the organisers', S quoted, I inferred, N not to be had, "" own.
        notes: what the audit had to say, without doubles.
    """

    name: str
    limit: float | None
    asked: str
    value: Spread | None
    found: str
    unit: str
    status: Status
    key: str
    evidence: str
    notes: tuple[str, ...]

    @property
    def margin(self) -> float | None:
        """Room below the limit of the largest run; negative where it is over."""
        if self.value is None or self.limit is None:
            return None
        return self.limit - self.value.high

    @property
    def excess(self) -> float | None:
        """The largest run as a multiple of the limit."""
        if self.value is None or not self.limit:
            return None
        return self.value.high / self.limit


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """Verdict on a level: the worst of its runs, and each limit."""

    status: Status
    checks: tuple[Check, ...]


def limit_words(value: float, unit: str) -> str:
    """A limit as the rules write it: 128,000 B, 30 M MACs, 128,000 parameters."""
    if dimension(unit) == "macs":
        return f"{short(value)} MACs"
    return f"{count(value)} {unit}"


def dimension(unit: str) -> str:
    """What a unit measures: bytes, macs, params, or the unit itself."""
    text = unit.lower()
    if text.startswith("mac"):
        return "macs"
    if text in ("b", "byte", "bytes"):
        return "bytes"
    return "params" if text.startswith("param") else text


def budget_of(run: Record, finished: Sequence[Record]) -> Budget:
    """The budget of a run, with the limits that the audit's rules hold for its year."""
    own = run.get("budget")
    own = own if isinstance(own, Mapping) else {}
    year = own.get("year")
    year = int(year) if isinstance(year, (int, float)) and year else None
    limits: dict[str, float] = {}
    judged = False
    for point in finished:
        verdict = _verdict(point, year)
        for entry in verdict.get("checks", ()) if verdict else ():
            if isinstance(entry.get("limit"), (int, float)):
                judged = True
                limits.setdefault(str(entry.get("unit", "")), float(entry["limit"]))
    if not judged:
        for key, unit in (("bytes", "B"), ("macs", "MAC")):
            if isinstance(own.get(key), (int, float)):
                limits[unit] = float(own[key])
    segment = own.get("segment_s")
    segment = float(segment) if isinstance(segment, (int, float)) and segment else None
    return Budget(year=year, limits=limits, judged=judged, segment_s=segment)


def _verdict(point: Record, year: int | None) -> Record | None:
    verdicts = point.get("verdicts")
    for verdict in verdicts if isinstance(verdicts, Sequence) else ():
        if isinstance(verdict, Mapping) and year is not None and verdict.get("year") == year:
            return verdict
    return None


def judge(points: Sequence[Record], budget: Budget) -> BudgetResult:
    """The worst verdict over the runs of a level, and each check over them."""
    if not points or not budget.limits:
        return BudgetResult("unknown", ())
    if not budget.judged:
        return _own_count(points, budget)
    gathered: dict[str, list[tuple[Record, Record]]] = {}
    statuses: list[Status] = []
    for point in points:
        verdict = _verdict(point, budget.year)
        statuses.append(_status(verdict.get("status") if verdict else None))
        for entry in verdict.get("checks", ()) if verdict else ():
            gathered.setdefault(str(entry.get("name", "")), []).append((point, entry))
    checks = tuple(_check(name, pairs) for name, pairs in gathered.items())
    return BudgetResult(_worst(statuses), checks)


def _check(name: str, pairs: Sequence[tuple[Record, Record]]) -> Check:
    first = pairs[0][1]
    unit, rule = str(first.get("unit", "")), first.get("limit")
    limit = float(rule) if isinstance(rule, (int, float)) else None
    kinds = [str(entry.get("value")) for _, entry in pairs if entry.get("value") is not None]
    notes = [str(entry["note"]) for _, entry in pairs if entry.get("note")]
    return Check(
        name=name,
        limit=limit,
        asked=f"only {rule}" if limit is None else f"at most {limit_words(limit, unit)}",
        value=spread(entry.get("value") for _, entry in pairs),
        found=", ".join(dict.fromkeys(kinds)) if limit is None else "",
        unit=unit,
        status=_worst([_status(entry.get("status")) for _, entry in pairs]),
        key=_counted_key(unit, pairs),
        evidence=str(first.get("evidence") or ""),
        notes=tuple(dict.fromkeys(notes)),
    )


def _counted_key(unit: str, pairs: Sequence[tuple[Record, Record]]) -> str:
    """Which of the record's sizes the rule counted: the one that equals its value in every run."""
    keys = {"bytes": _BYTES, "macs": ("macs_official", "macs"), "params": ("params",)}
    for key in keys.get(dimension(unit), ()):
        if all(
            entry.get("value") is not None and point.get(key) == entry["value"]
            for point, entry in pairs
        ):
            return key
    return ""


def _own_count(points: Sequence[Record], budget: Budget) -> BudgetResult:
    checks = []
    for unit, limit in budget.limits.items():
        key = "bytes_float16" if dimension(unit) == "bytes" else "macs_official"
        value = spread(point.get(key) for point in points)
        status: Status = "unknown"
        if value is not None:
            status = "pass" if value.high <= limit else "fail"
        name = "size" if dimension(unit) == "bytes" else "MACs"
        asked = f"at most {limit_words(limit, unit)}"
        checks.append(Check(name, limit, asked, value, "", unit, status, key, "", ()))
    return BudgetResult(_worst([check.status for check in checks]), tuple(checks))


def _status(value: object) -> Status:
    return next((status for status in _ORDER if status == value), "unknown")


def _worst(statuses: Sequence[Status]) -> Status:
    return min(statuses, key=_ORDER.index, default="unknown")
