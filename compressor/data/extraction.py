"""Computes features shard by shard, in worker processes that import numpy and nothing heavier.

Run as a program (`python -m compressor.data.extraction`) this file is such a worker: one JSON job
a line on standard input, one JSON answer a line on standard output. Plain subprocesses instead of
multiprocessing, because they work from daemonic workers, from notebooks and from scripts without a
main guard, and never inherit a parent that has torch loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressor.audio.logmel import LogMel
from compressor.audio.resample import resample
from compressor.audio.spectrum import FloatArray
from compressor.data.files import atomic_write
from compressor.errors import DataError, MeasureError

__all__ = ["COUNTS", "Shard", "compute_shards"]

COUNTS = ("padded", "cropped", "resampled", "mixed_down", "duplicated")
"""What can happen to a clip; the cache counts clips of each kind."""


@dataclass(frozen=True)
class Shard:
    """A run of clips whose features are one file: `paths` in, `target` (.npy) out."""

    target: Path
    paths: tuple[Path, ...]

    @property
    def counts_file(self) -> Path:
        """What was done to the shard's clips, beside the features."""
        return self.target.with_suffix(".json")


def read_clip(
    path: Path, front_end: LogMel, clip_s: float, speed: float = 1.0
) -> tuple[FloatArray, dict[str, int]]:
    """One clip at the front-end's rate and length: float32 (channels, samples), what was done.

    At another `speed` the clip is played faster or slower, pitch and all, by resampling, as speech
    recognisers do (Ko et al., "Audio augmentation for speech recognition", 2015). What then is too
    long is cut off; what is missing is taken from the clip's beginning, because silence would mark
    the changed clips.

    Raises:
        DataError: the file is no readable audio, has more than two channels or bad samples.
    """
    import soundfile

    try:
        audio, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error
    if audio.shape[0] == 0:
        raise DataError(f"{path} holds no samples; remove it or replace it")
    if audio.shape[1] > 2:
        raise DataError(f"{path} has {audio.shape[1]} channels; allowed: 1 or 2")
    if not np.isfinite(audio).all():
        raise DataError(f"{path} holds samples that are not numbers (NaN or infinite); replace it")
    done = dict.fromkeys(COUNTS, 0)
    wave = np.ascontiguousarray(audio.T)
    wanted = round(clip_s * rate)
    # One sample more or less is rounding, not a clip of another length.
    done["padded"] = int(wave.shape[1] < wanted - 1)
    done["cropped"] = int(wave.shape[1] > wanted + 1)
    wave = _fit(wave, wanted)
    channels = front_end.audio_channels
    done["mixed_down"] = int(wave.shape[0] > channels)
    done["duplicated"] = int(wave.shape[0] < channels)
    if done["mixed_down"]:
        wave = wave.mean(axis=0, keepdims=True)  # before resampling: half the work
    done["resampled"] = int(rate != front_end.sample_rate_hz)
    # Samples recorded at `rate` and played at `speed` times it: one resampling does both.
    wave = resample(wave, round(rate * speed), front_end.sample_rate_hz)
    samples = round(clip_s * front_end.sample_rate_hz)
    if speed > 1.0 and wave.shape[1] < samples:
        wave = np.pad(wave, ((0, 0), (0, samples - wave.shape[1])), mode="wrap")
    return _fit(wave, samples), done


def _fit(wave: FloatArray, samples: int) -> FloatArray:
    """Crops at the end, or appends zeros."""
    if wave.shape[1] >= samples:
        return wave[:, :samples]
    return np.pad(wave, ((0, 0), (0, samples - wave.shape[1])))


def compute_shard(shard: Shard, front_end: LogMel, clip_s: float, speed: float = 1.0) -> None:
    """Writes one shard: float16 (clips, C, M, T), and what was done to its clips.

    Raises:
        DataError: a clip that cannot be used.
    """
    features = np.empty((len(shard.paths), *front_end.shape(clip_s)), dtype=np.float16)
    totals = dict.fromkeys(COUNTS, 0)
    for place, path in enumerate(shard.paths):
        wave, done = read_clip(path, front_end, clip_s, speed)
        features[place] = front_end(wave)
        for key, count in done.items():
            totals[key] += count
    with atomic_write(shard.counts_file) as stream:
        stream.write(json.dumps(totals).encode())
    with atomic_write(shard.target) as stream:  # last: its presence says that both are there
        np.save(stream, features)


def compute_shards(
    shards: Sequence[Shard],
    front_end: LogMel,
    clip_s: float,
    *,
    speed: float = 1.0,
    workers: int,
    skip: Callable[[], bool],
    on_done: Callable[[int], None],
) -> None:
    """Computes all shards that are not there yet.

    Args:
        shards: what to compute, in this order.
        front_end: at the rate the features are computed at.
        clip_s: length every clip is brought to.
        speed: at which every clip is played, see `read_clip`.
        workers: processes; 1 computes in this process.
        skip: asked before each shard; True ends the work (another process has finished it all).
        on_done: called with the number of clips of each finished shard, from one thread at a time.

    Raises:
        DataError: a clip that cannot be used.
        MeasureError: a worker process died twice on the same shard.
    """
    waiting = deque(shards)
    failures: list[Exception] = []
    lock = threading.Lock()

    def work(run: Callable[[Shard], None]) -> None:
        while not failures and not skip():
            try:
                shard = waiting.popleft()
            except IndexError:
                return
            if not shard.target.exists():
                run(shard)
            with lock:
                on_done(len(shard.paths))

    if workers <= 1 or len(shards) <= 1:
        work(lambda shard: compute_shard(shard, front_end, clip_s, speed))
        return

    def serve() -> None:
        try:
            with _Worker(front_end, clip_s, speed) as worker:
                work(worker.run)
        except Exception as error:
            failures.append(error)

    threads = [
        threading.Thread(target=serve, daemon=True) for _ in range(min(workers, len(shards)))
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as interrupt:  # Ctrl-C: let the threads end their workers
        failures.append(RuntimeError(repr(interrupt)))
        raise
    if failures:
        raise failures[0]


class _Worker:
    """One worker process; restarted once when it dies."""

    def __init__(self, front_end: LogMel, clip_s: float, speed: float) -> None:
        self._settings = {"front_end": front_end.to_dict(), "clip_s": clip_s, "speed": speed}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, shard: Shard) -> None:
        """Has one shard computed; raises what the worker reports."""
        job = json.dumps(
            {
                **self._settings,
                "target": os.fspath(shard.target),
                "paths": [os.fspath(path) for path in shard.paths],
            }
        )
        for attempt in (1, 2):
            answer = self._ask(job)
            if answer is not None:
                break
            code = self._stop()
            if attempt == 2:
                raise MeasureError(
                    f"extraction: the worker process ended with code {code} while it read the "
                    f"{len(shard.paths)} clips from {shard.paths[0]} on, twice; use one worker to "
                    "see why (out of memory is the usual reason)"
                )
        if answer and answer.get("error"):
            raise (DataError if answer["kind"] == "DataError" else MeasureError)(answer["error"])

    def _ask(self, job: str) -> dict[str, Any] | None:
        """The worker's answer; None when it died."""
        if self._process is None:
            self._process = _start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(job + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            answer: dict[str, Any] | None = json.loads(line) if line else None
        except (OSError, ValueError):
            return None
        return answer

    def _stop(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        process.communicate()
        return process.returncode


def _start() -> subprocess.Popen[str]:
    environment = dict(os.environ)
    # One arithmetic thread a worker: the workers themselves fill the cores.
    environment.update(dict.fromkeys(_THREADS, "1"))
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[2]), *(entry for entry in sys.path if entry)]
    )
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "compressor.data.extraction"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # errors travel in the answers
        text=True,
        env=environment,
    )


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def _answer(job: Mapping[str, Any]) -> dict[str, str]:
    """Does one job; errors become text, so that the parent can raise them again."""
    try:
        shard = Shard(Path(job["target"]), tuple(Path(path) for path in job["paths"]))
        compute_shard(shard, LogMel.from_dict(job["front_end"]), job["clip_s"], job["speed"])
    except DataError as error:
        return {"error": str(error), "kind": "DataError"}
    except Exception as error:
        return {"error": f"extraction failed: {type(error).__name__}: {error}", "kind": "other"}
    return {}


def _serve() -> None:
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
