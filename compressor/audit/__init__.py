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
from compressor.audit.shapes import parse_shapes
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
    *,
    run: bool = False,
    arch: str | None = None,
) -> AuditResult:
    """Counts a live network or a model file.

    Args:
        module_or_path: a `torch.nn.Module` (a scripted one too), a `torch.export.ExportedProgram`,
            the path of a model file, or "package.module:factory", the name of a function that
            builds a network. A file is never executed unless `run` allows it.
        inputs: for a live module: a tensor, a tuple of inputs, or a mapping of keyword inputs, each
            with its batch axis, as (1, C, M, T).
        input_shape: instead of `inputs`: one such shape, or a sequence of shapes for several
            inputs. A file that carries a graph is counted on its own input when this is None (an
            open batch axis counts as 1); another shape is taken where the format leaves it open or
            names a network that can be built again.
        convention: which convention `AuditResult.macs` follows ("strict", "nessi").
        run: permits what runs code of the file's choosing, in a child process with limits:
            TorchScript and "package.module:factory".
        arch: for a state dict (.pt, .safetensors): the network it belongs to, a name in the zoo or
            (with `run`) "package.module:factory"; its graph gives the MACs.

    Returns:
        All figures; see `AuditResult`.

    Raises:
        UsageError: wrong kind of argument, neither inputs nor a shape for a module, or an input
            that the file cannot be counted on.
        MeasureError: the module does not run on that input.
        ModelFileError: the file cannot be read.
    """
    if isinstance(module_or_path, (str, PathLike)):
        from compressor.audit.readers.files import read_file

        if inputs is not None:
            raise UsageError(
                f"{module_or_path}: a file is counted on a shape, not on values: give "
                "input_shape=... instead of inputs=..."
            )
        shapes = None if input_shape is None else parse_shapes(input_shape)
        found = read_file(module_or_path, shapes=shapes, run=run, arch=arch)
        return audit_inventory(found, convention)
    if arch is not None:
        raise UsageError(f"arch={arch!r}: only a state dict in a file needs its network named")
    torch = sys.modules.get("torch")  # a live network cannot exist without it
    if torch is not None and isinstance(module_or_path, torch.nn.Module):
        from compressor.audit.readers.module import read_module

        return audit_inventory(read_module(module_or_path, inputs, input_shape), convention)
    export = sys.modules.get("torch.export")
    if export is not None and isinstance(module_or_path, export.ExportedProgram):
        from compressor.audit.readers.exportedlive import read_exported_program

        if inputs is not None:
            raise UsageError("an ExportedProgram carries its own inputs: leave inputs=... out")
        shapes = None if input_shape is None else parse_shapes(input_shape)
        return audit_inventory(read_exported_program(module_or_path, shapes), convention)
    raise UsageError(
        "audit: expected a torch module, an ExportedProgram or a path, found "
        f"{type(module_or_path).__name__}"
    )


class _CallableModule(types.ModuleType):
    """Makes `compressor.audit(...)` the public call, beside the package's own names."""

    def __call__(
        self,
        module_or_path: Any,
        inputs: Any = None,
        input_shape: Any = None,
        convention: str = "strict",
        *,
        run: bool = False,
        arch: str | None = None,
    ) -> AuditResult:
        return audit(module_or_path, inputs, input_shape, convention, run=run, arch=arch)


sys.modules[__name__].__class__ = _CallableModule
