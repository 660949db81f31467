"""Blocks that are run while the site is built: the page shows what the commands printed.

    ```{file} nets.py
    (the content, written to the page's folder)
    ```

    ```{run}
    compressor audit nets:build
    ```

The blocks of a page run in order in one empty folder. Outputs are kept by content (the page's
blocks, the source of the project and the versions of what it stands on), so that a second build
runs nothing and shows the same. A command that ends with another exit code than `:exit:` says
(0 where it says nothing) breaks the build.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "numpy", "torch-pruning", "onnx", "onnxruntime")
WIDTH = "84"  # columns that a page shows without a scroll bar
TIMEOUT_S = 1800
KEPT = (".html", ".csv", ".svg")  # files of a run that the site may link to
log = logging.getLogger(__name__)


class Block(nodes.literal_block):
    """A block of a page before its output is known."""


class File(Directive):
    """Shows a file and writes it to the page's folder."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns the block."""
        text = "\n".join(self.content) + "\n"
        block = Block(text, text, kind="file", name=self.arguments[0])
        block["language"] = "python" if self.arguments[0].endswith(".py") else "toml"
        return [nodes.paragraph("", "", nodes.strong("", self.arguments[0])), block]


class Run(Directive):
    """Shows a command and what it prints."""

    has_content = True
    option_spec = {"exit": directives.nonnegative_int, "head": directives.positive_int}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """Returns the block."""
        text = "\n".join(self.content)
        block = Block(text, text, kind="run", exit=self.options.get("exit", 0))
        block["head"] = self.options.get("head", 0)
        block["language"] = "console"
        return [block]


def _source_digest() -> str:
    """What decides the outputs beside the page: the project's own files."""
    digest = hashlib.sha256()
    for folder in ("compressor", "zoo", "reports"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    for name in PACKAGES:
        digest.update(f"{name} {importlib.metadata.version(name)}".encode())
    return digest.hexdigest()


def _key(blocks: list[dict[str, Any]]) -> str:
    text = json.dumps([blocks, _source_digest(), WIDTH, sys.version_info[:2]])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def cache_folder() -> Path:
    """Where outputs are kept between builds."""
    import platformdirs

    own = os.environ.get("COMPRESSOR_DOCS_CACHE")
    return Path(own) if own else Path(platformdirs.user_cache_dir("compressor")) / "docs"


def outputs_of(blocks: list[dict[str, Any]]) -> tuple[list[str], Path]:
    """What each block printed, and the folder that holds the files the commands made.

    Args:
        blocks: of one page, in order; plain JSON.

    Raises:
        ExtensionError: a command ended with an unexpected exit code.
    """
    kept = cache_folder() / _key(blocks)
    answers = kept / "outputs.json"
    if answers.is_file():
        return json.loads(answers.read_text(encoding="utf-8")), kept / "files"
    with tempfile.TemporaryDirectory(prefix="compressor-docs-") as name:
        work = Path(name)
        (work / "zoo" / "weights").mkdir(parents=True)
        for model in (ROOT / "zoo" / "weights").glob("*.pt"):
            shutil.copy(model, work / "zoo" / "weights")
        printed = [_done(block, work) for block in blocks]
        shutil.rmtree(kept, ignore_errors=True)
        for path in sorted(work.rglob("*")):
            if path.is_file() and path.suffix in KEPT:
                target = kept / "files" / path.relative_to(work)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    kept.mkdir(parents=True, exist_ok=True)
    answers.write_text(json.dumps(printed, ensure_ascii=False, indent=1), encoding="utf-8")
    return printed, kept / "files"


def _done(block: dict[str, Any], work: Path) -> str:
    if block["kind"] == "file":
        (work / block["name"]).write_text(block["text"], encoding="utf-8")
        return ""
    parts = []
    for line in block["text"].replace("\\\n", " ").splitlines():
        log.info("runs: %s", line)
        # -P would hide the page's own modules; the project's stand first all the same
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": WIDTH, "PYTHONWARNINGS": "ignore",
            "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1",
        }  # fmt: skip
        words = shlex.split(line)
        command = [sys.executable, "-m", *words] if words[0] == "compressor" else words
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
        if done.returncode != block["exit"]:
            raise ExtensionError(
                f"{line}: exit code {done.returncode}, expected {block['exit']}\n"
                f"{done.stderr[-3000:]}"
            )
        errors = [text for text in done.stderr.splitlines() if text.startswith("error:")]
        parts.append("\n".join([done.stdout.rstrip(), *errors]).strip("\n"))
    return "\n".join(parts)


def _fill(app: Sphinx, doctree: nodes.document) -> None:
    """Runs a page's blocks when it has been read."""
    found = list(doctree.findall(Block))
    if not found:
        return
    plain = [
        {
            "kind": b["kind"],
            "text": b.rawsource,
            "name": b.get("name", ""),
            "exit": b.get("exit", 0),
        }
        for b in found
    ]
    printed, files = outputs_of(plain)
    for block, output in zip(found, printed, strict=True):
        text = block.rawsource
        if block["kind"] == "run":
            commands = "$ " + text.replace("\\\n", "\\\0").replace("\n", "\n$ ").replace("\0", "\n")
            lines = output.splitlines()
            if block["head"] and len(lines) > block["head"]:
                lines = [*lines[: block["head"]], "[...]"]
            text = "\n".join([commands, *lines]).rstrip()
        made = nodes.literal_block(text, text, language="text")
        if block["kind"] == "file":
            made["language"] = block["language"]
        block.replace_self(made)
    pages = getattr(app.env, "compressor_files", {})
    pages[app.env.current_document.docname] = str(files)
    app.env.compressor_files = pages  # type: ignore[attr-defined] - sphinx keeps it


class Help(Directive):
    """The help of every command, a section each."""

    def run(self) -> list[nodes.Node]:
        """Returns the sections."""
        os.environ["COLUMNS"] = WIDTH
        from typer.testing import CliRunner

        from compressor.cli.main import app
        from compressor.cli.settings import commands_of, root

        sections: list[nodes.Node] = []
        for path, _ in commands_of(root()):
            name = " ".join(path)
            text = CliRunner().invoke(app, [*path, "--help"], prog_name="compressor").output
            section = nodes.section(ids=[nodes.make_id(name)])
            section += [nodes.title(name, name), nodes.literal_block(text, text, language="text")]
            self.state.document.note_explicit_target(section)
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the blocks."""
    app.add_directive("file", File)
    app.add_directive("run", Run)
    app.add_directive("help", Help)
    app.connect("doctree-read", _fill)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
