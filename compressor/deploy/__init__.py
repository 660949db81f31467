"""Exported networks at work: sessions, speed, and scenes from sounds. No torch for ONNX files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # resolved lazily below
    from compressor.deploy.bench import BenchResult, bench
    from compressor.deploy.predict import Prediction, predict_files
    from compressor.deploy.session import OnnxNetwork, evaluate_onnx

__all__ = ["BenchResult", "OnnxNetwork", "Prediction", "bench", "evaluate_onnx", "predict_files"]

_HOMES = {
    "BenchResult": "bench",
    "OnnxNetwork": "session",
    "Prediction": "predict",
    "bench": "bench",
    "evaluate_onnx": "session",
    "predict_files": "predict",
}


def __getattr__(name: str) -> Any:
    """Import the functions on first use."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"compressor.deploy.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'compressor.deploy' has no attribute {name!r}")
