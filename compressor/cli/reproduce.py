"""`compressor reproduce`: train, compress and evaluate a paper's system, beside the paper."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from compressor.cli import console
from compressor.cli.commands import INTERRUPTED
from compressor.cli.options import Cache
from compressor.cli.recipe import set_option
from compressor.errors import UnknownNameError

__all__ = ["reproduce"]


def reproduce(
    recipe: Annotated[
        str, typer.Argument(metavar="NAME[:VARIANT]", help="Recipe, or the path of a .toml file.")
    ],
    *,
    data: Annotated[
        str | None, typer.Option(help="Data set; default: the embedded synthetic scenes.")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Fold. Default: the data set's own.")] = None,
    seeds: Annotated[
        str, typer.Option(help="Seeds: 0, or 0,1,2, or 0:2 (both ends; 3 is seed 3, not a count).")
    ] = "0",
    budget_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Train N epochs only; the compression's epochs shrink alike."
        ),
    ] = None,
    change: set_option = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also run each of the recipe's ablation lines.")
    ] = False,
    line: Annotated[
        list[str] | None,
        typer.Option("--line", metavar="NAME", help="Run this ablation line; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; default runs/RECIPE-DATA. Started again, it goes on where it was."
        ),
    ] = None,
    cache: Cache = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="torch threads; default: one a core.")
    ] = None,
    output: Annotated[
        Literal["text", "json", "csv", "markdown"],
        typer.Option("--format", help="What standard output carries; the run folder has them all."),
    ] = "text",
) -> None:
    """Train, compress, audit and evaluate a recipe; print the paper's table with ours beside it.

    The run folder gets results.json and, made from it, results.csv, table.md and report.html.

    Examples:
      compressor reproduce speakin2021 --budget-epochs 2
      compressor reproduce scut2023:model1 --data DIR --seeds 0:2 --budget-epochs 30 --ablation
    """
    from compressor import runtime
    from compressor.reproduce import load_recipe
    from compressor.sweep.plan import parse_integers

    found = load_recipe(recipe, change or ())
    lines = tuple(found.ablations) if ablation else tuple(dict.fromkeys(line or ()))
    for name in lines:
        if name not in found.ablations:
            raise UnknownNameError(f"ablation line of {found.name}", name, found.ablations)
    numbers = parse_integers(seeds, "--seeds")
    runtime.tune(threads=threads or runtime.cores())
    from compressor.reproduce.run import Reproduction
    from compressor.reproduce.run import reproduce as run
    from reports.reproduction_files import csv_text, markdown, write_all

    spec = None if data in (None, "synthetic") else data
    folder = out or Path("runs") / f"{found.id.replace(':', '-')}-{_short(spec)}"
    plan = Reproduction(
        recipe=found,
        out=folder,
        data=spec,
        fold=fold,
        seeds=tuple(numbers),
        budget_epochs=budget_epochs,
        ablations=lines,
        cache=cache,
        command=("compressor", *sys.argv[1:]),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # CI ends jobs with it: end in order
    try:
        record = run(plan, console)  # the module is a `Watch`
    except KeyboardInterrupt:
        console.note(f"interrupted; what is finished is kept: the same command goes on in {folder}")
        raise typer.Exit(INTERRUPTED) from None
    page = write_all(record, folder)
    if output == "json":
        print(json.dumps(record, indent=2, ensure_ascii=False))
    elif output == "csv":
        print(csv_text(record), end="")
    elif output == "markdown":
        print(markdown(record), end="")
    else:
        from compressor.cli.reproduce_text import reproduction_lines
        from compressor.cli.text import screen_width

        print("\n".join(reproduction_lines(record, screen_width())))
        print(page)


def _short(data: str | None) -> str:
    """Name of a data set in the run folder's name."""
    return "synthetic" if data is None else Path(data).name.replace(":", "-") or "data"
