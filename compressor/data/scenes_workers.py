"""Renders clips of the synthetic scenes to files, in worker processes that load numpy alone.

Run as a program (`python -m compressor.data.scenes_workers`) this file is such a worker: one JSON
job a line on standard input, one JSON answer a line on standard output. Plain subprocesses instead
of multiprocessing: they work from daemonic workers, from notebooks and from scripts without a main
guard, and never inherit a parent that has torch loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import wave
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compressor.data.scenes_mix import place, record, scene_signal
from compressor.data.scenes_recipes import RECIPES
from compressor.data.scenes_signal import SAMPLE_RATE_HZ
from compressor.errors import DataError, MeasureError

SCENES: Final = tuple(sorted(RECIPES))
_CHUNK: Final = 25  # clips that a worker takes at once: some 0.2 s of work


@dataclass(frozen=True, slots=True)
class SceneClip:
    """One clip of the plan: what it shows, where it stands and how its seed is found.

    Attributes:
        scene: one of the ten scenes.
        city: TAU city name.
        location: number of the location, unique over the set.
        segment: number of the recording, unique over the set.
        device: recording device.
        train: in the training part (else in the evaluation part).
        index: number within scene and part; with those two it names the clip's seed.
    """

    scene: str
    city: str
    location: int
    segment: int
    device: str
    train: bool
    index: int

    @property
    def filename(self) -> str:
        """``audio/<scene>-<city>-<location>-<segment>-<0..9>-<device>.wav`` as in TAU 2022."""
        place_name = f"{self.scene}-{self.city}-{self.location}"
        return f"audio/{place_name}-{self.segment}-{self.segment % 10}-{self.device}.wav"

    @property
    def identifier(self) -> str:
        """City and location, as in the official meta.csv."""
        return f"{self.city}-{self.location}"


def render(clip: SceneClip, seed: int) -> NDArray[np.int16]:
    """Make one clip: (44100,) 16 bit samples, a function of its place in the plan and the seed."""
    number = SCENES.index(clip.scene)
    at = place(clip.scene, seed, (1, number, clip.location))
    key = (2, int(clip.train), number, clip.index)
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))
    signal = scene_signal(at, rng)
    return record(signal, clip.device, at.level_db + rng.normal(0, 2), rng)


def _write_chunk(root: Path, chunk: Sequence[SceneClip], seed: int) -> None:
    for clip in chunk:
        with wave.open(str(root / clip.filename), "wb") as file:  # reports a full disk as OSError
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE_HZ)
            file.writeframes(render(clip, seed).astype("<i2").tobytes())


def write_clips(
    root: Path,
    listed: Sequence[SceneClip],
    seed: int,
    workers: int,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Render the listed clips below ``root`` (whose audio folder must be there).

    Args:
        root: folder that the clips' filenames are relative to.
        listed: what to render.
        seed: seed of the set.
        workers: processes; 1 works in this process.
        on_progress: called with (clips done, clips in all), from one thread at a time.

    Raises:
        DataError: a file cannot be written.
        MeasureError: a worker process died.
    """
    chunks = deque(listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))
    failures: list[BaseException] = []
    lock = threading.Lock()
    done = 0

    def waiting() -> Iterator[Sequence[SceneClip]]:
        while not failures:
            try:
                yield chunks.popleft()
            except IndexError:
                return

    def count(chunk: Sequence[SceneClip]) -> None:
        nonlocal done
        with lock:
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, len(listed))

    workers = min(workers, len(chunks))
    if workers == 1:
        for chunk in waiting():
            _write_chunk(root, chunk, seed)
            count(chunk)
        return

    def serve() -> None:
        try:
            with _start() as process:
                try:
                    for chunk in waiting():
                        _ask(process, {"root": str(root), "seed": seed}, chunk)
                        count(chunk)
                finally:
                    process.kill()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as interrupt:  # Ctrl-C: the threads end their workers after this chunk
        failures.append(interrupt)
        for thread in threads:
            thread.join()
        raise
    if failures:
        raise failures[0]


def _start() -> subprocess.Popen[str]:
    environment = dict(os.environ)
    # One arithmetic thread a worker: the workers themselves fill the cores.
    environment.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    above = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([above, *(entry for entry in sys.path if entry)])
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "compressor.data.scenes_workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # errors travel in the answers
        text=True,
        env=environment,
    )


def _ask(
    process: subprocess.Popen[str], job: dict[str, object], chunk: Sequence[SceneClip]
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps({**job, "clips": [asdict(clip) for clip in chunk]}) + "\n")
        process.stdin.flush()
        answer: Any = json.loads(process.stdout.readline())
    except (BrokenPipeError, ValueError) as error:
        process.kill()
        raise MeasureError(
            f"a worker process that makes the synthetic scenes ended with code {process.wait()}; "
            "run it again, with one worker if that happens twice (mostly it is out of memory)"
        ) from error
    if answer:
        raise DataError(f"the synthetic scenes cannot be written: {answer}")


def _serve() -> None:
    """Be a worker: one JSON job a line in, one JSON string a line out (empty, or the error)."""
    for line in sys.stdin:
        job = json.loads(line)
        try:
            chunk = [SceneClip(**fields) for fields in job["clips"]]
            _write_chunk(Path(job["root"]), chunk, job["seed"])
            answer = ""
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
