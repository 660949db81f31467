"""Which kernels onnxruntime really runs: from its profile, not from what the file asks for.

A file of quantise and dequantise nodes says what could be done with integers; what is done is
decided when the file is loaded. The profile names every node that ran, its operator, the number
types it was given and the time it took.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compressor.deploy.session import make_session
from compressor.errors import MeasureError

__all__ = ["Kernel", "KernelTable", "family", "kind_of", "profile", "slower_families"]

Kind = Literal["integer", "float", "convert", "other"]
_CONVERT = ("QuantizeLinear", "DequantizeLinear")
_NAMED_INTEGER = ("QLinear", "QGemm", "QAttention", "ConvInteger", "MatMulInteger")
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Kernel:
    """One node that ran.

    Attributes:
        name: of the node, as onnxruntime calls it after its own optimisations.
        op: operator that ran (QLinearConv, FusedConv, ...).
        kind: "integer" (works on int8 or uint8), "float", "convert" (between the two), or "other"
            (shapes, indices).
        ms: median time of one inference.
    """

    name: str
    op: str
    kind: Kind
    ms: float


@dataclass(frozen=True)
class KernelTable:
    """What ran in one inference.

    Attributes:
        kernels: in the order in which they ran.
    """

    kernels: tuple[Kernel, ...]

    @property
    def total_ms(self) -> float:
        """Time in all kernels."""
        return sum(kernel.ms for kernel in self.kernels)

    @property
    def integer(self) -> bool:
        """Whether any kernel works on integers."""
        return any(kernel.kind == "integer" for kernel in self.kernels)

    def rows(self) -> list[tuple[str, Kind, int, float]]:
        """(operator, kind, nodes, ms) of each operator, the longest time first."""
        found: dict[tuple[str, Kind], list[float]] = {}
        for kernel in self.kernels:
            found.setdefault((kernel.op, kernel.kind), []).append(kernel.ms)
        rows = [(op, kind, len(times), sum(times)) for (op, kind), times in found.items()]
        return sorted(rows, key=lambda row: -row[3])

    def share(self, kind: Kind) -> float:
        """Share of the kernels' time in kernels of that kind."""
        total = self.total_ms
        return sum(k.ms for k in self.kernels if k.kind == kind) / total if total else 0.0

    def leftovers(self) -> tuple[Kernel, ...]:
        """Float kernels of a network that has integer ones, the longest time first."""
        if not self.integer:
            return ()
        return tuple(sorted((k for k in self.kernels if k.kind == "float"), key=lambda k: -k.ms))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "kernels": [asdict(kernel) for kernel in self.kernels],
            "integer_share": self.share("integer"),
            "float_share": self.share("float"),
            "convert_share": self.share("convert"),
            "float_leftovers": [kernel.name for kernel in self.leftovers()],
        }


def kind_of(op: str, types: Sequence[str]) -> Kind:
    """What a node works on.

    Args:
        op: its operator.
        types: number types of its inputs in onnxruntime's words ("float", "uint8", ...).
    """
    if op in _CONVERT:
        return "convert"
    if op.startswith(_NAMED_INTEGER):
        return "integer"
    first = types[0] if types else ""
    if first in ("uint8", "int8"):
        return "integer"
    return "float" if first in ("float", "float16", "double", "bfloat16") else "other"


def family(op: str) -> str:
    """The plain operator behind a fused or quantised one: QLinearConv and FusedConv are Conv."""
    if op in _CONVERT:
        return "conversion to and from int8"
    if op in ("QGemm", "QAttention"):  # not every Q is of a quantised operator: QuickGelu
        return op[1:]
    for prefix in ("QLinear", "Fused", "Nhwc"):
        if op.startswith(prefix) and len(op) > len(prefix):
            return family(op[len(prefix) :])
    return "Gemm" if op == "MatMul" else op


def profile(
    files: Sequence[Path],
    inputs: Sequence[NDArray[np.float32]],
    *,
    threads: int = 1,
    runs: int = 20,
    backend: str = "onnxruntime",
) -> list[KernelTable]:
    """Run each file under the profiler of onnxruntime (in turns) or OpenVINO.

    Args:
        files: ONNX files.
        inputs: one input (1, ...) a file.
        threads: of onnxruntime.
        runs: how often each is run, after a warm-up.
        backend: "onnxruntime" or "openvino".

    Raises:
        ModelFileError: a file cannot be loaded.
        MeasureError: the profile cannot be read.
    """
    if backend == "openvino":
        from compressor.deploy.openvino import layers_run

        return [
            KernelTable(layers_run(file, x, threads=threads, runs=runs))
            for file, x in zip(files, inputs, strict=True)
        ]
    with tempfile.TemporaryDirectory(prefix="compressor-") as folder:
        sessions = [
            make_session(file, threads=threads, profile_to=Path(folder) / f"profile{i}")
            for i, file in enumerate(files)
        ]
        names = [session.get_inputs()[0].name for session in sessions]
        for _ in range(_WARM_UP + runs):
            for session, name, x in zip(sessions, names, inputs, strict=True):
                session.run(None, {name: x})
        return [_read(Path(session.end_profiling())) for session in sessions]


def _read(path: Path) -> KernelTable:
    """The nodes of a profile with the median of their times after the warm-up."""
    try:
        events = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise MeasureError(f"onnxruntime's profile cannot be read: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    times: dict[str, list[float]] = {}
    facts: dict[str, tuple[str, Kind]] = {}
    for name, op, types, ms in _node_events(events):
        times.setdefault(name, []).append(ms)
        facts[name] = (op, kind_of(op, types))
    kernels = tuple(
        Kernel(name, *facts[name], statistics.median(found[_WARM_UP:] or found))
        for name, found in times.items()
    )
    if not kernels:
        raise MeasureError("onnxruntime's profile names no node that ran")
    return KernelTable(kernels)


def _node_events(events: Any) -> Iterator[tuple[str, str, list[str], float]]:
    """(node, operator, input types, ms) of each node that ran."""
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        arguments = event["args"]
        types = [next(iter(one), "") for one in arguments.get("input_type_shape", ())]
        name = event["name"].removesuffix("_kernel_time")
        yield name, str(arguments.get("op_name", "")), types, event["dur"] / 1000.0


def slower_families(table: KernelTable, base: KernelTable) -> list[tuple[str, float]]:
    """Operators on which `table` spends longer than `base`: (operator, ms more), worst first."""
    spent: dict[str, float] = {}
    for sign, one in ((1.0, table), (-1.0, base)):
        for kernel in one.kernels:
            spent[family(kernel.op)] = spent.get(family(kernel.op), 0.0) + sign * kernel.ms
    return sorted(((op, ms) for op, ms in spent.items() if ms > 0), key=lambda pair: -pair[1])
