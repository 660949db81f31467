"""Settings of the process that must stand before torch is imported.

Small networks on few cores lose most of their time to waiting threads and to the allocator giving
memory back: on two shared cores a two-thread training step fell from 3,148 to 316 ms with passive
waiting, and a depthwise network's step to about 40 % once freed blocks stayed in the heap
(`docs/performance.md`). Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["cores", "tune"]

_M_TRIM_THRESHOLD = -1  # glibc mallopt(3): free heap kept before it is given back
_M_MMAP_MAX = -4  # glibc mallopt(3): how many blocks may be mapped instead of taken from the heap


def cores() -> int:
    """Number of CPU cores this process may use (affinity, not the machine's total)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def tune(threads: int | None = None) -> None:
    """Set waiting, threads and allocator for training small networks.

    Call it before torch is imported: OpenMP reads its variables once, when it is loaded. Values the
    user has set in the environment win.

    Args:
        threads: threads for one process; None leaves the libraries' default.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, str(threads))
        if "torch" in sys.modules:  # too late for the variables: tell torch itself
            sys.modules["torch"].set_num_threads(threads)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Keep freed blocks in the heap: activations of one step are the next step's activations."""
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    except (OSError, AttributeError):  # another C library (musl): nothing to tune
        return
