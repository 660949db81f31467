"""A gate record as plain text: fitted to a terminal, or in whole lines for a pipe or a file."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from reports import gate_words as words
from reports.gate_words import LEVEL_WORDS, STATUS_WORDS, checked, where
from reports.tables import Table

__all__ = ["to_text"]

INDENT = "  "
LEAST = 24  # columns that the name of a check keeps on the narrowest terminal
OF = 1  # column of the check table that names a file
SOURCES = "source: blank = organisers or own, S = third party, I = inferred"


def to_text(record: Mapping[str, Any], width: int | None = None) -> str:
    """Verdict first, then each problem with place and fix, then the figures.

    No line begins with a quoted text, so that none can be taken for a command by a CI log.

    Args:
        record: of the gate.
        width: columns of the terminal; None leaves lines whole, for pipes and files.

    Raises:
        UsageError: not a gate record.
    """
    lines = _lines(checked(record), width)
    return "".join(f"{_no_command(line.rstrip())}\n" for line in lines)


def _lines(shown: Mapping[str, Any], width: int | None) -> Iterator[str]:
    yield from _wrapped(f"{STATUS_WORDS[shown['status']]} {words.headline(shown)}", width)
    for finding in shown["findings"]:
        level = LEVEL_WORDS[finding["status"]]
        yield ""
        yield from _wrapped(
            f"{level}: {where(finding)}: {finding['message']} [{finding['id']}]", width
        )
        if finding["status"] == "waived":
            waiver = finding["waiver"]
            remedy = f"waived until {waiver['expires']}: {waiver['reason']}"
        else:
            remedy = f"fix: {finding['fix']}"
        yield from _wrapped(remedy, width, 2 * INDENT)
    if table := words.check_table(shown):
        yield ""
        yield from _checks(table, width)
        if any(row[-1] for row in table.rows):
            yield from _wrapped(SOURCES, width, INDENT)
    if table := words.file_table(shown):
        yield ""
        yield from _files(table, width)
    yield ""
    for label, text in words.facts(shown):
        yield from _wrapped(f"{label}: {text}", width)


def _checks(table: Table, width: int | None) -> Iterator[str]:
    """Every check; where the lines are too long a line for each file, its checks below it."""
    whole = list(_rows([table.columns, *table.rows], table.texts))
    if width is None or max(map(len, whole)) <= width:
        yield from whole
        return
    kept = [at for at in range(len(table.columns)) if at != OF]
    if not any(row[-1] for row in table.rows):
        kept.pop()
    texts = {kept.index(at) for at in table.texts if at in kept}
    header, *rows = [[row[at] for at in kept] for row in (table.columns, *table.rows)]
    for at in range(1, len(header)):  # no wider than what stands below it
        body = max(8, *(len(row[at]) for row in rows))
        header[at] = textwrap.fill(header[at], body, break_long_words=False)
    taken = sum(2 + _width([row[at] for row in (header, *rows)]) for at in range(1, len(header)))
    room = max(LEAST, width - len(INDENT) - taken)
    for row in rows:  # the one cell that reads well on several lines
        row[0] = textwrap.fill(row[0], room, subsequent_indent=INDENT)
    blocks = _blocks([header, *rows], texts)
    yield from next(blocks)
    before = ""
    for cells, block in zip(table.rows, blocks, strict=True):
        if cells[OF] != before:
            before = cells[OF]
            yield from _wrapped(f"of {before}:", width)
        yield from block


def _files(table: Table, width: int | None) -> Iterator[str]:
    """Every file; where the lines are too long its SHA-256 stands below it."""
    whole = list(_rows([table.columns, *table.rows], table.texts))
    if width is None or max(map(len, whole)) <= width:
        yield from whole
        return
    for path, role, size, digest in table.rows:
        yield from _wrapped(f"file {path}: {role}, {size} B", width, INDENT)
        yield f"{2 * INDENT}{table.columns[-1]} {digest}"


def _rows(rows: Sequence[Sequence[str]], texts: Collection[int]) -> Iterator[str]:
    for block in _blocks(rows, texts):
        yield from block


def _blocks(rows: Sequence[Sequence[str]], texts: Collection[int]) -> Iterator[list[str]]:
    """The lines of each row of a table; cells of several lines begin in its first."""
    widths = [_width(cells) for cells in zip(*rows, strict=True)]
    for row in rows:
        parts = [cell.split("\n") for cell in row]
        yield [
            INDENT
            + "  ".join(
                _line(part, number).ljust(width)
                if index in texts
                else _line(part, number).rjust(width)
                for index, (part, width) in enumerate(zip(parts, widths, strict=True))
            )
            for number in range(max(map(len, parts)))
        ]


def _line(part: Sequence[str], number: int) -> str:
    return part[number] if number < len(part) else ""


def _width(cells: Sequence[str]) -> int:
    return max(len(line) for cell in cells for line in cell.split("\n"))


def _wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    """A text in lines of at most a width; long paths and numbers stay whole."""
    if width is None:
        return [indent + text]
    return textwrap.wrap(
        text,
        max(width, 2 * LEAST),
        initial_indent=indent,
        subsequent_indent=indent + INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def _no_command(line: str) -> str:
    """A line that a CI log does not take for a command, wherever it was broken."""
    return line.replace("::", ": :", 1) if line.lstrip().startswith("::") else line
