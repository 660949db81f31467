"""How fast an ONNX file is, alone or against another one.

Two files are measured in one run and in turns: each round times both, a few inferences one and a
few the other, and the next round in the other order. What else the machine does then slows both,
and the ratio of the two within a round hardly moves. Medians and quartiles are given, because
single runs have a long tail.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compressor.deploy.kernels import KernelTable, profile, slower_families
from compressor.deploy.memory import Memory, measure_memory
from compressor.deploy.session import OnnxNetwork
from compressor.errors import UnknownNameError, UsageError

__all__ = [
    "BACKENDS",
    "BenchResult",
    "FileResult",
    "Network",
    "Ratio",
    "Timing",
    "bench",
    "open_network",
    "ratio_of",
    "timing",
]

BACKENDS = ("onnxruntime", "openvino")

_ROUND_S = 0.02  # a file's share of a round: long beside a clock's tick, short beside a disturbance
_LEAST_IN_ROUND, _MOST_IN_ROUND = 3, 50  # three, so that a round has a median
_BATCH_ROUNDS = 12  # batches take long, and their times scatter less

Rounds = list[list[float]]
"""Seconds of single inferences, a list a round."""


class Network(Protocol):
    """A file ready to run in one of the back ends."""

    input_shape: tuple[int, int, int]

    def run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of inputs that are known to fit."""

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of inputs whose shape is checked first."""


def open_network(path: Path, backend: str = "onnxruntime", *, threads: int = 1) -> Network:
    """Load an ONNX file in a back end.

    Raises:
        UnknownNameError: no back end of that name.
        UsageError: it is not installed; names the extra.
        ModelFileError: the file cannot be loaded.
    """
    if backend not in BACKENDS:
        raise UnknownNameError("back end", backend, BACKENDS)
    if backend == "openvino":
        from compressor.deploy.openvino import OpenVinoNetwork

        return OpenVinoNetwork(path, threads=threads)
    return OnnxNetwork(path, threads=threads)


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one inference in milliseconds.

    Attributes:
        median: of all timed runs.
        low: lower quartile; `high`: upper quartile.
        least: the shortest run.
        runs: how many were timed.
    """

    median: float
    low: float
    high: float
    least: float
    runs: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the base over time of the file: over 1 the file is faster.

    Attributes:
        median: of the rounds' ratios.
        low: lower quartile of the rounds' ratios; `high`: upper quartile.
        rounds: how many.
    """

    median: float
    low: float
    high: float
    rounds: int

    @property
    def verdict(self) -> str:
        """What three quarters of the rounds say: faster, slower, or no clear difference."""
        if self.low > 1:
            return "faster"
        return "slower" if self.high < 1 else "no clear difference"


@dataclass(frozen=True)
class FileResult:
    """What was measured of one file.

    Attributes:
        path: the file.
        file_bytes: its size.
        latency: one inference at batch 1.
        batch: latency of a whole batch of `batch_size` inputs.
        batch_size: inputs a batch.
        memory: peak memory; None where it was not asked for.
        kernels: what onnxruntime ran.
    """

    path: Path
    file_bytes: int
    latency: Timing
    batch: Timing
    batch_size: int
    memory: Memory | None
    kernels: KernelTable

    @property
    def throughput(self) -> float:
        """Inferences a second in batches."""
        return 1000.0 * self.batch_size / self.batch.median

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "file": str(self.path),
            "file_bytes": self.file_bytes,
            "latency_ms": asdict(self.latency),
            "batch_ms": asdict(self.batch),
            "batch_size": self.batch_size,
            "inferences_per_s": self.throughput,
            "memory_bytes": None
            if self.memory is None
            else {**asdict(self.memory), "network": self.memory.network},
            **self.kernels.to_dict(),
        }


@dataclass(frozen=True)
class BenchResult:
    """A benchmark.

    Attributes:
        file: the file that was asked about.
        base: the one it is compared with, or None.
        ratio: base over file at batch 1; None without a base.
        batch_ratio: the same in batches.
        threads: of the back end.
        machine: processor, version of the back end.
        backend: what ran the files.
    """

    file: FileResult
    base: FileResult | None
    ratio: Ratio | None
    batch_ratio: Ratio | None
    threads: int
    machine: dict[str, str]
    backend: str = "onnxruntime"

    @property
    def slower(self) -> list[tuple[str, float]]:
        """Operators that make the file slower than the base; empty where it is not slower."""
        if self.base is None or self.ratio is None or self.ratio.verdict != "slower":
            return []
        return slower_families(self.file.kernels, self.base.kernels)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schema": 1,
            "file": self.file.to_dict(),
            "base": None if self.base is None else self.base.to_dict(),
            "ratio": _ratio_record(self.ratio),
            "batch_ratio": _ratio_record(self.batch_ratio),
            "slower_operators": [{"operator": op, "ms_more": ms} for op, ms in self.slower],
            "threads": self.threads,
            "machine": self.machine,
            "backend": self.backend,
        }


def _ratio_record(ratio: Ratio | None) -> dict[str, Any] | None:
    return None if ratio is None else {**asdict(ratio), "verdict": ratio.verdict}


def bench(
    path: Path,
    base: Path | None = None,
    *,
    threads: int = 1,
    batch_size: int = 32,
    rounds: int = 50,
    warm_up: int = 10,
    memory: bool = True,
    backend: str = "onnxruntime",
    on_round: Callable[[int, int], None] | None = None,
) -> BenchResult:
    """Measure one ONNX file, or two in turns.

    Args:
        path: the file.
        base: the file it is compared with, such as float32 of the same network.
        threads: of the back end.
        batch_size: inputs a batch for the throughput.
        rounds: how many; each times both files a few times.
        warm_up: inferences of each before anything is timed.
        memory: measure peak memory as well (a process of its own a file).
        backend: "onnxruntime" or "openvino"; both files run in it.
        on_round: called with (rounds done, rounds in all).

    Raises:
        ModelFileError: a file cannot be loaded.
        MeasureError: a run fails.
        UsageError: numbers under 1, another back end, or it is not installed.
    """
    for name, value in (("threads", threads), ("batch", batch_size), ("rounds", rounds)):
        if value < 1:
            raise UsageError(f"--{name} is {value}; it must be at least 1")
    paths = [path] if base is None else [path, base]
    networks = [open_network(one, backend, threads=threads) for one in paths]
    rng = np.random.default_rng(0)
    batches = [
        rng.standard_normal((batch_size, *network.input_shape), dtype=np.float32)
        for network in networks
    ]
    singles = [batch[:1] for batch in batches]
    batch_rounds = min(rounds, _BATCH_ROUNDS)
    total = rounds + batch_rounds
    tell = on_round or (lambda done, of: None)
    latency = _in_turns(networks, singles, rounds, warm_up, lambda done: tell(done, total))
    batch = _in_turns(networks, batches, batch_rounds, 1, lambda done: tell(rounds + done, total))
    tables = profile(paths, singles, threads=threads, backend=backend)
    results = [
        FileResult(
            path=one,
            file_bytes=one.stat().st_size,
            latency=timing(latency[i]),
            batch=timing(batch[i]),
            batch_size=batch_size,
            memory=measure_memory(one, threads=threads, backend=backend) if memory else None,
            kernels=tables[i],
        )
        for i, one in enumerate(paths)
    ]
    two = len(results) == 2
    return BenchResult(
        file=results[0],
        base=results[1] if two else None,
        ratio=ratio_of(latency[0], latency[1]) if two else None,
        batch_ratio=ratio_of(batch[0], batch[1]) if two else None,
        threads=threads,
        machine=_machine(backend),
        backend=backend,
    )


def _in_turns(
    networks: Sequence[Network],
    inputs: Sequence[NDArray[np.float32]],
    rounds: int,
    warm_up: int,
    tell: Callable[[int], None],
) -> list[Rounds]:
    """Seconds of single runs of each network, round by round, the order changing each round."""
    calls = []
    for network, x in zip(networks, inputs, strict=True):
        once = _ROUND_S
        for _ in range(warm_up + 1):
            start = time.perf_counter()
            network(x)  # checks the shape, which the timed runs do not
            once = min(once, time.perf_counter() - start)
        calls.append(min(_MOST_IN_ROUND, max(_LEAST_IN_ROUND, round(_ROUND_S / once))))
    found: list[Rounds] = [[] for _ in networks]
    order = list(range(len(networks)))
    for done in range(1, rounds + 1):
        for i in order:
            run, x = networks[i].run, inputs[i]
            times = []
            for _ in range(calls[i]):
                start = time.perf_counter()
                run(x)
                times.append(time.perf_counter() - start)
            found[i].append(times)
        order.reverse()
        tell(done)
    return found


def timing(rounds: Rounds) -> Timing:
    """Median, quartiles and least of all runs, in milliseconds."""
    times = 1000.0 * np.concatenate([np.asarray(one) for one in rounds])
    low, median, high = (float(v) for v in np.percentile(times, [25, 50, 75]))
    return Timing(median, low, high, float(times.min()), len(times))


def ratio_of(file: Rounds, base: Rounds) -> Ratio:
    """Median time of the base over that of the file, a round; median and quartiles of those."""
    ratios = [float(np.median(b) / np.median(f)) for f, b in zip(file, base, strict=True)]
    low, median, high = (float(v) for v in np.percentile(ratios, [25, 50, 75]))
    return Ratio(median, low, high, len(ratios))


def _machine(backend: str) -> dict[str, str]:
    from compressor.extras import try_import

    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
        named = {key.strip(): value.strip() for key, value in facts.items()}
        processor = named.get("model name", processor)
        flags = set(named.get("flags", "").split())
    except (OSError, ValueError):
        flags = set()
    dot = sorted(flags & {"avx2", "avx_vnni", "avx512_vnni", "amx_int8"})
    return {
        "processor": processor,
        "instructions": ", ".join(dot),
        backend: str(try_import(backend).__version__),
    }
