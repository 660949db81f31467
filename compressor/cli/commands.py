"""What every command has in common: `-q` and `-v`, examples in its help, and plain errors.

The examples of a command stand in its docstring after "Example:" or "Examples:", one a line; the
help shows them as they were written.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from compressor.cli import console
from compressor.cli.text import printable

__all__ = ["INTERRUPTED", "CodeCommand", "Command", "Group", "examples_of", "show_usage_error"]

_EXAMPLES = re.compile(r"^Examples?:[ \t]*", re.MULTILINE)
INTERRUPTED = 130  # exit code: 128 + SIGINT, as shells have it


def examples_of(text: str) -> tuple[str, list[str]]:
    """Splits a docstring into what it says and its examples.

    Args:
        text: a docstring.

    Returns:
        The text before the examples, and each example's command line.
    """
    text = inspect.cleandoc(text)
    found = _EXAMPLES.search(text)
    if found is None:
        return text, []
    lines = (line.strip() for line in text[found.end() :].splitlines())
    return text[: found.start()].rstrip(), [line for line in lines if line]


def _quiet(value: bool) -> bool:
    if value:
        console.set_level(-1)
    return value


def _verbose(value: bool) -> bool:
    if value:
        console.set_level(1)
    return value


@functools.cache  # one pair for all commands: options hold no state
def talk_options() -> tuple[Any, ...]:
    """`-q` and `-v` for one command; they set the level of `console` and reach no function."""

    def template(
        quiet: bool = typer.Option(
            False, "--quiet", "-q", callback=_quiet, help="No progress and no notes; errors only."
        ),
        verbose: bool = typer.Option(
            False, "--verbose", "-v", callback=_verbose, help="Say more: settings, tracebacks."
        ),
    ) -> None:
        """Only its options are used."""

    single = typer.Typer(add_completion=False)
    single.command()(template)
    made = typer.main.get_command(single).params
    options = tuple(option for option in made if option.name in ("quiet", "verbose"))
    for option in options:
        option.expose_value = False
    return options


class Command(TyperCommand):
    """A command with the options of all commands and its examples."""

    examples: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Args: as typer's own."""
        text, self.examples = examples_of(kwargs.get("help") or "")
        kwargs["help"] = text or None
        super().__init__(*args, **kwargs)
        self.params.extend(talk_options())

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the help, then the examples."""
        super().format_help(ctx, formatter)
        if not self.examples:
            return
        if self.rich_markup_mode is None:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {example}\n" for example in self.examples))
            return
        from rich.panel import Panel
        from rich.text import Text

        lines = Text("\n".join(self.examples), overflow="fold")
        console.stdout().print(
            Panel(lines, title="Examples", title_align="left", border_style="dim")
        )

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; an interrupt ends it in order."""
        _say_settings(ctx)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("interrupted; finished results are kept", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


def _say_settings(ctx: Any) -> None:
    """With `-v`, what the settings file decided."""
    if not console.verbose():
        return
    for param in ctx.command.params:
        source = ctx.get_parameter_source(param.name)
        if source is not None and source.name == "DEFAULT_MAP":
            console.note(f"from the settings file: {param.opts[0]} {ctx.params.get(param.name)}")


class CodeCommand(Command):
    """A command that rebuilds the network of a model file, perhaps one of the user's own code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Args: as typer's own."""
        super().__init__(*args, **kwargs)
        self.params[-len(talk_options()) :] = (code_option(), *talk_options())


def _allow(name: str | None) -> str | None:
    if name:
        import zoo

        zoo.allow(name)
    return name


@functools.cache
def code_option() -> Any:
    """`--model` of commands that take a model file: permits its network's own code to run."""

    def template(
        own_network: str | None = typer.Option(
            None,
            "--model",
            metavar="NAME",
            callback=_allow,
            help="The file's network, where it is your own: package.module:function. Its code is "
            "run only when you name it.",
        ),
    ) -> None:
        """Only its option is used."""

    single = typer.Typer(add_completion=False)
    single.command()(template)
    (option,) = (p for p in typer.main.get_command(single).params if p.name == "own_network")
    option.expose_value = False
    return option


class Group(TyperGroup):
    """A group of commands: help on standard output when no command is named, exit code 2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments before the command's name."""
        if not args and not ctx.resilient_parsing:
            text = ctx.get_help()
            if text.strip():
                print(text)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)


def show_usage_error(error: typer.TyperException) -> None:
    """One line for a mistake on the command line, with what was probably meant, and where to look.

    Args:
        error: as typer's parser raised it.
    """
    text = error.format_message().rstrip(".").replace("Value error, ", "")
    text = re.sub(r" \(Possible options: .*\)$", "", text)  # in the order of the alphabet
    text = re.sub(r"\. Did you mean (.*)\?$", r"; did you mean \1?", text)
    if "; did you mean" not in text:
        text += _closest(error)
    if text:
        text = text[0].lower() + text[1:]
    print(printable(f"error: {' '.join(text.split())}"), file=sys.stderr)
    ctx = getattr(error, "ctx", None)
    if ctx is not None:
        print(f"see {ctx.command_path} --help", file=sys.stderr)


def _closest(error: typer.TyperException) -> str:
    """Close matches for a wrong choice or option, the closest first."""
    found = re.search(r"'([^']*)' is not one of (.*)", error.format_message())
    if found:
        return _hint(found[1], re.findall(r"'([^']*)'", found[2]))
    given, ctx = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if isinstance(given, str) and ctx is not None:
        return _hint(
            given, ["--help", *(name for param in ctx.command.params for name in param.opts)]
        )
    return ""


def _hint(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given, known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else ""
