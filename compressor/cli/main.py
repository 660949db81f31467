"""The `compressor` command: gathers the command groups and turns errors into exit codes.

Nothing heavy is imported here: each command imports what it needs when it runs, so that
`compressor --help` stays under 0.3 s of CPU time.
"""

from __future__ import annotations

import sys

import typer

import compressor
from compressor.cli import (
    audit,
    bench,
    compare,
    compress,
    export,
    gate,
    predict,
    rank,
    recipe,
    report,
    reproduce,
    submission,
    sweep,
    train,
    zoo,
)
from compressor.errors import CompressorError

app = typer.Typer(
    name="compressor",
    help="Model compression and complexity audit for low-complexity acoustic scene classification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        print(f"compressor {compressor.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Model compression and complexity audit for low-complexity acoustic scene classification."""


app.command("audit")(audit.audit)
app.command("gate")(gate.gate)
app.command("rank")(rank.rank)
app.add_typer(submission.app, name="submission", help="Submission packages: write a skeleton.")
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("train")(train.train)
app.add_typer(recipe.app, name="recipe", help="Training recipes: list, show, copy, check.")
app.command("reproduce")(reproduce.reproduce)
for name, command in compress.COMMANDS:
    app.command(name)(command)
app.command("export")(export.export)
app.command("bench")(bench.bench)
app.command("predict")(predict.predict)
app.add_typer(zoo.app, name="zoo", help="The networks: list them, show one.")


def main() -> None:
    """Run the command line; errors of the project become one line and their exit code."""
    try:
        app()
    except CompressorError as error:
        from compressor.cli.text import printable

        print(printable(f"error: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; finished results are kept", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `compressor ... | head`: the reader has gone, that is no error
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
