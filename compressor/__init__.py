"""Model compression and complexity audit for low-complexity acoustic scene classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # resolved lazily below, so that importing the package costs nothing
    import compressor.audit as audit  # noqa: PLR0402 - `from compressor` finds no name yet
    from compressor.engine.run import compress

__all__ = ["__version__", "audit", "compress"]


def __getattr__(name: str) -> Any:
    """Import the public parts on first use, so that `compressor --help` does not pay for them."""
    if name == "audit":
        import importlib

        return importlib.import_module("compressor.audit")
    if name == "compress":
        from compressor.engine.run import compress

        return compress
    raise AttributeError(f"module 'compressor' has no attribute {name!r}")
