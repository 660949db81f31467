"""What the shell completes equals what is registered, and loads no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from compressor.audio.logmel import PRESETS
from compressor.audit.rules import years
from compressor.cli import names

ROOT = Path(__file__).resolve().parents[2]


def test_networks_are_those_of_the_registry() -> None:
    assert sorted(names.networks()) == sorted(zoo.list_models())
    assert names.models("seres") == [n for n in names.networks() if n.startswith("seres")] != []


def test_rules_front_ends_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names.fits("dcase") == [f"dcase{year}" for year in years()]
    assert names.years("20") == list(map(str, years()))
    assert set(names.front_ends("")) == set(PRESETS)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.toml").write_text("")
    (tmp_path / "sub" / "else.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    assert names.rules("s") == ["sub/"]
    assert names.rules("sub/") == ["sub/mine.toml"]
    assert "sub/mine.toml" in names.recipes("sub/m")
    assert names.data_sets("syn") == ["synthetic"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("compressor swe", "sweep"),
        ("compressor sweep --model seresn", "seresnet18"),
        ("compressor zoo show dcase2024_b", "dcase2024_baseline"),
        ("compressor slim m.pt --fit dcase202", "dcase2023"),
        ("compressor sweep --qua", "--quantize"),
        ("compressor config show tr", "train"),
    ],
)
def test_bash_completes(words: str, expected: str) -> None:
    code = (
        "import sys; sys.argv=['compressor']\n"
        "from compressor.cli.main import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_COMPRESSOR_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
    )
    assert expected in done.stdout.split(), done.stderr
    assert done.stderr.strip().endswith("False")  # torch was not loaded
