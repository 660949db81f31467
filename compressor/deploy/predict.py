"""From sounds to scenes with the network's own front-end.

A recording is brought to the network's rate and channels as in training. One that is longer than
the sound that the network hears is cut into pieces of that length, and their probabilities are
averaged; a shorter one gets zeros appended. Features pass through float16, as those of training and
evaluation do, so that the same clip gives the same scene in all three.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor import runtime
from compressor.audio.logmel import LogMel
from compressor.data.features import Standardizer
from compressor.deploy.session import Array, OnnxNetwork, arranged
from compressor.errors import CompressorError, DataError, MeasureError, ModelFileError
from compressor.export.description import Description

__all__ = ["Network", "Prediction", "find_clips", "open_network", "predict_files"]

_AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
_BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """The scene of one recording, or why it has none.

    Attributes:
        path: the file.
        probabilities: by class, summing to 1; empty where there is an error.
        pieces: how many pieces of the network's length it was cut into.
        error: one line that names the file, "" where it was read.
    """

    path: Path
    probabilities: tuple[float, ...] = ()
    pieces: int = 0
    error: str = ""

    @property
    def label(self) -> int:
        """The most probable class."""
        return int(np.argmax(self.probabilities))


@dataclass(frozen=True)
class Network:
    """A network that can be asked for scenes, from whatever file.

    Attributes:
        logits: (N, outputs) of inputs (N, *input_shape).
        description: front-end, standardizer, classes.
        classes: names of the outputs; numbers where the file has no names.
    """

    logits: Callable[[Array], Array]
    description: Description
    classes: tuple[str, ...]


def open_network(path: Path, *, threads: int = 1) -> Network:
    """Open an exported ONNX file or a model file (.pt), by content.

    Raises:
        ModelFileError: neither, or an ONNX file that does not describe itself.
        UsageError: an ONNX file, and onnxruntime is not installed.
    """
    if not path.is_file():
        what = "is a folder, but must be a model file" if path.is_dir() else "does not exist"
        raise ModelFileError(f"{path} {what}")
    with path.open("rb") as stream:
        zipped = stream.read(4) == b"PK\x03\x04"
    logits, description = _from_artifact(path, threads) if zipped else _from_onnx(path, threads)
    n = description.num_classes
    return Network(logits, description, description.classes or tuple(map(str, range(n))))


def _from_onnx(path: Path, threads: int) -> tuple[Callable[[Array], Array], Description]:
    network = OnnxNetwork(path, threads=threads)
    if network.description is None:
        raise ModelFileError(
            f"{path} carries neither front-end nor classes: it was not exported by compressor; "
            "export the network with compressor export"
        )
    return network, network.description


def _from_artifact(path: Path, threads: int) -> tuple[Callable[[Array], Array], Description]:
    import torch

    from compressor.artifact import load
    from compressor.export.description import describe
    from compressor.export.reference import reference_network

    artifact = load(path)
    model = reference_network(artifact)
    torch.set_num_threads(threads)

    def logits(inputs: Array) -> Array:
        with torch.no_grad():
            outputs: Array = model(torch.from_numpy(inputs)).numpy()
        return outputs

    return logits, describe(artifact, artifact.dtype)


def find_clips(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Recordings named by files and folders, with the name each has in the output.

    A folder stands for all recordings in it and below it; its own path is no part of their names.
    Numbers in names are sorted as numbers, as the challenge's files are (2.wav before 10.wav).

    Raises:
        DataError: a path that is not there, or a folder without recordings.
    """
    found: list[tuple[Path, str]] = []
    for path in paths:
        if path.is_dir():
            inside = [
                Path(folder) / name
                for folder, _, names in os.walk(path)
                for name in names
                if Path(name).suffix.lower() in _AUDIO and not name.startswith(".")
            ]
            if not inside:
                raise DataError(f"{path} holds no recordings; looked for {', '.join(_AUDIO)}")
            named = [(one, one.relative_to(path).as_posix()) for one in inside]
            found += sorted(named, key=lambda pair: _natural(pair[1]))
        elif path.exists():
            found.append((path, path.name))
        else:
            raise DataError(f"{path} does not exist; give recordings or folders of them")
    return found


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts the numbers in a name by value."""
    parts = ["".join(group) for _, group in itertools.groupby(name, str.isdecimal)]
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts]


def predict_files(
    network: Network,
    paths: Iterable[Path],
    *,
    workers: int | None = None,
    batch_size: int = _BATCH,
) -> Iterator[Prediction]:
    """The scene of each recording, in order; one that cannot be read costs only itself.

    Args:
        network: from `open_network`.
        paths: recordings.
        workers: threads that compute features; None is one a core.
        batch_size: pieces a run of the network.

    Yields:
        A prediction a path, as soon as its batch is through.

    Raises:
        ConfigError, DataError: front-end or standardizer of the file cannot work.
        ShapeError, MeasureError: the network does not fit its own description.
    """
    description = network.description
    front_end = description.log_mel()
    standardizer = Standardizer.from_dict(description.standardizer)
    waiting: list[tuple[Path, list[Array] | str]] = []

    def load(path: Path) -> tuple[Path, list[Array] | str]:
        try:
            pieces = _pieces(path, front_end, description.clip_s)
        except CompressorError as error:
            return path, str(error)
        except (OSError, ValueError, MemoryError, RuntimeError) as error:
            return path, f"{path} cannot be used: {' '.join(str(error).split())[:200]}"
        return path, [arranged(one[None], standardizer, description.layout) for one in pieces]

    with ThreadPoolExecutor(workers or runtime.cores()) as pool:
        for loaded in _ahead(pool, load, paths, 2 * batch_size):
            waiting.append(loaded)
            if sum(len(p) for _, p in waiting if not isinstance(p, str)) >= batch_size:
                yield from _answer(network, waiting)
                waiting = []
    yield from _answer(network, waiting)


def _ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[Path], tuple[Path, list[Array] | str]],
    paths: Iterable[Path],
    depth: int,
) -> Iterator[tuple[Path, list[Array] | str]]:
    """Results in order, with at most `depth` of them in work: a folder need not fit in memory."""
    source = iter(paths)
    running = [pool.submit(work, path) for path in itertools.islice(source, depth)]
    while running:
        done = running.pop(0).result()
        running += [pool.submit(work, path) for path in itertools.islice(source, 1)]
        yield done


def _pieces(path: Path, front_end: LogMel, clip_s: float) -> list[NDArray[np.float16]]:
    """Features (C, M, T) of each piece of a recording.

    Raises:
        DataError: the file is no readable audio.
    """
    from compressor.data.extraction import read_clip
    from compressor.data.files import read_header

    frames, rate_hz, _ = read_header(path)
    count = max(1, int(frames / rate_hz / clip_s + 1e-6))
    whole, _ = read_clip(path, front_end, clip_s if count == 1 else count * clip_s)
    samples = round(clip_s * front_end.sample_rate_hz)
    # rounding to samples once a recording and once a piece may leave the last one a sample short
    whole = np.pad(whole, ((0, 0), (0, max(0, count * samples - whole.shape[1]))))
    pieces = []
    for first in range(0, count * samples, samples):
        features = front_end(whole[:, first : first + samples]).astype(np.float16)
        if not np.isfinite(features).all():
            raise DataError(f"{path} gives features beyond float16; check the recording")
        pieces.append(features)
    return pieces


def _answer(
    network: Network, loaded: Sequence[tuple[Path, list[Array] | str]]
) -> Iterator[Prediction]:
    """Run the network on what is loaded, and average over the pieces of each recording."""
    good = [one for _, pieces in loaded if not isinstance(pieces, str) for one in pieces]
    probabilities = iter(_softmax(network, np.concatenate(good))) if good else iter(())
    for path, pieces in loaded:
        if isinstance(pieces, str):
            yield Prediction(path, error=pieces)
            continue
        mean = np.mean([next(probabilities) for _ in pieces], axis=0)
        yield Prediction(path, tuple(float(p) for p in mean), len(pieces))


def _softmax(network: Network, inputs: Array) -> NDArray[np.float64]:
    """Probabilities (N, classes) of inputs (N, *input_shape)."""
    n = network.description.num_classes
    logits = network.logits(inputs)
    if logits.ndim != 2 or logits.shape[1] < n:
        raise MeasureError(f"the network has outputs {logits.shape[1:]}, its file says {n} classes")
    scores = logits[:, :n].astype(np.float64)
    if not np.isfinite(scores).all():
        raise MeasureError("the network's outputs are infinite or NaN; its weights are broken")
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
