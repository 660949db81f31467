"""The template environment of the pages: everything is escaped unless it was built as markup."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["environment"]

TEMPLATES = Path(__file__).parent / "templates"

# C0 and C1 controls: not allowed in HTML, and some terminals act on them when a page is printed
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


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
    return env


def tight(text: str) -> str:
    """Keep a number together with its spread and its unit when lines are broken."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def _clean(value: object) -> object:
    """Show control characters as the replacement character, whatever text they came in."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _CONTROLS.sub("\ufffd", value)
    return value
