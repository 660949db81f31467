"""Runs a command of the command line inside the test's own process."""

from __future__ import annotations

import signal

import pytest
import typer
from typer.testing import CliRunner, Result

from compressor import runtime


def invoke(app: typer.Typer, *arguments: object) -> Result:
    """Run a command with the process's own threads, allocator and signals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "tune", lambda threads=None: None)
        patch.setattr(signal, "signal", lambda number, handler: None)
        return CliRunner().invoke(app, [str(argument) for argument in arguments])
