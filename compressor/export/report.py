"""What an export is compared on, and the record of it. Numpy only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.errors import MeasureError

__all__ = ["TOLERANCE", "Comparison", "ExportReport", "compare", "require_equal"]

TOLERANCE = 1e-5
"""Largest difference of an output that counts as equal, relative to outputs beyond 1."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Outputs of the written file beside those of the PyTorch network, on the same inputs.

    Attributes:
        inputs: how many inputs were run.
        difference: largest absolute difference of an output.
        largest: largest magnitude of an output of the PyTorch network.
        agreement: share of inputs with the same highest output.
    """

    inputs: int
    difference: float
    largest: float
    agreement: float


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it was found to be right.

    Attributes:
        path: the file.
        to: format: "onnx", "pt2", "safetensors" or "tflite".
        dtype: number type of the stored weights.
        file_bytes: size of the file; says nothing of the size rules, which count numbers.
        comparison: outputs against the PyTorch network; None where a file has no outputs
            (safetensors: its tensors are compared bit by bit).
        checks: what was checked, in words.
        operators: operators of an ONNX file with their counts, most frequent first.
    """

    path: Path
    to: str
    dtype: str
    file_bytes: int
    comparison: Comparison | None
    checks: tuple[str, ...]
    operators: dict[str, int] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def compare(found: NDArray[np.float32], expected: NDArray[np.float32]) -> Comparison:
    """Compare outputs (N, classes) of a file with those of the PyTorch network.

    Raises:
        MeasureError: outputs of another shape, or not finite.
    """
    if found.shape != expected.shape:
        raise MeasureError(
            f"the exported network returns outputs of shape {found.shape}, the PyTorch network "
            f"{expected.shape}; the file was not kept"
        )
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        raise MeasureError(
            "outputs are infinite or NaN; the network's weights are broken: nothing was kept"
        )
    same = found.argmax(axis=1) == expected.argmax(axis=1)
    return Comparison(
        inputs=len(expected),
        difference=float(np.abs(found - expected).max()),
        largest=float(np.abs(expected).max()),
        agreement=float(same.mean()),
    )


def require_equal(comparison: Comparison, what: str) -> None:
    """See that outputs are equal up to rounding.

    Raises:
        MeasureError: they are not.
    """
    allowed = TOLERANCE * max(1.0, comparison.largest)
    if not comparison.difference <= allowed:
        raise MeasureError(
            f"{what}: outputs differ by {comparison.difference:.3g} from those of the PyTorch "
            f"network (largest output {comparison.largest:.3g}); allowed: {allowed:.3g}. The file "
            "was not kept; report the network"
        )
