"""The figures of a sweep or a reproduction as files for a paper: SVG, or PNG at twice the size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from reports.drawing import Drawing
from reports.figures import Figure, sweep_figures
from reports.files import write_bytes, write_text
from reports.stored import kind_of
from reports.summary import summarise

__all__ = ["picture", "write_figures"]

PAPER, DARK = "#ffffff", "#1b2026"
SCALE = 2.0

Kind = Literal["svg", "png"]


def write_figures(results: Mapping[str, Any], folder: Path, kind: Kind) -> list[Path]:
    """Write every figure that a page of the record shows, as `NAME.svg` or `NAME.png`.

    Args:
        results: content of `results.json`.
        folder: where; it is made if it is missing.
        kind: of the files.

    Returns:
        The files, in the order of the page.

    Raises:
        UsageError: the record has not the shape the reports read.
        OSError: the folder cannot be written.
    """
    written = []
    for name, found in _figures(results).items():
        if found is None:
            continue
        path = folder / f"{name.replace('_', '-')}.{kind}"
        content = picture(found.chart.wide, kind)
        written.append(
            write_text(path, content) if isinstance(content, str) else write_bytes(path, content)
        )
    return written


def _figures(results: Mapping[str, Any]) -> Mapping[str, Figure | None]:
    if kind_of(results) == "reproduction":
        from reports.reproduce_page import figures

        return figures(results)
    return sweep_figures(summarise(results), static=True)


def picture(drawing: Drawing, kind: Kind) -> str | bytes:
    """A drawing as a file of its own: dark ink on white paper, wherever it is looked at."""
    import vl_convert

    spec = drawing.spec.replace('"currentColor"', f'"{DARK}"')
    spec = spec.replace('"background":"transparent"', f'"background":"{PAPER}"')
    if kind == "svg":
        text: str = vl_convert.vega_to_svg(spec)
        return text
    image: bytes = vl_convert.vega_to_png(spec, scale=SCALE)
    return image
