"""Draws an Altair chart as SVG that reads without scripts, styles or network.

The picture carries presentation attributes only, so that it survives a policy that forbids styles,
and its ink is `currentColor`, so that it follows a dark page without any style sheet.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

__all__ = [
    "INK",
    "NARROW",
    "PAIR",
    "PALETTE",
    "SHAPES",
    "WIDE",
    "Chart",
    "Drawing",
    "altair",
    "draw",
    "fitted",
    "one_line",
    "zoomed",
]

INK = "#010101"  # replaced by currentColor after drawing: Altair takes only real colours
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe-Ito
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
FONT = "Helvetica, Arial, sans-serif"
WIDE, NARROW = 1040, 344  # px: the page's column, and a phone of 390 px less its margins
PAIR = 400  # px: two beside each other, and little enough to shrink to a phone and stay readable


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture: as it reads without scripts, and as a browser draws it again.

    Attributes:
        svg: SVG with presentation attributes only.
        spec: the Vega specification it was drawn from, as JSON.
    """

    svg: str
    spec: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart.

    Attributes:
        wide: for a desktop page.
        narrow: the same for a phone; None where the one picture is small enough for both.
    """

    wide: Drawing
    narrow: Drawing | None = None


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
    text = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).strip()
    return re.sub(r"[\ud800-\udfff\ufffe\uffff]", "\ufffd", text)  # not allowed in SVG


def fitted(chart: Any, width: int, height: int) -> Any:
    """Give a chart its outer size in px: axes and titles included."""
    size = altair().AutoSizeParams(type="fit", contains="padding")
    return chart.properties(width=width, height=height, autosize=size)


def zoomed(chart: Any) -> Any:
    """Let a reader zoom (wheel with the shift key: the bare wheel scrolls the page) and drag."""
    bound = altair().selection_interval(
        name="zoom",  # without a name the library numbers them over all charts it has seen
        bind="scales",
        zoom="wheel![event.shiftKey]",
        translate="[mousedown, window:mouseup] > window:mousemove!",
        clear="dblclick",
    )
    return chart.add_params(bound)


def draw(chart: Any, name: str, label: str) -> Drawing:
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
        .configure_mark(aria=False)  # the picture speaks as one: its label, and the table beside it
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
    spec = vl_convert.vegalite_to_vega(configured.to_dict(validate=False))
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    text = text.replace(f'"{INK}"', '"currentColor"')
    svg: str = vl_convert.vega_to_svg(json.loads(text))
    return Drawing(_inline(svg, name, label), text)


def _inline(svg: str, name: str, label: str) -> str:
    """The renderer's SVG as an element of a page."""
    # the renderer counts ids over all it has drawn; a page has one space of ids, and one record
    # is to give one page
    for number, found in enumerate(dict.fromkeys(re.findall(r'\bid="(\w+)"', svg)), start=1):
        svg = svg.replace(f'id="{found}"', f'id="{name}-{number}"')
        svg = svg.replace(f"url(#{found})", f"url(#{name}-{number})")
    start, end = svg.index("<svg"), svg.index(">", svg.index("<svg"))
    size = re.search(r'width="[\d.]+" height="[\d.]+" viewBox="[^"]+"', svg[start:end])
    if size is None:  # vl-convert has always written them; without them the page cannot scale
        raise ValueError("the drawn SVG has no size")
    root = ET.fromstring("<svg>" + svg[end + 1 :])
    _hoist(root)
    body = "".join(ET.tostring(child, encoding="unicode") for child in root).replace(" />", "/>")
    # no namespaces: the parser of a page knows them, and so the page holds no address at all
    spoken = escape(one_line(label), quote=True)
    return (
        f'<svg class="chart" role="img" aria-label="{spoken}" {size[0]} font-family="{FONT}">'
        f"{body}</svg>"
    )


# what the renderer writes for scripts, although it is the default, or inherited from the root
_NEEDLESS = frozenset({"class", "pointer-events", "role", "cursor"})
_DEFAULTS = {"opacity": "1", "font-family": FONT, "transform": "translate(0,0)"}
_INHERITED = (
    *("fill", "fill-opacity", "font-size", "font-weight", "stroke", "stroke-dasharray"),
    *("stroke-opacity", "stroke-width", "text-anchor"),
)
_LONG = re.compile(r"(\.\d)\d+")  # a tenth of a pixel is enough
_EMPTY = ("", "M0,0h0v0h0Z")


def _hoist(node: ET.Element) -> None:
    """Half the size, the same picture: what all children share goes to their group."""
    for child in list(node):
        _hoist(child)
        for key, value in list(child.attrib.items()):
            default = _DEFAULTS.get(key) == value or (key in ("x2", "y2") and value == "0")
            if key in _NEEDLESS or key.startswith("aria-") or default:
                del child.attrib[key]
            elif key in ("d", "transform", "x", "y", "x2", "y2", "width", "height"):
                child.set(key, _LONG.sub(r"\1", value))
        unseen = child.tag == "path" and child.get("d", "") in _EMPTY
        hollow = child.tag == "path" and "fill" not in child.attrib and "stroke" not in child.attrib
        empty = child.tag in ("g", "text") and len(child) == 0 and not child.text
        # a path without ink under the renderer's fill="none" is for the pointer only
        if unseen or empty or (hollow and node.tag == "g"):
            node.remove(child)
    for place, child in reversed(list(enumerate(node))):
        if child.tag == "g" and not child.attrib:
            node[place : place + 1] = list(child)
    if node.tag != "g" or len(node) < 2:
        return
    for key in _INHERITED:
        values = {child.get(key) for child in node}
        if len(values) == 1 and None not in values and key not in node.attrib:
            node.set(key, values.pop() or "")
            for child in node:
                del child.attrib[key]
