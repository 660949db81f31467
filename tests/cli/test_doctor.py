"""`compressor doctor`: problems are found, each with its fix, and decide the exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compressor import runtime
from compressor.cli import doctor
from compressor.cli.main import app


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder and a cache of its own, no settings."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def look() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.findings()}


def test_all_is_well() -> None:
    result = CliRunner().invoke(app, ["doctor", "--format", "json"])
    record = json.loads(result.stdout)
    assert record["ok"] is (result.exit_code == 0) is True
    names = [finding["name"] for finding in record["findings"]]
    wanted = {"python", "compressor", "packages", "torch", "cores", "accelerator", "cache"}
    assert wanted <= set(names)
    text = CliRunner().invoke(app, ["doctor"]).stdout
    assert text.startswith("OK everything needed is there")
    assert all(name in text for name in names)


def test_what_is_missing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.OPTIONAL, "no-such-package", ("run", "nothing"))
    monkeypatch.setattr(doctor, "NEEDED", ("numpy", "no-such-needed"))
    monkeypatch.setenv("OMP_NUM_THREADS", str(runtime.cores() + 1))
    monkeypatch.setenv("COMPRESSOR_CACHE", str(place / "file"))
    (place / "file").write_text("in the way")
    (place / "pyproject.toml").write_text("[tool.compressor]\nyaer = 1\n")
    found = look()
    assert found["no-such-package"].status == "note"
    assert "pip install 'compressor[run]'" in found["no-such-package"].fix
    for name in ("packages", "cores", "cache", "settings"):
        assert found[name].status == "problem", name
        assert found[name].fix, name
    assert "pip install no-such-needed" in found["packages"].fix
    assert "did you mean year" in found["settings"].found
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 2
    first = result.stdout.splitlines()[0]
    assert first.startswith("PROBLEM packages, cores, cache, settings; ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(place: Path) -> None:
    place.chmod(0o500)
    try:
        assert look()["current folder"].status == "problem"
    finally:
        place.chmod(0o700)


def test_a_folder_that_is_a_file(place: Path) -> None:
    path = place / "x"
    path.write_text("")
    finding = doctor._write_access("here", lambda: path, "do that")
    assert (finding.status, finding.fix) == ("problem", "do that")
