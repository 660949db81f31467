"""The auditor: parameters, bytes, MACs and memory of a model, beside the rules of each year.

The package itself is callable: `compressor.audit(model, input_shape=(1, 1, 40, 51))`. Nothing here
imports torch; a live module brings it along.
"""

from __future__ import annotations

import sys
import types
from os import PathLike
from typing import Any

from compressor.audit.conventions import CONVENTIONS
from compressor.audit.count import audit_inventory
from compressor.audit.planned import planned_bytes
from compressor.audit.records import AuditResult, LayerCount, Status
from compressor.audit.verdict import Check, Verdict, verdicts
from compressor.errors import UsageError

__all__ = [
    "CONVENTIONS",
    "AuditResult",
    "Check",
    "LayerCount",
    "Status",
    "Verdict",
    "audit",
    "planned_bytes",
    "verdicts",
]


def audit(
    module_or_path: Any,
    inputs: Any = None,
    input_shape: Any = None,
    convention: str = "strict",
) -> AuditResult:
    """Counts a live torch module or a model file.

    Args:
        module_or_path: a `torch.nn.Module`, or the path of a model file (never executed).
        inputs: for a module: a tensor, a tuple of inputs, or a mapping of keyword inputs, each with
            its batch axis, as (1, C, M, T).
        input_shape: for a module, instead of `inputs`: one such shape, or a sequence of shapes. A
            file carries its own; another one is refused.
        convention: which convention `AuditResult.macs` follows ("strict", "nessi").

    Returns:
        All figures; see `AuditResult`.

    Raises:
        UsageError: wrong kind of argument, neither inputs nor a shape for a module, or another
            input than the file's.
        MeasureError: the module does not run on that input.
        ModelFileError: the file cannot be read.
    """
    if isinstance(module_or_path, (str, PathLike)):
        from compressor.audit.readers.files import read_file

        result = audit_inventory(read_file(module_or_path), convention)
        wanted = None if input_shape is None else tuple(input_shape)
        if inputs is not None or (wanted is not None and wanted != result.input_shape):
            raise UsageError(
                f"{result.source}: a file is counted on the input it was traced on "
                f"({result.input_shape or 'it has no graph'}); for another one load its network "
                "(compressor.artifact.load(path).build()) and audit that"
            )
        return result
    torch = sys.modules.get("torch")  # a live module cannot exist without it
    if torch is not None and isinstance(module_or_path, torch.nn.Module):
        from compressor.audit.readers.module import read_module

        return audit_inventory(read_module(module_or_path, inputs, input_shape), convention)
    raise UsageError(
        f"audit: expected a torch module or a path, found {type(module_or_path).__name__}"
    )


class _CallableModule(types.ModuleType):
    """Makes `compressor.audit(...)` the public call, beside the package's own names."""

    def __call__(
        self,
        module_or_path: Any,
        inputs: Any = None,
        input_shape: Any = None,
        convention: str = "strict",
    ) -> AuditResult:
        return audit(module_or_path, inputs, input_shape, convention)


sys.modules[__name__].__class__ = _CallableModule
