"""`compressor predict`: from sounds to scenes, and the challenge's output file."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from compressor.cli import console
from compressor.errors import UsageError

if TYPE_CHECKING:
    from compressor.deploy.predict import Network, Prediction

__all__ = ["predict"]

FAILED_CLIPS = 3  # exit code: some clips have no prediction


def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="An exported ONNX file or a model file (.pt).")
    ],
    clips: Annotated[
        list[Path], typer.Argument(metavar="CLIP...", help="Recordings, or folders of them.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the challenge's output file (tab-separated: filename, scene_label, a "
            "probability a class); '-' is standard output. Default for folders: output.csv."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network.")] = 1,
) -> None:
    """Predict the scene of recordings with the network's own front-end.

    Recordings longer than what the network hears are cut into pieces whose probabilities are
    averaged. A recording that cannot be read is named on standard error and left out; all others
    are kept.

    Exit codes: 0 all predicted, 2 usage, 3 some could not be read.

    Example: compressor predict model.onnx audio/ --out output.csv
    """
    from compressor.deploy.predict import find_clips, open_network, predict_files

    network = open_network(model, threads=threads)
    found = find_clips(clips)
    if out is None and any(path.is_dir() for path in clips):
        out = Path("output.csv")
    names = dict(found)
    failed = cut = 0
    with ExitStack() as stack:
        write = _writer(stack, out, network)
        bar = stack.enter_context(console.progress("clips", len(found)))
        for done, one in enumerate(predict_files(network, [path for path, _ in found]), 1):
            if one.error:
                failed += 1
                console.note(f"error: {one.error}")
            else:
                cut += one.pieces > 1
                write(names[one.path], one)
            if len(found) > 1:
                bar.update(done, len(found))
    if cut:
        console.note(
            f"{cut} of {len(found)} recordings are longer than {network.description.clip_s:g} s: "
            "probabilities are averages over their pieces"
        )
    if out is not None and str(out) != "-":
        print(out)
    if failed:
        console.note(f"{failed} of {len(found)} recordings have no prediction")
        raise typer.Exit(FAILED_CLIPS)


class _Table:
    """Writes the challenge's output file, a row a recording."""

    def __init__(self, stream: IO[str], classes: Sequence[str]) -> None:
        self._rows = csv.writer(stream, delimiter="\t", lineterminator="\n")
        self._classes = classes
        self._write(["filename", "scene_label", *classes])

    def _write(self, row: Iterable[str]) -> None:
        self._rows.writerow(row)

    def __call__(self, name: str, one: Prediction) -> None:
        # nine digits: what log loss is made of must not be rounded to zero
        shares = [f"{p:.9g}" for p in one.probabilities]
        self._write([name, self._classes[one.label], *shares])


class _Lines:
    """Writes a line a recording for people: name, scene, probability."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes

    def __call__(self, name: str, one: Prediction) -> None:
        print(f"{name}\t{self._classes[one.label]}\t{max(one.probabilities):.3f}")


def _writer(stack: ExitStack, out: Path | None, network: Network) -> _Table | _Lines:
    """Where predictions go: standard output, or a file that appears when all is done."""
    if out is None:
        return _Lines(network.classes)
    if str(out) == "-":
        return _Table(sys.stdout, network.classes)
    import io

    from compressor.data.files import atomic_write

    try:
        binary = stack.enter_context(atomic_write(out))
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written: {error.strerror}; name another place with --out"
        ) from error
    text = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=True)
    stack.callback(text.detach)  # `binary` belongs to atomic_write, which closes it
    return _Table(text, network.classes)
