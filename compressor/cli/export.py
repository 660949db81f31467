"""`compressor export`: a model file in other formats, each checked after it is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compressor.cli import console
from compressor.cli.options import Cache

if TYPE_CHECKING:
    from compressor.deploy.verify import Verified
    from compressor.export import ExportReport

__all__ = ["export"]


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL.pt", help="A model file.")],
    *,
    to: Annotated[
        str, typer.Option(help="onnx, pt2 (torch.export), safetensors (weights) or tflite.")
    ] = "onnx",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Number type of the weights: float32, float16, bfloat16 or int8 (of a quantised "
            "network). Default: the model file's own."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to; default: the model file's name with the format's ending."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Also evaluate an ONNX file in onnxruntime on this data set's test part; "
            "'synthetic' is the embedded set."
        ),
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Fold. Default: the data set's own.")] = None,
    cache: Cache = None,
    output: Annotated[
        Literal["text", "json"], typer.Option("--format", help="How to print the result.")
    ] = "text",
) -> None:
    """Export a network, run what was written, and report how far its outputs are off.

    ONNX files are self-contained, pass the onnx checker, take any batch size and carry front-end,
    standardizer and classes, so that `compressor predict` needs nothing else. Float outputs must
    equal PyTorch's to 1e-5, or nothing is written.

    Exit codes: 0 written and equal, 2 usage, 3 cannot be exported or is not equal.

    Example: compressor export model.pt --to onnx --dtype float16
    """
    from compressor.errors import UnknownNameError, UsageError
    from compressor.export import TARGETS

    if to not in TARGETS:
        raise UnknownNameError("export format", to, TARGETS)
    if data is not None and to != "onnx":
        raise UsageError(f"--data evaluates ONNX files in onnxruntime; --to is {to}")
    target = out or model.with_suffix(TARGETS[to])
    if target.resolve() == model.resolve():
        raise UsageError(f"--out {target} is the model file itself; name another file")

    from compressor import artifact as model_files
    from compressor.export import export as write

    artifact = model_files.load(model)
    report = write(artifact, target, to, dtype)
    verified = None
    if data is not None:
        from compressor.deploy.verify import features_for, verify

        with console.on_progress("features") as on_progress:
            features = features_for(artifact, data, fold=fold, cache=cache, on_progress=on_progress)
        verified = verify(artifact, target, features)
    if output == "json":
        import json

        record = {"schema": 1, "export": report.to_dict()}
        if verified is not None:
            record["evaluation"] = verified.to_dict()
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return
    for line in (*_lines(report), *(() if verified is None else _evaluation(verified))):
        print(line)
    print(target)


def _lines(report: ExportReport) -> list[str]:
    lines = [f"{report.to}, {report.dtype} weights, a file of {report.file_bytes:,} B"]
    if report.comparison is not None:
        c = report.comparison
        lines.append(
            f"largest output difference to PyTorch {c.difference:.2g} (largest output "
            f"{c.largest:.3g}), same class on {100 * c.agreement:.4g} % of {c.inputs} noise inputs"
        )
    lines.append(f"checked: {', '.join(report.checks)}")
    if report.operators:
        lines.append("operators: " + ", ".join(f"{op} {n}" for op, n in report.operators.items()))
    return lines


def _evaluation(verified: Verified) -> list[str]:
    kind = " (synthetic)" if verified.synthetic and "synthetic" not in verified.title else ""
    found, expected = verified.onnx, verified.torch
    return [
        f"{verified.title}{kind}, {verified.split}, {found.n:,} test clips",
        f"accuracy in onnxruntime {100 * found.accuracy:.2f} %, log loss {found.log_loss:.4f}; "
        f"in PyTorch {100 * expected.accuracy:.2f} %, {expected.log_loss:.4f}; "
        f"same class on {100 * verified.agreement:.2f} % of the clips",
    ]
