"""What `compressor reproduce` prints: how far ours are from the paper's first, then the tables.

In a pipe tables stay whole. On a terminal that is too narrow for them they are laid out anew:
headers over several lines, ours below the paper's, classes by number.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compressor.cli.text import columns, wrapped
from reports.formats import NONE
from reports.tables import Table

__all__ = ["laid_out", "reproduction_lines"]

# name of the paper's column, of ours, of both; our unit
_PAIRS = (
    ("parameters, paper", "parameters", "parameters", ""),
    ("size, paper", "bytes", "size", " B"),
    ("MACs, paper", "MACs, official", "MACs", ""),
    ("accuracy %, paper", "accuracy %", "accuracy %", ""),
    ("log loss, paper", "log loss", "log loss", ""),
)
# What a terminal can do without, in this order; the run folder has it all.
_SPARE = {"paper": ("MACs",), "ablation": ("seeds with less", "stage")}
_ABOUT = "what is different"


def reproduction_lines(record: Mapping[str, Any], width: int | None) -> Iterator[str]:
    """The whole record as text.

    Args:
        record: of a reproduction.
        width: columns of the terminal; None for no limit.
    """
    from reports.reproduce_page import headline
    from reports.reproduction import facts, heading, tables

    yield from wrapped([f"{heading(record)}: {headline(record)}"], width)
    for name, table in tables(record).items():
        yield ""
        yield from wrapped([table.caption], width)
        yield ""
        yield from laid_out(name, table, width)
    yield ""
    yield from wrapped((f"{fact.label}: {fact.text}" for fact in facts(record)), width)


def laid_out(name: str, table: Table, width: int | None) -> Iterator[str]:
    """A table, in another layout where it is too wide.

    Args:
        name: of the table, as `reports.reproduction.tables` has it.
        table: it.
        width: columns of the terminal; None for no limit.
    """
    whole = columns(table.columns, table.rows, left=table.texts)
    if width is None or max(map(len, whole)) <= width:
        yield from whole
        return
    after: list[str] = []
    if name == "paper":
        table = _one_below_the_other(table)
    elif name == "confusion":
        table = _numbered(table)
    elif _ABOUT in table.columns:
        place = table.columns.index(_ABOUT)
        after = [f"{row[0]}: {row[place]}" for row in table.rows]
        table = _without(table, _ABOUT)
    lines = _tall(table)
    for spare in _SPARE.get(name, ()):
        if max(map(len, lines)) <= width:
            break
        table = _without(table, spare)
        lines = _tall(table)
    yield from lines
    if after:
        yield ""
        yield from wrapped(after, width)


def _one_below_the_other(table: Table) -> Table:
    """The paper's figures in a line, ours in the next."""
    at = {title: index for index, title in enumerate(table.columns)}
    pairs = [pair for pair in _PAIRS if pair[0] in at or pair[1] in at]

    def cells(row: Sequence[str], side: int) -> list[str]:
        found = [row[at[pair[side]]] if pair[side] in at else NONE for pair in pairs]
        if side == 0:
            return found
        return [
            text if text == NONE else f"{text}{pair[3]}"
            for text, pair in zip(found, pairs, strict=True)
        ]

    rows: list[tuple[str, ...]] = []
    for row in table.rows:
        system, stage = row[at["system"]], row[at["our stage"]] if "our stage" in at else NONE
        theirs, ours = cells(row, 0), cells(row, 1)
        printed = any(text != NONE for text in theirs)
        if printed:
            rows.append((system, *theirs))
        if any(text != NONE for text in ours):
            rows.append((f"  ours: {stage}" if printed else f"{stage} (ours)", *ours))
        elif not printed:
            rows.append((system, *ours))
    header = ("system", *(pair[2] for pair in pairs))
    return Table(table.caption, header, tuple(rows))


def _numbered(table: Table) -> Table:
    """A confusion whose columns are numbers, which stand before the names of its rows."""
    first, clips, *classes = table.columns
    digits = len(str(len(classes)))
    rows = [
        (f"{number:>{digits}} {row[0]}", *row[1:]) for number, row in enumerate(table.rows, start=1)
    ]
    header = (first, clips, *(str(number) for number in range(1, len(classes) + 1)))
    return Table(table.caption, header, tuple(rows))


def _without(table: Table, title: str) -> Table:
    """The table without a column, if it has it."""
    kept = [index for index, column in enumerate(table.columns) if column != title]
    return Table(
        table.caption,
        tuple(table.columns[index] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in table.rows),
        frozenset(place for place, index in enumerate(kept) if index in table.texts),
    )


def _tall(table: Table) -> list[str]:
    """Aligned columns whose headers take as many lines as they need to be no wider than cells."""
    headers = []
    for index, title in enumerate(table.columns):
        cells = max((len(row[index]) for row in table.rows), default=0)
        words = title.replace(" %", "\xa0%").split(" ")  # no line begins with "%"
        lines = textwrap.wrap(" ".join(words), max(cells, *map(len, words)))
        headers.append([line.replace("\xa0", " ") for line in lines])
    height = max(map(len, headers))
    above = [[""] * (height - len(lines)) + lines for lines in headers]
    first, *more = [[lines[level] for lines in above] for level in range(height)]
    return columns(first, [*more, *table.rows], left=table.texts)
