"""The one exception tree of the project.

Every message names the thing, the value found, what is allowed and the fix. The command line turns
each class into its exit code: 2 for usage and configuration, 3 for what could not be measured.
Standard library only: every floor of the house may import this file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArtifactError",
    "CompressorError",
    "ConfigError",
    "DataError",
    "MeasureError",
    "ModelFileError",
    "PruneError",
    "QuantizeError",
    "ShapeError",
    "UnknownNameError",
    "UsageError",
]


SHORT_LIST = 8  # so many names are listed even where a close one is found


class CompressorError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        exit_code: what the command line exits with (2 usage or configuration, 3 not measurable).
    """

    exit_code = 2


class UsageError(CompressorError):
    """A command or call was used wrongly (exit code 2)."""


class ConfigError(UsageError):
    """A setting, recipe or rule file holds a bad key or value (exit code 2)."""


class UnknownNameError(UsageError):
    """A name (network, preset, year, ...) that does not exist; offers the closest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        """Args: kind of thing, the name that was given, and all known names."""
        names = list(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        parts = [f"did you mean {', '.join(close)}?"] if close else []
        if not close or len(close) < len(names) <= SHORT_LIST:  # none left out: nothing to add
            parts.append(f"known: {', '.join(names)}")
        hint = " ".join(parts)
        super().__init__(f"unknown {kind} {name!r}; {hint}")
        self.kind = kind
        self.name = name
        self.close = tuple(close)


class ShapeError(UsageError):
    """An input or network size that cannot work (exit code 2)."""


class DataError(UsageError):
    """A data set that cannot be read as it stands: names the file and the row (exit code 2)."""


class MeasureError(CompressorError):
    """Something could not be measured (exit code 3)."""

    exit_code = 3


class ModelFileError(MeasureError):
    """A model file that is broken, foreign, hostile or too new (exit code 3)."""


class ArtifactError(ModelFileError):
    """A model file of this project that cannot be loaded (exit code 3)."""


class PruneError(MeasureError):
    """A network, or a layer of it, that cannot be pruned as asked (exit code 3)."""


class QuantizeError(MeasureError):
    """A network, or a layer of it, that cannot be quantised as asked (exit code 3).

    Attributes:
        layer: readable name of the layer at fault, "" where it is the network.
    """

    def __init__(self, problem: str, layer: str = "") -> None:
        """Args: what is wrong and what to do about it; the layer, which goes before it."""
        super().__init__(f"layer {layer!r}{problem}" if layer else problem)
        self.layer = layer
