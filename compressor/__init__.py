"""Model compression and complexity audit for low-complexity acoustic scene classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # resolved lazily below, so that importing the package costs nothing
    import compressor.audit as audit

__all__ = ["__version__", "audit"]


def __getattr__(name: str) -> Any:
    """Import the public parts on first use: `compressor.audit` must not cost `compressor --help`."""
    if name == "audit":
        import importlib

        return importlib.import_module("compressor.audit")
    raise AttributeError(f"module 'compressor' has no attribute {name!r}")
