"""TFLite through litert-torch, Google's maintained converter for PyTorch.

It is an extra of its own (it brings JAX and LiteRT), and writes float32 with a fixed batch of one,
as microcontroller runtimes want it. The file is run by LiteRT's own interpreter and compared with
PyTorch before it is kept.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from compressor.errors import MeasureError
from compressor.extras import try_import

__all__ = ["run_tflite", "write_tflite"]


def write_tflite(model: nn.Module, example: Tensor, path: Path) -> None:
    """Convert a network and write it.

    Args:
        model: float32 network in evaluation mode.
        example: one input (1, *input_shape).
        path: where to.

    Raises:
        UsageError: litert-torch is not installed.
        MeasureError: it cannot convert the network; says why.
    """
    converter = try_import("litert_torch")
    try:
        # what the converter prints belongs beside the progress, not among the data
        with warnings.catch_warnings(), _silent(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")  # of the converter on its own dependencies
            converter.convert(model, (example,)).export(str(path))
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise MeasureError(
            f"litert-torch cannot convert {type(model).__name__} to TFLite: {line}; "
            "export --to onnx instead"
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the converter's log from the user's screen."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def run_tflite(path: Path, inputs: Tensor) -> NDArray[np.float32]:
    """Outputs (N, outputs) of a TFLite file in LiteRT's interpreter, one input at a time.

    Raises:
        MeasureError: the interpreter cannot run it.
    """
    module = try_import("ai_edge_litert.interpreter")
    try:
        interpreter: Any = module.Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        place = interpreter.get_input_details()[0]["index"]
        answer = interpreter.get_output_details()[0]["index"]
        found = []
        for one in inputs.numpy():
            interpreter.set_tensor(place, one[None])
            interpreter.invoke()
            found.append(np.array(interpreter.get_tensor(answer), dtype=np.float32))
    except (RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        raise MeasureError(f"LiteRT cannot run {path.name}: {line}") from error
    return np.concatenate(found)
