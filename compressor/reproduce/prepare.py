"""A training recipe on a data set: labels, settings that follow from the clips, features.

Papers say how they treat clips of 1 or 10 s with device names and ten scenes. What a data set has
not got is left away, and what is measured in seconds or frames shrinks with shorter clips; every
such change is a note that goes into the results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import Clip, SceneSet, open_dataset
from compressor.data.dataset import Progress
from compressor.errors import UsageError
from compressor.reproduce.recipe import TrainingRecipe
from compressor.sweep.execute import Silent, Watch
from compressor.sweep.experiment import Experiment, build_network, front_end_of
from compressor.training.settings import TrainSettings

if TYPE_CHECKING:
    from compressor.audio.logmel import LogMel
    from compressor.data.feature_set import FeatureSet
    from compressor.data.features import Features

__all__ = [
    "GROUPS",
    "Prepared",
    "average_notes",
    "fit_settings",
    "groups_of",
    "make_experiment",
    "prepare",
]

GROUPS = ("indoor", "outdoor", "transportation")
REFERENCE_DEVICE = "a"  # whose spectra are moved


@dataclass(frozen=True)
class Prepared:
    """A recipe ready to train on a data set.

    Attributes:
        recipe: as it was given.
        experiment: network and settings fitted to the clips.
        features: of one fold.
        notes: what is not as in the paper because of the data.
    """

    recipe: TrainingRecipe
    experiment: Experiment
    features: Features
    notes: tuple[str, ...]


def prepare(
    recipe: TrainingRecipe,
    data: str | None,
    *,
    fold: int | None = None,
    cache: Path | None = None,
    watch: Watch | None = None,
) -> Prepared:
    """Open a data set as a recipe wants it and compute what features are missing.

    Args:
        recipe: what to train.
        data: what `open_dataset` opens; None for the embedded set.
        fold: None for the set's own.
        cache: folder of cached features.
        watch: told how far it is.

    Raises:
        DataError: data that cannot be read.
        UnknownNameError, ShapeError, UsageError: a network or front-end that does not exist or
            cannot take the data; found before any feature is computed.
    """
    watch = watch or Silent()
    front_end_of(recipe.model, recipe.front_end)  # a typo must not cost the data's making
    with watch.on_progress("data") as on_progress:
        dataset = open_dataset(data, fold=fold, cache=cache, on_progress=on_progress)
    dataset, notes = relabel(dataset, recipe)
    front_end = front_end_of(recipe.model, recipe.front_end)
    front_end = front_end.at_rate(min(front_end.sample_rate_hz, dataset.sample_rate_hz))
    settings, more = fit_settings(recipe, dataset, front_end)
    experiment = make_experiment(recipe, settings, data=data, cache=cache)
    shape = front_end.shape(dataset.clip_s)
    build_network(experiment, shape, dataset.classes, seed=0)
    with watch.on_progress("features") as on_progress:
        features = _extract(dataset, recipe, settings, cache, on_progress)
    more = (*more, *average_notes(features.train, settings))
    return Prepared(recipe, experiment, features, (*notes, *more, *features.notes))


def make_experiment(
    recipe: TrainingRecipe,
    settings: TrainSettings,
    *,
    data: str | None = None,
    cache: Path | None = None,
) -> Experiment:
    """Network and settings as the floors below take them."""
    return Experiment(
        model=recipe.model,
        model_args=dict(recipe.model_args),
        data=data,
        cache=None if cache is None else str(cache),
        front_end=recipe.front_end,
        train=settings,
        finetune=dataclasses.replace(settings, gamma_l1=0.0),
    )


def groups_of(classes: Sequence[str]) -> tuple[int, ...] | None:
    """Index into `GROUPS` of each class; None where they are not the ten TAU scenes."""
    from compressor.data import scene_groups

    return scene_groups(tuple(classes))


def relabel(dataset: SceneSet, recipe: TrainingRecipe) -> tuple[SceneSet, tuple[str, ...]]:
    """The data set with the recipe's labels, and a note where it has none of them."""
    if recipe.labels == "scenes" or tuple(sorted(dataset.classes)) == GROUPS:
        return dataset, ()
    groups = groups_of(dataset.classes)
    if groups is None:
        return dataset, (
            f"the paper's three classes are not to be had of {dataset.title}: its own "
            f"{len(dataset.classes)} classes",
        )

    def grouped(clips: tuple[Clip, ...]) -> tuple[Clip, ...]:
        return tuple(dataclasses.replace(clip, label=groups[clip.label]) for clip in clips)

    made = dataclasses.replace(
        dataset, classes=GROUPS, train=grouped(dataset.train), test=grouped(dataset.test)
    )
    return made, ("ten scenes taken together as indoor, outdoor and transportation",)


def fit_settings(
    recipe: TrainingRecipe, dataset: SceneSet, front_end: LogMel
) -> tuple[TrainSettings, tuple[str, ...]]:
    """The recipe's settings for the clips of a data set, and what had to change.

    Shorter clips than the paper's keep the share of the crop, the warp and the shift; frames of
    longer ones are the paper's.

    Args:
        recipe: with the settings for clips of `recipe.segment_s`.
        dataset: with the recipe's labels.
        front_end: at the data's rate.

    Raises:
        UsageError: the crop is longer than the clips.
    """
    settings = recipe.training
    changes: dict[str, Any] = {}
    notes: list[str] = []
    share = min(1.0, dataset.clip_s / recipe.segment_s)
    if recipe.crop_s is not None:
        changes["crop_frames"] = front_end.frames(share * recipe.crop_s)
        if changes["crop_frames"] > front_end.frames(dataset.clip_s):
            raise UsageError(
                f"[features] crop_s is {recipe.crop_s:g}, a crop of {share * recipe.crop_s:g} s of "
                f"clips of {dataset.clip_s:g} s; set it to at most {dataset.clip_s / share:g}"
            )
    if share < 1.0:
        if settings.time_warp_frames:
            changes["time_warp_frames"] = max(1, round(share * settings.time_warp_frames))
        if settings.time_shift_frames:
            changes["time_shift_frames"] = share * settings.time_shift_frames
        scaled = " and ".join(
            word
            for name, word in (
                ("crop_frames", "crop"),
                ("time_warp_frames", "time warp"),
                ("time_shift_frames", "time shift"),
            )
            if name in changes
        )
        notes.append(
            f"clips of {dataset.clip_s:g} s in place of {recipe.segment_s:g} s"
            + (f": {scaled} shortened alike" if scaled else "")
        )
    if settings.tasks != "scene" and groups_of(dataset.classes) is None:
        changes |= {"tasks": "scene", "pcgrad": False}
        notes.append(f"{dataset.title} has no groups of scenes: its own classes, one task")
    if settings.spectrum_correction:
        devices = {clip.device for clip in dataset.train} - {""}
        if REFERENCE_DEVICE not in devices or len(devices) < 2:
            changes["spectrum_correction"] = False
            notes.append(
                f"{dataset.title} does not name device {REFERENCE_DEVICE} and others: no spectrum "
                "correction"
            )
    return dataclasses.replace(settings, **changes), tuple(notes)


def average_notes(train: FeatureSet, settings: TrainSettings) -> tuple[str, ...]:
    """What a training of too few steps makes of the moving average of the weights.

    The decay of the average rises with the steps up to the recipe's. A training that is over before
    has an average that reaches back less far, which is what it needs; only of a few steps does it
    still hold the random start.

    Args:
        train: the training part.
        settings: of its training.
    """
    from compressor.training.ema import decay_at, start_left
    from compressor.training.loop import count_steps

    decay, steps = settings.ema_decay, count_steps(train, settings)
    reached = decay_at(steps, decay)
    if reached == decay:  # also where there is no average
        return ()
    left = start_left(steps, decay)
    start = f"; {left:.1%} of it is the untrained network" if left >= 0.001 else ""
    return (
        f"moving average of the weights: {steps:,} steps are too few for its decay of {decay:g}, "
        f"which rises to {reached:.4g} (about the last {1 / (1 - reached):,.0f} steps){start}",
    )


def _extract(
    dataset: SceneSet,
    recipe: TrainingRecipe,
    settings: TrainSettings,
    cache: Path | None,
    on_progress: Progress,
) -> Features:
    """Features of both parts; the training part at every speed of the settings."""
    from compressor.data.features import extract

    front_end = front_end_of(recipe.model, recipe.front_end)
    if settings.speeds == (1.0,):
        return extract(dataset, front_end, cache=cache, on_progress=on_progress)
    return extract(dataset, front_end, cache=cache, on_progress=on_progress, speeds=settings.speeds)
