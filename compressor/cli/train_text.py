"""What `compressor train` says when it is done: the verdict in the first line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.cli.audit_text import headline
from compressor.cli.text import printable, screen_width, wrapped

if TYPE_CHECKING:
    from compressor.audit import Verdict
    from compressor.data import SceneSet
    from compressor.training import Evaluation

__all__ = ["limits_of", "training_lines"]


def training_lines(
    path: Path,
    dataset: SceneSet,
    scores: Evaluation,
    found: Sequence[Verdict] | str,
    notes: Sequence[str] = (),
) -> Iterator[str]:
    """Accuracy and limits in a line, then what they are worth, then the file.

    Args:
        path: the network that was written.
        dataset: it was trained and tested on.
        scores: of the test part.
        found: what the limits say of the file, or why that is not known.
        notes: further lines.
    """
    limits = f"limits UNKNOWN: {found}" if isinstance(found, str) else headline(found)
    lines = [
        f"accuracy {100 * scores.accuracy:.1f} % ± {100 * scores.standard_error:.1f} "
        f"(chance {100 * scores.chance:.1f}); {limits}",
        f"log loss {scores.log_loss:.3f}; {scores.n:,} test clips of {dataset.title}"
        f"{', synthetic' if dataset.synthetic else ''}, {dataset.split}",
        "± is the standard error of the test part alone, chance the share of its commonest class; "
        "how far another seed would lead, one training cannot tell",
        *notes,
    ]
    yield from wrapped(map(printable, lines), screen_width())
    yield str(path)


def limits_of(path: Path, years: str | int) -> Sequence[Verdict] | str:
    """What the limits of some years say of a file, or why that is not known: the file is there."""
    from compressor.audit import audit, verdicts
    from compressor.errors import CompressorError

    try:
        return verdicts(audit(path), years)
    except CompressorError as error:
        return str(error)
