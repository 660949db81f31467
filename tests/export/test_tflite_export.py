"""TFLite, where the converter is installed; without it the message says how to get it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from compressor.artifact import Artifact
from compressor.errors import UsageError
from compressor.export import export

INSTALLED = importlib.util.find_spec("litert_torch") is not None


def test_float16_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--to tflite writes float32 only, not float16"):
        export(artifact, tmp_path / "x.tflite", "tflite", "float16")


@pytest.mark.skipif(INSTALLED, reason="litert-torch is installed")
def test_without_the_converter_the_extra_is_named(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pip install 'compressor\[tflite\]'"):
        export(artifact, tmp_path / "x.tflite", "tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="litert-torch is not installed (extra 'tflite')")
def test_outputs_are_those_of_pytorch(artifact: Artifact, tmp_path: Path) -> None:
    from compressor.audit import audit

    report = export(artifact, tmp_path / "x.tflite", "tflite")
    assert report.comparison is not None
    assert report.comparison.difference <= 1e-5 * max(1.0, report.comparison.largest)
    assert audit(tmp_path / "x.tflite").macs > 0
