"""What a recipe begins with: a network as an artifact, and clips that fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from compressor.artifact import Artifact, from_model, load
from compressor.audio.front_end import same_features
from compressor.errors import DataError, ShapeError, UsageError

if TYPE_CHECKING:
    from compressor.data.dataset import Progress
    from compressor.data.features import Features

__all__ = ["check_data", "open_artifact", "open_data"]


def open_artifact(
    source: Artifact | nn.Module | str | PathLike[str],
    *,
    arch: str | None = None,
    arch_args: Mapping[str, Any] | None = None,
    data: Features | None = None,
) -> Artifact:
    """The network to compress as an artifact.

    Args:
        source: an artifact, the path of a model file, or a live network of the zoo.
        arch: for a live network: its name in the zoo.
        arch_args: for a live network: the arguments it was built with, without num_classes.
        data: for a live network: where classes, input, front-end and standardizer come from;
            without it the published ones of the zoo's entry are taken.

    Raises:
        ArtifactError: a file that cannot be read, or a network that is not `arch`.
        UsageError: a live network without `arch`.
    """
    if isinstance(source, Artifact):
        return source
    if isinstance(source, (str, PathLike)):
        return load(Path(source))
    if not isinstance(source, nn.Module):
        raise UsageError(
            f"expected an artifact, a network or the path of a model file, found "
            f"{type(source).__name__}"
        )
    if arch is None:
        raise UsageError(
            f"a live {type(source).__name__} does not say how it was built; give arch= (a name in "
            "the zoo) and arch_args=, or pass an artifact"
        )
    import zoo
    from compressor.audio.logmel import preset

    entry = zoo.entry(arch)
    arguments = dict(arch_args or {})
    classes: tuple[str, ...] = ()
    shape, front_end, standardizer = entry.input_shape, preset(entry.front_end).to_dict(), {}
    if data is not None:
        classes = data.dataset.classes
        shape = _network_shape(data, entry.layout)
        front_end, standardizer = data.front_end.to_dict(), data.standardizer.to_dict()
    else:
        sizes = {k: arguments[k] for k in ("frames", "mels", "in_channels") if k in arguments}
        shape = entry.shape(**sizes)
    return from_model(
        source,
        arch=arch,
        arch_args=arguments,
        num_classes=len(classes) or arguments.get("num_classes", entry.num_classes),
        classes=classes,
        input_shape=shape,
        layout=entry.layout,
        front_end=front_end,
        standardizer=standardizer,
    )


def _network_shape(data: Features, layout: str) -> tuple[int, int, int]:
    channels, mels, frames = (int(size) for size in data.train.x.shape[1:])
    return (channels, frames, mels) if layout == "CTF" else (channels, mels, frames)


def open_data(
    artifact: Artifact,
    spec: str | Path | None,
    *,
    fold: int | None = None,
    cache: Path | None = None,
    on_data: Progress | None = None,
    on_features: Progress | None = None,
) -> Features:
    """Clips as the artifact's own front-end and standardizer make them.

    Args:
        artifact: the network that will see them.
        spec: what `open_dataset` opens; None or "synthetic" is the embedded set.
        fold: fold of the set; None for its first one.
        cache: folder of cached features.
        on_data: called with (done, total) while the embedded set is made.
        on_features: the same while features are computed.

    Raises:
        DataError: data that cannot be read.
        ShapeError, UsageError: it does not fit the network, with both sizes.
    """
    from compressor.audio.front_end import LogMel
    from compressor.data import open_dataset
    from compressor.data.features import extract

    dataset = open_dataset(
        None if spec in (None, "synthetic") else spec, fold=fold, cache=cache, on_progress=on_data
    )
    if not artifact.front_end:
        raise UsageError(
            "the model file names no front-end, so no clip can be prepared for it; write it again "
            "with its front_end"
        )
    front_end = LogMel.from_dict(artifact.front_end)
    _check_classes(artifact, dataset.classes)
    features = extract(dataset, front_end, cache=cache, on_progress=on_features)
    return check_data(artifact, features)


def check_data(artifact: Artifact, features: Features) -> Features:
    """The features with the artifact's own standardizer, if they are what the network takes.

    Raises:
        ShapeError, UsageError: other classes, another front-end, or another length of clips.
        DataError: a part without clips.
    """
    from compressor.data.features import Standardizer

    _check_classes(artifact, features.dataset.classes)
    if artifact.front_end and not same_features(artifact.front_end, features.front_end.to_dict()):
        ours, theirs = dict(artifact.front_end), features.front_end.to_dict()
        keys = [k for k in {**theirs, **ours} if k != "source"]
        key = next(k for k in keys if theirs.get(k) != ours.get(k))
        raise UsageError(
            f"the network was trained on a front-end with {key} {ours.get(key)!r}, the features "
            f"have {theirs.get(key)!r}; give recordings at the network's rate, or features of its "
            "own front-end"
        )
    shape = _network_shape(features, artifact.layout)
    if shape != artifact.input_shape:
        raise ShapeError(
            f"the network takes inputs of {artifact.input_shape} ({artifact.layout}), the clips of "
            f"{features.dataset.title} make {shape}; use clips of the length it was trained on"
        )
    for name in ("train", "test"):
        if len(getattr(features, name)) == 0:
            raise DataError(f"the {name} part of {features.dataset.title} holds no clip")
    if artifact.standardizer:
        own = Standardizer.from_dict(artifact.standardizer)
        return replace(features, standardizer=own)
    return features


def _check_classes(artifact: Artifact, classes: tuple[str, ...]) -> None:
    if len(classes) != artifact.num_classes or (artifact.classes and artifact.classes != classes):
        raise UsageError(
            f"the network knows {artifact.num_classes} classes ({_few(artifact.classes)}), the "
            f"data has {len(classes)} ({_few(classes)}); give the data it was trained on"
        )


def _few(names: tuple[str, ...]) -> str:
    if not names:
        return "names unknown"
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
