"""How fast each network of a sweep is in onnxruntime, beside its dense float32 one. Prints ratios.

    python tests/benchmarks/sweep_latency.py RUN [--rounds N] [--csv FILE]

Every network of the run (dense and pruned, in each number type) is written as ONNX and run in turns
with the dense float32 network of its fold and seed: batch 1, one thread. Over 1 it is faster.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from compressor.runtime import tune

tune(threads=1)

from compressor.artifact import load  # noqa: E402 - after the threads are set
from compressor.deploy.bench import Ratio, bench  # noqa: E402
from compressor.export.write import export  # noqa: E402
from compressor.sweep.store import RunFolder  # noqa: E402


def finished(run: Path) -> list[dict[str, Any]]:
    """Records of the run's finished networks, the dense float32 ones first."""
    kept = [one for one in RunFolder(run).records() if one["status"] == "ok"]
    return sorted(kept, key=lambda one: (one["id"] != base_of(one), one["id"]))


def base_of(record: dict[str, Any]) -> str:
    """Name of the dense float32 network of the same fold and seed."""
    return f"f{record['fold']}-s{record['seed']}-dense"


def main() -> int:
    """Print a line a network, then a line a ratio and type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--prune", default="", help="these ratios only, such as 0.5,0.65")
    parser.add_argument("--csv", type=Path, help="write every network's figure here")
    given = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    wanted = {float(one) for one in given.prune.split(",") if one}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for record in finished(given.run):
            name, kind = record["id"], record.get("quantize") or "none"
            if wanted and record["prune_ratio"] and record["prune_ratio"] not in wanted:
                continue
            path = Path(folder) / f"{name}.onnx"
            export(load(given.run / "models" / f"{name}.pt"), path)
            if name == base_of(record):
                continue
            base = Path(folder) / f"{base_of(record)}.onnx"
            ratio = bench(path, base, rounds=given.rounds, batch_size=1, memory=False).ratio
            path.unlink()
            assert isinstance(ratio, Ratio)
            level = "dense" if record["method"] == "dense" else f"{record['prune_ratio']:.2f}"
            found[level, kind].append(ratio.median)
            rows.append((name, level, kind, f"{ratio.median:.3f}", f"{ratio.low:.3f}"))
            print(f"{name}: {ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})", flush=True)
    if given.csv is not None:
        with given.csv.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("network", "ratio", "quantize", "speedup", "speedup_low"))
            writer.writerows(rows)
    for (level, kind), ratios in sorted(found.items(), key=lambda one: one[0]):
        spread = f" +- {statistics.stdev(ratios):.2f}" if len(ratios) > 1 else ""
        print(f"{level} {kind}: {statistics.mean(ratios):.2f}{spread} of {len(ratios)} networks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
