"""A network in another program's format, checked against the PyTorch network after it is written.

`export(artifact, path, to="onnx")` writes ONNX, `.pt2` (torch.export), safetensors or
TFLite. A file is
written complete or not at all, and only after what was written has been read back and compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # resolved lazily below: no torch for `compressor --help`
    from compressor.export.report import ExportReport
    from compressor.export.write import export

__all__ = ["TARGETS", "ExportReport", "export"]

TARGETS = {
    "onnx": ".onnx",
    "pt2": ".pt2",
    "safetensors": ".safetensors",
    "tflite": ".tflite",
}
"""What can be written, and the ending its files have."""

_HOMES = {"ExportReport": "report", "export": "write"}


def __getattr__(name: str) -> Any:
    """Import the functions on first use."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"compressor.export.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'compressor.export' has no attribute {name!r}")
