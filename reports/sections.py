"""A page as a verdict and sections: what audit, compare and reproduce pages are built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.drawing import Chart
from reports.figures import Figure
from reports.files import file_stem
from reports.html import page
from reports.tables import Table
from reports.verdict import Fact

__all__ = ["Section", "Shown", "View", "figure", "section_page"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A table in a section.

    Attributes:
        table: the table.
        summary: words of the fold it stands in; "" for a table in the open.
        sortable: rows can be sorted and filtered.
    """

    table: Table
    summary: str = ""
    sortable: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a page: its parts in the order they are read, those it has.

    Attributes:
        title: heading.
        id: for links to it; unique in the page, letters and dashes.
        texts: paragraphs.
        figures: charts; two of them stand beside each other.
        tables: after the charts.
        facts: labelled sentences.
        error: text of a failure, as it was said.
        deep: belongs to the section before it.
    """

    title: str
    id: str
    texts: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Shown, ...] = ()
    facts: tuple[Fact, ...] = ()
    error: str = ""
    deep: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """All of a page but its data.

    Attributes:
        kicker: what kind of page it is.
        title: heading of the page.
        status: pass, fail, open or unknown: the colour beside the badge.
        badge: the verdict in a word.
        headline: the verdict in a sentence.
        facts: the sentences behind it.
        sections: in the order they are read.
        synthetic: the data are generated sounds.
        made_from: which file the page was made of.
    """

    kicker: str
    title: str
    status: str
    badge: str
    headline: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    synthetic: bool = False
    made_from: str = ""


def figure(chart: Chart | None, caption: str, *, static: bool) -> tuple[Figure, ...]:
    """A chart with its caption, or nothing where there was nothing to draw."""
    return (Figure(chart, caption, static),) if chart else ()


def section_page(view: View, data: object, *, static: bool) -> str:
    """Render a page.

    Args:
        view: what it shows.
        data: the record it carries.
        static: without what makes the charts answer to the pointer.
    """
    sections: Sequence[Section] = [
        one
        for one in view.sections
        if one.texts or one.figures or one.tables or one.facts or one.error
    ]
    return page(
        "sections.html.j2",
        static=static,
        data=data,
        title=view.title,
        name=file_stem(view.title),
        view=view,
        sections=sections,
    )
