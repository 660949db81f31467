"""What a step may use, what it makes, and how steps that train do so alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compressor.artifact import Artifact, load
from compressor.errors import UsageError
from compressor.methods.budget import NumberType
from compressor.methods.magnitude import Masks, masks_of_zeros
from compressor.training import FixedMasks, Teacher, TrainSettings, batches, fit

if TYPE_CHECKING:
    from compressor.data.features import Features
    from compressor.recipe import Finetune, Quantize
    from compressor.training import FitResult
    from compressor.training.masking import MaskKeeper

__all__ = [
    "BATCH",
    "Made",
    "OnEpoch",
    "Workspace",
    "masks_for",
    "network_settings",
    "settings_for",
    "teacher_for",
    "train",
    "train_on",
]

BATCH = 64  # clips a batch where nothing is trained

OnEpoch = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Workspace:
    """What a step may use.

    Attributes:
        artifact: the network as the step finds it; start: as the recipe found it.
        data: clips, None where none were given.
        seed: of the recipe.
        settings: training settings of the network (fine-tuning follows them).
        number_type: how the recipe's end stores the network, for exact sizes.
        device: where to train.
        on_epoch: called after each epoch of training.
        out: the file of the result, None where none is written.
    """

    artifact: Artifact
    start: Artifact
    data: Features | None
    seed: int
    settings: TrainSettings
    number_type: NumberType
    device: str = "auto"
    on_epoch: OnEpoch | None = None
    out: Path | None = None

    @property
    def example(self) -> Tensor:
        """An input of two clips for tracing."""
        return torch.zeros(2, *self.artifact.input_shape)

    def clips(self, kind: str) -> Features:
        """The data; raises UsageError where there is none, naming the step that needs it."""
        if self.data is None:
            raise UsageError(f"step {kind} needs clips; give data")
        return self.data

    def inputs(self, kind: str, limit: int) -> Iterator[Tensor]:
        """Batches of training clips without labels, chosen by the seed."""
        data = self.clips(kind)
        return batches(
            data.train,
            standardizer=data.standardizer,
            layout=self.artifact.layout,
            batch_size=BATCH,
            limit=limit,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Made:
    """What a step made.

    Attributes:
        model: the changed float network; None where `artifact` says all.
        dtype: number type to store it in; None keeps the file's.
        artifact: a finished artifact (integers), or the old one where nothing changed.
        facts: for the history; notes: for people.
    """

    model: nn.Module | None = None
    dtype: str | None = None
    artifact: Artifact | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def network_settings(artifact: Artifact, *, synthetic: bool) -> TrainSettings:
    """The settings the network was trained with, else the defaults for such data."""
    for entry in reversed(artifact.history):
        if entry.get("step") == "train" and isinstance(entry.get("settings"), Mapping):
            return TrainSettings.from_dict(entry["settings"])
    from compressor.sweep.defaults import choose

    return choose(synthetic=synthetic, overrides={}).train


def masks_for(work: Workspace, model: nn.Module) -> Masks | None:
    """Masks of the zeros that an earlier step baked in; None where none did."""
    pruned = any(entry.get("step") == "prune" for entry in work.artifact.history)
    return masks_of_zeros(model) if pruned else None


def settings_for(work: Workspace, epochs: int, given: Mapping[str, Any]) -> TrainSettings:
    """The training's own settings without the penalty on scales, and what the step gives on top."""
    base = {**work.settings.to_dict(), "gamma_l1": 0.0, "epochs": epochs}
    return TrainSettings.from_dict({**base, **given})


def teacher_for(step: Finetune | Quantize, work: Workspace) -> Teacher | None:
    """The network to learn from, by "self" or a file; None for ""."""
    if not step.teacher:
        return None
    source = work.start if step.teacher == "self" else load(Path(step.teacher))
    for name in ("num_classes", "input_shape", "layout"):
        theirs, ours = getattr(source, name), getattr(work.artifact, name)
        if theirs != ours:
            raise UsageError(
                f"teacher {step.teacher} has {name} {theirs}, the network {ours}; they must be "
                "equal"
            )
    return Teacher(source.build(), temperature=step.temperature, weight=step.weight)


def train(
    model: nn.Module,
    work: Workspace,
    settings: TrainSettings,
    *,
    kind: str,
    teacher: Teacher | None = None,
    masks: MaskKeeper | None = None,
) -> dict[str, Any]:
    """Train `model` in place on the training part; returns what the history says of it."""
    data = work.clips(kind)
    tuned: FitResult = fit(
        model,
        data.train,
        settings,
        standardizer=data.standardizer,
        layout=work.artifact.layout,
        seed=work.seed,
        device=work.device,
        on_epoch=work.on_epoch,
        teacher=teacher,
        masks=masks,
    )
    return {
        "settings": settings.to_dict(),
        "seed": work.seed,
        "best_epoch": tuned.best_epoch,
        "validation": None if tuned.validation is None else tuned.validation.to_dict(),
        "epochs": [dict(record) for record in tuned.history],
    }


def train_on(
    model: nn.Module,
    work: Workspace,
    step: Finetune | Quantize,
    settings: TrainSettings,
    masks: Masks | None,
) -> dict[str, Any]:
    """Train under the step's teacher, pruned weights held at zero; returns facts as `train`."""
    facts = train(
        model,
        work,
        settings,
        kind=step.kind,
        teacher=teacher_for(step, work),
        masks=None if masks is None else FixedMasks(masks),
    )
    if step.teacher:
        facts["teacher"] = step.teacher
    return facts
