r"""The tables of a record in LaTeX, for a paper: `booktabs` rules, one `table` environment each.

Every caption names data set, split, seeds and spread, as on the page. The preamble needs
`\usepackage{booktabs}`; wide tables are set in `\small`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reports.reproduction import heading, tables
from reports.stored import kind_of
from reports.summary import summarise
from reports.sweep_page import all_tables, title_of
from reports.tables import Table

__all__ = ["escape", "render", "table"]

#: What a paper wants, in the order of the page.
NAMES = ("main", "curve", "budget", "ways", "devices", "classes", "pairs")

_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MARKS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"\(\pm\)",
    "−": r"\(-\)",
    "–": "--",
    "×": r"\(\times\)",
    "→": r"\(\rightarrow\)",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
}


def render(results: Mapping[str, Any]) -> str:
    """Write the tables of a sweep's or a reproduction's record as LaTeX.

    Args:
        results: content of `results.json`.

    Raises:
        UsageError: the record has not the shape the reports read.
    """
    title, found = _tables(results)
    parts = [f"% {_line(title)}\n% preamble: \\usepackage{{booktabs}}"]
    parts += [table(content, f"tab:{name}") for name, content in found.items()]
    return "\n\n".join(parts) + "\n"


def _tables(results: Mapping[str, Any]) -> tuple[str, Mapping[str, Table]]:
    """Title and tables, in the order of the page."""
    if kind_of(results) == "reproduction":
        return heading(results), tables(results)
    summary = summarise(results)
    found = all_tables(summary)
    shown = {name: content for name in NAMES if (content := found.get(name)) is not None}
    return title_of(summary), shown


def table(content: Table, label: str) -> str:
    r"""One table.

    Args:
        content: its cells.
        label: for `\ref`: letters, colons and dashes.
    """
    spec = "".join("l" if i in content.texts else "r" for i in range(len(content.columns)))
    lines = [
        r"\begin{table}",
        rf"\caption{{{escape(content.caption)}}}",
        rf"\label{{{label}}}",
        r"\centering\small",
        rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
        r"\toprule",
        _row(content.columns),
        r"\midrule",
        *(_row(row) for row in content.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    # a row that begins with [ would be read as the optional length of the row break before it
    text = " & ".join(escape(cell) for cell in cells)
    return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\"


def _line(text: str) -> str:
    return _BREAKS.sub(" ", text).strip()


def escape(text: str) -> str:
    """Text that LaTeX sets as it is, in one line; every character of it is a character."""
    return "".join(_MARKS.get(char, char) for char in _line(text))
