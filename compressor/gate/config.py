"""Settings of the gate: `[gate]` in compressor.toml or `[tool.compressor.gate]` in pyproject.toml.

Every key is checked; an unknown one is answered with the closest that exists. Paths in the file are
taken from the folder of the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from compressor.errors import ConfigError, UnknownNameError
from compressor.gate.checks import CHECKS, LEVELS, Level

__all__ = ["Accuracy", "Base", "GateConfig", "Growth", "Waiver", "find_config", "load_config"]

MAX_CONFIG_BYTES = 1 << 20
CONFIG_FILE, PROJECT_FILE = "compressor.toml", "pyproject.toml"

# own limit -> the figure of the audit it is about
LIMITS: Mapping[str, str] = {
    "max_bytes": "param_bytes",
    "max_file_bytes": "file_bytes",
    "max_params": "params",
    "max_nonzero_params": "nonzero_params",
    "max_macs": "macs",
    "max_peak_activation_bytes": "peak_activation_bytes",
}
GROWTHS: Mapping[str, str] = {
    "max_growth_bytes": "param_bytes",
    "max_growth_params": "params",
    "max_growth_macs": "macs",
}


@dataclass(frozen=True, slots=True)
class Growth:
    """How much a figure may grow: a share of the base's, or a number of units."""

    amount: float
    percent: bool

    @property
    def shown(self) -> str:
        """As the user wrote it."""
        return f"{self.amount:g} %" if self.percent else f"{self.amount:,.0f}"


@dataclass(frozen=True, slots=True)
class Base:
    """The model to compare with, and what may grow by how much (by figure of the audit)."""

    file: str
    growth: Mapping[str, Growth]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy floor: results file, smallest value allowed, column, and row (its name)."""

    file: str
    floor: float
    column: str = ""
    row: str = ""


@dataclass(frozen=True, slots=True)
class Waiver:
    """A check that may fail until a day (that day included), for one file pattern or all."""

    id: str
    reason: str
    expires: date
    file: str = ""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """All settings; the defaults are those without a configuration file.

    Attributes:
        source: the file they came from, "" for none; folder: where its paths are taken from.
        paths: what is gated when the command names nothing.
        years: challenge years; empty where only own limits count.
        rules: own rule files.
        convention: whose MACs own limits and growth are about: "strict" or "nessi".
        allow_partial: whether a figure that was only partly measured may pass.
        model: where a package's model is when it is not inside; `{label}` stands for its label.
        input_shape: of the model, where its file leaves it open.
        rows: recordings in the evaluation set; None for the year's.
        tolerance: relative difference allowed between declared and measured figures.
        max_findings: problems of one kind in one file that are shown in full (0: all).
        limits: own limits by key of `LIMITS`; levels: by check id.
    """

    source: str = ""
    folder: Path = field(default_factory=Path)
    paths: tuple[str, ...] = ()
    years: tuple[int, ...] = ()
    rules: tuple[str, ...] = ()
    convention: str = "strict"
    allow_partial: bool = False
    model: str = ""
    input_shape: tuple[int, ...] | None = None
    rows: int | None = None
    tolerance: float = 0.0
    max_findings: int = 10
    limits: Mapping[str, int] = field(default_factory=dict)
    levels: Mapping[str, Level] = field(default_factory=dict)
    accuracy: Accuracy | None = None
    base: Base | None = None
    waivers: tuple[Waiver, ...] = ()

    def level(self, check: str) -> Level:
        """The level of a check."""
        return self.levels.get(check, CHECKS[check].level)


def find_config(start: Path) -> Path | None:
    """Finds the settings nearest to a folder, upwards to the top of the repository.

    In one folder compressor.toml wins over pyproject.toml; a pyproject.toml without the table does
    not count.
    """
    here = start.absolute()
    for folder in (here, *here.parents):
        own = folder / CONFIG_FILE
        if own.is_file():
            return own
        project = folder / PROJECT_FILE
        if project.is_file() and _table(project, _read(project)) is not None:
            return project
        if (folder / ".git").exists():
            return None
    return None


def load_config(path: Path | None) -> GateConfig:
    """Reads the settings.

    Args:
        path: a compressor.toml, a pyproject.toml or any other TOML file with a [gate] table; None
            for the defaults.

    Raises:
        ConfigError: the file cannot be read, has no such table, or holds a bad key or value.
        UnknownNameError: an unknown key, check id or level; names the closest.
    """
    if path is None:
        return GateConfig()
    table = _table(path, _read(path))
    if table is None:
        wanted = "[tool.compressor.gate]" if path.name == PROJECT_FILE else "[gate]"
        raise ConfigError(
            f"{path}: there is no {wanted} table; compressor gate --init writes a file that has one"
        )
    return _Reader(path).config(table)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES:,} B; name a settings file")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error


def _table(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    keys = ("tool", "compressor", "gate") if path.name == PROJECT_FILE else ("gate",)
    found: Any = content
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


class _Reader:
    """Turns the table into a `GateConfig`; every message begins with the file and the key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prefix = "tool.compressor.gate" if path.name == PROJECT_FILE else "gate"

    def wrong(self, key: str, value: object, allowed: str) -> ConfigError:
        return ConfigError(f"{self.path}: {self.prefix}.{key} = {value!r}, allowed: {allowed}")

    def known(self, table: Mapping[str, Any], allowed: Iterable[str], where: str = "") -> None:
        for key in table:
            if key not in set(allowed):
                table_name = f"{self.prefix}.{where}" if where else self.prefix
                raise UnknownNameError(f"key of {table_name} in {self.path}:", key, allowed)

    def config(self, table: Mapping[str, Any]) -> GateConfig:
        keys = (
            *("paths", "year", "rules", "convention", "allow_partial", "model", "input_shape"),
            *("rows", "tolerance", "max_findings", "limits", "levels", "accuracy", "base"),
            "waivers",
        )
        self.known(table, keys)
        made = GateConfig(
            source=self.path.as_posix(),
            folder=self.path.parent,
            paths=self.texts(table, "paths"),
            years=self.years(table.get("year", [])),
            rules=self.texts(table, "rules"),
            convention=self.one_of(table, "convention", ("strict", "nessi"), "strict"),
            allow_partial=self.flag(table, "allow_partial"),
            model=self.text(table, "model"),
            input_shape=self.shape(table.get("input_shape")),
            tolerance=self.number(table, "tolerance", 0.0, most=0.5),
            max_findings=self.whole(table, "max_findings", 10),
            limits=self.limits(self.part(table, "limits")),
            levels=self.levels(self.part(table, "levels")),
            accuracy=self.accuracy(self.part(table, "accuracy")),
            base=self.base(self.part(table, "base")),
            waivers=self.waivers(table.get("waivers", [])),
        )
        if "rows" in table:
            rows = self.whole(table, "rows", 0)
            if rows < 1:
                raise self.wrong("rows", rows, "a whole number of 1 or more")
            made = replace(made, rows=rows)
        return made

    # -- single values ----------------------------------------------------------------------------

    def text(self, table: Mapping[str, Any], key: str, where: str = "") -> str:
        value = table.get(key, "")
        if not isinstance(value, str) or (key in table and not value.strip()):
            raise self.wrong(where + key, value, "a text")
        return value

    def texts(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
            raise self.wrong(key, value, "a text, or a list of texts")
        return tuple(value)

    def flag(self, table: Mapping[str, Any], key: str) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def whole(self, table: Mapping[str, Any], key: str, default: int, where: str = "") -> int:
        value = table.get(key, default)
        if type(value) is not int or value < 0:
            raise self.wrong(where + key, value, "a whole number of 0 or more")
        return value

    def number(
        self,
        table: Mapping[str, Any],
        key: str,
        default: float,
        *,
        most: float,
        where: str = "",
    ) -> float:
        value = table.get(key, default)
        if type(value) not in {int, float} or not 0.0 <= value <= most:
            raise self.wrong(where + key, value, f"a number of 0 to {most:g}")
        return float(value)

    def one_of(
        self, table: Mapping[str, Any], key: str, allowed: tuple[str, ...], default: str
    ) -> str:
        value = table.get(key, default)
        if value not in allowed:
            raise self.wrong(key, value, ", ".join(allowed))
        return str(value)

    def part(self, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        value = table.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, value, f"a table [{self.prefix}.{key}]")
        return value

    # -- parts ------------------------------------------------------------------------------------

    def years(self, value: object) -> tuple[int, ...]:
        from compressor.audit.rules import years

        if value == "all":
            return years()
        values = value if isinstance(value, list) else [value]
        for year in values:
            if type(year) is not int or year not in years():
                known = ", ".join(map(str, years()))
                raise self.wrong("year", value, f"{known}, a list of them, or 'all'")
        return tuple(dict.fromkeys(values))

    def shape(self, value: object) -> tuple[int, ...] | None:
        if value is None:
            return None
        sizes = value if isinstance(value, list) else []
        if not sizes or not all(type(size) is int and size > 0 for size in sizes):
            raise self.wrong("input_shape", value, "a list of positive sizes, as [1, 1, 40, 51]")
        return tuple(sizes)

    def limits(self, table: Mapping[str, Any]) -> dict[str, int]:
        self.known(table, LIMITS, "limits")
        return {key: self.whole(table, key, 0, "limits.") for key in LIMITS if key in table}

    def levels(self, table: Mapping[str, Any]) -> dict[str, Level]:
        for key, value in table.items():
            if key not in CHECKS:
                raise UnknownNameError(
                    f"check of {self.prefix}.levels in {self.path}:", key, CHECKS
                )
            if value not in LEVELS:
                raise self.wrong(f"levels.{key}", value, ", ".join(LEVELS))
        return dict(table)

    def accuracy(self, table: Mapping[str, Any]) -> Accuracy | None:
        if not table:
            return None
        self.known(table, ("file", "floor", "column", "row"), "accuracy")
        for key in ("file", "floor"):
            if key not in table:
                raise ConfigError(f"{self.path}: {self.prefix}.accuracy.{key} is missing")
        return Accuracy(
            file=self.text(table, "file", "accuracy."),
            floor=self.number(table, "floor", 0.0, most=100.0, where="accuracy."),
            column=self.text(table, "column", "accuracy."),
            row=self.text(table, "row", "accuracy."),
        )

    def base(self, table: Mapping[str, Any]) -> Base | None:
        if not table:
            return None
        self.known(table, ("file", *GROWTHS), "base")
        if "file" not in table:
            raise ConfigError(f"{self.path}: {self.prefix}.base.file is missing")
        growth = {
            figure: self.growth(f"base.{key}", table[key])
            for key, figure in GROWTHS.items()
            if key in table
        }
        if not growth:
            raise ConfigError(
                f"{self.path}: {self.prefix}.base allows any growth; add one of "
                f"{', '.join(GROWTHS)}, as '2 %' or a number"
            )
        return Base(self.text(table, "file", "base."), growth)

    def growth(self, key: str, value: object) -> Growth:
        text = value.strip() if isinstance(value, str) else ""
        if text.endswith("%"):
            try:
                amount = float(text[:-1])
            except ValueError:
                amount = -1.0
            if 0.0 <= amount <= 1e6:
                return Growth(amount, percent=True)
        elif type(value) is int and value >= 0:
            return Growth(float(value), percent=False)
        raise self.wrong(key, value, "a share as '2 %', or a whole number of 0 or more")

    def waivers(self, value: object) -> tuple[Waiver, ...]:
        if not isinstance(value, list):
            raise self.wrong("waivers", value, f"tables [[{self.prefix}.waivers]]")
        return tuple(self.waiver(index, item) for index, item in enumerate(value))

    def waiver(self, index: int, table: object) -> Waiver:
        where = f"waivers[{index}]"
        if not isinstance(table, dict):
            raise self.wrong(where, table, "a table with id, reason and expires")
        self.known(table, ("id", "reason", "expires", "file"), where)
        for key in ("id", "reason", "expires"):
            if key not in table:
                raise ConfigError(
                    f"{self.path}: {self.prefix}.{where}.{key} is missing; a waiver needs id, "
                    "reason and expires"
                )
        name = self.text(table, "id", where + ".")
        if name not in CHECKS:
            raise UnknownNameError(f"check of {self.prefix}.{where} in {self.path}:", name, CHECKS)
        day = table["expires"]
        if isinstance(day, str):
            try:
                day = date.fromisoformat(day)
            except ValueError:
                day = None
        if isinstance(day, datetime) or not isinstance(day, date):
            raise self.wrong(f"{where}.expires", table["expires"], "a day, as 2026-01-31")
        reason = self.text(table, "reason", where + ".")
        return Waiver(name, reason, day, self.text(table, "file", where + "."))
