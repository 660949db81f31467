"""ONNX files in OpenVINO, as a second back end of the benchmark.

It reads the same file. Arithmetic of float layers is held at float32: by default OpenVINO takes
bfloat16 where the processor has it, and would not compute the same network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import MeasureError, ModelFileError, ShapeError
from compressor.extras import try_import

if TYPE_CHECKING:
    from compressor.deploy.kernels import Kernel, Kind

__all__ = ["OpenVinoNetwork", "kind_of", "layers_run"]

Array = NDArray[np.float32]
_CONVERT = frozenset({"Convert", "Reorder", "FakeQuantize", "Quantize", "Dequantize"})
_MOVING = frozenset({"Input", "Output", "Const", "Reshape", "Result", "Parameter", "Shape"})


class OpenVinoNetwork:
    """An ONNX file ready to run in OpenVINO on the CPU.

    Attributes:
        path: the file.
        input_shape: one input without the batch axis.
    """

    def __init__(self, path: str | Path, *, threads: int = 1, profiling: bool = False) -> None:
        """Load a file.

        Raises:
            ModelFileError: it cannot be loaded, or does not take one float input of four axes.
            UsageError: OpenVINO is not installed.
        """
        openvino: Any = try_import("openvino")
        self.path = Path(path)
        if not self.path.is_file():
            what = "is a folder" if self.path.is_dir() else "does not exist"
            raise ModelFileError(f"{self.path} {what}; give an ONNX file")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "PERF_COUNT": profiling,
        }
        try:
            model = openvino.Core().compile_model(str(self.path), "CPU", settings)
            shape = model.inputs[0].partial_shape
            sizes = [int(axis.get_length()) for axis in list(shape)[1:]]
        except Exception as error:  # OpenVINO raises plain RuntimeErrors
            line = " ".join(str(error).split())[-300:]
            raise ModelFileError(f"OpenVINO cannot load {self.path}: {line}") from error
        if len(model.inputs) != 1 or len(sizes) != 3:
            raise ModelFileError(
                f"{self.path} takes {len(model.inputs)} inputs; needed: one float input (batch, "
                "channel, bands, frames)"
            )
        self.input_shape = (sizes[0], sizes[1], sizes[2])
        self._request = model.create_infer_request()

    def run(self, inputs: Array) -> Array:
        """Outputs (N, outputs) of inputs that are known to fit; what is timed."""
        found = self._request.infer({0: inputs}, share_inputs=True, share_outputs=True)
        outputs: Array = found[0]
        return outputs

    def __call__(self, inputs: Array) -> Array:
        """Outputs (N, outputs) float32 of (N, *input_shape) float32.

        Raises:
            ShapeError: inputs of another shape.
            MeasureError: OpenVINO fails.
        """
        if inputs.ndim != 4 or inputs.shape[1:] != self.input_shape:
            raise ShapeError(
                f"{self.path} takes inputs of shape {self.input_shape}, not {inputs.shape[1:]}"
            )
        try:
            return np.array(self.run(inputs), dtype=np.float32)
        except Exception as error:
            line = " ".join(str(error).split())[-300:]
            raise MeasureError(f"OpenVINO failed on {self.path}: {line}") from error

    def profile(self) -> list[tuple[str, str, str, float]]:
        """(node, operator, kernel, ms) of each node of the last run; needs `profiling`."""
        return [
            (one.node_name, one.node_type, one.exec_type, one.real_time.total_seconds() * 1e3)
            for one in self._request.profiling_info
            if str(one.status).endswith("EXECUTED")
        ]


def kind_of(op: str, kernel: str) -> Kind:
    """What a node works on, from OpenVINO's name of its kernel ("jit_avx512_I8")."""
    if op in _CONVERT:
        return "convert"
    if op in _MOVING:
        return "other"
    return "integer" if kernel.upper().endswith(("I8", "U8")) else "float"


def layers_run(path: Path, x: Array, *, threads: int, runs: int) -> tuple[Kernel, ...]:
    """The nodes that OpenVINO runs, with the median of their times.

    Raises:
        ModelFileError: the file cannot be loaded.
        MeasureError: nothing ran.
    """
    from statistics import median

    from compressor.deploy.kernels import Kernel

    network = OpenVinoNetwork(path, threads=threads, profiling=True)
    times: dict[tuple[str, str, str], list[float]] = {}
    network(x)
    for _ in range(runs):
        network.run(x)
        for name, op, kernel, ms in network.profile():
            times.setdefault((name, op, kernel), []).append(ms)
    if not times:
        raise MeasureError(f"OpenVINO's profile of {path} names no node that ran")
    return tuple(
        Kernel(name, op, kind_of(op, kernel), median(found))
        for (name, op, kernel), found in times.items()
    )
