"""Training, evaluation and their settings. Torch is loaded on first use of what needs it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compressor.training.settings import TrainSettings

if TYPE_CHECKING:  # resolved lazily below
    from compressor.training.distill import Teacher
    from compressor.training.evaluation import batches, evaluate, predict
    from compressor.training.loop import FitResult, fit
    from compressor.training.masking import FixedMasks, GradualMasks
    from compressor.training.metrics import Evaluation, score

__all__ = [
    "Evaluation",
    "FitResult",
    "FixedMasks",
    "GradualMasks",
    "Teacher",
    "TrainSettings",
    "batches",
    "evaluate",
    "fit",
    "predict",
    "score",
]

_HOMES = {
    "Evaluation": "metrics",
    "FitResult": "loop",
    "FixedMasks": "masking",
    "GradualMasks": "masking",
    "Teacher": "distill",
    "batches": "evaluation",
    "evaluate": "evaluation",
    "fit": "loop",
    "predict": "evaluation",
    "score": "metrics",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name in _HOMES:
        return getattr(import_module(f"compressor.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'compressor.training' has no attribute {name!r}")
