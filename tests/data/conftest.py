"""Tiny made-up data sets on disk, in the layouts the loaders read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

WriteWav = Callable[..., Path]


@pytest.fixture
def wav() -> WriteWav:
    """Writes a noise clip; its content depends on its path, so that no two are alike."""

    def write(
        path: Path,
        *,
        rate: int = 8000,
        seconds: float = 0.5,
        channels: int = 1,
        fill: float | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([ord(letter) for letter in path.name])
        audio = 0.1 * rng.standard_normal((round(rate * seconds), channels))
        if fill is not None:
            audio[:] = fill
        soundfile.write(path, audio, rate, subtype="FLOAT")
        return path

    return write


@pytest.fixture
def tau(tmp_path: Path, wav: WriteWav) -> Path:
    """Two scenes, two cities; devices a and s1 in the training part, a and s4 in the test part."""
    root = tmp_path / "tau"
    rows, train, test = [], [], []
    for scene in ("airport", "bus"):
        for place, (city, part, devices) in enumerate(
            [("paris", train, "a s1"), ("paris", train, "a s1"), ("lyon", test, "a s4")]
        ):
            for device in devices.split():
                name = f"audio/{scene}-{city}-{place}-{place}00-0-{device}.wav"
                wav(root / name)
                rows.append((name, scene, f"{city}-{place}", device))
                part.append((name, scene))
    spare = "audio/bus-lyon-9-900-0-a.wav"
    wav(root / spare)
    rows.append((spare, "bus", "lyon-9", "a"))
    setup = root / "evaluation_setup"
    setup.mkdir()
    write_list(root / "meta.csv", "filename scene_label identifier source_label", rows)
    write_list(setup / "fold1_train.csv", "filename scene_label", train)
    write_list(setup / "fold1_evaluate.csv", "filename scene_label", test, end="\r\n")
    write_list(setup / "fold1_test.csv", "filename", [row[:1] for row in test])
    return root


@pytest.fixture(name="write_list")
def _write_list() -> Callable[..., Path]:
    return write_list


def write_list(
    path: Path, columns: str, rows: list[tuple[str, ...]], end: str = "\n", sep: str = "\t"
) -> Path:
    lines = [sep.join(columns.split()), *(sep.join(row) for row in rows)]
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


@pytest.fixture
def edit() -> Callable[[Path, str, str], None]:
    """Replaces text in a file; fails when it is not there."""

    def replace(path: Path, old: str, new: str) -> None:
        text = path.read_bytes().decode()
        assert old in text
        path.write_bytes(text.replace(old, new, 1).encode())

    return replace
