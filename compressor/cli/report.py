"""`compressor report`: build the report of finished runs again from their stored results."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.errors import UsageError

__all__ = ["report"]


class Format(StrEnum):
    """What `compressor report` can write."""

    html = "html"
    markdown = "markdown"
    latex = "latex"
    png = "png"
    svg = "svg"


SUFFIX = {Format.html: "report.html"}
PICTURES = (Format.png, Format.svg)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders (each with a results.json), results.json files, or what "
            "audit --format json and gate --format json wrote."
        ),
    ],
    output_format: Annotated[
        Format,
        typer.Option("--format", help="A page; tables in Markdown or LaTeX; charts as PNG or SVG."),
    ] = Format.html,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where to write; '-' is standard output. Default: report.html in each run folder, "
            "charts in its folder figures; tables go to standard output. One --out for several "
            "sweeps puts them side by side in one page.",
        ),
    ] = None,
    static: Annotated[
        bool,
        typer.Option("--static", help="Leave the chart runtime out of the page: 0.2 for 0.7 MB."),
    ] = False,
) -> None:
    """Build reports from stored results; nothing is measured again.

    Examples:
      compressor report runs/first
      compressor report runs/first runs/second --out compare.html
      compressor report runs/first --format markdown > docs/results/first.md
      compressor report runs/first --format latex > tables.tex
      compressor report runs/first --format svg --out figures
    """
    from reports.stored import read_any

    records = [read_any(run) for run in runs]  # all are read before anything is written
    for run, (kind, _) in zip(runs, records, strict=True):
        if kind in ("audit", "gate") and output_format is not Format.html:
            raise UsageError(
                f"{run} is the record of {'an' if kind == 'audit' else 'a'} {kind}: "
                f"--format {output_format} is for sweeps and reproductions; take --format html"
            )
    if static and output_format is not Format.html:
        raise UsageError(f"--static is for pages; --format {output_format} has no runtime")
    if output_format in PICTURES:
        _pictures(runs, records, output_format, out)
        return
    if out is not None and str(out) != "-" and len(runs) > 1:
        _side_by_side(runs, records, output_format, out, static=static)
        return
    to_stdout = str(out) == "-" if out is not None else output_format is not Format.html
    for run, (kind, record) in zip(runs, records, strict=True):
        text = _text(kind, record, output_format, static=static)
        if to_stdout:
            print(text, end="")
            continue
        folder = run if run.is_dir() else run.parent
        _write(text, out if out is not None else folder / _name(run, output_format))


def _name(run: Path, output_format: Format) -> str:
    """Name of a page beside its record: report.html, or that of an audit's or gate's file."""
    if run.is_dir() or run.name == "results.json":
        return SUFFIX[output_format]
    return f"{run.stem}.html"


def _text(kind: Any, record: dict[str, Any], output_format: Format, *, static: bool) -> str:
    if output_format is Format.markdown:
        if kind == "reproduction":
            from reports.reproduction_files import markdown as reproduction

            return reproduction(record)
        from reports import markdown

        return markdown.render(record)
    if output_format is Format.latex:
        from reports import latex

        return latex.render(record)
    from reports.stored import page_of

    return page_of(kind, record, static=static)


def _side_by_side(
    runs: list[Path],
    records: list[tuple[Any, dict[str, Any]]],
    output_format: Format,
    out: Path,
    *,
    static: bool,
) -> None:
    """Several sweeps in one page."""
    others = [str(run) for run, (kind, _) in zip(runs, records, strict=True) if kind != "sweep"]
    if others or output_format is not Format.html:
        what = (
            f"{others[0]} is no sweep" if others else f"--format {output_format} has no such page"
        )
        raise UsageError(
            f"--out {out} names one file, but there are {len(runs)} runs: only sweeps stand side "
            f"by side in one page, and {what}; leave --out away, so that each gets its own report"
        )
    from reports.compare_page import render_runs

    named = [(str(run), record) for run, (_, record) in zip(runs, records, strict=True)]
    _write(render_runs(named, static=static), out)


def _pictures(
    runs: list[Path],
    records: list[tuple[Any, dict[str, Any]]],
    output_format: Format,
    out: Path | None,
) -> None:
    """Every chart of each record as a file."""
    from reports.figure_files import write_figures

    if out is not None and (str(out) == "-" or len(runs) > 1):
        raise UsageError(
            f"--out {out}: charts are several files; name a folder, and one run at a time"
        )
    for run, (_, record) in zip(runs, records, strict=True):
        folder = out or (run if run.is_dir() else run.parent) / "figures"
        try:
            for path in write_figures(record, folder, "svg" if output_format == "svg" else "png"):
                print(path)
        except OSError as error:
            raise UsageError(
                f"cannot write {folder}: {error.strerror}; name another folder with --out"
            ) from error


def _write(text: str, path: Path) -> None:
    from reports.files import write_text

    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}; name another place with --out"
        ) from error
    print(path)
