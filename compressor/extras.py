"""Optional packages: imported where they are used, with a message that names the extra.

Standard library only: every floor of the house may import this file.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from compressor.errors import UsageError

__all__ = ["EXTRAS", "try_import"]

EXTRAS = {
    "ai_edge_litert": "tflite",
    "litert_torch": "tflite",
    "onnxruntime": "run",
    "onnxscript": "run",
    "openvino": "openvino",
}
"""The extra of pyproject.toml that brings a package."""


def try_import(name: str) -> ModuleType:
    """Import an optional package.

    Args:
        name: what to import, such as "onnxruntime"; one of `EXTRAS`, or a module inside of one.

    Raises:
        UsageError: it is not installed; says how to install it.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != package:
            raise  # the package is there and lacks something of its own: say what it says
        raise UsageError(
            f"{package} is not installed; it comes with the extra {EXTRAS[package]!r}: "
            f"pip install 'compressor[{EXTRAS[package]}]'"
        ) from error
