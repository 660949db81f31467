"""One entry of the feature cache: filled once, safe against interruption and against company.

An entry is a folder: `x.npy` with the features of all clips, and `meta.json`, written last, which
marks it as whole. While it is being filled, finished shards stand beside them as `part-*.npy`; an
interrupted extraction goes on from them, and two processes that fill the same entry share the work.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.audio.front_end import LogMel
from compressor.data.dataset import Clip, Progress
from compressor.data.extraction import COUNTS, Shard, compute_shards
from compressor.data.files import atomic_write
from compressor.data.tables import with_row
from compressor.errors import DataError

__all__ = ["CACHE_VERSION", "fill_entry", "open_entry"]

# Part of every key: raise it when the same settings would give other numbers.
CACHE_VERSION = 1
_CLIPS_PER_SHARD = 50
_CLIPS_PER_READ = 256
# Temporary files older than this belong to processes that were killed.
_LEFTOVER_S = 3600.0


def open_entry(
    entry: Path, shape: tuple[int, int, int, int]
) -> tuple[NDArray[np.float16], dict[str, int]] | None:
    """The memory map and the counts; None when it is not there, or not what was written."""
    try:
        meta = json.loads((entry / "meta.json").read_bytes())
        counts = {kind: int(meta["counts"][kind]) for kind in COUNTS}
        mtime_ns, checksum = int(meta["mtime_ns"]), int(meta["crc32"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    x = _map(entry / "x.npy", shape)
    if x is None:
        return None
    # The content is read again only when the file is not the one that was written: a checksum over
    # everything would cost more than all the rest of a cache hit.
    if (entry / "x.npy").stat().st_mtime_ns != mtime_ns and _checksum(x) != checksum:
        return None
    return x, counts


def _checksum(x: NDArray[np.float16]) -> int:
    checksum = 0
    for first in range(0, len(x), _CLIPS_PER_READ):
        checksum = zlib.crc32(x[first : first + _CLIPS_PER_READ].tobytes(), checksum)
    return checksum


def fill_entry(
    entry: Path,
    clips: Sequence[Clip],
    front_end: LogMel,
    clip_s: float,
    *,
    speed: float = 1.0,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Computes what the entry lacks, in `workers` processes (None: one per usable core).

    `speed` is the one at which clips are played (`extraction.read_clip`).

    Raises:
        DataError: a clip that cannot be used, with the list's row.
        MeasureError: a worker process died repeatedly.
        OSError: the entry cannot be written.
    """
    shape = (len(clips), *front_end.shape(clip_s))
    if open_entry(entry, shape) is None:
        (entry / "meta.json").unlink(missing_ok=True)  # of a damaged entry
    shards = [
        Shard(
            entry / f"part-{first:07d}.npy",
            tuple(clip.path for clip in clips[first : first + _CLIPS_PER_SHARD]),
        )
        for first in range(0, len(clips), _CLIPS_PER_SHARD)
    ]
    _drop_broken(shards, shape[1:])
    # Each process in its own order: two of them then meet in the middle instead of doing
    # everything twice.
    order = list(shards)
    random.Random(os.urandom(8)).shuffle(order)
    done = 0

    def count(finished: int) -> None:
        nonlocal done
        done += finished
        if on_progress is not None:
            on_progress(done, len(clips))

    if on_progress is not None:
        on_progress(0, len(clips))
    try:
        compute_shards(
            order,
            front_end,
            clip_s,
            speed=speed,
            workers=workers or _cores(),
            skip=(entry / "meta.json").exists,
            on_done=count,
        )
    except DataError as error:
        raise with_row(error, clips) from None
    if not (entry / "meta.json").exists():
        _assemble(entry, shards, shape, clip_s, front_end)
    _clear(entry, shards)
    if on_progress is not None and done < len(clips):
        on_progress(len(clips), len(clips))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _drop_broken(shards: Sequence[Shard], shape: tuple[int, ...]) -> None:
    """Removes shards of an earlier, interrupted run that are not whole."""
    for shard in shards:
        if not shard.target.exists():
            continue
        array = _map(shard.target, (len(shard.paths), *shape))
        if array is None or _counts_of(shard) is None:
            shard.target.unlink(missing_ok=True)


def _counts_of(shard: Shard) -> dict[str, int] | None:
    try:
        counts = json.loads(shard.counts_file.read_bytes())
        return {kind: int(counts[kind]) for kind in COUNTS}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _assemble(
    entry: Path,
    shards: Sequence[Shard],
    shape: tuple[int, int, int, int],
    clip_s: float,
    front_end: LogMel,
) -> None:
    """Joins the shards into `x.npy` and writes `meta.json` last: it marks the entry as whole."""
    totals = dict.fromkeys(COUNTS, 0)
    checksum = 0
    try:
        with atomic_write(entry / "x.npy") as stream:
            header = np.lib.format.header_data_from_array_1_0(np.empty(0, np.float16))
            np.lib.format.write_array_header_1_0(stream, {**header, "shape": shape})
            for shard in shards:
                block = np.load(shard.target).tobytes()
                checksum = zlib.crc32(block, checksum)
                stream.write(block)
                counts = json.loads(shard.counts_file.read_bytes())
                for kind in COUNTS:
                    totals[kind] += int(counts[kind])
    except FileNotFoundError:
        if (entry / "meta.json").exists():
            return  # another process was faster and has cleared the shards away
        raise
    meta = {
        "version": CACHE_VERSION,
        "shape": list(shape),
        "clip_s": clip_s,
        "front_end": front_end.to_dict(),
        "counts": totals,
        "mtime_ns": (entry / "x.npy").stat().st_mtime_ns,
        "crc32": checksum,
    }
    with atomic_write(entry / "meta.json") as stream:
        stream.write(json.dumps(meta, indent=1).encode())


def _clear(entry: Path, shards: Sequence[Shard]) -> None:
    """Removes the shards of a finished entry, and what killed processes left there long ago."""
    for shard in shards:
        shard.target.unlink(missing_ok=True)
        shard.counts_file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for leftover in entry.glob(".*.tmp"):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
                leftover.unlink(missing_ok=True)


def _map(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16] | None:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    fits = isinstance(array, np.ndarray) and array.dtype == np.float16 and array.shape == shape
    return array if fits else None
