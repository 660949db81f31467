"""Trained networks that come with the project: taken only where they are what would be trained.

A file `zoo/weights/<model>-synthetic.pt` is the dense network of the embedded set, written by
`compressor train`. It stands for the dense job of one fold and seed, when network, data and
training settings are those of the sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.audio.front_end import in_words_of
from compressor.errors import CompressorError
from compressor.sweep.experiment import Experiment, data_identity, network_arguments, shape_of

if TYPE_CHECKING:
    from compressor.artifact import Artifact
    from compressor.data.features import Features

__all__ = ["find_checkpoint", "mismatch", "weights_folder"]


def weights_folder() -> Path:
    """Where the project's trained networks are."""
    import zoo

    return Path(zoo.__file__).parent / "weights"


def find_checkpoint(
    experiment: Experiment,
    features: Features,
    seed: int,
    *,
    note: Callable[[str], None] = lambda text: None,
    folder: Path | None = None,
) -> Path | None:
    """The file that stands for the dense job of this fold and seed, or None.

    Args:
        experiment: network and settings of the sweep.
        features: data of the fold.
        seed: seed of the job.
        note: told why a file that is there is not taken.
        folder: where to look; `weights_folder()` by default.

    Returns:
        The file, or None when there is none or it is another network.
    """
    from compressor.artifact import load

    if not features.dataset.synthetic:
        return None
    path = (folder or weights_folder()) / f"{experiment.model}-synthetic.pt"
    if not path.is_file():
        return None
    try:
        differs = mismatch(load(path), experiment, features, seed)
    except CompressorError as error:
        note(f"{path.name} cannot be read and is not taken: {error}")
        return None
    if differs:
        note(f"{path.name} is not taken, the dense network is trained: {differs}")
        return None
    return path


def mismatch(artifact: Artifact, experiment: Experiment, features: Features, seed: int) -> str:
    """In what an artifact differs from the dense network a job would train; empty if in nothing."""
    step: dict[str, Any] = dict(artifact.history[-1]) if artifact.history else {}
    if step.get("step") != "train" or len(artifact.history) != 1:
        return "it is not a dense network as `compressor train` writes it"
    arguments = network_arguments(experiment, shape_of(features), features.dataset.classes)
    asked = features.front_end.to_dict()
    # (what, value in the file, value asked for)
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("network", artifact.arch, experiment.model),
        ("arguments", dict(artifact.arch_args), arguments),
        ("data", step.get("data"), data_identity(features)),
        ("fold", step.get("fold"), features.dataset.fold),
        ("front-end", dict(artifact.front_end), in_words_of(artifact.front_end, asked)),
        ("seed", step.get("seed"), seed),
        ("training settings", step.get("settings"), experiment.train.to_dict()),
    )
    for name, found, wanted in pairs:
        if found != wanted:
            return f"{name}: {_difference(found, wanted)}"
    return ""


def _difference(found: object, wanted: object) -> str:
    """The first value in which two settings differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *found]:
            if found.get(key) != wanted.get(key):
                return f"{key} is {found.get(key)!r} in the file, {wanted.get(key)!r} asked"
    return f"{found!r} in the file, {wanted!r} asked"
