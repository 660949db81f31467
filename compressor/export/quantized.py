"""int8 ONNX files in quantise-dequantise form, written from the integers themselves.

Nothing is calibrated or rounded here: the file holds the integers, scales and zero points of the
quantised network, so that what is trained, counted, stored and run is one and the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressor.errors import MeasureError, UsageError

if TYPE_CHECKING:
    from compressor.artifact import Artifact
    from compressor.methods.quant import QuantizedNetwork

__all__ = ["integers_of", "write_qdq"]


def write_qdq(source: Artifact | QuantizedNetwork, path: str | Path) -> Path:
    """Write the int8 ONNX file of a quantised network: self-contained, free batch size, checked.

    Args:
        source: a quantised artifact or network.
        path: where to.

    Returns:
        `path`.

    Raises:
        UsageError: a float network, or a path that cannot be written.
        MeasureError: an operator without an ONNX form (the message names the layer), or a file that
            the ONNX checker refuses.
    """
    import onnx

    from compressor.methods.quant import QuantizedNetwork, restore

    network = source if isinstance(source, QuantizedNetwork) else restore(source)
    content = network.to_onnx()
    try:
        onnx.checker.check_model(content, full_check=True)
    except onnx.checker.ValidationError as error:
        reason = " ".join(str(error).split())[:300]
        raise MeasureError(f"the ONNX checker refuses the written network: {reason}") from error
    target = Path(path)
    try:
        target.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def integers_of(path: str | Path) -> dict[str, object]:
    """The integer tensors of an ONNX file by name: weights, biases, zero points.

    Raises:
        UsageError: the file cannot be read as ONNX.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import numpy_helper

    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise UsageError(f"{path} cannot be read as ONNX: {error}") from error
    kinds = (
        onnx.TensorProto.INT8,
        onnx.TensorProto.INT4,
        onnx.TensorProto.INT32,
        onnx.TensorProto.UINT8,
    )
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type in kinds
    }
