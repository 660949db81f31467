"""One function a kind of step: a network in, the changed network and what was found out.

The functions leave the artifact they are given alone; `compressor.engine.run` measures, times and
records around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

import zoo
from compressor.engine.numbers import run_cast, run_export, run_quantize
from compressor.engine.workspace import (
    BATCH,
    Made,
    Workspace,
    masks_for,
    settings_for,
    train,
    train_on,
)
from compressor.methods.batchnorm import reestimate
from compressor.methods.budget import Budget, rules_named
from compressor.methods.magnitude import Magnitude, count_sparsity, prune_weights
from compressor.methods.slimming import Slimming, slim
from compressor.methods.surgery import check_finite
from compressor.recipe import Finetune, Prune, Reestimate, Slim, Step
from compressor.training import GradualMasks, batches

__all__ = ["run_step"]


def run_step(step: Step, work: Workspace) -> Made:
    """Run one step.

    Raises:
        CompressorError: it cannot be done; nothing is changed then.
    """
    return _RUN[step.kind](step, work)


def _layers_left_alone(work: Workspace, model: nn.Module, keep: tuple[str, ...]) -> list[str]:
    """Layers whose outputs stay: those of the zoo's entry that this build has, and the step's."""
    names = {name for name, _ in model.named_modules()}
    return [n for n in zoo.entry(work.artifact.arch).ignored_layers if n in names] + list(keep)


def _labelled(work: Workspace, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of training clips with their labels, chosen by the seed."""
    import numpy as np

    data = work.clips("slim (importance taylor)")
    rows = np.random.default_rng(work.seed).permutation(len(data.train))[:limit]
    part = data.train.subset(rows)
    labels = torch.split(torch.from_numpy(np.array(part.y, dtype=np.int64)), BATCH)
    inputs = batches(
        part, standardizer=data.standardizer, layout=work.artifact.layout, batch_size=BATCH
    )
    yield from zip(inputs, labels, strict=True)


def _slim(step: Slim, work: Workspace) -> Made:
    model = work.artifact.build()
    config = Slimming(
        ratio=step.ratio or 0.0,  # a budget takes its place
        by=cast(Any, step.by),
        reduction=cast(Any, step.reduction),
        min_channels=step.min_channels,
        min_share=step.min_share,
        importance=cast(Any, step.importance),
        normalize=step.normalize,
        seed=work.seed,
    )
    budget = None
    notes: list[str] = []
    if step.has_target:
        rules = rules_named(step.fit) if step.fit else None
        budget = Budget(
            params=step.target_params,
            macs=step.target_macs,
            bytes=step.target_bytes,
            rules=rules,
            number_type=work.number_type,
        )
        if rules is not None:
            notes += [
                f"{rules.label} also wants {limit.only} numbers, these are "
                f"{work.number_type.name}: quantize afterwards"
                for limit in rules.limits
                if limit.only and limit.only != work.number_type.name
            ]
    result = slim(
        model,
        work.example,
        config,
        ignored=_layers_left_alone(work, model, step.keep),
        budget=budget,
        batches=_labelled(work, step.score_clips) if step.importance == "taylor" else None,
    )
    facts: dict[str, Any] = {
        "importance": step.importance,
        "threshold": result.threshold,
        "channels_under_threshold": result.channels_under_threshold,
        "channels_total": result.channels_total,
        "params_before": result.params_before,
        "params_after": result.params_after,
        "kept": {layer: list(counts) for layer, counts in result.kept.items()},
        "reestimated_on": 0,
    }
    if result.sizes is not None:
        facts["predicted"] = {
            "number_type": work.number_type.name,
            "params": result.sizes.params,
            "param_bytes": result.sizes.param_bytes,
            "macs": result.sizes.macs,
            "macs_official": result.sizes.macs_official,
        }
    if step.reestimate and work.data is not None:
        reestimate(result.model, work.inputs("slim", step.reestimate))
        facts["reestimated_on"] = min(step.reestimate, len(work.data.train))
    elif step.reestimate and result.plan.outputs:
        notes.append(
            "BatchNorm statistics are still those of the wider network: give data to estimate them "
            "anew"
        )
    return Made(result.model, facts=facts, notes=tuple(notes))


def _prune(step: Prune, work: Workspace) -> Made:
    model = work.artifact.build()
    config = Magnitude(
        sparsity=step.sparsity, scope=cast(Any, step.scope), pattern=step.pattern, keep=step.keep
    )
    facts: dict[str, Any] = {"schedule": step.schedule}
    notes: list[str] = []
    if step.schedule == "gradual":
        check_finite(model)
        keeper = GradualMasks(config, start=count_sparsity(model).share, ramp_share=step.ramp_share)
        settings = settings_for(work, step.epochs, step.settings)
        facts |= train(model, work, settings, kind="prune", masks=keeper)
        sparsity = count_sparsity(model)
    else:
        result = prune_weights(model, config)
        model, sparsity = result.model, result.sparsity
        if result.dense_layers:
            notes.append(
                f"pattern {step.pattern} does not divide the inputs of "
                f"{', '.join(result.dense_layers)}: left dense"
            )
    facts |= {
        "zeros": sparsity.zeros,
        "weights": sparsity.total,
        "sparsity": sparsity.share,
        "zeros_by_layer": {layer: list(counts) for layer, counts in sparsity.layers.items()},
    }
    return Made(model, facts=facts, notes=tuple(notes))


def _reestimate(step: Reestimate, work: Workspace) -> Made:
    model = work.artifact.build()
    reestimate(model, work.inputs("reestimate", step.clips))
    return Made(model, facts={"clips": min(step.clips, len(work.clips("reestimate").train))})


def _finetune(step: Finetune, work: Workspace) -> Made:
    model = work.artifact.build()
    check_finite(model)
    masks = masks_for(work, model)
    settings = settings_for(work, step.epochs, step.settings)
    facts = train_on(model, work, step, settings, masks)
    if masks is not None:
        facts["sparsity"] = count_sparsity(model).share
    return Made(model, facts=facts)


_RUN: dict[str, Callable[[Any, Workspace], Made]] = {
    "slim": _slim,
    "prune": _prune,
    "reestimate": _reestimate,
    "finetune": _finetune,
    "cast": run_cast,
    "quantize": run_quantize,
    "export": run_export,
}
