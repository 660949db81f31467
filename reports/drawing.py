"""Draws an Altair chart as SVG that reads without scripts, styles or network.

The picture carries presentation attributes only, so that it survives a policy that forbids styles,
and its ink is `currentColor`, so that it follows a dark page without any style sheet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

__all__ = [
    "INK",
    "NARROW",
    "PALETTE",
    "SHAPES",
    "WIDE",
    "Chart",
    "altair",
    "draw",
    "fitted",
    "one_line",
]

INK = "#010101"  # replaced by currentColor after drawing: Altair takes only real colours
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe-Ito
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
FONT = "Helvetica, Arial, sans-serif"
WIDE, NARROW = 1040, 344  # px: the page's column, and a phone of 390 px less its margins


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart.

    Attributes:
        wide: SVG for a desktop page.
        narrow: the same for a phone.
    """

    wide: str
    narrow: str


@cache
def altair() -> Any:
    """Altair takes 0.4 s to import: only who draws pays."""
    import altair as library

    return library


def one_line(text: str) -> str:
    """A name as a label: whitespace and control characters become single spaces.

    Names stand in charts as data and in the domains of scales only. They must never stand in a
    sort order or a label expression: those are code.
    """
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).strip()


def fitted(chart: Any, width: int, height: int) -> Any:
    """Give a chart its outer size in px: axes and titles included."""
    size = altair().AutoSizeParams(type="fit", contains="padding")
    return chart.properties(width=width, height=height, autosize=size)


def draw(chart: Any, name: str, label: str) -> str:
    """Render a chart and make it fit for inlining in a page.

    Args:
        chart: an Altair chart.
        name: prefix for ids, unique in the page.
        label: what the picture shows, for readers who do not see it.
    """
    import vl_convert

    faint = {"domainOpacity": 0.5, "tickOpacity": 0.5, "gridOpacity": 0.12}
    ink = {f"{part}Color": INK for part in ("label", "title", "domain", "tick", "grid")}
    configured = (
        chart.configure(background="transparent", font=FONT, aria=False, padding=2)
        .configure_view(stroke=None)
        .configure_axis(
            **ink,
            **faint,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=8,
        )
        .configure_legend(labelColor=INK, labelFontSize=12, title=None, orient="top", offset=10)
        .configure_text(color=INK, fontSize=12, font=FONT)
    )
    # our own charts are checked by the tests; checking each again takes most of the time
    svg: str = vl_convert.vegalite_to_svg(configured.to_dict(validate=False))
    svg = svg.replace(f'"{INK}"', '"currentColor"')
    # each picture counts its ids from one, but a page has one space of ids
    svg = re.sub(r'\bid="(\w+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#(\w+)\)", rf"url(#{name}-\1)", svg)
    start, end = svg.index("<svg"), svg.index(">", svg.index("<svg"))
    size = re.search(r'width="[\d.]+" height="[\d.]+" viewBox="[^"]+"', svg[start:end])
    if size is None:  # vl-convert has always written them; without them the page cannot scale
        raise ValueError("the drawn SVG has no size")
    body = re.sub(r"<[^>]*>", _lean, svg[end + 1 :])  # text has no bare "<" or ">" in it
    # no namespaces: the parser of a page knows them, and so the page holds no address at all
    spoken = escape(one_line(label), quote=True)
    head = f'<svg class="chart" role="img" aria-label="{spoken}" {size[0]} font-family="{FONT}">'
    return head + body


# what the renderer writes although it is the default, inherited from the root, or for scripts
_NEEDLESS = re.compile(
    rf' (?:class|pointer-events|role|aria-[a-z]+)="[^"]*"| opacity="1"| font-family="{FONT}"'
)
_EMPTY = re.compile(r'<path (?:d="M0,0h0v0h0Z"|d="")[^>]*>')
_LONG = re.compile(r"(\d+\.\d\d)\d+")


def _lean(tag: re.Match[str]) -> str:
    """A tag without needless attributes and digits below a hundredth of a pixel."""
    text = _LONG.sub(r"\1", _NEEDLESS.sub("", tag[0]))
    return "" if _EMPTY.fullmatch(text) else text
