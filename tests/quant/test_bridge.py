"""onnxruntime's own quantiser gets the trained integers and ranges, and keeps them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from torch import nn

from compressor.errors import ShapeError
from compressor.methods.quant import StaticInt8, finish_qat, prepare_qat, quantize_static
from compressor.methods.quant.bridge import quantize_with_onnxruntime

pytest.importorskip("onnxruntime")


def stored(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_integers_and_ranges_of_a_trained_network(
    trained: nn.Module, clips: Any, train: Any, run_onnx: Callable[..., Any], tmp_path: Path
) -> None:
    x, _ = clips(32, 100)
    test, _ = clips(400, 101)
    network = prepare_qat(trained, x, batches=[x], steps=5)
    train(network, 5, 0.005, seed=7)
    result = finish_qat(network, x)
    path = quantize_with_onnxruntime(result, tmp_path / "bridge.onnx", [x])
    tensors = stored(path)
    for layer, weight in result.weights.items():
        assert np.array_equal(tensors[f"{layer}.weight_quantized"], weight.values.numpy())
        assert np.array_equal(tensors[f"{layer}.weight_scale"], weight.scale.numpy())
    for layer, bias in result.biases.items():
        assert np.array_equal(tensors[f"{layer}.bias_quantized"], bias.values.numpy())
    scales = {v.tobytes() for n, v in tensors.items() if n.endswith("_scale") and v.ndim == 0}
    carried = [np.float32(grid.scale).tobytes() in scales for grid in result.activations.values()]
    assert all(carried)
    ours = run_onnx(result.to_onnx(), test).argmax(1)
    assert (run_onnx(path, test).argmax(1) == ours).mean() >= 0.99


def test_narrow_and_float_layers(
    trained: nn.Module, clips: Any, run_onnx: Callable[..., Any], tmp_path: Path
) -> None:
    x, _ = clips(32, 102)
    config = StaticInt8(mixed={"fc": 4}, keep_float=("layers.0",))
    result = quantize_static(trained, x, [x], config)
    path = quantize_with_onnxruntime(result, tmp_path / "bridge.onnx", [x])
    tensors = stored(path)
    assert np.array_equal(tensors["fc.weight_quantized"], result.weights["fc"].values.numpy())
    assert tensors["layers.0.conv1.weight"].dtype == np.float32
    assert np.isfinite(run_onnx(path, x)).all()
    with pytest.raises(ShapeError, match="calibration batch 0"):
        quantize_with_onnxruntime(result, path, [x[..., :3]])
