"""`compressor gate`: pass or fail, for CI: models and submission packages against every rule."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressor.errors import ConfigError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from datetime import date

    from compressor.gate.config import GateConfig

__all__ = ["gate"]


def gate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH...",
            help="Model files, folders of model files, or submission packages (a label folder, a "
            "task1 folder, a zip). Default: paths of the settings.",
        ),
    ] = None,
    *,
    year: Annotated[
        str | None, typer.Option(help="Rules of 2020 to 2025, or all; wins over the settings.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Settings. Default: [gate] in compressor.toml or [tool.compressor.gate] in "
            "pyproject.toml, here or above.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The model of a package that does not hold it."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="text, json, markdown, github, junit or html. Default: text."
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Write the report there, in --format or that of the suffix (.txt, .json, .md, "
            ".xml, .html); may be given several times. The terminal then shows text.",
        ),
    ] = None,
    allow_partial: Annotated[
        bool,
        typer.Option("--allow-partial", help="Figures that are only partly measured may pass."),
    ] = False,
    today: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="The day waivers are held against."),
    ] = None,
    init: Annotated[
        bool, typer.Option("--init", help="Write a commented compressor.toml and stop.")
    ] = False,
) -> None:
    """Gate models and submission packages: every problem at once, with file, line and fix.

    Exit code: 0 pass, 1 a check failed, 2 usage or settings, 3 could not be measured.

    Examples:
      compressor gate model.onnx --year 2024
      compressor gate submission.zip --year 2023 --output gate.html --output gate.xml
      compressor gate --init
    """
    if init:
        _init(config or Path("compressor.toml"))
        return
    from compressor.gate.run import gate as run

    chosen = _formats(form, output or [])
    settings = _settings(config, year, allow_partial=allow_partial)
    record = run(paths or [], settings, model=model, today=_day(today))
    _report(record, form or "text", chosen)
    raise typer.Exit(record["exit_code"])


def _settings(config: Path | None, year: str | None, *, allow_partial: bool) -> GateConfig:
    from dataclasses import replace

    from compressor.audit.rules import years
    from compressor.gate.config import find_config, load_config

    found = config or find_config(Path.cwd())
    if config is None and found is not None:
        try:  # a short name in the report, the same from every machine
            found = found.relative_to(Path.cwd())
        except ValueError:
            found = Path(os.path.relpath(found))
    settings = load_config(found)
    if year is not None:
        if year != "all" and year not in map(str, years()):
            raise UnknownNameError("challenge year", year, ["all", *map(str, years())])
        settings = replace(settings, years=years() if year == "all" else (int(year),))
    return replace(settings, allow_partial=True) if allow_partial else settings


def _day(text: str | None) -> date | None:
    from datetime import date

    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--today {text!r}: expected a day, as 2026-01-31") from None


def _formats(form: str | None, outputs: list[Path]) -> dict[Path, str]:
    """Which format goes into which file; checked before anything is measured."""
    from reports.gate_formats import FORMATS, suffix_format

    if form is not None and form not in FORMATS:
        raise UnknownNameError("output format", form, FORMATS)
    if form is not None and len(outputs) > 1:
        raise UsageError(
            f"--format {form} with {len(outputs)} output files: leave it out, the suffixes tell"
        )
    return {path: form or suffix_format(path.suffixes) for path in outputs}


def _report(record: Mapping[str, Any], form: str, outputs: Mapping[Path, str]) -> None:
    """Files, terminal, and what a GitHub job shows."""
    from compressor.cli.text import screen_width
    from reports.files import write_text
    from reports.gate_formats import render

    for path, file_form in outputs.items():
        try:
            write_text(path, render(record, file_form))
        except OSError as error:
            raise UsageError(
                f"cannot write {path}: {error.strerror}; name another place with --output"
            ) from error
    shown = "text" if outputs else form
    sys.stdout.write(render(record, shown, screen_width()))
    sys.stdout.flush()
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        _append(Path(summary), render(record, "markdown"))
    if os.environ.get("GITHUB_ACTIONS") == "true" and shown != "github":
        # both streams are read for commands; standard output may carry JSON or XML
        sys.stderr.write(render(record, "github"))


def _append(path: Path, text: str) -> None:
    """The job's summary is a courtesy: where it cannot be written the verdict still stands."""
    try:
        with path.open("a", encoding="utf-8", errors="replace") as stream:
            stream.write(text + "\n")
    except OSError as error:
        print(f"the job's summary cannot be written: {error.strerror}", file=sys.stderr)


def _init(path: Path) -> None:
    import compressor.gate

    template = Path(compressor.gate.__file__).with_name("template.toml")
    if path.name == "pyproject.toml":
        raise ConfigError(
            "--init writes a file of its own; copy its tables into pyproject.toml as "
            "[tool.compressor.gate]"
        )
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(template.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"{path} is there already and stays as it is; edit it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    print(path)
