"""Files that TensorFlow's converter wrote (tests/golden/tflite/make.py): our figures by hand.

`small` in every number type: convolution 4 x 3 x 3 x 1 on 16 x 12, depthwise 3 x 3 x 4 on 8 x 6,
convolution 4 x 4 on 8 x 6, transposed 3 x 2 x 2 x 4 from 8 x 6, fully connected 3 -> 5; a sum, a
product, a 2 x 2 average pool, a global mean. BatchNorm is folded.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import compressor

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "tflite"

WEIGHTS = 36 + 36 + 16 + 48 + 15
BIASES = 4 + 4 + 4 + 3 + 5
MACS = 192 * 36 + 48 * 36 + 48 * 16 + 48 * 48 + 15


@pytest.mark.parametrize(
    ("mode", "stored", "width"),
    [
        ("float16", {"float16": 2 * (WEIGHTS + BIASES)}, 4),
        ("int8", {"int8": WEIGHTS, "int32": 4 * BIASES}, 1),
        ("int16x8", {"int8": WEIGHTS, "int64": 8 * BIASES}, 2),
    ],
)
def test_small(mode: str, stored: dict[str, int], width: int) -> None:
    result = compressor.audit(GOLDEN / f"small-{mode}.tflite")
    assert (result.params, result.nonzero_params) == (WEIGHTS + BIASES, WEIGHTS + BIASES)
    assert result.bytes_by_dtype == stored
    assert result.macs == MACS == 11_727
    # no rule for the transposed one; pool 8 * 6 * 3 outputs x 4, sum 8 * 6 * 4, mean 8 * 6 * 3
    official = MACS - 48 * 48 + 144 * 4 + 192 + 144
    assert result.macs_by_convention["nessi-tflite"] == official
    assert result.status == "exact"
    # after the first convolution: input 192 and output 768 numbers (a float32 input is quantised
    # to the width of the activations first, and is gone by then)
    assert result.peak_activation_bytes == 960 * width
    kinds = {layer.kind: layer.name for layer in result.layers if layer.params}
    assert kinds["TRANSPOSE_CONV"].startswith("conv2d_transpose")
    assert kinds["FULLY_CONNECTED"].startswith("dense")


def test_lstm() -> None:
    result = compressor.audit(GOLDEN / "lstm-int8.tflite")
    # 4 gates of 8 x 6 and 8 x 8 over 10 steps, 3 x 8 at the end; biases 4 x 8 and 3
    assert result.macs == 10 * 4 * (48 + 64) + 24
    assert result.params == 4 * (48 + 64 + 8) + 24 + 3
    assert result.status == "exact"


def test_gru_as_a_loop() -> None:
    result = compressor.audit(GOLDEN / "gru-dynamic.tflite")
    # 3 gates of 8 x 6 and 8 x 8 over 10 steps of a WHILE, 3 x 8 at the end; two biases of 24, and 3
    assert result.macs == 10 * 3 * (48 + 64) + 24
    assert result.params == 3 * (48 + 64) + 2 * 24 + 24 + 3
    assert result.status == "exact"


def test_batch_matmul() -> None:
    result = compressor.audit(GOLDEN / "attention-int8.tflite")
    # 7 rows 6 -> 4, (7, 4) @ (4, 7), 7 rows 7 -> 3
    assert result.macs == 7 * 24 + 7 * 4 * 7 + 7 * 21
    assert result.bytes_by_dtype == {"int8": 24 + 21, "int32": 4 * (4 + 3)}
    assert result.status == "exact"
