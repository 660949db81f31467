"""Plain aligned columns: what the quick commands print without loading rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = [
    "columns",
    "error_text",
    "fitted",
    "nearby",
    "printable",
    "screen_width",
    "spark",
    "wrapped",
]

BARS = "▁▂▃▄▅▆▇█"


def screen_width() -> int | None:
    """Columns of the terminal; None in a pipe, where lines stay whole for other programs.

    COLUMNS in the environment holds for both.
    """
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def wrapped(lines: Iterable[str], width: int | None) -> Iterator[str]:
    """Breaks long lines at spaces, the rest indented; as they are without a width."""
    if width is None:
        yield from lines
        return
    import textwrap

    for line in lines:
        if len(line) <= width:
            yield line
        else:
            yield from textwrap.wrap(line, max(width, 20), subsequent_indent="  ")


def fitted(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Collection[int],
    width: int | None,
    spare: Sequence[int],
) -> list[str]:
    """Aligned columns; on a narrow terminal without the ones that can be spared, in that order."""
    gone: set[int] = set()
    while True:
        kept = [index for index in range(len(header)) if index not in gone]
        lines = columns(
            [header[index] for index in kept],
            [[row[index] for index in kept] for row in rows],
            left={kept.index(index) for index in set(left) & set(kept)},
        )
        if width is None or len(gone) == len(spare) or max(map(len, lines)) <= width:
            return lines
        gone.add(spare[len(gone)])


def nearby(message: str, given: Iterable[str]) -> str:
    """What a mistyped file name probably meant, as the end of an error message.

    Args:
        message: the error's; only "No such file or directory" is looked into.
        given: words of the command line.

    Returns:
        "; did you mean PATH?", or "" where nothing is close.
    """
    if "No such file or directory" not in message:
        return ""
    import difflib
    from pathlib import Path

    for word in given:
        path = Path(word)
        if word.startswith("-") or path.exists() or path.name not in message:
            continue
        try:
            names = [entry.name for entry in path.parent.iterdir()]
        except OSError:
            continue
        close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.7)
        if close:
            return f"; did you mean {', '.join(str(path.parent / name) for name in close)}?"
    return ""


def spark(values: Sequence[float | None]) -> str:
    """A line of bars from the lowest value to the highest; "·" where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    steps = len(BARS) - 1
    return "".join(
        "·" if value is None else BARS[steps if not span else round(steps * (value - low) / span)]
        for value in values
    )


def columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = ()
) -> list[str]:
    """Aligns cells: to the right, or to the left for the columns named in `left`."""
    table = [list(header), *[[printable(cell) for cell in row] for row in rows]]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def error_text(error: Exception | str) -> str:
    """The lines that report an error.

    Lines after the first are indented: a line end in a foreign name cannot begin a report of its
    own, or a command of a CI log.
    """
    first, *more = str(error).split("\n")
    return "\n".join([printable(f"error: {first}"), *(f"    {printable(line)}" for line in more)])


def printable(text: str) -> str:
    """Replaces what could steer a terminal (escapes, line ends, right-to-left marks) or a CI log.

    A GitHub runner takes a line that begins with "::" for a command, and "##[" anywhere in it.
    """
    text = text.replace("##[", "## [")
    if text.lstrip().startswith("::"):
        text = text.replace("::", ": :", 1)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)
