"""Memory of training on 230,350 one-second clips from a made-up cache: the mark is 8 GiB.

    python tests/benchmarks/big_set_memory.py [--clips N] [--shape 1x256x44] [--folder DIR]

Writes a features file as the cache holds it (5.2 GB for 1 x 256 x 44), trains one epoch with the
project's own loop and a network so small that the input path is all there is, counts how often each
clip was read, and prints the largest private memory of the process (weights, batches, whatever was
copied) and its largest resident memory (which includes pages of the file; the system takes those
back when it needs room). Then random batches are read with an empty page cache, as a memory map
reads by itself and with the advice of `data.mapped`. It is a program and no test.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 256


def write(path: Path, clips: int, shape: tuple[int, int, int]) -> None:
    """A file of random features, one block of them over and over."""
    block = np.random.default_rng(0).standard_normal((512, *shape)).astype(np.float16)
    with path.open("wb") as stream:
        header = np.lib.format.header_data_from_array_1_0(block)
        np.lib.format.write_array_header_1_0(stream, {**header, "shape": (clips, *shape)})
        for first in range(0, clips, len(block)):
            stream.write(block[: clips - first].tobytes())
        stream.flush()
        os.fsync(stream.fileno())


class PrivateMemory(threading.Thread):
    """Looks at the process's private memory twenty times a second and keeps the largest."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0

    def run(self) -> None:
        while True:
            text = Path("/proc/self/status").read_text()
            line = next(line for line in text.splitlines() if line.startswith("RssAnon"))
            self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)
            time.sleep(0.05)


def train(path: Path, clips: int) -> tuple[Any, float]:
    """One epoch; how often each clip was read, and its seconds."""
    import torch
    from torch import nn

    from compressor.data.features import FeatureSet, Standardizer
    from compressor.data.row_stack import RowStack
    from compressor.training import TrainSettings, fit

    reads = np.zeros(clips, dtype=np.int64)

    class Counted(RowStack):
        def __getitem__(self, rows: Any) -> Any:
            np.add.at(reads, np.asarray(rows), 1)
            return super().__getitem__(rows)

    x = np.load(path, mmap_mode="r")
    channels, mels, _ = x.shape[1:]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=4),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10),
    )
    part = FeatureSet(
        x=Counted([x]),
        index=np.arange(clips),
        y=np.arange(clips) % 10,
        devices=("a",) * clips,
        groups=tuple(f"city-{n // 60}" for n in range(clips)),
        classes=tuple("abcdefghij"),
    )
    flat = tuple((0.0,) * mels for _ in range(channels))
    start = time.perf_counter()
    fit(
        model,
        part,
        TrainSettings(epochs=1, batch_size=BATCH, validation_share=0.0),
        standardizer=Standardizer(flat, tuple((1.0,) * mels for _ in range(channels))),
        seed=0,
        device="cpu",
    )
    return reads, time.perf_counter() - start


def cold(path: Path, clips: int, batches: int = 20) -> tuple[float, float]:
    """Seconds for random batches with an empty page cache: as it comes, and with advice."""
    from compressor.data.mapped import read_rows

    rng = np.random.default_rng(0)
    found = []
    for read in (lambda x, rows: np.asarray(x[rows]), read_rows):
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        x = np.load(path, mmap_mode="r")
        start = time.perf_counter()
        for _ in range(batches):
            read(x, rng.integers(0, clips, BATCH))
        found.append(time.perf_counter() - start)
        del x
    return found[0], found[1]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=230_350)
    parser.add_argument("--shape", default="1x256x44")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    channels, mels, frames = (int(size) for size in options.shape.split("x"))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "x.npy"
        write(path, options.clips, (channels, mels, frames))
        print(f"{options.clips:,} clips of {options.shape}: {path.stat().st_size / 1e9:.2f} GB")
        memory = PrivateMemory()
        memory.start()
        reads, seconds = train(path, options.clips)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        left_out = options.clips % BATCH
        print(f"one epoch in {seconds:.0f} s; no clip read more than {reads.max()} time(s), ")
        print(f"  {int((reads == 0).sum())} not at all (the last, smaller batch: {left_out})")
        print(f"largest private memory {memory.peak_bytes / 2**30:.2f} GiB (mark: 8 GiB)")
        print(f"largest resident memory, pages of the file included {resident / 2**30:.2f} GiB")
        plain, advised = cold(path, options.clips)
        print(f"20 random batches of {BATCH}, nothing in memory: {plain:.2f} s as they come, ")
        print(f"  {advised:.2f} s with advice")


if __name__ == "__main__":
    main()
