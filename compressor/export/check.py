"""Is an ONNX file right? The onnx checker, nothing outside the file, and outputs in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor.errors import MeasureError
from compressor.extras import try_import

if TYPE_CHECKING:
    import onnx

__all__ = ["check_structure", "run_once"]


def check_structure(proto: onnx.ModelProto) -> None:
    """Run the onnx checker with shape inference, and see that every tensor is inside the file.

    Raises:
        MeasureError: what the checker says.
    """
    import onnx

    outside = [
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    if outside:
        raise MeasureError(f"tensor {outside[0]!r} lies outside the ONNX file; it must be in it")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        line = " ".join(str(error).split())[:300]
        raise MeasureError(f"the onnx checker refuses the exported network: {line}") from error


def run_once(path: Path, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs of an ONNX file in onnxruntime, on one thread.

    The inputs are run in one batch and one by one: the batch axis must be free and must not matter.

    Args:
        path: the file.
        inputs: (N, *input_shape) float32.

    Returns:
        (N, outputs) of the single runs.

    Raises:
        MeasureError: onnxruntime cannot load or run it, or the batch changes the outputs.
    """
    ort = try_import("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        together = np.asarray(session.run(None, {name: inputs})[0])
        single = np.concatenate(
            [np.asarray(session.run(None, {name: one[None]})[0]) for one in inputs]
        )
    except Exception as error:  # onnxruntime's exceptions have no base class of their own
        line = " ".join(str(error).split())[:300]
        raise MeasureError(f"onnxruntime cannot run {path.name}: {line}") from error
    spread = float(np.abs(together - single).max())
    # integer kernels round at the same places whatever the batch, float ones sum in other orders
    if together.shape != single.shape or spread > 1e-3 * max(1.0, float(np.abs(single).max())):
        raise MeasureError(f"{path.name}: the outputs depend on the batch (by {spread:.3g})")
    return single.astype(np.float32)
