"""Models that are written once, and packages to break."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import packages
from packages import Made, Make


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The hand-counted network by its number of classes."""
    folder = tmp_path_factory.mktemp("models")
    return {n: packages.write_model(folder / f"tiny{n}.pt", n) for n in (3, 10)}


@pytest.fixture
def make(tmp_path: Path, models: dict[int, Path]) -> Make:
    """Writes a right package of a year below the test's folder."""

    def made(year: int, label: str = "", root: str = "package", model: bool = True) -> Made:
        file = models[3 if year == 2020 else 10] if model else None
        return packages.make(tmp_path / root, year, file, label)

    return made
