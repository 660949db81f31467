"""What every job of a sweep shares: data, network, training settings, and what follows from them.

`Experiment` is plain data that travels to worker processes; the functions turn it into features and
networks. Torch is loaded where a network is built.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import UsageError
from compressor.sweep.plan import Job
from compressor.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compressor.audio.logmel import LogMel
    from compressor.data import SceneSet
    from compressor.data.features import Features
    from compressor.sweep.execute import Watch

__all__ = [
    "Experiment",
    "build_network",
    "check_crop",
    "check_folds",
    "data_identity",
    "example_input",
    "front_end_of",
    "input_shape",
    "load_features",
    "network_arguments",
    "open_data",
    "open_features",
    "shape_of",
]


Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Experiment:
    """Data, network and settings of one sweep.

    Attributes:
        model: name in the zoo, or package.module:function of the user (`zoo.own`).
        model_args: arguments of its builder beyond the sizes that follow from the data.
        data: what `--data` named; None for the embedded set.
        cache: folder of cached features; None for the default one.
        train: settings of the dense network's training.
        front_end: a log-mel preset with or without changes, as `logmel.preset` takes it; "" for
            the one of the network's paper.
        finetune: settings after pruning: the training's own but for the epochs, and without the
            penalty on BatchNorm scales, which has done its work.
        teacher: "self": the dense network teaches what is made of it; "" for no teacher.
        qat_epochs: epochs of training with int8 rounding in place.
    """

    model: str
    data: str | None
    cache: str | None
    train: TrainSettings
    finetune: TrainSettings
    model_args: Mapping[str, Any] = field(default_factory=dict)
    front_end: str = ""
    teacher: str = ""
    qat_epochs: int = 10

    @classmethod
    def make(
        cls,
        *,
        model: str,
        model_args: Mapping[str, Any],
        data: str | None,
        cache: Path | None,
        train: TrainSettings,
        finetune_epochs: int,
        crop_s: float | None = None,
        front_end: str = "",
        teacher: str = "",
        qat_epochs: int | None = None,
    ) -> Experiment:
        """An experiment whose fine-tuning follows from its training.

        Args:
            model: name in the zoo.
            model_args: arguments of its builder.
            data: what to open; None for the embedded set.
            cache: cache folder, None for the default one.
            train: settings of the training.
            finetune_epochs: epochs after pruning.
            crop_s: seconds of random crop to train on, in place of `train.crop_frames`.
            front_end: in place of the network's own.
            teacher: "self" or "".
            qat_epochs: epochs of int8-qat; None takes half of the fine-tuning's, as it begins
                with a network that is trained.

        Raises:
            UnknownNameError: no network or front-end of that name.
            ConfigError: no such number of epochs.
            ShapeError: the crop is too short for one frame.
        """
        # first of all: a typo must not cost the data's making
        features = front_end_of(model, front_end)
        if crop_s is not None:
            train = dataclasses.replace(train, crop_frames=features.frames(crop_s))
        return cls(
            model=model,
            model_args=dict(model_args),
            data=data,
            cache=None if cache is None else str(cache),
            front_end=front_end,
            train=train,
            finetune=dataclasses.replace(train, epochs=finetune_epochs, gamma_l1=0.0),
            teacher=teacher,
            qat_epochs=TrainSettings.from_dict(
                {"epochs": max(1, finetune_epochs // 2) if qat_epochs is None else qat_epochs}
            ).epochs,
        )

    def epochs(self, job: Job) -> int:
        """Epochs of training in a job."""
        if job.kind == "quantized":
            return self.qat_epochs if job.quantize == "int8-qat" else 0
        return self.train.epochs if job.kind == "dense" else self.finetune.epochs


def front_end_of(model: str, instead: str = "") -> LogMel:
    """The log-mel front-end of a network's paper, or the one given instead.

    Raises:
        UnknownNameError: no network or front-end of that name.
        ConfigError: a setting of the front-end that cannot work.
    """
    import zoo
    from compressor.audio.logmel import preset

    return preset(instead or zoo.entry(zoo.allow(model)).front_end)


@functools.lru_cache(maxsize=2)  # a worker's next job mostly has the same fold
def _features(
    model: str, front_end: str, data: str | None, cache: str | None, fold: int | None
) -> Features:
    from compressor.data import open_dataset
    from compressor.data.features import extract

    folder = None if cache is None else Path(cache)
    dataset = open_dataset(data, fold=fold, cache=folder)
    return extract(dataset, front_end_of(model, front_end), cache=folder)


def open_features(experiment: Experiment, fold: int | None, watch: Watch) -> Features:
    """Open the data and compute what features are missing, telling `watch` how far it is.

    Raises:
        DataError: data that cannot be read, or has no such fold.
        UnknownNameError, ShapeError, UsageError: a network that cannot take the data, found before
            any feature is computed.
    """
    from compressor.data.features import extract

    cache = None if experiment.cache is None else Path(experiment.cache)
    with watch.on_progress("data") as on_progress:
        dataset = open_data(experiment, fold, on_progress=on_progress)
    front_end = front_end_of(experiment.model, experiment.front_end)
    shape = front_end.at_rate(min(front_end.sample_rate_hz, dataset.sample_rate_hz)).shape(
        dataset.clip_s
    )
    model = build_network(experiment, shape, dataset.classes, seed=0)
    further = network_arguments(experiment, shape, dataset.classes).get("group_classes", 0)
    _check_own(experiment.model, model, shape, len(dataset.classes) + further)
    check_crop(experiment, shape, dataset.clip_s)
    with watch.on_progress("features") as on_progress:
        return extract(dataset, front_end, cache=cache, on_progress=on_progress)


def _check_own(name: str, model: nn.Module, shape: Shape, outputs: int) -> None:
    """Runs a user's own network once; those of the zoo are known to work."""
    import zoo.own

    if zoo.own.is_own(name):
        zoo.own.check_output(name, model, input_shape(name, shape), outputs)


def check_crop(experiment: Experiment, shape: Shape, clip_s: float) -> None:
    """Refuses a training crop that is longer than the clips.

    Args:
        experiment: what is run.
        shape: of the features, (C, M, T).
        clip_s: length of a clip in seconds.

    Raises:
        UsageError: the crop is longer.
    """
    crop = experiment.train.crop_frames
    if crop is not None and crop > shape[-1]:
        raise UsageError(
            f"the training crop has {crop} frames, the clips have {shape[-1]} ({clip_s:g} s): use "
            f"--crop-s of at most {clip_s:g}, or leave it out to train on whole clips"
        )


def check_folds(wanted: Sequence[int], known: Sequence[int], name: str) -> None:
    """Refuses folds that a data set does not have.

    Raises:
        UsageError: the first one that is missing.
    """
    missing = [fold for fold in wanted if fold not in known]
    if missing:
        listed = ", ".join(map(str, sorted(known)))
        raise UsageError(f"{name} has no fold {missing[0]}; it has {listed}")


def open_data(
    experiment: Experiment,
    fold: int | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> SceneSet:
    """The experiment's data set at a fold, None for its default one."""
    from compressor.data import open_dataset

    cache = None if experiment.cache is None else Path(experiment.cache)
    return open_dataset(experiment.data, fold=fold, cache=cache, on_progress=on_progress)


def load_features(experiment: Experiment, fold: int | None) -> Features:
    """Features of a fold, from the cache where they are there; kept for the next job."""
    e = experiment
    return _features(e.model, e.front_end, e.data, e.cache, fold)


def data_identity(features: Features) -> str:
    """What the data is, for comparing runs and checkpoints.

    The embedded set is known by its version: its last bits may differ between processors, and a
    network trained on it elsewhere is still trained on it. Recordings are known by their content.
    """
    if features.dataset.synthetic:
        return f"{features.dataset.name}/{features.dataset.root.name}"
    return features.data_hash


def shape_of(features: Features) -> Shape:
    """Shape of one clip's features, (C, M, T)."""
    channels, mels, frames = (int(size) for size in features.train.x.shape[1:])
    return channels, mels, frames


def input_shape(model: str, shape: Shape) -> Shape:
    """The network's input without the batch axis, in its own layout.

    Args:
        model: name in the zoo.
        shape: of one clip's features, (C, M, T).
    """
    import zoo

    channels, mels, frames = shape
    return (channels, frames, mels) if zoo.entry(zoo.allow(model)).layout == "CTF" else shape


def network_arguments(
    experiment: Experiment, shape: Shape, classes: Sequence[str]
) -> dict[str, Any]:
    """Arguments of `zoo.build` beyond name and number of classes.

    Sizes follow from the features; where a network has outputs for the three groups of the ten TAU
    scenes and the data has other classes, those outputs are left away. Where the groups are trained
    as a second task, a network without such outputs gets them.

    Args:
        experiment: network and its arguments.
        shape: of one clip's features, (C, M, T).
        classes: of the data.

    Raises:
        UsageError: `--model-arg` names a size that follows from the data.
    """
    import zoo

    for name in ("in_channels", "mels", "frames", "num_classes"):
        if name in experiment.model_args:
            raise UsageError(f"--model-arg {name} is not yours to set: it follows from the data")
    accepted = inspect.signature(zoo.entry(zoo.allow(experiment.model)).builder).parameters
    sizes = dict(zip(("in_channels", "mels", "frames"), shape, strict=True))
    arguments: dict[str, Any] = {k: v for k, v in sizes.items() if k in accepted}
    has_groups, two_tasks = _are_tau_scenes(classes), experiment.train.tasks == "scene+group"
    if "group_classes" in accepted and not has_groups:
        arguments["group_classes"] = 0
    if "group_classes" not in accepted and has_groups and two_tasks:
        arguments["group_classes"] = 3
    return {**arguments, **experiment.model_args}


def _are_tau_scenes(classes: Sequence[str]) -> bool:
    """Whether the classes are the ten scenes of TAU Urban Acoustic Scenes (DCASE task 1)."""
    scenes = "airport bus metro metro_station park public_square shopping_mall street_pedestrian"
    return set(classes) == {*scenes.split(), "street_traffic", "tram"}


def build_network(
    experiment: Experiment, shape: Shape, classes: Sequence[str], *, seed: int
) -> nn.Module:
    """The dense network with weights drawn from `seed`; the random state is left alone.

    Args:
        experiment: network and its arguments.
        shape: of one clip's features, (C, M, T).
        classes: of the data.
        seed: of the weights.

    Raises:
        UnknownNameError, ShapeError, UsageError: no such network, or it cannot take the data.
    """
    import torch

    import zoo

    arguments = network_arguments(experiment, shape, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return zoo.build(experiment.model, len(classes), **arguments)


def example_input(shape: Shape) -> Tensor:
    """An input of two clips for tracing: (2, *shape)."""
    import torch

    return torch.zeros(2, *shape)
