"""`compressor submission new`: the skeleton of a package, its figures measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from compressor.errors import UsageError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Submission packages of the challenge."""


@app.command("new")
def new(
    label: Annotated[str, typer.Argument(help="Label, as Lastname_INST_task1_1.")],
    *,
    year: Annotated[int, typer.Option(help="Challenge year, 2020 to 2025.")],
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The model: audited for the figures, and copied in."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where task1/ is made.")] = Path(),
) -> None:
    """Write a package skeleton: meta.yaml filled from an audit, and the output files' header.

    What must be written by hand holds TODO; compressor gate lists it with its lines. Nothing that
    is there already is overwritten.

    Example: compressor submission new --year 2023 Doe_INST_task1_1 --model model.onnx
    """
    from compressor.audit.submission.forms import form_for
    from compressor.audit.submission.labels import label_problems
    from compressor.audit.submission.package import MODEL_SUFFIXES
    from compressor.audit.submission.template import header_row, meta_text

    form = form_for(year)
    for problem in label_problems(label, form, ""):
        raise UsageError(f"{problem.message}; {problem.fix}")
    folder = out / "task1" / label
    if folder.exists():
        raise UsageError(f"{folder} is there already and stays as it is; choose another number")
    result = None
    if model is not None:
        from compressor.audit import audit

        result = audit(model)
        if model.suffix.lower() not in MODEL_SUFFIXES:
            known = ", ".join(sorted(MODEL_SUFFIXES))
            raise UsageError(f"--model {model}: name it with the suffix of its format ({known})")
    texts = {f"{label}.meta.yaml": meta_text(label, form, result)}
    texts |= {f"{label}.{end}": header_row(form) for end in form.outputs}
    try:
        folder.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        if model is not None:
            shutil.copyfile(model, folder / f"{label}.model{model.suffix.lower()}")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
    print(folder)
