"""CPU seconds of ranking 100,000 systems, and of one system's what-if among them.

    python tests/benchmarks/rank_cpu.py [--systems N]

A program and no test: what it prints depends on the machine and its load.
"""

from __future__ import annotations

import argparse
import random
import time

import numpy as np

from compressor.audit.ranking import CRITERIA, System, rank
from compressor.audit.whatif import what_if


def main() -> None:
    """Rank random systems and print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", type=int, default=100_000)
    count = parser.parse_args().systems
    draw = random.Random(7)
    systems = [
        System(str(i), draw.random(), draw.randrange(99_999), draw.randrange(9_999))
        for i in range(count)
    ]
    figures = np.array([(s.accuracy, s.bytes, s.macs) for s in systems], dtype=float)
    rank(systems[:10])  # imports
    start = time.process_time()
    rank(systems)
    ranked = time.process_time()
    what_if(figures, CRITERIA, count // 2)
    done = time.process_time()
    print(f"{count:,} systems: ranked in {ranked - start:.2f} s of CPU, ", end="")
    print(f"one system's what-if {done - ranked:.2f} s")


if __name__ == "__main__":
    main()
