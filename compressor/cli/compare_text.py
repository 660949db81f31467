"""How a comparison with a base model is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compressor.cli.text import columns, printable

if TYPE_CHECKING:
    from compressor.audit.compare import Change, Comparison

__all__ = ["comparison_lines"]

MAX_NAME = 26  # characters of a layer's name: the figures then fit 80 columns
MARKS = {"added": "+ ", "removed": "- "}


def comparison_lines(base: str, comparison: Comparison) -> Iterator[str]:
    """Totals, then what changed in each layer; layers that did not change are counted only.

    Args:
        base: name of the base model's file.
        comparison: of the two audits.
    """
    yield f"compared with {printable(base)}"
    header = ["", "old", "new", "change", "%"]
    rows = [[name, *_cells(change)] for name, change in comparison.totals.items()]
    yield from columns(header, rows, left={0})
    changed = [layer for layer in comparison.layers if layer.state != "same"]
    same = len(comparison.layers) - len(changed)
    yield ""
    if not changed:
        yield f"no layer changed ({same:,} layers)"
        return
    rows = []
    for layer in changed:
        figures = {n: c for n, c in layer.figures.items() if c.change and n != "MACs official"}
        if figures.get("non-zero") == figures.get("parameters"):
            figures.pop("non-zero", None)  # no zeros before or after: it says nothing new
        name = f"{MARKS.get(layer.state, '')}{_name(layer.name)}"
        for index, (figure, change) in enumerate(figures.items() or [("", None)]):
            cells = ["", "", "", ""] if change is None else _cells(change)
            rows.append([name if index == 0 else "", figure, *cells])
    yield from columns(["layer", "figure", *header[1:]], rows, left={0, 1})
    marked = [state for state in MARKS if comparison.names(state)]
    if marked:
        yield "; ".join(f"{MARKS[state].strip()} {state}" for state in marked)
    if same:
        yield f"{same:,} layers are the same"


def _cells(change: Change) -> list[str]:
    figures = ["unknown" if value is None else f"{value:,}" for value in (change.old, change.new)]
    moved = "" if change.change is None else f"{change.change:+,}" if change.change else "0"
    percent = "" if change.percent is None else f"{change.percent:+.1f} %"
    return [*figures, moved, percent if change.change else ""]


def _name(name: str) -> str:
    shown = printable(name) or "(model)"
    return shown if len(shown) <= MAX_NAME else f"…{shown[1 - MAX_NAME :]}"
