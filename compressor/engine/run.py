"""Run a recipe: `compress(model, steps, data) -> Artifact`.

Around every step: the audit of the file before and after, the accuracy before and after where there
are clips, wall and CPU time, all in the artifact's history. The network that was given is never
changed; with a `Keeper` each finished step is on disk before the next one begins.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from compressor import provenance
from compressor.artifact import Artifact, from_model
from compressor.engine.ledger import (
    Keeper,
    OnStep,
    StepRecord,
    audit_artifact,
    rules_effect,
    step_key,
)
from compressor.engine.source import check_data, open_artifact, open_data
from compressor.engine.steps import run_step
from compressor.engine.workspace import Made, OnEpoch, Workspace, network_settings
from compressor.errors import MeasureError, PruneError, UsageError
from compressor.methods.budget import NumberType
from compressor.recipe import Cast, Prune, Quantize, Recipe, Slim, Step, read_recipe
from compressor.training.settings import TrainSettings

if TYPE_CHECKING:
    from compressor.data.features import Features
    from compressor.training import Evaluation

__all__ = ["compress"]

Steps = Recipe | Sequence[Step] | Step | str | PathLike[str]


def compress(
    model: Artifact | nn.Module | str | PathLike[str],
    steps: Steps,
    data: Features | str | Path | None = None,
    *,
    arch: str | None = None,
    arch_args: Mapping[str, Any] | None = None,
    seed: int | None = None,
    settings: TrainSettings | None = None,
    keeper: Keeper | None = None,
    out: Path | None = None,
    device: str = "auto",
    command: Sequence[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Artifact:
    """Compress a network step by step.

    Args:
        model: an artifact, the path of a model file, or a live network of the zoo with `arch`; it
            is left as it is.
        steps: a recipe, its steps, or the path of a recipe file.
        data: features from `compressor.data.features.extract`, what `open_dataset` opens
            ("synthetic" for the embedded set), or None: then nothing can be trained and no accuracy
            is measured.
        arch: name in the zoo of a live network.
        arch_args: the arguments that network was built with.
        seed: in place of the recipe's.
        settings: of fine-tuning; None follows the network's own training.
        keeper: writes each finished step beside the result, and goes on where an earlier run was.
        out: the file the result will be written to; exports without a path stand beside it.
        device: where to train.
        command: what the result says of its making; None takes this process's command line.
        on_step: called after each step with its record.
        on_epoch: called after each epoch with its number, the number of epochs and its record.

    Returns:
        The compressed network; `history` has one entry a step.

    Raises:
        CompressorError: one line that names the step's layer or value; kept steps stay.
    """
    recipe = _recipe(steps, seed)
    features = None if data is None or isinstance(data, (str, Path)) else data
    start = open_artifact(model, arch=arch, arch_args=arch_args, data=features)
    for name, tensor in start.state_dict.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise MeasureError(
                f"{name!r} holds values that are not finite; train the network again"
            )
    if start.quantization and any(step.kind != "export" for step in recipe.steps):
        raise UsageError(
            "the network is quantised already and can only be exported; compress the float network "
            "it was made from"
        )
    if data is None and recipe.needs_data:
        raise UsageError(
            f"step {recipe.needs_data[0]} needs clips; give data (a folder, a CSV list or "
            "'synthetic')"
        )
    if isinstance(data, (str, Path)):
        features = open_data(start, data)
    elif features is not None:
        features = check_data(start, features)
    run = _Run(start, recipe, features, settings, keeper, out, device, on_step, on_epoch)
    made_by = provenance.collect(
        command=command,
        seed=recipe.seed,
        data_hash="" if features is None else features.data_hash,
    )
    return run(made_by)


def _recipe(steps: Steps, seed: int | None) -> Recipe:
    if isinstance(steps, (str, PathLike)):
        steps = read_recipe(Path(steps))
    if isinstance(steps, Step):
        steps = (steps,)
    recipe = steps if isinstance(steps, Recipe) else Recipe(tuple(steps))
    return recipe if seed is None else dataclasses.replace(recipe, seed=seed)


def checksum(artifact: Artifact) -> str:
    """Hash of a network: its architecture, input and tensors."""
    digest = hashlib.sha256()
    about = [artifact.arch, artifact.arch_args, artifact.input_shape, artifact.quantization]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for name, tensor in artifact.state_dict.items():
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def stored_as(artifact: Artifact, steps: Sequence[Step]) -> NumberType:
    """The number type in which a recipe's end stores the network."""
    for step in reversed(steps):
        if isinstance(step, Cast):
            return NumberType(step.dtype)
        if isinstance(step, Quantize):
            return NumberType("int8", step.weight_bits, step.keep_float, step.mixed, step.rescale)
    return NumberType(artifact.dtype)


@dataclasses.dataclass
class _Run:
    """One run of a recipe."""

    start: Artifact
    recipe: Recipe
    data: Features | None
    settings: TrainSettings | None
    keeper: Keeper | None
    out: Path | None
    device: str
    on_step: OnStep | None
    on_epoch: OnEpoch | None

    def __call__(self, made_by: Mapping[str, Any]) -> Artifact:
        """Run all steps, those of an earlier run left out."""
        synthetic = self.data is not None and self.data.dataset.synthetic
        settings = self.settings or network_settings(self.start, synthetic=synthetic)
        context = {
            "seed": self.recipe.seed,
            "data": "" if self.data is None else self.data.data_hash,
            "fold": None if self.data is None else self.data.dataset.fold,
            "settings": settings.to_dict(),
        }
        artifact, key = self.start, checksum(self.start)
        number_type = stored_as(self.start, self.recipe.steps)
        figures: Mapping[str, Any] = {}
        scores: Mapping[str, float] | None = None
        for index, step in enumerate(self.recipe.steps, start=1):
            fitted = isinstance(step, Slim) and step.has_target
            extra = {"stored_as": repr(number_type)} if fitted else {}
            key = step_key(key, step.to_dict(), {**context, **extra, **self._files(step)})
            kept = self.keeper.find(index, step.kind, key) if self.keeper else None
            if kept is not None:
                artifact, record = kept, StepRecord.from_dict(kept.history[-1])
            else:
                if not figures:
                    figures = audit_artifact(artifact)
                    scores = _short(self._evaluate(artifact)[0])
                work = Workspace(
                    artifact=artifact,
                    start=self.start,
                    data=self.data,
                    seed=self.recipe.seed,
                    settings=settings,
                    number_type=number_type,
                    device=self.device,
                    on_epoch=self.on_epoch,
                    out=self.out,
                )
                artifact, record = self._step(
                    work,
                    step,
                    index=index,
                    key=key,
                    figures=figures,
                    scores=scores,
                    made_by=made_by,
                )
                if self.keeper is not None:
                    self.keeper.keep(index, step.kind, artifact)
            figures, scores = record.audit_after, record.accuracy_after
            if self.on_step is not None:
                self.on_step(record)
        return artifact

    def _files(self, step: Step) -> dict[str, str]:
        """What a step reads besides the network: a change of it makes kept steps stale."""
        from compressor.artifact import load

        teacher = getattr(step, "teacher", "")
        if teacher == "self":
            return {"teacher": checksum(self.start)}
        return {"teacher": checksum(load(Path(teacher)))} if teacher else {}

    def _step(
        self,
        work: Workspace,
        step: Step,
        *,
        index: int,
        key: str,
        figures: Mapping[str, Any],
        scores: Mapping[str, float] | None,
        made_by: Mapping[str, Any],
    ) -> tuple[Artifact, StepRecord]:
        wall, cpu = time.perf_counter(), time.process_time()
        made = run_step(step, work)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        artifact = _stored(work.artifact, made)
        after = figures if artifact is work.artifact else audit_artifact(artifact)
        facts, notes = dict(made.facts), list(made.notes)
        if isinstance(step, Prune):
            facts["rules"] = rules_effect(figures, after)
            _check_zeros(facts["zeros"], after)
        notes += _compare_predicted(work, step, facts, after, last=index == self.count)
        metrics, now, where = dict(work.artifact.metrics), scores, "as before"
        if artifact is not work.artifact:
            found, where = self._evaluate(artifact)
            now, metrics = _short(found), self._metrics(found)
        record = StepRecord(
            index=index,
            count=self.count,
            kind=step.kind,
            settings=step.to_dict(),
            facts=facts,
            audit_before=figures,
            audit_after=after,
            accuracy_before=scores,
            accuracy_after=now,
            measured_in=where if now is not None else "",
            seconds=wall,
            cpu_seconds=cpu,
            notes=tuple(notes),
            key=key,
        )
        # through JSON: a model file holds plain values only
        entry = json.loads(json.dumps(record.to_dict()))
        artifact = dataclasses.replace(
            artifact,
            history=(*work.artifact.history, entry),
            metrics=metrics,
            provenance={**made_by, "began_with": checksum(self.start)},
        )
        return artifact, record

    @property
    def count(self) -> int:
        """Steps of the recipe."""
        return len(self.recipe.steps)

    def _evaluate(self, artifact: Artifact) -> tuple[Evaluation | None, str]:
        """Results on the test part and what computed them; None without data."""
        if self.data is None:
            return None, ""
        from compressor.engine.measure import evaluate_artifact

        return evaluate_artifact(artifact, self.data, device=self.device)

    def _metrics(self, found: Evaluation | None) -> dict[str, Any]:
        """What the model file says of its results."""
        if found is None or self.data is None:
            return {}
        from compressor.sweep.experiment import data_identity

        return {"test": found.to_dict(), "data": data_identity(self.data)}


def _short(found: Evaluation | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {
        "accuracy": found.accuracy,
        "macro_accuracy": found.macro_accuracy,
        "log_loss": found.log_loss,
        "clips": found.n,
    }


def _stored(artifact: Artifact, made: Made) -> Artifact:
    """What a step made, as an artifact in its number type."""
    if made.artifact is not None or made.model is None:
        return made.artifact or artifact
    return from_model(
        made.model,
        arch=artifact.arch,
        arch_args=artifact.arch_args,
        num_classes=artifact.num_classes,
        classes=artifact.classes,
        input_shape=artifact.input_shape,
        layout=artifact.layout,
        front_end=artifact.front_end,
        standardizer=artifact.standardizer,
        dtype=made.dtype or artifact.dtype,
    )


def _check_zeros(zeros: int, figures: Mapping[str, Any]) -> None:
    """The zeros that were counted must be in the file."""
    stored = figures["params"] - figures["nonzero_params"]
    if stored < zeros:
        raise MeasureError(
            f"{zeros:,} weights were made zero, but the file has {stored:,} zeros: not written"
        )


def _compare_predicted(
    work: Workspace,
    step: Step,
    facts: Mapping[str, Any],
    figures: Mapping[str, Any],
    *,
    last: bool,
) -> list[str]:
    """Hold the size a target was fitted to against the file's, as soon as both are of one type.

    Raises:
        PruneError: directly after the removal they differ.
    """
    entries = [facts, *reversed(work.artifact.history)]
    predicted = next((e["predicted"] for e in entries if "predicted" in e), None)
    if predicted is None:
        return []
    if predicted["number_type"] == "int8":  # folding comes last, and changes all figures
        names = ["param_bytes", "macs"] if last else []
    else:
        names = ["params", "macs", "macs_official"]
        names += ["param_bytes"] * (set(figures["bytes_by_dtype"]) == {predicted["number_type"]})
    wrong = {n: (predicted[n], figures[n]) for n in names if predicted[n] != figures[n]}
    if wrong and isinstance(step, Slim):
        name, (wanted, found) = next(iter(wrong.items()))
        raise PruneError(
            f"{name} was predicted as {wanted:,}, but the written network has {found:,}; "
            "use a ratio instead of a target"
        )
    return [
        f"{name}: {found:,} written, {wanted:,} predicted when channels were removed"
        for name, (wanted, found) in wrong.items()
        if last
    ]
