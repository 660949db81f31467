"""The template environment of the pages: everything is escaped unless it was built as markup.

A page is one file. It reads without scripts and styles; where scripts may run, a small one sorts,
filters, copies and downloads, and the Vega runtime draws the charts again so that they answer to
the pointer. `static` leaves the runtime out.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.record import json_for_script

__all__ = ["environment", "page", "script"]

TEMPLATES = Path(__file__).parent / "templates"

# C0 and C1 controls: not allowed in HTML, and some terminals act on them when a page is printed
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def page(template: str, *, static: bool, data: object, **context: Any) -> str:
    """Render a page.

    Args:
        template: file name of the template.
        static: leave the chart runtime out; the charts are pictures then.
        data: the record that the page carries as JSON.
        context: what the template shows.
    """
    found = environment().get_template(template)
    return found.render(
        **context,
        data_json=Markup(json_for_script(data)),
        script=Markup(script("page.js")),
        runtime="" if static else runtime(),
        loader=Markup(script("load.js")),
        static=static,
    )


@cache
def runtime() -> str:
    """Vega and what hands the page's charts to it, as one script: compressed, in base64.

    vl-convert bundles the very Vega that drew the pictures (0.8 s of CPU time, once a process).
    Compressed it is 0.4 instead of 0.9 MB; every browser since 2023 can unpack it, and in an older
    one the pictures stay.
    """
    import base64
    import gzip

    import vl_convert

    bundle: str = vl_convert.javascript_bundle(script("charts.js"))
    # in a function of its own: its names are not to meet those of the page
    text = "(()=>{" + bundle + "})()"
    return base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")


@cache
def script(name: str) -> str:
    """A script of ours without what only its readers in the repository need."""
    lines = (TEMPLATES / name).read_text(encoding="utf-8").splitlines()
    bare = (line.strip() for line in lines)
    return "\n".join(line for line in bare if line and not line.startswith("//"))


@cache
def environment() -> Environment:
    """Jinja with autoescape always on, and the style sheet as the global `css`."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    # our own file, no input in it: it must not be escaped, or `>` selectors would break
    env.globals["css"] = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    env.filters["tight"] = tight
    env.filters["scripted"] = scripted
    return env


def tight(text: str) -> str:
    """Keep a number together with its spread and its unit when lines are broken."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def scripted(json_text: str) -> Markup:
    """JSON text that cannot leave a script element."""
    for char in "<>&\u2028\u2029":  # they stand in JSON inside strings only
        json_text = json_text.replace(char, f"\\u{ord(char):04x}")
    return Markup(json_text)


def _clean(value: object) -> object:
    """Show control characters as the replacement character, whatever text they came in."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _CONTROLS.sub("\ufffd", value)
    return value
