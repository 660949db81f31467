"""What `compressor audit` counts on: input shapes, and the segment of a network that is named."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from compressor.errors import UsageError

__all__ = ["arch_on_segment", "parse_shapes"]

Shapes = tuple[tuple[int, ...], ...]


def parse_shapes(texts: Sequence[str]) -> Shapes | None:
    """Reads "1,1,256,65" (or with x); several inputs repeat the option or stand between ";".

    Raises:
        UsageError: not positive whole numbers.
    """
    shapes = []
    for text in (part for whole in texts for part in whole.split(";")):
        try:
            shape = tuple(int(size) for size in text.replace("x", ",").split(","))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            raise UsageError(
                f"--input-shape {text!r}: expected positive sizes with the batch axis, as 1,1,40,51"
            )
        shapes.append(shape)
    return tuple(shapes) or None


def arch_on_segment(arch: str, segment_s: float | None) -> tuple[str, Shapes | None]:
    """Gives a zoo network the segment that the rules are about, under its own front-end.

    Args:
        arch: a zoo network, perhaps with arguments, "dcase2021_baseline(num_classes=3)"; of a
            "module:factory" nothing is known.
        segment_s: seconds of audio of one inference; None to leave the network's own.

    Returns:
        The network, with its number of frames where its builder takes one, and the input shape;
        both as given where the network's own segment is that one already.

    Raises:
        UnknownNameError: no such network; offers close names.
    """
    name, bracket, rest = arch.partition("(")
    if segment_s is None or ":" in name:
        return arch, None
    import zoo  # torch: a network is named, which is built all the same

    entry = zoo.entry(name)
    if entry.segment_s == segment_s:
        return arch, None
    from compressor.audio.logmel import preset

    frames = preset(entry.front_end).frames(segment_s)
    if "frames" in inspect.signature(entry.builder).parameters and "frames" not in rest:
        inner = rest.rpartition(")")[0].strip() if bracket else ""
        arch = f"{name}({inner}{', ' if inner else ''}frames={frames})"
    return arch, ((1, *entry.shape(frames=frames)),)
