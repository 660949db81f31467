"""Plain aligned columns: what the quick commands print without loading rich."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["columns", "error_text", "printable"]


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


def error_text(error: Exception) -> str:
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
