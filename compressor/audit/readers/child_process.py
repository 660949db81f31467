"""Starts the child process of an audit, hands it a request and reads its answer, within limits.

The child (child_main.py) has a bounded time, memory and answer, may write no file, has no network
where the system allows to take it away, an empty folder of its own as working directory and none of
the parent's environment but search paths.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.audit.shown import shown_name
from compressor.errors import MeasureError, ModelFileError, UsageError

__all__ = ["LIMITS", "Limits", "ask"]

# the search paths a Python needs; nothing that could hold a secret
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "SYSTEMROOT")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may take.

    Attributes:
        seconds: from start to answer, importing torch included.
        memory_bytes: address space beyond what Python and torch take.
        reply_bytes: its answer.
    """

    seconds: float = 60.0
    memory_bytes: int = 4 << 30
    reply_bytes: int = 64 << 20


LIMITS = Limits()


def ask(request: Mapping[str, Any], name: str, files: tuple[int, ...] = ()) -> dict[str, Any]:
    """Starts a child, hands it a request and returns its answer."""
    limits = LIMITS
    with tempfile.TemporaryDirectory(prefix="compressor-audit-") as folder:
        data = _run(request, name, files, limits, folder)
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{name}: the child process gave no answer that can be read"
        ) from error
    if not isinstance(answer, dict):
        raise ModelFileError(f"{name}: the child process gave no answer that can be read")
    if (text := answer.get("error")) is not None:
        line = shown_name(text, 500)
        raise {"usage": UsageError, "measure": MeasureError}.get(
            str(answer.get("kind")), ModelFileError
        )(f"{name}: {line}")
    return answer


def _run(
    request: Mapping[str, Any], name: str, files: tuple[int, ...], limits: Limits, folder: str
) -> bytes:
    read, write = os.pipe()
    roots = [str(Path(__file__).resolve().parents[3]), *filter(None, _python_path())]
    environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    environment |= {
        "PYTHONPATH": os.pathsep.join(roots),
        "HOME": folder,
        "TMPDIR": folder,
        "OMP_NUM_THREADS": "1",  # the same figures, and a bounded address space
    }
    command = [sys.executable, "-P", "-B", "-W", "ignore"]
    command += ["-m", "compressor.audit.readers.child_main", str(write)]
    plain = {
        **request,
        "limits": [limits.seconds, limits.memory_bytes],
        "user_path": os.getcwd(),  # noqa: PTH109  (a text for JSON)
    }
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        pass_fds=(write, *files),
        start_new_session=True,
    )
    os.close(write)
    try:
        assert child.stdin is not None
        with suppress(BrokenPipeError):  # it ended at once: the empty answer says so
            child.stdin.write(json.dumps(plain).encode())
            child.stdin.close()
        return _answer(child, read, name, limits)
    finally:
        os.close(read)
        _end(child)


def _python_path() -> list[str]:
    return os.environ.get("PYTHONPATH", "").split(os.pathsep)


def _answer(child: subprocess.Popen[bytes], read: int, name: str, limits: Limits) -> bytes:
    """Reads one line from the child, within time and size."""
    deadline = time.monotonic() + limits.seconds
    parts: list[bytes] = []
    size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(read, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(min(left, 1.0)):
                if left > 0:
                    continue
                raise ModelFileError(
                    f"{name}: did not end within {limits.seconds:g} s in the child process: "
                    "stopped (a loop without an end, or a machine too busy: then try again)"
                )
            piece = os.read(read, 1 << 20)
            if not piece:
                child.poll()
                break
            parts.append(piece)
            size += len(piece)
            if size > limits.reply_bytes:
                raise ModelFileError(
                    f"{name}: the child process answered with more than {limits.reply_bytes:,} B: "
                    "stopped"
                )
            if piece.endswith(b"\n"):
                break
    data = b"".join(parts)
    if not data.endswith(b"\n"):
        raise ModelFileError(f"{name}: the child process ended without an answer ({_death(child)})")
    return data


def _death(child: subprocess.Popen[bytes]) -> str:
    try:
        code = child.wait(timeout=2)
    except subprocess.TimeoutExpired:
        return "it was stopped"
    number = -code if code < 0 else code - 128
    if 0 < number < 65:
        with_name = {int(s): s.name for s in signal.Signals}
        return f"{with_name.get(number, f'signal {number}')}: it crashed or went over a limit"
    return f"exit code {code}"


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the child and whatever it started in its session."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.wait()
    if child.stdin is not None and not child.stdin.closed:
        with suppress(BrokenPipeError):
            child.stdin.close()
