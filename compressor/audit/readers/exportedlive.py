"""Reader for a live `torch.export.ExportedProgram`. Imports torch.

The program is written as `torch.export.save` writes it, into memory, and read as a `.pt2` file is:
both give the same answer by construction.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch

from compressor.audit.inventory import Inventory
from compressor.audit.readers.archive import open_archive
from compressor.audit.readers.exportedfile import read_exported_archive
from compressor.errors import MeasureError

__all__ = ["read_exported_program"]


def read_exported_program(program: Any, shapes: tuple[tuple[int, ...], ...] | None) -> Inventory:
    """Counts an exported program; it is left as it was.

    Args:
        program: a `torch.export.ExportedProgram`.
        shapes: one shape for each tensor input, for open axes.

    Raises:
        MeasureError: torch cannot write the program.
        ModelFileError: it holds what only code could read.
        UsageError: `shapes` that it does not allow.
    """
    stream = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of inputs and types that play no part
            torch.export.save(program, stream)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "")[:300]
        raise MeasureError(
            f"ExportedProgram: torch.export.save cannot write it: {type(error).__name__}: {reason}"
        ) from error
    with open_archive(stream, "ExportedProgram", stream.getbuffer().nbytes) as archive:
        return read_exported_archive(archive, shapes)
