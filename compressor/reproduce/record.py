"""The record of a reproduction: plain data, from which every table and page is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from compressor.reproduce.prepare import Prepared
from compressor.reproduce.recipe import TrainingRecipe

__all__ = ["MAIN", "RECORD_SCHEMA", "make_record"]

RECORD_SCHEMA = 1
MAIN = "recipe"  # the line with everything the recipe has


def make_record(
    recipe: TrainingRecipe,
    prepared: Prepared,
    *,
    stages: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    seeds: Sequence[int],
    epochs: int,
    notes_of: Mapping[str, Sequence[str]],
    provenance: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Everything that a table of a reproduction shows.

    Args:
        recipe: as the paper has it, without the budget.
        prepared: the recipe on the data.
        stages: line -> stage -> one record a seed.
        seeds: in the order of those records.
        epochs: that were trained.
        notes_of: line -> what is not as in the paper because of the data.
        provenance: command, versions, commit, platform.
        seconds: wall time of this start.
    """
    features, dataset = prepared.features, prepared.features.dataset
    return {
        "schema": RECORD_SCHEMA,
        "kind": "reproduction",
        "recipe": {
            **prepared.recipe.plain(),
            "id": recipe.id,
            "title": recipe.title,
            "about": recipe.variants.get(recipe.variant, ""),
            "paper": recipe.paper,
            "task": recipe.task,
            "year": recipe.year,
            "data": recipe.data,
            "notes": list(recipe.notes),
        },
        "data": {
            "title": dataset.title,
            "split": dataset.split,
            "fold": dataset.fold,
            "synthetic": dataset.synthetic,
            "clip_s": dataset.clip_s,
            "sample_rate_hz": features.front_end.sample_rate_hz,
            "classes": list(dataset.classes),
            "train_clips": len(dataset.train),
            "test_clips": len(features.test),
            "unseen_devices": list(dataset.unseen_devices),
            "hash": features.data_hash,
        },
        "seeds": list(seeds),
        "epochs": {"trained": epochs, "paper": recipe.training.epochs},
        "settings": prepared.experiment.train.to_dict(),
        "notes": list(dict.fromkeys(prepared.notes)),
        "lines": {
            name: {
                "about": recipe.ablations[name].about if name in recipe.ablations else "",
                "compare": list(recipe.ablations[name].compare if name in recipe.ablations else ()),
                # what holds for the recipe as well is said once
                "notes": [n for n in notes_of[name] if n not in prepared.notes],
                "stages": {stage: list(found) for stage, found in of.items()},
            }
            for name, of in stages.items()
        },
        "published": {
            "rows": [dataclasses.asdict(row) for row in recipe.rows],
            "by": [dataclasses.asdict(group) for group in recipe.groups],
        },
        "provenance": dict(provenance),
        "seconds": seconds,
    }
