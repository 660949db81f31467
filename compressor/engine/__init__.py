"""The compression engine: runs the steps of a recipe on a model file and keeps the books."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compressor.engine.ledger import Keeper, StepRecord

if TYPE_CHECKING:  # resolved lazily below: torch is loaded when something runs
    from compressor.engine.run import compress
    from compressor.engine.source import open_artifact, open_data

__all__ = ["Keeper", "StepRecord", "compress", "open_artifact", "open_data"]

_HOMES = {"compress": "run", "open_artifact": "source", "open_data": "source"}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name in _HOMES:
        return getattr(import_module(f"compressor.engine.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'compressor.engine' has no attribute {name!r}")
