"""Peak memory of a network in a back end, in a process of its own.

Run as a program (`python -m compressor.deploy.memory FILE THREADS BACKEND`) this is that process:
it says on standard output, as JSON, what it holds before the file is loaded and the most after.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from compressor.errors import MeasureError

__all__ = ["Memory", "measure_memory"]

_RUNS = 10
_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in bytes.

    Attributes:
        before: with Python, numpy and the back end loaded, and no network.
        peak: the most while the network was loaded and run at batch 1.
    """

    before: int
    peak: int

    @property
    def network(self) -> int:
        """What the network added at its peak."""
        return max(0, self.peak - self.before)


def measure_memory(path: Path, *, threads: int = 1, backend: str = "onnxruntime") -> Memory:
    """Peak memory of loading and running an ONNX file at batch 1, above an empty back end.

    Raises:
        MeasureError: the process failed; says what it said last.
    """
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[2]), *(entry for entry in sys.path if entry)]
    )
    command = [sys.executable, "-P", "-m", "compressor.deploy.memory", str(path)]
    command += [str(threads), backend]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_S, env=environment, check=False
        )
        found = json.loads(done.stdout)
        return Memory(int(found["before"]), int(found["peak"]))
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        said = getattr(error, "stderr", None) or ""
        with contextlib.suppress(NameError, UnboundLocalError):
            said = done.stderr
        last = (str(said).strip().splitlines() or [str(error)])[-1]
        raise MeasureError(f"the memory of {path} could not be measured: {last[:300]}") from error


def _resident(key: str) -> int:
    """A figure of this process in bytes: "VmRSS" now, "VmHWM" the most so far.

    Where there is no /proc the operating system's own maximum stands for both. On Linux that one is
    of no use: it begins with the size of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    line = next(line for line in status.splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def _main(path: str, threads: str, backend: str) -> None:
    import numpy as np

    from compressor.deploy.bench import open_network
    from compressor.extras import try_import

    try_import(backend)
    with contextlib.suppress(OSError):  # imports are over: begin the maximum anew
        Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    network = open_network(Path(path), backend, threads=int(threads))
    x = np.zeros((1, *network.input_shape), dtype=np.float32)
    for _ in range(_RUNS):
        network(x)
    print(json.dumps({"before": before, "peak": _resident("VmHWM")}))


if __name__ == "__main__":
    _main(*sys.argv[1:4])
