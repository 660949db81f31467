"""Fixtures shared by all tests."""

from __future__ import annotations

import os

# Before torch is imported by any test: waiting threads must not burn the two cores the suite has.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings, or a skip that says what is missing."""
    folder = Path(os.environ.get("COMPRESSOR_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not (folder / "ESC-50").is_dir():
        pytest.skip(f"no real recordings at {folder}: set COMPRESSOR_DATA_DIR")
    return folder
