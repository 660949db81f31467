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
    config,
    console,
    doctor,
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
from compressor.cli.commands import INTERRUPTED, CodeCommand, Command, Group, show_usage_error
from compressor.errors import CompressorError

INTERNAL = 3  # exit code of a mistake of ours: nothing was measured

app = typer.Typer(
    name="compressor",
    cls=Group,
    help="Model compression and complexity audit for low-complexity acoustic scene classification.",
    pretty_exceptions_enable=False,
    # Boxes and colours for a terminal; in a pipe plain text, which also spares the import of rich.
    rich_markup_mode="rich" if console.fancy(sys.stdout) else None,
)


def _version(value: bool) -> None:
    if value:
        print(f"compressor {compressor.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress and no notes."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say more."),
) -> None:
    """Model compression and complexity audit for low-complexity acoustic scene classification."""
    console.set_level(-1 if quiet else 1 if verbose else 0)
    command = context.invoked_subcommand
    if command in WITHOUT_SETTINGS or "--help" in sys.argv:
        return
    from compressor.cli.settings import commands_of, default_map, read_settings

    settings = read_settings()
    if settings.file is not None and command is not None:
        every = commands_of(context.command)
        settings.check_top({" ".join(path): each for path, each in every})
        context.default_map = default_map(settings, context.command, command)


WITHOUT_SETTINGS = ("config", "doctor")  # they look at the settings file, whatever is wrong with it

app.command("audit", cls=Command)(audit.audit)
app.command("gate", cls=Command)(gate.gate)
app.command("rank", cls=Command)(rank.rank)
app.add_typer(
    submission.app, name="submission", help="Submission packages: write a skeleton.", cls=Group
)
app.command("sweep", cls=Command)(sweep.sweep)
app.command("report", cls=Command)(report.report)
app.command("compare", cls=Command)(compare.compare)
app.command("train", cls=Command)(train.train)
app.add_typer(
    recipe.app, name="recipe", help="Training recipes: list, show, copy, check.", cls=Group
)
app.command("reproduce", cls=Command)(reproduce.reproduce)
for name, command in compress.COMMANDS:
    app.command(name, cls=CodeCommand)(command)
app.command("export", cls=CodeCommand)(export.export)
app.command("bench", cls=Command)(bench.bench)
app.command("predict", cls=CodeCommand)(predict.predict)
app.add_typer(zoo.app, name="zoo", help="The networks: list them, show one.", cls=Group)
app.add_typer(config.app, name="config", help="Settings: show each value and its source.")
app.command("doctor", cls=Command)(doctor.doctor)
for group in app.registered_groups:  # those of other files are made without our class
    assert group.typer_instance is not None
    for each in group.typer_instance.registered_commands:
        each.cls = Command


def main() -> None:
    """Run the command line; every error becomes one line and its exit code, never a traceback."""
    try:
        code = app(standalone_mode=False)
    except CompressorError as error:
        from compressor.cli.text import error_text, nearby

        print(error_text(f"{error}{nearby(str(error), sys.argv[1:])}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        show_usage_error(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `compressor ... | head`: the reader has gone, that is no error
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if console.verbose():
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        _show(
            f"{type(error).__name__}: {first[:300]}; this is a mistake of compressor, not yours: "
            "-v shows where, please report it"
        )
        sys.exit(INTERNAL)
    sys.exit(code if isinstance(code, int) else 0)


def _show(text: str) -> None:
    from compressor.cli.text import printable

    print(printable(f"error: {text}"), file=sys.stderr)


if __name__ == "__main__":
    main()
