"""The record generator must be importable by name: this folder is on the path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from make_sweep import make_sweep
from page_reader import Page

from reports.sweep_page import render


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
