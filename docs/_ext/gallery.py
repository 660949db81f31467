"""Copies real reports into the site: those of `docs/results/`, and those the tutorial made."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent.parent


def _copy(app: Sphinx, error: Exception | None) -> None:
    if error is not None:
        return
    reports = Path(app.outdir) / "reports"
    reports.mkdir(exist_ok=True)
    for page in (HERE / "results").glob("*.html"):
        shutil.copy(page, reports / page.name)
    for docname, folder in getattr(app.env, "compressor_files", {}).items():
        for page in Path(folder).rglob("*.html"):
            name = f"{docname.replace('/', '-')}-{page.parent.name}-{page.name}"
            shutil.copy(page, reports / name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the copying."""
    app.connect("build-finished", _copy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
