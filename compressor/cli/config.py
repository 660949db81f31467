"""`compressor config show`: the value of every option, and where it comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from compressor.cli import names
from compressor.cli.commands import Command, Group
from compressor.errors import UnknownNameError

__all__ = ["app"]

app = typer.Typer(help="Settings: show each value and its source.", cls=Group)
DEFAULT = "default"


@app.callback()
def _config() -> None:
    """Settings: show each value and its source."""


@app.command(cls=Command)
def show(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND...",
            help="Show all options of this command, as sweep, or zoo list.",
            autocompletion=names.commands,
        ),
    ] = None,
    *,
    output: Annotated[
        Literal["text", "json"], typer.Option("--format", help="What to print.")
    ] = "text",
) -> None:
    """Show the settings: what is set in pyproject.toml, and each option of a command.

    Values of the command line win over [tool.compressor.COMMAND], that over [tool.compressor], that
    over the defaults. Without a command only what is set is shown.

    Examples:
      compressor config show
      compressor config show sweep
      compressor config show sweep --format json
    """
    from compressor.cli.settings import commands_of, read_settings

    settings = read_settings()
    every = {" ".join(path): each for path, each in commands_of(context.find_root().command)}
    wanted = " ".join(command or [])
    if wanted and wanted not in every:
        raise UnknownNameError("command", wanted, every)
    settings.check_top(every)
    rows = [
        row
        for name, each in every.items()
        if wanted in ("", name)
        for row in _rows(name, each, settings, everything=bool(wanted))
    ]
    if output == "json":
        import json

        file = None if settings.file is None else str(settings.file)
        record = {"schema": 1, "file": file, "settings": rows}
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return
    from compressor.cli.text import screen_width, wrapped

    print("\n".join(wrapped(_text(settings, rows, named=bool(wanted)), screen_width())))


def _rows(name: str, command: Any, settings: Any, *, everything: bool) -> list[dict[str, Any]]:
    from compressor.cli.settings import key, options_of

    given = settings.of(tuple(name.split()), command)
    return [
        {
            "command": name,
            "option": key(param),
            "value": given[param.name].value if param.name in given else _default(param),
            "source": given[param.name].source if param.name in given else DEFAULT,
        }
        for param in options_of(command)
        if everything or param.name in given
    ]


def _default(param: Any) -> Any:
    """The default of a parameter as plain JSON."""
    value = None if param.required or callable(param.default) else param.default
    if isinstance(value, (list, tuple)):
        return [str(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _text(settings: Any, rows: list[dict[str, Any]], *, named: bool) -> list[str]:
    from compressor.cli.text import fitted, screen_width

    if settings.file is None:
        lines = [
            "no settings file: neither [tool.compressor] in a pyproject.toml nor a "
            "compressor.toml, here or above"
        ]
    else:
        lines = [f"settings: {settings.file}"]
    if "gate" in settings.table:
        lines.append("the table of the gate is read by compressor gate itself (docs/gate.md)")
    if not rows:
        if settings.file is not None:
            lines.append("no option of a command is set in it")
        return lines
    header = ["option", "value", "source"] if named else ["command", "option", "value", "source"]
    cells = [
        [
            *([] if named else [row["command"]]),
            row["option"],
            _shown(row["value"]),
            row["source"],
        ]
        for row in rows
    ]
    left = set(range(len(header)))
    return [*lines, "", *fitted(header, cells, left, screen_width(), [])]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) if isinstance(value, list) else str(value) or "-"
