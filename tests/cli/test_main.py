"""The command itself: what it loads, and how an error comes out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compressor.cli import main
from compressor.cli.text import error_text
from compressor.errors import DataError, UnknownNameError

# what help and file audits have no use for: each costs start-up time of every command
HEAVY = ("torch", "numpy", "pandas", "altair", "onnx", "yaml", "zoo", "compressor.recipe")


def test_start_up_loads_nothing_heavy() -> None:
    code = (
        "import sys, compressor.cli.main\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), 'compressor.cli.main' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == "[] True"


def test_an_error_of_several_lines_keeps_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(**_: object) -> None:
        raise DataError("no data set at x\nwhat can be opened:\n  DIR   a folder")

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: no data set at x\n    what can be opened:\n      DIR   a folder\n"
    )


def test_a_line_end_in_a_name_begins_no_report() -> None:
    text = error_text(DataError("bad\n::error::x\nPASS all\r\x1b[31m"))
    assert text.splitlines() == ["error: bad", "    : :error::x", "    PASS all??[31m"]


def test_few_names_are_all_listed() -> None:
    few = str(UnknownNameError("challenge year", "2019", ["all", "2020", "2021"]))
    assert few.startswith("unknown challenge year '2019'; did you mean ")
    assert few.endswith("? known: all, 2020, 2021")
    assert str(UnknownNameError("network", "ab", ["abc"])).endswith("did you mean abc?")
    many = [f"network{i}" for i in range(20)]
    assert "known:" not in str(UnknownNameError("network", "network", many))
    assert "known: network0, network1" in str(UnknownNameError("network", "zzz", many))
