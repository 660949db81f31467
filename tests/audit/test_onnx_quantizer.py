"""Files that onnxruntime's quantiser writes: the same network, counted at its new width."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from torch import nn

import compressor

# 8 x 1 x 9 + 8, depthwise 8 x 9 + 8, 16 x 8 + 16, dense 16 x 4 + 4
WEIGHTS, BIASES = 72 + 72 + 128 + 64, 8 + 8 + 16 + 4
# 8 x 8 places for the first, 4 x 4 behind the stride for the next two, one for the dense layer
MACS = 72 * 8 * 8 + 72 * 4 * 4 + 128 * 4 * 4 + 64


class Images(CalibrationDataReader):
    """A few random inputs."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self._left = [
            {"x": generator.normal(size=(1, 1, 8, 8)).astype(np.float32)} for _ in range(3)
        ]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self._left.pop() if self._left else None


@pytest.fixture
def quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(level)


@pytest.fixture
def source(quiet: None, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    ).eval()
    path = tmp_path / "float.onnx"
    torch.onnx.export(network, (torch.zeros(1, 1, 8, 8),), path, dynamo=False, input_names=["x"])
    result = compressor.audit(path)
    assert (result.macs, result.params) == (MACS, WEIGHTS + BIASES)
    return path


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_static(
    form: QuantFormat, kind: QuantType, per_channel: bool, source: Path, tmp_path: Path
) -> None:
    path = tmp_path / "int8.onnx"
    quantize_static(
        source,
        path,
        Images(),
        quant_format=form,
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=kind,
    )
    result = compressor.audit(path)
    # by channel, convolutions get int8 even where uint8 is asked for
    eight = {name: size for name, size in result.bytes_by_dtype.items() if name != "int32"}
    assert set(eight) <= {"int8", "uint8"}
    assert (sum(eight.values()), result.bytes_by_dtype["int32"]) == (WEIGHTS, 4 * BIASES)
    assert (result.macs, result.params, result.status) == (MACS, WEIGHTS + BIASES, "exact")
    # random weights: none but a rounded one is zero, and uint8 has its zero point elsewhere
    assert result.params - 8 <= result.nonzero_params <= result.params


@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
def test_dynamic(kind: QuantType, source: Path, tmp_path: Path) -> None:
    """ConvInteger and MatMulInteger: biases stay float32."""
    path = tmp_path / "dynamic.onnx"
    quantize_dynamic(source, path, weight_type=kind)
    result = compressor.audit(path)
    name = "int8" if kind == QuantType.QInt8 else "uint8"
    assert result.bytes_by_dtype == {name: WEIGHTS, "float32": 4 * BIASES}
    assert (result.macs, result.params, result.status) == (MACS, WEIGHTS + BIASES, "exact")


@pytest.mark.parametrize("symmetric", [True, False])
def test_four_bits(symmetric: bool, quiet: None, tmp_path: Path) -> None:
    """A 40 x 24 product in blocks of 16: 40 is no multiple of 16."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(40, 24, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(x)

    torch.manual_seed(0)
    source = tmp_path / "dense.onnx"
    torch.onnx.export(Dense().eval(), (torch.zeros(1, 5, 40),), source, dynamo=False)
    quantiser = MatMulNBitsQuantizer(onnx.load(source), block_size=16, is_symmetric=symmetric)
    quantiser.process()
    path = tmp_path / "int4.onnx"
    path.write_bytes(quantiser.model.model.SerializeToString())
    result = compressor.audit(path)
    assert (result.macs, result.params) == (5 * 40 * 24, 40 * 24)
    assert result.bytes_by_dtype == {"uint4": 40 * 24 // 2}
    assert 0.7 * 960 < result.nonzero_params < 960  # some of 16 levels are the zero point
    assert result.status == "exact"
