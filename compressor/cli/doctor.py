"""`compressor doctor`: is everything there, and what to do about what is not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from compressor.errors import CompressorError

__all__ = ["Finding", "doctor", "findings"]

Status = Literal["ok", "note", "problem"]
PROBLEM = 2  # exit code: the installation or the configuration must be changed
LEAST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 2_000_000_000  # the features of one data set of some ten thousand clips
NEEDED = (
    *("torch", "numpy", "pandas", "altair", "onnx", "soundfile", "torch-pruning", "rich", "typer"),
)
OPTIONAL = {
    "onnxruntime": ("run", "int8 accuracy, bench and predict on ONNX files"),
    "onnxscript": ("run", "export to ONNX"),
    "litert-torch": ("tflite", "export to TFLite"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        status: ok; note, something is missing that not everybody needs; problem.
        found: what was found.
        fix: what to do, "" where nothing is to be done.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


def doctor(
    output: Annotated[
        Literal["text", "json"], typer.Option("--format", help="What to print.")
    ] = "text",
) -> None:
    """Look at the installation: versions, cores, accelerator, write access, optional parts.

    Exit codes: 0 all is well or only optional parts are missing, 2 something must be mended.

    Examples:
      compressor doctor
      compressor doctor --format json
    """
    found = list(findings())
    bad = [finding for finding in found if finding.status == "problem"]
    if output == "json":
        record = {"schema": 1, "ok": not bad, "findings": [asdict(each) for each in found]}
        print(json.dumps(record, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(found)))
    if bad:
        raise typer.Exit(PROBLEM)


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in the order it is shown."""
    for look in (_python, _compressor, _packages, _torch, _cores, _accelerator):
        yield from look()
    yield _write_access("current folder", Path.cwd, "run in a folder of yours, or give --out")
    yield _write_access("cache", _cache, "set XDG_CACHE_HOME, or give --cache DIR")
    yield from _embedded_set()
    yield from _optional()
    yield _settings()
    yield _terminal()


def _lines(found: list[Finding]) -> Iterator[str]:
    """The verdict first, then a line a finding, then the fixes."""
    from compressor.cli.text import fitted, screen_width, wrapped

    bad = [finding for finding in found if finding.status == "problem"]
    notes = [finding for finding in found if finding.status == "note"]
    if bad:
        head = f"PROBLEM {', '.join(finding.name for finding in bad)}"
    else:
        head = "OK everything needed is there"
    yield head + (f"; {len(notes)} note{'s' * (len(notes) != 1)}" if notes else "")
    yield ""
    width = screen_width()
    rows = [[each.status, each.name, each.found] for each in found]
    indent = sum(max(len(row[column]) for row in rows) + 2 for column in (0, 1))
    for line in fitted(["", "", ""], rows, {0, 1, 2}, None, []):
        if not line:
            continue
        if width is None or len(line) <= width:
            yield line
            continue
        import textwrap

        yield from textwrap.wrap(line, width, subsequent_indent=" " * indent, drop_whitespace=True)
    fixes = [finding for finding in (*bad, *notes) if finding.fix]
    if fixes:
        yield ""
        yield from wrapped((f"{each.name}: {each.fix}" for each in fixes), width)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _python() -> Iterator[Finding]:
    good = sys.version_info >= LEAST_PYTHON
    least = ".".join(map(str, LEAST_PYTHON))
    yield Finding(
        "python",
        "ok" if good else "problem",
        f"{platform.python_version()} ({sys.executable}, {platform.system()} {platform.machine()})",
        "" if good else f"install Python {least} or newer and make the environment anew",
    )


def _compressor() -> Iterator[Finding]:
    import compressor

    yield Finding(
        "compressor", "ok", f"{compressor.__version__} ({Path(compressor.__file__).parent})"
    )


def _packages() -> Iterator[Finding]:
    missing = [name for name in NEEDED if not _version(name)]
    found = ", ".join(f"{name} {_version(name)}" for name in NEEDED if _version(name))
    if missing:
        names = " ".join(missing)
        yield Finding(
            "packages", "problem", f"missing: {', '.join(missing)}", f"pip install {names}"
        )
    else:
        yield Finding("packages", "ok", found)


def _torch() -> Iterator[Finding]:
    if not _version("torch"):
        return  # said under packages; the audit of files works without
    try:
        import torch
    except (ImportError, OSError) as error:
        line = " ".join(str(error).split())[:200]
        yield Finding(
            "torch", "problem", f"cannot be loaded: {line}", "pip install --force-reinstall torch"
        )
        return
    a, b = torch.ones(2, 3), torch.ones(3, 2)
    works = torch.equal(a @ b, torch.full((2, 2), 3.0))
    yield Finding(
        "torch",
        "ok" if works else "problem",
        f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
        + ("" if works else ": multiplies wrongly"),
        "" if works else "pip install --force-reinstall torch",
    )


def _cores() -> Iterator[Finding]:
    from compressor import runtime

    usable, there = runtime.cores(), os.cpu_count() or 1
    text = f"{usable} usable of {there}"
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None:
        text += f", OMP_NUM_THREADS={threads}"
        if not threads.isdigit() or int(threads) > usable:
            fix = f"unset OMP_NUM_THREADS, or set it to at most {usable}"
            yield Finding("cores", "problem", text, fix)
            return
    yield Finding("cores", "ok", text)


def _accelerator() -> Iterator[Finding]:
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        yield Finding("accelerator", "ok", f"{name} (CUDA {torch.version.cuda}), used for training")
    else:
        yield Finding("accelerator", "ok", "none; training runs on the CPU")


def _cache() -> Path:
    from compressor.data.dataset import cache_dir

    return cache_dir()


def _write_access(name: str, where: Callable[[], Path], fix: str) -> Finding:
    """Writes a file there and takes it away again."""
    import shutil

    try:
        folder = where()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except (OSError, CompressorError) as error:
        return Finding(name, "problem", f"cannot be written: {error}", fix)
    text = f"{folder} can be written, {free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding(name, "note", text, f"free some space, or: {fix}")
    return Finding(name, "ok", text)


def _embedded_set() -> Iterator[Finding]:
    try:
        scenes = _cache() / "scenes"
    except CompressorError:
        return  # said above
    there = sorted(path.name for path in scenes.glob("[!.]*")) if scenes.is_dir() else []
    yield Finding(
        "embedded set",
        "ok",
        f"made: {', '.join(there)}" if there else "not made yet; the first run makes it",
    )


def _optional() -> Iterator[Finding]:
    for name, (extra, use) in OPTIONAL.items():
        version = _version(name)
        if version:
            yield Finding(name, "ok", f"{version} ({use})")
        else:
            fix = f"pip install 'compressor[{extra}]' if you want: {use}"
            yield Finding(name, "note", "not installed", fix)


def _settings() -> Finding:
    from compressor.cli.settings import commands_of, read_settings, root

    try:
        settings = read_settings()
        every = dict(commands_of(root()))
        settings.check_top({" ".join(path): each for path, each in every.items()})
        for path, command in every.items():
            settings.of(path, command)
    except CompressorError as error:
        return Finding("settings", "problem", str(error), "mend the file; compressor config show")
    where = "none" if settings.file is None else str(settings.file)
    return Finding("settings", "ok", where)


def _terminal() -> Finding:
    import shutil

    from compressor.cli import console

    if not sys.stdout.isatty():
        return Finding("terminal", "ok", "output goes to a pipe or file: plain lines")
    size = shutil.get_terminal_size()
    encoding = (sys.stdout.encoding or "").lower()
    text = (
        f"{size.columns} columns, {encoding}, {'colour' if console.fancy(sys.stdout) else 'plain'}"
    )
    if not encoding.startswith("utf"):
        fix = "set PYTHONIOENCODING=utf-8, or a UTF-8 locale such as LANG=C.UTF-8"
        return Finding("terminal", "problem", text, fix)
    if size.columns < 80:
        return Finding("terminal", "note", text, "tables leave columns away below 80")
    return Finding("terminal", "ok", text)
