"""Where a result comes from: command, versions, seed, data hash, machine."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import compressor

__all__ = ["collect", "source_commit"]

_PACKAGES = ("torch", "torch-pruning", "numpy", "onnx", "brevitas", "soundfile", "pandas")


def source_commit() -> str:
    """The commit of the checkout this runs from, with "+" if files differ; "" outside of one."""
    root = Path(compressor.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        dirty = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit + ("+" if dirty else "")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def collect(
    *, command: Sequence[str] | None = None, seed: int | None = None, data_hash: str = ""
) -> dict[str, object]:
    """What a result file records about its making, as plain JSON.

    Args:
        command: the command line; None takes this process's own.
        seed: seed of the job.
        data_hash: hash of the clips' content and the front-end.

    Returns:
        `command`, `versions`, `seed`, `data_hash`, `platform`, `commit`.
    """
    if command is None:
        command = ["compressor", *sys.argv[1:]]
    return {
        "command": list(command),
        "versions": {
            "compressor": compressor.__version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
        },
        "seed": seed,
        "data_hash": data_hash,
        "platform": f"{platform.system()} {platform.machine()}",
        "commit": source_commit(),
    }
