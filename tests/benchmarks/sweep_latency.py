"""How fast each network of a sweep is in onnxruntime, beside its dense float32 one. Prints ratios.

    python tests/benchmarks/sweep_latency.py RUN [--prune R,R] [--folds N,N] [--rounds N]

Every network of the run (dense and pruned, in each number type) is written as ONNX and run in turns
with the dense float32 network of its fold and seed: batch 1, one thread, CPU time, so that other
work on the machine lengthens it little. Over 1 it is faster.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.runtime import tune

tune(threads=1)

from compressor.artifact import load  # noqa: E402 - after the threads are set
from compressor.deploy.bench import Network, open_network  # noqa: E402
from compressor.export.write import export  # noqa: E402
from compressor.sweep.store import RunFolder  # noqa: E402


def finished(run: Path) -> list[dict[str, Any]]:
    """Records of the run's finished networks, the dense float32 ones first."""
    kept = [one for one in RunFolder(run).records() if one["status"] == "ok"]
    return sorted(kept, key=lambda one: (one["id"] != base_of(one), one["id"]))


def base_of(record: dict[str, Any]) -> str:
    """Name of the dense float32 network of the same fold and seed."""
    return f"f{record['fold']}-s{record['seed']}-dense"


def once_ms(network: Network, x: NDArray[np.float32]) -> float:
    """CPU ms of one inference, over at least 10 ms of them."""
    runs, start = 0, time.process_time()
    while runs == 0 or time.process_time() - start < 0.010:
        network.run(x)
        runs += 1
    return 1e3 * (time.process_time() - start) / runs


def speedup(path: Path, base: Path, rounds: int) -> list[float]:
    """Time of the base over time of the file, round by round."""
    networks = [open_network(one) for one in (path, base)]
    inputs = [
        np.random.default_rng(0).standard_normal((1, *one.input_shape), dtype=np.float32)
        for one in networks
    ]
    for network, x in zip(networks, inputs, strict=True):
        once_ms(network, x)
    found = []
    for _ in range(rounds):
        file_ms, base_ms = (
            once_ms(network, x) for network, x in zip(networks, inputs, strict=True)
        )
        found.append(base_ms / file_ms)
    return found


def main() -> int:
    """Print a line a network, then a line a ratio and type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--prune", default="", help="these ratios only, such as 0.5,0.65")
    parser.add_argument("--folds", default="", help="these folds only, such as 1,2")
    parser.add_argument("--csv", type=Path, help="write every network's figure here")
    given = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    wanted = {float(one) for one in given.prune.split(",") if one}
    folds = {int(one) for one in given.folds.split(",") if one}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for record in finished(given.run):
            name, kind = record["id"], record.get("quantize") or "none"
            if folds and record["fold"] not in folds:
                continue
            if wanted and record["prune_ratio"] and record["prune_ratio"] not in wanted:
                continue
            path = Path(folder) / f"{name}.onnx"
            export(load(given.run / "models" / f"{name}.pt"), path)
            if name == base_of(record):
                continue
            base = Path(folder) / f"{base_of(record)}.onnx"
            ratios = speedup(path, base, given.rounds)
            low, median, high = (float(v) for v in np.percentile(ratios, [25, 50, 75]))
            path.unlink()
            level = "dense" if record["method"] == "dense" else f"{record['prune_ratio']:.2f}"
            found[level, kind].append(median)
            rows.append((name, level, kind, f"{median:.3f}", f"{low:.3f}", f"{high:.3f}"))
            print(f"{name}: {median:.2f}x ({low:.2f} to {high:.2f})", flush=True)
    if given.csv is not None:
        with given.csv.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("network", "ratio", "quantize", "speedup", "low", "high"))
            writer.writerows(rows)
    for (level, kind), each in sorted(found.items(), key=lambda one: one[0]):
        spread = f" +- {statistics.stdev(each):.2f}" if len(each) > 1 else ""
        print(f"{level} {kind}: {statistics.mean(each):.2f}{spread} of {len(each)} networks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
