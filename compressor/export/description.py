"""What an exported file says of itself: everything that leads from a sound to a scene.

The same keys stand in the `metadata_props` of an ONNX file, in the extra files of a `.pt2` and in
the header of a safetensors file, each value as JSON. No torch: prediction reads it without.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compressor.audio.logmel import LogMel
from compressor.errors import ModelFileError, ShapeError

if TYPE_CHECKING:
    from compressor.artifact import Artifact

__all__ = ["PREFIX", "Description", "clip_seconds", "describe"]

PREFIX = "compressor."
"""Before each key, so that other programs' keys in the same place are never mistaken for ours."""


@dataclass(frozen=True)
class Description:
    """A network's inputs and outputs.

    Attributes:
        arch: name in the zoo.
        arch_args: arguments of its builder.
        num_classes: classes; outputs beyond them (of a second task) are no scenes.
        classes: names in the order of the outputs; empty if unknown.
        input_shape: one input without the batch axis, in `layout` order.
        layout: "CFT" or "CTF".
        front_end: the log-mel front-end as a dict.
        standardizer: mean and standard deviation of the features as a dict.
        clip_s: length in seconds of the sound that one inference hears.
        dtype: number type of the stored weights.
        metrics: results of the network it was made from, measured in PyTorch.
    """

    arch: str
    arch_args: dict[str, Any]
    num_classes: int
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    layout: str
    front_end: dict[str, Any]
    standardizer: dict[str, Any]
    clip_s: float
    dtype: str
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_strings(self) -> dict[str, str]:
        """Key and JSON text, keys with `PREFIX`, in a fixed order."""
        return {
            PREFIX + key: json.dumps(value, sort_keys=True)
            for key, value in sorted(dataclasses.asdict(self).items())
        }

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], name: str) -> Description:
        """The inverse of `to_strings`; keys of other programs are passed over.

        Args:
            strings: metadata of a file.
            name: the file, for messages.

        Raises:
            ModelFileError: the keys are not there, or hold something else.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            values = {key: json.loads(strings[PREFIX + key]) for key in known}
            values["classes"] = tuple(str(one) for one in values["classes"])
            values["input_shape"] = tuple(int(size) for size in values["input_shape"])
            values["clip_s"] = float(values["clip_s"])
            found = cls(**values)
        except KeyError as error:
            raise ModelFileError(
                f"{name} does not say {error.args[0]!r}: it was not exported by compressor, or "
                "another program dropped its metadata; export it again with compressor export"
            ) from error
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"{name}: its metadata cannot be read: {error}") from error
        if len(found.input_shape) != 3 or found.num_classes < 1:
            raise ModelFileError(
                f"{name}: its metadata says input {found.input_shape} and {found.num_classes} "
                "classes; needed: three sizes, and at least 1 class"
            )
        return found

    def log_mel(self) -> LogMel:
        """The front-end, ready to be called."""
        return LogMel.from_dict(self.front_end)


def clip_seconds(
    front_end: LogMel, frames: int, history: tuple[Mapping[str, Any], ...] = ()
) -> float:
    """Length of the sound that fills an input of `frames` frames.

    What the training noted is taken. Older files do not note it, and several lengths give the same
    number of frames: then the roundest of them (1 s rather than 0.998 s), as sets have round ones.

    Args:
        front_end: of the network.
        frames: of its input.
        history: steps that made the network.
    """
    for step in history:
        noted = step.get("clip_s")
        if isinstance(noted, (int, float)) and _frames(front_end, float(noted)) == frames:
            return float(noted)
    least = (frames - 1) * front_end.hop_length + (0 if front_end.center else front_end.n_fft)
    shortest = max(1, least) / front_end.sample_rate_hz
    longest = (least + front_end.hop_length - 1) / front_end.sample_rate_hz
    for unit_s in (1.0, 0.5, 0.1, 0.05, 0.01, 0.001):
        # the division's rounding error must not lift a whole number to the next one
        candidate = round(math.ceil(shortest / unit_s - 1e-9) * unit_s, 9)
        if candidate <= longest and _frames(front_end, candidate) == frames:
            return candidate
    return shortest


def _frames(front_end: LogMel, seconds: float) -> int | None:
    """Frames of a clip of that length; None where it is too short for one."""
    try:
        return front_end.frames(seconds)
    except ShapeError:
        return None


def _figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Results without their tables by class and device: those stand in the model file."""
    found: dict[str, Any] = {}
    plain = (bool, int, float, str)
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            found[key] = {k: v for k, v in value.items() if isinstance(v, plain)}
        elif isinstance(value, plain):
            found[key] = value
    return found


def describe(artifact: Artifact, dtype: str) -> Description:
    """The description of a network that is stored as `dtype`.

    Raises:
        ConfigError: the artifact's front-end cannot work.
    """
    front_end = LogMel.from_dict(artifact.front_end)
    frames = artifact.input_shape[2 if artifact.layout == "CFT" else 1]
    return Description(
        arch=artifact.arch,
        arch_args=dict(artifact.arch_args),
        num_classes=artifact.num_classes,
        classes=artifact.classes,
        input_shape=artifact.input_shape,
        layout=artifact.layout,
        front_end=dict(artifact.front_end),
        standardizer=dict(artifact.standardizer),
        clip_s=clip_seconds(front_end, frames, artifact.history),
        dtype=dtype,
        metrics=_figures(artifact.metrics),
    )
