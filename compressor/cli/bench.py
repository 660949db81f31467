"""`compressor bench`: how fast an ONNX file is, and which kernels it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compressor.cli import console
from compressor.errors import UsageError

if TYPE_CHECKING:
    from compressor.deploy.bench import BenchResult, FileResult, Ratio

__all__ = ["bench"]

OWN = frozenset({".pt", ".pth"})  # what compressor export may read
OTHERS = OWN | {".tflite", ".safetensors", ".keras", ".h5", ".pt2", ".ckpt"}
SHOWN = 8  # float leftovers named in the text


def bench(
    file: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="An ONNX file.")],
    *,
    vs: Annotated[
        Path | None,
        typer.Option(metavar="BASE.onnx", help="Measure this one in turns with it."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the back end.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Inputs a batch for the throughput.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each times each file.")] = 50,
    backend: Annotated[
        str, typer.Option(help="What runs the files: onnxruntime, or openvino (an extra).")
    ] = "onnxruntime",
    output: Annotated[
        Literal["text", "json"], typer.Option("--format", help="How to print the result.")
    ] = "text",
) -> None:
    """Latency at batch 1, throughput, peak memory and the kernels that an ONNX file runs.

    With --vs both files are timed in turns, so that a busy machine favours neither; the ratio is
    the median over the rounds. Kernels are those that the back end ran, from its own profile.

    Example: compressor bench model-int8.onnx --vs model.onnx
    """
    for each in (file, *([] if vs is None else [vs])):
        _check_kind(each)
    from compressor.deploy.bench import bench as measure

    with console.on_progress("rounds") as on_round:
        result = measure(
            file,
            vs,
            threads=threads,
            batch_size=batch,
            rounds=rounds,
            backend=backend,
            on_round=on_round,
        )
    if output == "json":
        import json

        print(json.dumps(result.to_dict(), indent=2))
        return
    for line in _text(result):
        print(line)


def _check_kind(file: Path) -> None:
    """Says what to do with a model that no back end here runs, before one says it cannot."""
    if not file.is_file() or file.suffix.lower() not in OTHERS:
        return
    fix = f"compressor export {file} --to onnx writes one"
    if file.suffix.lower() not in OWN:
        fix = "name its ONNX file, or export the model that it was made of"
    raise UsageError(f"{file} is no ONNX file, and bench runs ONNX files; {fix}")


def _text(result: BenchResult) -> Iterator[str]:
    from compressor.cli.text import columns

    machine = result.machine
    extra = f" ({machine['instructions']})" if machine["instructions"] else ""
    yield (
        f"{result.backend} {machine[result.backend]}, {result.threads} "
        f"thread{'s' if result.threads != 1 else ''}, {machine['processor']}{extra}"
    )
    yield ""
    header = ["file", "ms", "quartiles", "least", "runs", "a second", "memory", "file B"]
    files = [result.file, *([] if result.base is None else [result.base])]
    yield from columns(header, [_row(one) for one in files], left={0})
    yield ""
    yield (
        f"ms: one inference at batch 1, median; a second: inferences in batches of "
        f"{result.file.batch_size}; memory: peak above an empty {result.backend} process"
    )
    if result.base is not None and result.ratio is not None and result.batch_ratio is not None:
        yield ""
        yield f"{result.file.path.name} against {result.base.path.name}: {_ratio(result.ratio)}"
        yield f"in batches of {result.file.batch_size}: {_ratio(result.batch_ratio)}"
    if result.slower:
        parts = [f"{op} (+{ms:.3f} ms)" for op, ms in result.slower[:3]]
        yield f"slower because of {', '.join(parts)}"
        if result.file.kernels.integer and result.backend == "onnxruntime":
            yield "compressor quantize --placement fastest computes in float32 where that is faster"
    for one in files:
        yield ""
        yield from _kernels(one)


def _row(one: FileResult) -> list[str]:
    t = one.latency
    return [
        one.path.name,
        f"{t.median:.3f}",
        f"{t.low:.3f}–{t.high:.3f}",
        f"{t.least:.3f}",
        f"{t.runs}",
        f"{one.throughput:,.0f}",
        "–" if one.memory is None else f"{one.memory.network / 1e6:.1f} MB",
        f"{one.file_bytes:,}",
    ]


def _ratio(ratio: Ratio) -> str:
    return (
        f"{ratio.median:.2f}× as fast, {ratio.verdict} (quartiles {ratio.low:.2f}–"
        f"{ratio.high:.2f}, {ratio.rounds} rounds)"
    )


def _kernels(one: FileResult) -> Iterator[str]:
    from compressor.cli.text import columns

    table = one.kernels
    yield (
        f"{one.path.name} runs {len(table.kernels)} kernels; integer "
        f"{100 * table.share('integer'):.0f} %, float {100 * table.share('float'):.0f} %, "
        f"conversion {100 * table.share('convert'):.0f} % of their time"
    )
    rows = [[op, kind, str(nodes), f"{ms:.3f}"] for op, kind, nodes, ms in table.rows()]
    yield from columns(["operator", "kind", "nodes", "ms"], rows, left={0, 1})
    left = table.leftovers()
    if left:
        named = ", ".join(f"{k.name} ({k.op})" for k in left[:SHOWN])
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        yield f"float leftovers: {named}{more}"
