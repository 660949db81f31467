"""`compressor recipe`: the training recipes of the papers: list, show, copy, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from compressor.errors import UsageError

if TYPE_CHECKING:
    from compressor.reproduce.recipe import TrainingRecipe

__all__ = ["app", "set_option"]

app = typer.Typer(
    help="Training recipes: how a paper's network is made (for `compress --recipe`, the steps that "
    "make a network smaller, see `compressor compress --help`).",
    no_args_is_help=True,
)

FAILED = 1  # exit code: a budget does not hold

Name = Annotated[
    str, typer.Argument(metavar="NAME[:VARIANT]", help="Recipe, or the path of a .toml file.")
]
Format = Annotated[Literal["text", "json"], typer.Option("--format", help="For people, or JSON.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Change a value of the recipe, such as training.epochs=20.",
    ),
]
set_option = Set


@app.command("list")
def list_(output: Format = "text") -> None:
    """List the recipes and their variants.

    Examples:
      compressor recipe list
      compressor recipe list --format json
    """
    from compressor.cli.text import columns, screen_width, wrapped
    from compressor.reproduce import list_recipes, load_recipe

    recipes = [load_recipe(name) for name in list_recipes()]
    if output == "json":
        shown = [
            {"name": r.name, "title": r.title, "task": r.task, "variants": dict(r.variants)}
            for r in recipes
        ]
        print(json.dumps({"schema": 1, "recipes": shown}, indent=2, ensure_ascii=False))
        return
    rows = [[r.name, r.title, ", ".join(r.variants)] for r in recipes]
    lines, width = (
        columns(["recipe", "what it is", "variants"], rows, left={0, 1, 2}),
        screen_width(),
    )
    if width is not None and max(map(len, lines)) > width:
        lines = [
            line
            for name, title, variants in rows
            for line in wrapped(
                [f"{name}: {title}", *([f"  {variants}"] if variants else [])], width
            )
        ]
    print("\n".join(lines))


@app.command()
def show(name: Name, change: Set = None, output: Format = "text") -> None:
    """Show a recipe as its file has it, with its notes; --set or JSON show it as it would run.

    Examples:
      compressor recipe show scut2023
      compressor recipe show deepsound2021:32 --format json
    """
    from compressor.cli.text import screen_width, wrapped
    from compressor.reproduce import load_recipe
    from compressor.reproduce.load import find_recipe

    recipe = load_recipe(name, change or ())
    if output == "json":
        print(json.dumps(_record(recipe), indent=2, ensure_ascii=False))
        return
    path, variant = find_recipe(name)
    if not (variant or change):
        print(path.read_text(encoding="utf-8"), end="")
        return
    print("\n".join(wrapped(_lines(recipe), screen_width())))


def _record(recipe: TrainingRecipe) -> dict[str, Any]:
    return {
        "schema": 1,
        **recipe.plain(),
        "title": recipe.title,
        "paper": recipe.paper,
        "task": recipe.task,
        "year": recipe.year,
        "data": recipe.data,
        "notes": list(recipe.notes),
        "ablations": {name: line.about for name, line in recipe.ablations.items()},
        "variants": dict(recipe.variants),
    }


def _lines(recipe: TrainingRecipe) -> list[str]:
    """A variant or a changed recipe in words and values; sources stand in the file."""
    about = recipe.variants.get(recipe.variant, "")
    lines = [f"{recipe.id}: {recipe.title}" + (f" ({about})" if about else ""), recipe.paper, ""]
    values = {
        "model": recipe.model,
        **{f"model.args.{key}": value for key, value in recipe.model_args.items()},
        "features": recipe.front_end,
        "crop": "whole clips" if recipe.crop_s is None else f"{recipe.crop_s:g} s",
        "labels": recipe.labels,
        **{f"training.{key}": value for key, value in recipe.training.to_dict().items()},
    }
    width = max(map(len, values))
    lines += [f"{key:<{width}}  {value}" for key, value in values.items()]
    for name, chain in recipe.chains.items():
        lines += ["", f"compression.{name}: {' -> '.join(step.kind for step in chain.steps)}"]
    for name, line in recipe.ablations.items():
        lines += ["", f"ablation.{name}: {line.about}"]
    return [*lines, "", *(f"note: {note}" for note in recipe.notes)]


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="Recipe to begin with.")],
    out: Annotated[Path, typer.Argument(metavar="FILE.toml", help="Where to write the copy.")],
    *,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend", help="Write a short file that builds on the recipe, to change a few values."
        ),
    ] = False,
) -> None:
    """Copy a recipe with its sources, to change it; use it with --recipe FILE.toml.

    Examples:
      compressor recipe copy speakin2021 mine.toml
    """
    from compressor.reproduce import load_recipe
    from compressor.reproduce.load import find_recipe

    recipe = load_recipe(name)
    if out.suffix != ".toml":
        raise UsageError(f"{out} is no .toml file; a recipe's name ends in .toml")
    if out.exists():
        raise UsageError(f"{out} is there already; name another file")
    path, variant = find_recipe(name)
    text = path.read_text(encoding="utf-8")
    if extend:
        text = (
            f"# What differs from {recipe.id}; everything else is as there.\nversion = 1\n"
            f'extends = "{f"{recipe.name}:{variant}" if variant else recipe.name}"\n\n'
            f"[training]\nepochs = {recipe.training.epochs}\n"
        )
    elif variant:
        raise UsageError(
            f"{name} is a variant: copy {recipe.name} with all of them, or add --extend"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    print(out)


@app.command()
def check(name: Name, change: Set = None, output: Format = "text") -> None:
    """Try a recipe in seconds: shapes, one batch of made-up clips, the limits of its year.

    Exit codes: 0 passed, 1 a limit does not hold, 2 a bad value, 3 it cannot be run.

    Examples:
      compressor recipe check pku2022
      compressor recipe check mine.toml
    """
    from compressor import runtime
    from compressor.cli.text import screen_width, wrapped
    from compressor.reproduce import load_recipe

    recipe = load_recipe(name, change or ())
    runtime.tune(threads=runtime.cores())
    from compressor.reproduce.check import Check, check_recipe

    def told(found: Check) -> None:
        if output == "text":
            line = f"{found.status:<4}  {found.name}: {found.text}"
            print("\n".join(wrapped([line], screen_width())), flush=True)

    report = check_recipe(recipe, on_check=told)
    if output == "json":
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    if not report.passed:
        raise typer.Exit(FAILED)
