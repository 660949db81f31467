"""The gate's one call: paths and settings in, one record out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from compressor.audit.submission.forms import Form, form_for
from compressor.audit.submission.labels import parse_label
from compressor.audit.submission.package import MODEL_SUFFIXES, is_package, open_package
from compressor.audit.submission.problems import Problem
from compressor.errors import ModelFileError, UsageError
from compressor.gate.config import GateConfig
from compressor.gate.model import ModelGate
from compressor.gate.package import gate_package
from compressor.gate.record import Recorder

__all__ = ["gate"]

MAX_MODELS = 1_000


def gate(
    paths: Sequence[Path],
    config: GateConfig,
    *,
    model: Path | None = None,
    today: date | None = None,
) -> dict[str, Any]:
    """Gates model files, folders of model files and submission packages.

    Args:
        paths: at least one; those of the settings where empty.
        config: the settings.
        model: the model file of a package of one system that does not hold it.
        today: the day that waivers are held against; None for the machine's.

    Returns:
        The record: see `docs/gate.md` and `reports/schemas/gate-1.json`.

    Raises:
        UsageError: nothing to gate, or no year and no limits to hold it against.
        ConfigError: a rule file that cannot be read.
    """
    from compressor.audit.rules import load_rules, rules_for

    found = list(paths) or list(_configured(config))
    if not found:
        raise UsageError("gate: nothing to look at; name a model file, a folder or a package")
    packages = {path: _is_package(path) for path in found}
    if model is not None and not any(packages.values()):
        raise UsageError(f"--model {model}: only a submission package has its model elsewhere")
    form = None
    if any(packages.values()):
        form = _form(config, [path for path in found if packages[path]])
        if not config.years:
            config = replace(config, years=(form.year,))
    elif not (config.years or config.rules or config.limits or config.accuracy or config.base):
        raise UsageError(
            "gate: there is no limit to hold the model against; give --year (2020 to 2025), or "
            "settings (compressor gate --init writes a file)"
        )
    recorder = Recorder(config, today or date.today())
    rules = [rules_for(year) for year in config.years]
    rules += [load_rules(config.folder / name) for name in config.rules]
    models = ModelGate(recorder, rules)
    for path in found:
        if packages[path]:
            assert form is not None
            _package(path, form, models, model)
        else:
            _models(path, models)
    return recorder.record()


def _configured(config: GateConfig) -> Iterator[Path]:
    """The settings' own paths; a pattern that finds nothing is an error, not an empty pass."""
    for pattern in config.paths:
        if not any(mark in pattern for mark in "*?["):
            yield config.folder / pattern
            continue
        try:
            matched = sorted(config.folder.glob(pattern))
        except (ValueError, NotImplementedError) as error:
            raise UsageError(f"{config.source}: paths {pattern!r}: {error}") from error
        if not matched:
            raise UsageError(f"{config.source}: paths {pattern!r} finds no file")
        yield from matched


def _is_package(path: Path) -> bool:
    try:
        return is_package(path)
    except (ModelFileError, OSError, ValueError):
        return False  # the reader of model files says what is wrong with it


def _form(config: GateConfig, packages: Sequence[Path]) -> Form:
    """The form of the packages' year: as set, or as their labels tell (task1a and task1b do)."""
    if len(config.years) == 1:
        return form_for(config.years[0])
    if config.years:
        years = ", ".join(map(str, config.years))
        raise UsageError(f"a submission package belongs to one year, found {years}: give --year")
    told = set()
    for path in packages:
        try:
            with open_package(path) as package:
                for system in package.systems:
                    label = parse_label(system.label)
                    told.add({"task1b": 2020, "task1a": 2021}.get(label.task if label else ""))
        except ModelFileError:
            told.add(None)
    if len(told) == 1 and (year := told.pop()) is not None:
        return form_for(year)
    raise UsageError(
        "which year is the package of? Its label does not tell: give --year (2022 to 2025), or "
        "year in the settings"
    )


def _package(path: Path, form: Form, models: ModelGate, model: Path | None) -> None:
    try:
        gate_package(path, form, models, model)
    except ModelFileError as error:
        shown = path.as_posix()
        problem = Problem("package-layout", shown, str(error), "make the package anew")
        models.recorder.target(shown, "package", year=form.year, evidence=form.evidence, labels=[])
        models.recorder.problem(problem, unmeasured=True)


def _models(path: Path, models: ModelGate) -> None:
    """A model file, or every model file in a folder."""
    recorder = models.recorder
    files = [path]
    if path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in MODEL_SUFFIXES and file.is_file() and not file.is_symlink()
        )
        if not files:
            kinds = ", ".join(sorted(MODEL_SUFFIXES))
            raise UsageError(f"{path}: no model file ({kinds}) and no submission package in it")
        if len(files) > MAX_MODELS:
            raise UsageError(f"{path}: {len(files):,} model files, at most {MAX_MODELS:,}")
    for file in files:
        shown = file.as_posix()
        recorder.target(shown, "model")
        result = models.measure(file, shown)
        if result is None:
            continue
        models.check(result, shown, file, (file.name, file.stem))
