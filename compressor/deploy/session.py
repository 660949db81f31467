"""ONNX files in onnxruntime: load one, run it, evaluate it. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import DataError, MeasureError, ModelFileError, ShapeError
from compressor.export.description import Description
from compressor.extras import try_import
from compressor.training.metrics import Evaluation, score

if TYPE_CHECKING:
    from compressor.data.features import FeatureSet, Standardizer

__all__ = ["OnnxNetwork", "arranged", "evaluate_onnx", "make_session", "onnx_logits"]

Array = NDArray[np.float32]


def make_session(
    path: Path,
    *,
    threads: int = 1,
    profile_to: Path | None = None,
    optimized_to: Path | None = None,
) -> Any:
    """An onnxruntime session on the CPU.

    Args:
        path: the ONNX file.
        threads: threads of one operator; operators run one after the other.
        profile_to: begin of the name of a profile to write; None writes none.
        optimized_to: where to write the graph that onnxruntime really runs; None writes none.

    Raises:
        ModelFileError: no file, or nothing that onnxruntime can load.
        UsageError: onnxruntime is not installed.
    """
    ort = try_import("onnxruntime")
    if not path.is_file():
        what = "is a folder, but must be an ONNX file" if path.is_dir() else "does not exist"
        raise ModelFileError(f"{path} {what}")
    with path.open("rb") as stream:
        if stream.read(4) == b"PK\x03\x04":
            raise ModelFileError(
                f"onnxruntime cannot load {path}: it is a zip archive, such as a model file (.pt); "
                f"write an ONNX file of it: compressor export {path}"
            )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # warnings about its own optimisations are no business of users
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_to)
    if optimized_to is not None:
        options.optimized_model_filepath = str(optimized_to)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no base class of their own
        line = " ".join(str(error).split())[:300]
        raise ModelFileError(f"onnxruntime cannot load {path}: {line}") from error


class OnnxNetwork:
    """An ONNX file ready to run.

    Attributes:
        path: the file.
        session: the onnxruntime session.
        description: what the file says of itself; None where compressor did not export it.
        input_name: name of its one input.
        input_shape: one input without the batch axis.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        """Load a file.

        Raises:
            ModelFileError: it cannot be loaded, or does not take one batch of features.
            UsageError: onnxruntime is not installed.
        """
        self.path = Path(path)
        self.session = make_session(self.path, threads=threads)
        metadata = dict(self.session.get_modelmeta().custom_metadata_map)
        self.description: Description | None = None
        if any(key.startswith("compressor.") for key in metadata):
            self.description = Description.from_strings(metadata, str(self.path))
        inputs = self.session.get_inputs()
        self.input_name: str = inputs[0].name
        self.input_shape = _free_batch(self.path, inputs)

    def run(self, inputs: Array) -> Array:
        """Outputs (N, outputs) of inputs that are known to fit; what is timed."""
        outputs: Array = self.session.run(None, {self.input_name: inputs})[0]
        return outputs

    def __call__(self, inputs: Array) -> Array:
        """Outputs (N, outputs) float32 of (N, *input_shape) float32.

        Raises:
            ShapeError: inputs of another shape.
            MeasureError: onnxruntime fails.
        """
        if inputs.ndim != 4 or inputs.shape[1:] != self.input_shape:
            raise ShapeError(
                f"{self.path} takes inputs of shape {self.input_shape}, not {inputs.shape[1:]}"
            )
        try:
            outputs = self.session.run(None, {self.input_name: inputs})
        except Exception as error:
            line = " ".join(str(error).split())[:300]
            raise MeasureError(f"onnxruntime failed on {self.path}: {line}") from error
        return np.asarray(outputs[0], dtype=np.float32)


def _free_batch(path: Path, inputs: Any) -> tuple[int, int, int]:
    """Sizes of an input behind its batch axis."""
    shape = list(inputs[0].shape)
    sizes = shape[1:]
    good = len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(shape) == 4
    if not good or not all(isinstance(size, int) and size > 0 for size in sizes):
        shown = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
        raise ModelFileError(
            f"{path} takes {shown}; needed: one float input (batch, channel, bands, frames) with "
            "fixed sizes behind the batch"
        )
    if isinstance(shape[0], int):
        raise ModelFileError(
            f"{path} takes batches of {shape[0]} only; export it with a free batch axis"
        )
    return sizes[0], sizes[1], sizes[2]


def arranged(x: NDArray[Any], standardizer: Standardizer, layout: str) -> Array:
    """Features (N, C, M, T) as a network takes them: standardised, in its order of axes."""
    standard = standardizer.apply(x)
    return np.ascontiguousarray(standard.swapaxes(2, 3) if layout == "CTF" else standard)


def evaluate_onnx(
    path: str | Path,
    features: FeatureSet,
    *,
    standardizer: Standardizer | None = None,
    layout: str | None = None,
    batch_size: int = 64,
    threads: int = 1,
) -> Evaluation:
    """Results of an ONNX file on a part, measured in onnxruntime.

    Args:
        path: the file.
        features: the part.
        standardizer: of the training part; None takes the file's own.
        layout: "CFT" or "CTF"; None takes the file's own.
        batch_size: clips a run.
        threads: of onnxruntime.

    Raises:
        ModelFileError, ShapeError, DataError, MeasureError: as `onnx_logits`.
    """
    logits = onnx_logits(
        path,
        features,
        standardizer=standardizer,
        layout=layout,
        batch_size=batch_size,
        threads=threads,
    )
    return score(logits, features.y, features.classes, features.devices)


def onnx_logits(
    path: str | Path,
    features: FeatureSet,
    *,
    standardizer: Standardizer | None = None,
    layout: str | None = None,
    batch_size: int = 64,
    threads: int = 1,
) -> Array:
    """Outputs of an ONNX file on whole clips, in the order of the part.

    Args:
        path: the file.
        features: the part.
        standardizer: of the training part; None takes the file's own.
        layout: "CFT" or "CTF"; None takes the file's own.
        batch_size: clips a run.
        threads: of onnxruntime.

    Returns:
        (N, classes) float32; outputs beyond the classes are dropped.

    Raises:
        ModelFileError: the file cannot be loaded, or does not describe itself where it must.
        ShapeError: it does not take these features, or has fewer outputs than classes.
        DataError: the part is empty.
        MeasureError: an output is infinite or NaN.
    """
    from compressor.data.features import Standardizer

    network = OnnxNetwork(path, threads=threads)
    if standardizer is None or layout is None:
        described = network.description
        if described is None:
            raise ModelFileError(
                f"{path} does not carry its standardizer and layout; give them, or export it with "
                "compressor export"
            )
        standardizer = standardizer or Standardizer.from_dict(described.standardizer)
        layout = layout or described.layout
    if len(features) == 0:
        raise DataError("the part to evaluate holds no clips; check the split of the data set")
    classes = len(features.classes)
    parts = []
    for first in range(0, len(features), batch_size):
        rows = features.index[first : first + batch_size]
        parts.append(network(arranged(features.x[rows], standardizer, layout)))
    logits = np.concatenate(parts)
    if logits.ndim != 2 or logits.shape[1] < classes:
        raise ShapeError(f"{path} has outputs {logits.shape[1:]}, the data has {classes} classes")
    if not np.isfinite(logits).all():
        raise MeasureError(f"{path}: outputs are infinite or NaN; its weights are broken")
    return logits[:, :classes]
