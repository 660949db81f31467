"""`compressor compare`: two or more sweeps, or two or more models, side by side in one page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from compressor.errors import UsageError

__all__ = ["compare"]


def compare(
    sides: Annotated[
        list[Path],
        typer.Argument(
            metavar="SIDE SIDE...",
            help="Run folders of sweeps (or their results.json), or model files; the first is what "
            "the others are held against.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The page; '-' is standard output.")] = Path(
        "compare.html"
    ),
    static: Annotated[
        bool, typer.Option("--static", help="Leave the chart runtime out of the page.")
    ] = False,
) -> None:
    """Compare sweeps, or models, in one page: figures, curves, layers.

    Nothing is executed; models are audited as `compressor audit` does. Exit code: 0 done, 2 usage,
    3 a model could not be measured (the page says which).

    Examples:
      compressor compare runs/slimming runs/l1 --out methods.html
      compressor compare dense.pt pruned.pt pruned-int8.onnx
    """
    if len(sides) < 2:
        raise UsageError(f"one side was named ({sides[0]}): name two or more to compare")
    for side in sides:
        if not side.exists():
            raise UsageError(f"{side} cannot be read: No such file or directory")
    runs = [side.is_dir() or side.suffix == ".json" for side in sides]
    if all(runs):
        from reports.compare_page import render_runs
        from reports.record import read

        text, code = render_runs([(str(s), read(s)) for s in sides], static=static), 0
    elif any(runs):
        run = sides[runs.index(True)]
        model = sides[runs.index(False)]
        raise UsageError(
            f"{run} is a run and {model} a model file: compare runs with runs, models with models"
        )
    else:
        text, code = _models(sides, static=static)
    if str(out) == "-":
        print(text, end="")
    else:
        from reports.files import write_text

        try:
            print(write_text(out, text))
        except OSError as error:
            raise UsageError(
                f"cannot write {out}: {error.strerror}; name another place with --out"
            ) from error
    raise typer.Exit(code)


def _models(files: list[Path], *, static: bool) -> tuple[str, int]:
    """The page of several models, and 3 where one of them could not be measured."""
    from compressor.audit.report_record import document
    from compressor.cli.audit_run import Request, outcomes, read_rules
    from compressor.cli.text import printable
    from reports.compare_page import render_models

    rules, binding = read_rules(None, [])
    done = list(outcomes(files, Request(rules=rules, binding=binding)))
    for one in done:
        if one.error is not None:
            print(printable(f"error: {one.error}"), file=sys.stderr)
    page = render_models(document([one.record() for one in done]), static=static)
    return page, 3 if any(one.error is not None for one in done) else 0
