"""`compressor audit`: what model files hold and cost, and whether they pass each year's rules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressor.cli import names
from compressor.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from compressor.cli.audit_run import Outcome, Request

FORMATS = ("text", "json", "html")


def audit(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...",
            help="Model files (.pt, .pt2, .onnx, .tflite, .safetensors, .h5, .keras; told by their "
            "content, never executed) and folders of them; module:factory with --allow-code.",
        ),
    ] = None,
    *,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="1,1,256,65",
            help="Count on this input, batch axis first; repeat it (or use ;) for several inputs.",
        ),
    ] = None,
    live: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Audit a network as it is built, before any training: a name of the zoo, or your "
            "own package.module:function.",
            autocompletion=names.models,
        ),
    ] = None,
    year: Annotated[
        str | None,
        typer.Option(
            help="Rules to check: 2020 to 2025; all (the default) is for information.",
            autocompletion=names.years,
        ),
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MY.toml", help="A rule file of your own.", autocompletion=names.rules
        ),
    ] = None,
    convention: Annotated[
        str, typer.Option(help="Convention of the layer table: strict or nessi (official).")
    ] = "strict",
    arch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Network of bare weights: a zoo name, or module:factory.",
            autocompletion=names.models,
        ),
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code",
            "--run",
            help="Run TorchScript and module:factory, in a child process with limits.",
        ),
    ] = False,
    compare: Annotated[
        str, typer.Option(metavar="BASE", help="Compare each file with this model.")
    ] = "",
    accuracy: Annotated[
        float | None, typer.Option(help="Accuracy of the model, in the unit of --against.")
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="SYSTEMS.csv", help="Place the model among these systems.")
    ] = "",
    output: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "text",
    layers: Annotated[bool, typer.Option("--layers", help="Show the layer table.")] = False,
) -> None:
    """Audit model files: parameters, bytes, MACs, memory and the verdict of each year.

    Exit code: 0 pass, 1 a budget of --year or --rules failed or is in doubt, 2 usage, 3 not
    measurable.

    Examples:
      compressor audit model.pt --year 2023 --layers
      compressor audit before.onnx after.onnx --compare before.onnx
      compressor audit --model mypackage.networks:build --input-shape 1,1,40,51
    """
    from compressor.audit import CONVENTIONS
    from compressor.audit.discover import find_models
    from compressor.cli.audit_inputs import parse_shapes
    from compressor.cli.audit_run import Request, outcomes, read_rules
    from compressor.cli.text import nearby, printable

    if output not in FORMATS:
        raise UnknownNameError("output format", output, FORMATS)
    if convention not in CONVENTIONS:
        raise UnknownNameError("counting convention", convention, CONVENTIONS)
    wanted, binding = read_rules(year, rules or [])
    request = Request(
        rules=wanted,
        binding=binding,
        convention=convention,
        shapes=parse_shapes(input_shape or []),
        arch=arch,
        run=allow_code,
        base=compare,
    )
    if not files and live is None:
        raise UsageError("name a model file or a folder of them, or a network with --model")
    found = find_models(map(Path, files or []))
    targets: list[str | Path] = [*found.files] if live is None else [live, *found.files]
    if accuracy is not None or against:
        request = _placing(request, accuracy, against, len(targets))
    done: list[Outcome] = []
    for outcome in outcomes(targets, request, live=live):
        if outcome.error is not None:
            said = _located(outcome, alone=len(targets) == 1)
            _say(f"error: {said}{nearby(said, [outcome.file])}")
        if output == "text":
            print("\n".join(map(printable, _text(outcome, request, layers, first=not done))))
        done.append(outcome)
    if found.skipped or found.links:
        links = f"; {found.links:,} links to folders not followed" if found.links else ""
        _say(f"{found.skipped:,} other files in folders skipped{links}")
    if output != "text":
        print(_document(done, output), end="")
    elif len(done) > 1:
        print(f"\n{_summary(done, binding=bool(binding))}")
    raise typer.Exit(max(outcome.exit_code for outcome in done))


def _document(done: list[Outcome], output: str) -> str:
    """The record of all files as JSON, or as a page."""
    from compressor.audit.report_record import document, dumps

    record = document([outcome.record() for outcome in done])
    if output == "json":
        return dumps(record) + "\n"
    from reports.audit_page import render

    return render(record)


def _placing(request: Request, accuracy: float | None, against: str, files: int) -> Request:
    """Reads the table that a model is placed in."""
    from dataclasses import replace

    from compressor.audit.systems import read_table
    from compressor.cli.audit_run import ranking_of

    if accuracy is None or not against:
        raise UsageError("--accuracy and --against belong together: give both or neither")
    if not 0 <= accuracy <= 100:
        raise UsageError(f"--accuracy {accuracy:g}: expected 0 to 1, or 0 to 100 percent")
    if files != 1:
        raise UsageError(f"--accuracy is that of one model, {files} were named: name one file")
    ranking = ranking_of(request.rules)
    table = read_table(Path(against), ranking.ranking)
    return replace(request, accuracy=accuracy, table=table, ranking=ranking)


def _text(outcome: Outcome, request: Request, layers: bool, *, first: bool) -> Iterator[str]:
    from compressor.cli.audit_text import audit_lines, error_lines, screen_width, wrapped

    width = screen_width()
    if not first:
        yield ""
    if outcome.result is None:
        yield from error_lines(outcome.file)
        return
    yield from audit_lines(
        outcome.file, outcome.result, outcome.verdicts, layers=layers, width=width
    )
    if outcome.standing is not None and request.table is not None:
        from compressor.cli.rank_text import standing_lines

        yield ""
        yield from wrapped(standing_lines(outcome.standing, request.table), width)
    if outcome.comparison is not None:
        from compressor.cli.compare_text import comparison_lines

        yield ""
        yield from comparison_lines(outcome.base, outcome.comparison)


def _located(outcome: Outcome, *, alone: bool) -> str:
    """The message of a file's error, with the whole path where there are several files."""
    message = str(outcome.error)
    name = f"{Path(outcome.file).name}: "
    return (
        message
        if alone or not message.startswith(name)
        else (f"{outcome.file}: {message.removeprefix(name)}")
    )


def _summary(done: list[Outcome], *, binding: bool) -> str:
    """How many files came out how; without a binding rule, how many could be measured."""
    words = {0: "pass" if binding else "measured", 1: "over a budget or in doubt"}
    codes = [min(outcome.exit_code, 2) for outcome in done]  # 2 and 3: no result
    counts = [
        f"{codes.count(code):,} {words.get(code, 'not measured')}" for code in sorted(set(codes))
    ]
    return f"{len(done):,} files: {', '.join(counts)}"


def _say(text: str) -> None:
    from compressor.cli.text import printable

    print(printable(text), file=sys.stderr)
