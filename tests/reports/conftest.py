"""The record generators must be importable by name: this folder is on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from make_audit import make_audit, make_file, make_gate
from make_reproduction import make_reproduction
from make_sweep import make_sweep
from page_reader import Page

from reports.audit_page import render as render_audit
from reports.compare_page import render_models, render_runs
from reports.gate_page import to_html
from reports.reproduce_page import render as render_reproduction
from reports.sweep_page import render

#: Every kind of page, made from its test record; `static` as the pages take it.
PAGES: dict[str, Callable[..., str]] = {
    "sweep": lambda **how: render(make_sweep(fail=("f1-s0-slimming-0.75",)), **how),
    "audit": lambda **how: render_audit(make_audit(), **how),
    "gate": lambda **how: to_html(make_gate(), **how),
    "models": lambda **how: render_models(
        make_audit(make_file(), make_file("models/big.pt", 90_000)), **how
    ),
    "runs": lambda **how: render_runs(
        [
            (name, make_sweep(ratios=(0.5, 0.6, 0.7), methods=(name,)))
            for name in ("slimming", "l1")
        ],
        **how,
    ),
    "reproduce": lambda **how: render_reproduction(make_reproduction(), **how),
}


@pytest.fixture(scope="session")
def record() -> dict[str, Any]:
    """Seven ratios, three seeds, one failed run, seen and unseen devices, synthetic."""
    return make_sweep(fail=("f1-s0-slimming-0.75",))


@pytest.fixture(scope="session")
def page_text(record: dict[str, Any]) -> str:
    """The page of `record`, as text."""
    return render(record)


@pytest.fixture(scope="session")
def page(page_text: str) -> Page:
    """The page of `record`, parsed."""
    return Page(page_text)


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, page_text: str) -> dict[str, Path]:
    """A file of every kind of page."""
    folder = tmp_path_factory.mktemp("pages")
    files = {}
    for kind, make in PAGES.items():
        files[kind] = folder / f"{kind}.html"
        files[kind].write_text(page_text if kind == "sweep" else make(), encoding="utf-8")
    return files
