"""Fixtures shared by all tests."""

from __future__ import annotations

import os

# Before torch is imported by any test: waiting threads must not burn the two cores the suite has.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """COLUMNS narrows text in pipes as well: what a shell or a site build exported must not."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings, or a skip that says what is missing."""
    folder = Path(os.environ.get("COMPRESSOR_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not (folder / "ESC-50").is_dir():
        pytest.skip(f"no real recordings at {folder}: set COMPRESSOR_DATA_DIR")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One browser for all tests: a process can drive only one of them at a time."""
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if chromium is None:
        pytest.skip("no chromium found: install it (apt-get install chromium) to test the pages")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    ]
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=options)
        yield running
        running.close()
