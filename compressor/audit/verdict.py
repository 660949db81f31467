"""Does it pass? One verdict a year, with the margin and what would make it pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from compressor.audit.fixes import fixes_for
from compressor.audit.records import AuditResult
from compressor.audit.rules import Rules, rules_for
from compressor.audit.rules import years as rule_years
from compressor.audit.verdict_checks import Check, VerdictStatus, check_limit
from compressor.errors import UnknownNameError

__all__ = ["Check", "Verdict", "VerdictStatus", "verdict_for", "verdicts"]

_ORDER: dict[VerdictStatus, int] = {"pass": 0, "depends": 1, "unknown": 2, "fail": 3}


@dataclass(frozen=True)
class Verdict:
    """All limits of one year, or of a user's own rules.

    Attributes:
        year: of the rules; 0 where they name none.
        task: title of the rules.
        status: the worst check.
        checks: one a limit.
        fixes: what would make it pass, computed.
        label: short name for tables: the year, or the name of the rule file.
    """

    year: int
    task: str
    status: VerdictStatus
    checks: tuple[Check, ...]
    fixes: tuple[str, ...] = ()
    label: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-able Python."""
        return {
            "year": self.year,
            "label": self.label or str(self.year),
            "task": self.task,
            "status": self.status,
            "checks": [check.to_dict() for check in self.checks],
            "fixes": list(self.fixes),
        }


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
    try:
        return int(year)
    except ValueError:
        raise UnknownNameError(
            "challenge year", str(year), ["all", *map(str, rule_years())]
        ) from None


def verdict_for(result: AuditResult, rules: Rules) -> Verdict:
    """Compares a result with the rules of one year (or with a user's own)."""
    checks = tuple(check_limit(result, limit, rules.segment_s) for limit in rules.limits)
    status = max((check.status for check in checks), key=_ORDER.__getitem__)
    fixes = tuple(
        dict.fromkeys(  # two limits may ask for the same change
            fix
            for limit, check in zip(rules.limits, checks, strict=True)
            if check.status in {"fail", "depends"}
            for fix in fixes_for(result, limit)
        )
    )
    return Verdict(rules.year, rules.task, status, checks, fixes, rules.label)
