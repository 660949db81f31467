"""`compressor zoo`: what networks there are, and what is known and measured of each.

The published figures come from the registry, the measured ones from the auditor, on the network as
it is built now. Standard output carries the table or the JSON.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import typer

from compressor.cli import names

if TYPE_CHECKING:
    from rich.table import Table

    from zoo import ModelEntry, Reported

__all__ = ["app"]

app = typer.Typer(help="The networks: list them, show one.", no_args_is_help=True)


class Format(enum.StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"


FORMAT = typer.Option(Format.TABLE, "--format", "-f", help="Table for people, or JSON.")


def measure(
    entry: ModelEntry,
    *,
    num_classes: int | None = None,
    frames: int | None = None,
    mels: int | None = None,
) -> dict[str, Any]:
    """Build a network and count it at batch size 1.

    Args:
        entry: record of the network.
        num_classes: classes, default as published.
        frames: segment length in frames, default as published.
        mels: mel bands, default as published.

    Returns:
        Arguments that differ from the published; input shape without the batch axis; parameters;
        bytes in float32 and float16; MACs under the strict convention and as the official counter
        (NeSsi, torchinfo) counts them; the peak of the activations in bytes; and how certain the
        count is.

    Raises:
        ShapeError: the network cannot take that size.
    """
    from compressor.audit import audit

    shape = entry.shape(frames=frames, mels=mels)
    sizes = {"num_classes": num_classes, "frames": frames, "mels": mels}
    arguments = {key: value for key, value in sizes.items() if value is not None}
    module = entry.builder(**arguments)
    result = audit(module.eval(), input_shape=(1, *shape))
    return {
        "arguments": arguments,
        "input_shape": list(shape),
        "params": result.params,
        "bytes_float32": 4 * result.params,
        "bytes_float16": 2 * result.params,
        "macs": result.macs,
        "macs_official": result.macs_by_convention["nessi"],
        "peak_activation_bytes": result.peak_activation_bytes,
        "status": result.status,
    }


def record(entry: ModelEntry, measured: dict[str, Any]) -> dict[str, Any]:
    """Everything about a network as plain data for JSON."""
    import inspect
    from dataclasses import asdict

    arguments = {
        name: list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        for name, parameter in inspect.signature(entry.builder).parameters.items()
    }
    facts = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(entry).items()
        if key != "builder"
    }
    return {**facts, "arguments": arguments, "measured": measured}


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _headline(entry: ModelEntry, quantity: str) -> Reported | None:
    """The published figure for the whole unpruned network: the plain one, or its first variant."""
    plain = [f for f in entry.reported if f.quantity == quantity]
    variants = [
        f
        for f in entry.reported
        if f.quantity.startswith(f"{quantity}, ")
        and not any(word in f.quantity for word in ("device", "prune", "submitted"))
    ]
    return next(iter(plain + variants), None)


def _value(figure: Reported | None, unit: bool = True) -> str:
    if figure is None:
        return "-"
    number = f"{figure.value:,}" if isinstance(figure.value, (int, float)) else figure.value
    if not unit and isinstance(figure.value, float) and figure.unit == "MMACs":
        number = f"{figure.value:,.2f}"  # beside measured millions of the same precision
    return f"{number} {figure.unit}".rstrip() if unit else number


def _millions(value: int | None) -> str:
    return "unknown" if value is None else f"{value / 1e6:,.2f}"


#: Columns of the list that are left away where the terminal is narrow, the first of them first.
SPARE = ("certainty", "year", "input", "strict", "log loss*", "params*", "MACs*", "acc. %*")
AIR = 2  # columns of the screen around each of them: its padding, and the box's divider or edge
WORDS = ("network", "input", "certainty")  # set flush left


def _list_table(rows: list[tuple[ModelEntry, dict[str, Any]]], width: int) -> Table:
    """The list with as many columns as fit; what was left away is said below it."""
    cells = [_list_cells(entry, measured) for entry, measured in rows]
    names = list(cells[0])
    wide = {name: AIR + max(len(name), *(len(row[name]) for row in cells)) for name in names}
    gone: list[str] = []
    for name in SPARE:
        if sum(size for each, size in wide.items() if each not in gone) <= width:
            break
        gone.append(name)

    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    kept = [name for name in names if name not in gone]
    notes = ["MACs in millions as the official counter counts"]
    notes += [] if "strict" in gone else ["strict leaves biases and BatchNorm out"]
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=f"{'; '.join(notes)}. * published.\n"
        + (f"Not enough room for {', '.join(gone)}. " if gone else "")
        + "All figures: compressor zoo show NAME",
        caption_justify="left",
    )
    for name in kept:
        table.add_column(name, no_wrap=True, justify="left" if name in WORDS else "right")
    for row in cells:
        table.add_row(*(row[name] for name in kept))
    return table


def _list_cells(entry: ModelEntry, measured: dict[str, Any]) -> dict[str, str]:
    """A network's row by column."""
    quantities = {"params*": "parameters", "MACs*": "MACs", "acc. %*": "accuracy"}
    quantities["log loss*"] = "log loss"
    return {
        "network": entry.name,
        "year": str(entry.year),
        "input": "×".join(map(str, entry.input_shape)),
        "params": _count(measured["params"]),
        "MACs": _millions(measured["macs_official"]),
        "strict": _millions(measured["macs"]),
        **{
            column: _value(_headline(entry, quantity), unit=False)
            for column, quantity in quantities.items()
        },
        "certainty": entry.status,
    }


MEASURED = (  # key of the measurement, its label, the published quantity it answers to
    ("params", "parameters", "parameters"),
    ("bytes_float32", "bytes, float32", "size, float32"),
    ("bytes_float16", "bytes, float16", "size, float16"),
    ("macs_official", "MACs, official counter", "MACs"),
    ("macs", "MACs, strict", ""),
    ("peak_activation_bytes", "peak activation bytes, float32", ""),
)


def _show_tables(entry: ModelEntry, measured: dict[str, Any]) -> list[Table]:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    facts = Table(
        title=f"{entry.name}: {entry.title}", show_header=False, title_justify="left", box=None
    )
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    axes = "channel × mel band × frame" if entry.layout == "CFT" else "channel × frame × mel band"
    default_shape = "×".join(map(str, entry.input_shape))
    for key, value in (
        ("paper", entry.paper),
        ("task", f"{entry.task}, {entry.num_classes} classes"),
        ("input", f"{default_shape} ({axes})"),
        ("segment", f"{entry.segment_s:g} s"),
        ("front-end", entry.front_end),
        ("certainty", entry.status),
        *(("open or contradicted", text) for text in entry.contradictions),
    ):
        facts.add_row(key, Text(value))

    as_published = not measured["arguments"]
    shape = "×".join(map(str, measured["input_shape"]))
    figures = Table(title=f"Measured at {shape}", title_justify="left", box=SIMPLE_HEAD)
    figures.add_column("figure")
    figures.add_column("measured", justify="right")
    figures.add_column("published", justify="right")
    figures.add_column("source")
    rest = list(entry.reported)
    for key, label, quantity in MEASURED:
        figure = _headline(entry, quantity) if as_published and quantity else None
        if figure is None:
            figures.add_row(label, _count(measured[key]), "", "")
            continue
        rest.remove(figure)
        variant = figure.quantity.removeprefix(quantity)
        source = f"{figure.source}{variant and f' ({variant[2:]})'}"
        figures.add_row(label, _count(measured[key]), _value(figure), source)
    for figure in rest:
        figures.add_row(figure.quantity, "", _value(figure), figure.source)
    return [facts, figures]


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))


@app.command("list")
def list_(output: Format = FORMAT) -> None:
    """List all networks, measured beside published figures.

    Examples:
      compressor zoo list
      compressor zoo list --format json
    """
    import zoo
    from compressor.cli import console

    rows = []
    with console.progress("counting", len(zoo.list_models())) as bar:
        for name in zoo.list_models():
            entry = zoo.entry(name)
            rows.append((entry, measure(entry)))
            bar.advance(name)
    if output is Format.JSON:
        _print_json({"schema": 1, "models": [record(e, measured) for e, measured in rows]})
    else:
        screen = console.stdout()
        screen.print(_list_table(rows, screen.width))


@app.command()
def show(
    name: str = typer.Argument(
        help="Name of the network, as in `zoo list`.", autocompletion=names.models
    ),
    classes: int | None = typer.Option(None, min=1, help="Count it for this many classes."),
    frames: int | None = typer.Option(None, min=1, help="Count it for this many frames."),
    mels: int | None = typer.Option(None, min=1, help="Count it for this many mel bands."),
    output: Format = FORMAT,
) -> None:
    """Show one network: paper, sizes, what the paper leaves open, measured beside published.

    Examples:
      compressor zoo show seresnet18
      compressor zoo show seresnet18 --frames 51
    """
    import zoo
    from compressor.cli import console

    entry = zoo.entry(name)
    measured = measure(entry, num_classes=classes, frames=frames, mels=mels)
    if output is Format.JSON:
        _print_json({"schema": 1, **record(entry, measured)})
    else:
        screen = console.stdout()
        for table in _show_tables(entry, measured):
            screen.print(table)
