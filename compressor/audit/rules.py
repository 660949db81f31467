"""The low-complexity rules of each challenge year, read from `rules/*.toml`; a user's own too."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from compressor.audit.conventions import CONVENTIONS
from compressor.audit.rules_ranking import Criterion, read_criteria
from compressor.errors import ConfigError, UnknownNameError

__all__ = ["EVIDENCE", "Limit", "Metric", "Rules", "load_rules", "rules_for", "years"]

Metric = Literal[
    "nonzero_bytes",
    "params",
    "nonzero_params",
    "param_bytes",
    "macs",
    "peak_activation_bytes",
    "number_type",
]
UNITS: Mapping[str, str] = {
    "nonzero_bytes": "B",
    "params": "parameters",
    "nonzero_params": "parameters",
    "param_bytes": "B",
    "macs": "MACs",
    "peak_activation_bytes": "B",
    "number_type": "",
}
EVIDENCE = {
    "V": "read in an organiser's page or code",
    "S": "quoted by a third party",
    "I": "inferred or recomputed",
    "N": "not to be had",
}
MAX_FILE_BYTES = 1 << 20  # a rule file is a page of text


@dataclass(frozen=True)
class Limit:
    """One limit of a year.

    Attributes:
        name: as the rules call it; metric: which figure is compared; unit: of value and limit.
        convention: who counts (a key of `conventions.CONVENTIONS`).
        max: the largest value allowed; None for a number type.
        max_strictest: a smaller limit in conflicting sources; between the two "it depends".
        also_convention: a second way to count that sources disagree about.
        only: the number type allowed, for the metric `number_type`.
        evidence: V, S, I or N; note: what is counted, in words.
    """

    name: str
    metric: Metric
    convention: str
    unit: str
    evidence: str
    max: int | None = None
    max_strictest: int | None = None
    also_convention: str = ""
    only: str = ""
    note: str = ""

    @property
    def strictest(self) -> int:
        """The largest value that passes under every reading of the limit; 0 for a number type."""
        largest = self.max or 0
        return largest if self.max_strictest is None else min(largest, self.max_strictest)


@dataclass(frozen=True)
class Rules:
    """The rules of one year, or a user's own.

    Attributes:
        year: of the challenge; 0 for rules that name none.
        task: title in words.
        segment_s: seconds of audio that one inference sees; None where the rules do not say.
        classes: number of classes; evaluation_files: rows of an output file; 0 where not said.
        official_counter: who counts, in words.
        number_type: "free" or the type that is fixed, with its evidence mark.
        ranked_by: what decides the ranking, in words, with its evidence mark.
        ranking: the same as columns, directions and weights; empty where the rules do not say.
        limits: what is checked.
        label: short name for tables: the year, or the name of the rule file.
    """

    year: int
    task: str
    segment_s: float | None
    classes: int
    official_counter: str
    ranked_by: str
    ranked_by_evidence: str
    limits: tuple[Limit, ...]
    evaluation_files: int = 0
    number_type: str = "free"
    number_type_evidence: str = "V"
    ranking: tuple[Criterion, ...] = ()
    label: str = ""


_FOLDER = Path(__file__).with_name("rules")
_KEYS: Mapping[str, type] = {
    "year": int,
    "task": str,
    "segment_s": float,
    "classes": int,
    "evaluation_files": int,
    "official_counter": str,
    "number_type": str,
    "number_type_evidence": str,
    "ranked_by": str,
    "ranked_by_evidence": str,
}
_LIMIT_KEYS: Mapping[str, type] = {
    "name": str,
    "metric": str,
    "convention": str,
    "unit": str,
    "evidence": str,
    "max": int,
    "max_strictest": int,
    "also_convention": str,
    "only": str,
    "note": str,
}


def years() -> tuple[int, ...]:
    """Returns the years that have rules, oldest first."""
    return tuple(sorted(int(path.stem) for path in _FOLDER.glob("[0-9]*.toml")))


@cache
def rules_for(year: int) -> Rules:
    """Returns the rules of a year.

    Raises:
        UnknownNameError: no rules for that year.
    """
    if year not in years():
        raise UnknownNameError("challenge year", str(year), map(str, years()))
    return load_rules(_FOLDER / f"{year}.toml")


def load_rules(path: Path) -> Rules:
    """Reads a rule file; `docs/rules.md` lists every key.

    Raises:
        ConfigError: not TOML, a missing, unknown or mistyped key; the message names it.
    """
    table = _read(path)
    limits, ranking = table.pop("limit", []), table.pop("ranking", [])
    if "title" in table:
        if "task" in table:
            raise ConfigError(f"{path.name}: 'title' and 'task' are the same key: give one of them")
        table["task"] = table.pop("title")
    if not isinstance(limits, list) or not limits:
        raise ConfigError(f"{path.name}: no [[limit]] table, expected at least one")
    _check(path.name, table, _KEYS, required={"task"})
    for key in ("number_type_evidence", "ranked_by_evidence"):
        _check_evidence(f"{path.name}: {key}", table.get(key, "V"))
    if (segment := table.setdefault("segment_s", None)) is not None and not 0 < segment < 1e6:
        raise ConfigError(f"{path.name}: segment_s = {segment!r} must be above 0 seconds")
    defaults: dict[str, Any] = {
        "year": 0,
        "classes": 0,
        "official_counter": "",
        "ranked_by": "",
        "ranked_by_evidence": "V",
    }
    read = tuple(_limit(path.name, limit) for limit in limits)
    names = [limit.name for limit in read]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path.name}: two limits are called {name!r}; rename one of them")
    year = table.get("year", 0)
    return Rules(
        **(defaults | table),
        limits=read,
        ranking=read_criteria(path.name, ranking),
        label=str(year) if year else path.stem,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"{path.name}: more than {MAX_FILE_BYTES:,} B, not a rule file")
        return tomllib.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{path.name}: cannot be read as TOML: {reason}") from error


def _limit(file: str, table: object) -> Limit:
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: limit must be written as [[limit]] tables")
    _check(file, table, _LIMIT_KEYS, required={"name", "metric"})
    where = f"{file}: limit {table['name']!r}"
    if table["metric"] not in get_args(Metric):
        allowed = ", ".join(get_args(Metric))
        raise ConfigError(f"{where}: metric {table['metric']!r}, allowed {allowed}")
    defaults = {"convention": "strict", "unit": UNITS[table["metric"]], "evidence": "V"}
    values: dict[str, Any] = defaults | table
    limit = Limit(**values)
    for convention in (limit.convention, limit.also_convention or "strict"):
        if convention not in CONVENTIONS:
            raise ConfigError(
                f"{where}: convention {convention!r}, allowed {', '.join(CONVENTIONS)}"
            )
    _check_evidence(f"{where}: evidence", limit.evidence)
    if limit.metric == "number_type":
        if not limit.only or limit.max is not None:
            raise ConfigError(
                f'{where}: a number type needs `only`, as only = "int8", and no `max`'
            )
    elif limit.max is None or limit.only:
        raise ConfigError(f"{where}: give `max` for a figure, `only` for a number type")
    for key in ("max", "max_strictest"):
        if (value := getattr(limit, key)) is not None and value < 0:
            raise ConfigError(f"{where}: {key} = {value} must not be below 0")
    if limit.max_strictest is not None and limit.max_strictest > (limit.max or 0):
        raise ConfigError(
            f"{where}: max_strictest = {limit.max_strictest} must not be above max = {limit.max}"
        )
    return limit


def _check_evidence(where: str, mark: str) -> None:
    if mark not in EVIDENCE:
        raise ConfigError(f"{where} {mark!r}, allowed {', '.join(EVIDENCE)}")


def _check(file: str, table: dict[str, Any], kinds: Mapping[str, type], required: set[str]) -> None:
    if missing := sorted(required - table.keys()):
        raise ConfigError(f"{file}: {missing[0]!r} is missing")
    for key, value in table.items():
        if key not in kinds:
            raise ConfigError(f"{file}: unknown key {key!r}, allowed {', '.join(kinds)}")
        if kinds[key] is float and type(value) is int:
            table[key] = float(value)
        elif type(value) is not kinds[key]:
            raise ConfigError(f"{file}: {key} = {value!r} must be of type {kinds[key].__name__}")
