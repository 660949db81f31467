"""The site is built without a warning; blocks are run once and kept by content."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("sphinx", reason="the site needs the extra docs")


@pytest.fixture(scope="module")
def blocks() -> ModuleType:
    """The extension that runs a page's commands."""
    spec = importlib.util.spec_from_file_location(
        "run_commands", ROOT / "docs" / "_ext" / "run_commands.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_block(text: str, code: int = 0) -> dict[str, object]:
    return {"kind": "run", "text": text, "name": "", "exit": code}


def test_outputs_are_kept_by_content(
    blocks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSOR_DOCS_CACHE", str(tmp_path))
    page = [
        {"kind": "file", "text": "<p>x</p>\n", "name": "a.html", "exit": 0},
        run_block("cat a.html\ndate +%s%N"),
    ]
    first, files = blocks.outputs_of(page)
    assert first[1].startswith("<p>x</p>\n1")  # seconds since 1970 begin with 1 until 2033
    assert (files / "a.html").read_text() == "<p>x</p>\n"
    assert blocks.outputs_of(page) == (first, files)  # the time is that of the first run
    again, _ = blocks.outputs_of([*page, run_block("echo more")])
    assert again[1] != first[1]
    assert again[2] == "more"


def test_another_exit_code_breaks_the_build(
    blocks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSOR_DOCS_CACHE", str(tmp_path))
    with pytest.raises(Exception, match="false: exit code 1, expected 0"):
        blocks.outputs_of([run_block("false")])
    assert blocks.outputs_of([run_block("false", 1)])[0] == [""]
    assert not list(tmp_path.glob("*/outputs.json.tmp"))


@pytest.mark.slow  # the first build trains the tutorial's network: minutes
def test_the_site(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "docs", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    tutorial = (tmp_path / "tutorial.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]*>", "", tutorial)
    for said in ("FAIL 2022-2025", "--model nets:build", "networks fit", "OK everything"):
        assert said in text
    assert "Traceback" not in text
    gallery = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    for link in re.findall(r'href="(reports/[^"]+)"', gallery + tutorial):
        assert (tmp_path / link).is_file(), link
    api = (tmp_path / "api.html").read_text(encoding="utf-8")
    assert all(name in api for name in ("AuditResult", "register_model", "TrainSettings", "allow"))
    for page in tmp_path.rglob("*.html"):  # nothing is fetched from elsewhere
        outside = re.findall(
            r'<(?:script|img|link)[^>]+(?:src|href)="https?://[^"]+', page.read_text("utf-8")
        )
        assert not outside, page
