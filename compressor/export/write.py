"""`export`: write a network in another format, read it back, compare, and only then keep it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compressor.errors import MeasureError, UnknownNameError, UsageError
from compressor.export import TARGETS
from compressor.export.description import Description, describe
from compressor.export.reference import reference_network
from compressor.export.report import Comparison, ExportReport, compare, require_equal

if TYPE_CHECKING:
    from compressor.artifact import Artifact

__all__ = ["check_inputs", "export"]

FLOAT_TYPES = ("float32", "float16", "bfloat16")
_CHECKED = 16  # inputs that outputs are compared on


def check_inputs(artifact: Artifact, count: int = _CHECKED) -> Tensor:
    """Inputs to compare outputs on where no clips are given: noise as standardised features are.

    Each input has its own level and spread, so that inputs do not all give one class.

    Returns:
        (count, *input_shape) float32, the same in every call.
    """
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(count, *artifact.input_shape, generator=generator)
    level = torch.linspace(-1.0, 1.0, count).reshape(-1, 1, 1, 1)
    return noise * (1.0 + 0.5 * level) + level.flip(0)


def export(
    artifact: Artifact,
    path: str | Path,
    to: str = "onnx",
    dtype: str | None = None,
    inputs: Tensor | None = None,
) -> ExportReport:
    """Write `artifact` to `path` in another format.

    The file is compared with the PyTorch network before it gets its name: float outputs to 1e-5
    (relative to outputs beyond 1), tensors bit by bit. int8 outputs are compared with
    the PyTorch network whose activations are rounded, and the difference is reported: how much of
    it matters is told by accuracy on clips (`compressor.deploy.session.evaluate_onnx`).

    Args:
        artifact: float, cast or quantised network.
        path: where to; a file that is there is replaced.
        to: "onnx", "pt2", "safetensors" or "tflite" (float32 alone).
        dtype: number type of the stored weights, "float32", "float16", "bfloat16" or "int8"; None
            keeps the artifact's. A quantised network as "float32" is the float network with its
            weights on the integers' grid.
        inputs: standardised inputs (N, *input_shape) to compare on; None takes noise.

    Returns:
        What was written, and the differences found.

    Raises:
        UnknownNameError: no such format or number type.
        UsageError: a float network as int8 (quantise it first), int8 in a format that has none, or
            the file cannot be written.
        MeasureError: the network cannot be exported, or the written file is not equal to it.
    """
    if to not in TARGETS:
        raise UnknownNameError("export format", to, TARGETS)
    kind = dtype or artifact.dtype
    if kind not in (*FLOAT_TYPES, "int8"):
        raise UnknownNameError("number type", kind, (*FLOAT_TYPES, "int8"))
    if kind == "int8" and not artifact.quantization:
        raise UsageError(
            f"the network is {artifact.dtype} and has no integer weights to export as int8; "
            "quantise it first: compressor quantize MODEL.pt"
        )
    if kind == "int8" and to in ("pt2", "tflite"):
        raise UsageError(
            f"--to {to} writes float weights only; export int8 with --to onnx (or --to safetensors "
            "for the integers alone), or the float weights with --dtype float32"
        )
    if to == "tflite" and kind != "float32":
        raise UsageError(f"--to tflite writes float32 only, not {kind}; give --dtype float32")
    for name, tensor in artifact.state_dict.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise MeasureError(
                f"{name!r} holds values that are not finite; train the network again"
            )
    description = dataclasses.replace(describe(artifact, kind), dtype=kind)
    x = check_inputs(artifact) if inputs is None else inputs
    with _kept(Path(path)) as scratch:
        if to == "safetensors":
            found = _write_safetensors(artifact, scratch, kind, description)
        elif kind == "int8":
            found = _write_int8(artifact, scratch, description, x)
        else:
            model = _network(artifact, kind)
            found = _WRITERS[to](model, scratch, kind, description, x)
    return dataclasses.replace(found, path=Path(path))


@contextmanager
def _kept(target: Path) -> Iterator[Path]:
    """A name beside `target` that becomes `target` when the block ends well, and goes otherwise."""
    scratch = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix or '.tmp'}")
    try:
        yield scratch
        scratch.replace(target)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror or error}; name another place"
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


def _network(artifact: Artifact, dtype: str) -> nn.Module:
    """The float32 network with its weights on the grid of `dtype`.

    Raises:
        MeasureError: a weight beyond the type's largest number.
    """
    model = artifact.build()
    if dtype in ("float32", artifact.dtype):
        return model  # of a quantised network: the float network on the integers' grid
    from compressor.methods.cast import cast

    result = cast(model, dtype)  # type: ignore[arg-type]  # the caller has checked the name
    if result.overflowed:
        worst = result.overflowed[0]
        raise MeasureError(
            f"tensor {worst.name!r} reaches {worst.extreme:.4g}, beyond the largest {dtype}; "
            "export float32"
        )
    return result.model


def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(inputs)
    return logits


def _compared(model: nn.Module, found: Tensor, inputs: Tensor) -> Comparison:
    return compare(found.numpy(), _outputs(model, inputs).numpy())


def _write_onnx(
    model: nn.Module, path: Path, dtype: str, description: Description, inputs: Tensor
) -> ExportReport:
    from compressor.export import onnxexport

    proto = onnxexport.float_onnx(model, inputs[:2], dtype)
    onnxexport.set_metadata(proto, description.to_strings())
    content = onnxexport.to_bytes(proto)
    path.write_bytes(content)
    comparison = _run_onnx(model, path, inputs)
    require_equal(comparison, "ONNX in onnxruntime")
    return ExportReport(
        path,
        "onnx",
        dtype,
        len(content),
        comparison,
        ("onnx checker", "self-contained", "free batch axis", "outputs in onnxruntime"),
        onnxexport.operators_of(proto),
    )


def _run_onnx(model: nn.Module, path: Path, inputs: Tensor) -> Comparison:
    """Check a written ONNX file and compare its outputs."""
    import onnx

    from compressor.export.check import check_structure, run_once

    check_structure(onnx.load(path))
    return _compared(model, torch.from_numpy(run_once(path, inputs.numpy())), inputs)


def _write_int8(
    artifact: Artifact, path: Path, description: Description, inputs: Tensor
) -> ExportReport:
    import onnx

    from compressor.export import onnxexport
    from compressor.export.quantized import write_qdq

    write_qdq(artifact, path)
    proto = onnx.load(path)
    onnxexport.set_metadata(proto, description.to_strings())
    content = onnxexport.to_bytes(proto)
    path.write_bytes(content)
    comparison = _run_onnx(reference_network(artifact), path, inputs)
    return ExportReport(
        path,
        "onnx",
        "int8",
        len(content),
        comparison,
        ("onnx checker", "self-contained", "free batch axis", "runs in onnxruntime"),
        onnxexport.operators_of(proto),
    )


def _write_pt2(
    model: nn.Module, path: Path, dtype: str, description: Description, inputs: Tensor
) -> ExportReport:
    from compressor.export.torchexport import run_pt2, to_pt2

    expected = _outputs(model, inputs)
    content = to_pt2(model, inputs[:2], dtype, description.to_strings())
    path.write_bytes(content)
    found = run_pt2(path.read_bytes(), inputs)
    comparison = compare(found.numpy(), expected.numpy())
    require_equal(comparison, ".pt2 loaded again")
    checks = ("loaded again", "free batch axis", "outputs in PyTorch")
    return ExportReport(path, "pt2", dtype, len(content), comparison, checks)


def _write_tflite(
    model: nn.Module, path: Path, dtype: str, description: Description, inputs: Tensor
) -> ExportReport:
    from compressor.export.tfliteexport import run_tflite, write_tflite

    write_tflite(model, inputs[:1], path)
    comparison = _compared(model, torch.from_numpy(run_tflite(path, inputs)), inputs)
    require_equal(comparison, "TFLite in LiteRT")
    size = path.stat().st_size
    return ExportReport(path, "tflite", dtype, size, comparison, ("outputs in LiteRT",))


_WRITERS = {"onnx": _write_onnx, "pt2": _write_pt2, "tflite": _write_tflite}


def _write_safetensors(
    artifact: Artifact, path: Path, dtype: str, description: Description
) -> ExportReport:
    from compressor.export.safetensors import read, to_bytes

    if dtype == artifact.dtype:
        tensors = dict(artifact.state_dict)
    else:
        kind = getattr(torch, dtype)
        state = _network(artifact, dtype).state_dict()
        tensors = {n: t.to(kind) if t.is_floating_point() else t for n, t in state.items()}
    strings = description.to_strings()
    if dtype == "int8":
        tensors, more = _integers(artifact)
        strings |= more
    content = to_bytes(tensors, strings)
    path.write_bytes(content)
    again, metadata = read(path)
    same = again.keys() == tensors.keys() and metadata == strings
    if not same or not all(
        again[n].dtype == t.dtype and torch.equal(again[n], t) for n, t in tensors.items()
    ):
        raise MeasureError("the safetensors file does not read back as it was written: not kept")
    return ExportReport(
        path, "safetensors", dtype, len(content), None, ("read back, equal to the last bit",)
    )


def _integers(artifact: Artifact) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Integer weights with what turns them into numbers; those of 4 bits two to a byte."""
    import json

    from compressor import nibbles
    from compressor.export.description import PREFIX

    text = json.dumps(artifact.quantization, sort_keys=True)
    more = {f"{PREFIX}quantization": text}
    narrow = nibbles.narrow_weights(artifact.state_dict, artifact.quantization)
    if narrow:
        more[f"{PREFIX}packed"] = json.dumps(narrow, sort_keys=True)
    tensors = {
        name: nibbles.packed(tensor) if name in narrow else tensor
        for name, tensor in artifact.state_dict.items()
    }
    return tensors, more
