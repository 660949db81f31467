"""`compressor report`: build the report of finished runs again from their stored results."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from compressor.errors import UsageError

__all__ = ["report"]


class Format(StrEnum):
    """What `compressor report` can write."""

    html = "html"
    markdown = "markdown"


SUFFIX = {Format.html: "report.html", Format.markdown: "report.md"}


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders (each with a results.json), or results.json files."),
    ],
    output_format: Annotated[
        Format, typer.Option("--format", help="A page, or tables in Markdown.")
    ] = Format.html,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where to write; '-' is standard output. Default: report.html in each run folder; "
            "Markdown goes to standard output.",
        ),
    ] = None,
) -> None:
    """Build reports from stored results; nothing is measured again.

    Examples:
      compressor report runs/first
      compressor report runs/first --format markdown > docs/results/first.md
      compressor report runs/* --format html
    """
    from reports.record import read

    if out is not None and str(out) != "-" and len(runs) > 1:
        raise UsageError(
            f"--out {out} names one file, but there are {len(runs)} runs; leave --out away, so "
            "that each run folder gets its own report"
        )
    records = [read(run) for run in runs]  # all are read before anything is written
    to_stdout = str(out) == "-" if out is not None else output_format is Format.markdown
    for run, results in zip(runs, records, strict=True):
        if to_stdout:
            print(_text(results, output_format), end="")
            continue
        folder = run if run.is_dir() else run.parent
        path = out if out is not None else folder / SUFFIX[output_format]
        try:
            _write(results, output_format, path)
        except OSError as error:
            raise UsageError(
                f"cannot write {path}: {error.strerror}; name another place with --out"
            ) from error
        print(path)


def _text(results: dict[str, object], output_format: Format) -> str:
    if output_format is Format.markdown:
        from reports import markdown

        return markdown.render(results)
    from reports import sweep_page

    return sweep_page.render(results)


def _write(results: dict[str, object], output_format: Format, path: Path) -> None:
    from reports.files import write_text

    write_text(path, _text(results, output_format))
