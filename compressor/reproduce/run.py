"""Run a training recipe: train, compress as the paper did, audit, evaluate, for each seed and line.

Every finished stage is a model file and a JSON file in the run folder, with a key over all that
decides it: started again, a run goes on where it was, inside a training as well.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import ConfigError, UsageError
from compressor.reproduce.prepare import Prepared, prepare
from compressor.reproduce.recipe import DENSE, EVALUATION_ONLY, TrainingRecipe
from compressor.reproduce.record import MAIN, make_record
from compressor.sweep.execute import Silent, Watch
from compressor.sweep.store import write_json

if TYPE_CHECKING:
    from compressor.artifact import Artifact
    from compressor.training import Evaluation

__all__ = ["Reproduction", "reproduce", "train_recipe"]

CHECKPOINT = "checkpoint.pt"  # of a training that is not finished


@dataclass(frozen=True)
class Reproduction:
    """What to run.

    Attributes:
        recipe: with all changes in it.
        out: run folder.
        data: what `open_dataset` opens; None for the embedded set.
        fold: None for the set's own.
        seeds: of weights, order and augmentation.
        budget_epochs: epochs of training in place of the recipe's; None for the recipe's own.
        ablations: names of the lines to run beside the recipe.
        cache: folder of cached features.
        device: where to train.
        command: what the results say of their making.
    """

    recipe: TrainingRecipe
    out: Path
    data: str | None = None
    fold: int | None = None
    seeds: tuple[int, ...] = (0,)
    budget_epochs: int | None = None
    ablations: tuple[str, ...] = ()
    cache: Path | None = None
    device: str = "auto"
    command: Sequence[str] | None = None


def reproduce(plan: Reproduction, watch: Watch | None = None) -> dict[str, Any]:
    """Run a recipe and its ablation lines; write `results.json`.

    Args:
        plan: what to run.
        watch: told how far it is.

    Returns:
        The record that tables and pages are made from.

    Raises:
        CompressorError: data, network or settings that cannot work; finished stages stay.
    """
    from compressor import provenance

    watch = watch or Silent()
    start = time.perf_counter()
    if plan.out.exists() and not plan.out.is_dir():
        raise UsageError(f"--out {plan.out} is a file; name a folder")
    if not plan.seeds:
        raise ConfigError("no seed to run; give at least one")
    recipes = {MAIN: plan.recipe, **{name: plan.recipe.ablated(name) for name in plan.ablations}}
    if plan.budget_epochs is not None:
        recipes = {name: found.with_budget(plan.budget_epochs) for name, found in recipes.items()}
    _need_runtime(recipes.values())
    prepared: dict[str, Prepared] = {}
    stages: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, recipe in recipes.items():
        ready = prepare(recipe, plan.data, fold=plan.fold, cache=plan.cache, watch=watch)
        prepared[name] = ready
        chains = tuple(recipe.chains) if name == MAIN else plan.recipe.ablations[name].compare
        for seed in plan.seeds:
            line = _Line(plan, name, ready, seed, watch, prepared[MAIN])
            for stage in (DENSE, *(chain for chain in chains if chain != DENSE)):
                found = line.stage(stage)
                stages.setdefault(name, {}).setdefault(stage, []).append(found)
    main = prepared[MAIN]
    record = make_record(
        plan.recipe,
        main,
        stages=stages,
        seeds=plan.seeds,
        epochs=main.experiment.train.epochs,
        notes_of={name: ready.notes for name, ready in prepared.items()},
        provenance=provenance.collect(
            command=plan.command, data_hash=main.features.data_hash, seed=None
        ),
        seconds=time.perf_counter() - start,
    )
    write_json(plan.out / "results.json", record)
    return record


def train_recipe(
    prepared: Prepared,
    *,
    seed: int,
    provenance: Mapping[str, Any],
    checkpoint: Path | None = None,
    dtype: str = "float32",
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
) -> tuple[Artifact, Evaluation]:
    """Train the dense network of a recipe and evaluate it on the test part.

    Args:
        prepared: recipe on a data set.
        seed: of weights, order and augmentation.
        provenance: what the file says of its making.
        checkpoint: file that an interrupted training goes on from; None writes none.
        dtype: number type in which the network is stored.
        on_epoch: called after each epoch.
    """
    from compressor.sweep.trial import train_dense

    return train_dense(
        prepared.experiment,
        prepared.features,
        seed=seed,
        provenance={**provenance, "recipe": prepared.recipe.plain()},
        on_epoch=on_epoch,
        dtype=dtype,
        checkpoint=checkpoint,
    )


@dataclass
class _Line:
    """One line (the recipe or an ablation) with one seed."""

    plan: Reproduction
    name: str
    prepared: Prepared
    seed: int
    watch: Watch
    main: Prepared

    @property
    def folder(self) -> Path:
        return self.plan.out / f"{self.name}-seed{self.seed}"

    def stage(self, stage: str) -> dict[str, Any]:
        """Figures of a stage, from an earlier run where everything it depends on is the same."""
        key, file = self._key(stage), self.folder / f"{stage}.json"
        kept = _read(file)
        if kept is not None and kept.get("key") == key:
            return kept
        began = time.perf_counter()
        artifact = self._dense() if stage == DENSE else self._compressed(stage)
        trained_s = time.perf_counter() - began
        scores, measured_in = self._evaluate(artifact)
        from compressor.engine.ledger import audit_artifact

        step = next((e for e in artifact.history if e.get("step") == "train"), {})
        found = {
            "key": key,
            "line": self.name,
            "stage": stage,
            "seed": self.seed,
            "epochs": len(step.get("epochs", ())),
            "best_epoch": step.get("best_epoch"),
            "epoch_s": _mean([e["seconds"] for e in step.get("epochs", ()) if "seconds" in e]),
            **audit_artifact(artifact),
            "evaluation": scores.to_dict(),
            "measured_in": measured_in,
            "seconds": trained_s,
        }
        write_json(file, found)
        # through the file: what is shown is what a second start would show
        again = _read(file)
        assert again is not None
        return again

    def _weights_key(self, prepared: Prepared) -> str:
        """Hash of all that decides the dense network's weights."""
        settings = prepared.experiment.train.to_dict()
        plain = prepared.recipe.plain()
        facts = [
            {name: value for name, value in settings.items() if name not in EVALUATION_ONLY},
            {name: plain[name] for name in ("model", "model_args", "front_end", "labels")},
            prepared.features.data_hash,
            prepared.features.dataset.fold,
            self.seed,
        ]
        return _hash(facts)

    def _key(self, stage: str) -> str:
        """Hash of all that decides a stage's figures."""
        prepared = self.prepared
        settings = prepared.experiment.train.to_dict()
        facts: list[Any] = [
            self._weights_key(prepared),
            {name: settings.get(name) for name in EVALUATION_ONLY},
        ]
        if stage != DENSE:
            facts.append(prepared.recipe.chains[stage].to_dict())
        return _hash(facts)

    def _dense_file(self) -> Path:
        """Where the dense network is; lines that train alike share that of the recipe."""
        same = self._weights_key(self.prepared) == self._weights_key(self.main)
        line = MAIN if same else self.name
        return self.plan.out / f"{line}-seed{self.seed}" / f"{DENSE}.pt"

    def _dense(self) -> Artifact:
        from compressor import provenance
        from compressor.artifact import load
        from compressor.sweep.trial import save_artifact

        path, key = self._dense_file(), self._weights_key(self.prepared)
        if path.is_file():
            artifact = load(path)
            if artifact.provenance.get("weights_key") == key:
                return artifact
        checkpoint = path.with_name(CHECKPOINT)
        mark = path.with_name("training.json")
        if (_read(mark) or {}).get("key") != key:  # of other settings: it cannot be gone on with
            checkpoint.unlink(missing_ok=True)
            write_json(mark, {"key": key})
        epochs = self.prepared.experiment.train.epochs
        with self.watch.progress(f"{self.name}, seed {self.seed}: epochs", epochs) as bar:
            artifact, _ = train_recipe(
                self.prepared,
                seed=self.seed,
                provenance={
                    **provenance.collect(
                        command=self.plan.command,
                        seed=self.seed,
                        data_hash=self.prepared.features.data_hash,
                    ),
                    "weights_key": key,
                },
                checkpoint=checkpoint,
                on_epoch=lambda epoch, of, record: bar.advance(f"loss {record['loss']:.3f}"),
            )
        save_artifact(artifact, path)
        checkpoint.unlink(missing_ok=True)
        return artifact

    def _compressed(self, chain: str) -> Artifact:
        from compressor.engine import Keeper, compress
        from compressor.sweep.trial import save_artifact

        dense = self._dense()
        path = self.folder / f"{chain}.pt"
        with self.watch.on_progress(f"{self.name}, seed {self.seed}, {chain}: epochs") as on_epoch:
            artifact = compress(
                dense,
                self.prepared.recipe.chains[chain],
                self.prepared.features,
                seed=self.seed,
                settings=self.prepared.experiment.train,
                keeper=Keeper(path),
                out=path,
                device=self.plan.device,
                command=self.plan.command,
                on_epoch=lambda epoch, of, _: on_epoch(epoch, of),
            )
        save_artifact(artifact, path)
        for kept in self.folder.glob(f"{chain}.step*.pt"):
            kept.unlink()  # the chain is done: its steps are in the history
        return artifact

    def _evaluate(self, artifact: Artifact) -> tuple[Evaluation, str]:
        """Results on the test part: floats in torch with the recipe's evaluation, integers as run.

        Integers are what onnxruntime makes of the exported file, without test-time augmentation
        and without the second task's outputs.
        """
        from compressor.engine.measure import evaluate_artifact
        from compressor.training import evaluate

        features = self.prepared.features
        if artifact.quantization:
            return evaluate_artifact(artifact, features, device=self.plan.device)
        found = evaluate(
            artifact.build(),
            features.test,
            standardizer=features.standardizer,
            layout=artifact.layout,
            device=self.plan.device,
            settings=self.prepared.experiment.train,
            seed=self.seed,
        )
        return found, "torch"


def _need_runtime(recipes: Any) -> None:
    """Ask for onnxruntime now, not after a network was trained."""
    from compressor.recipe import Quantize

    steps = [step for r in recipes for chain in r.chains.values() for step in chain.steps]
    if any(isinstance(step, Quantize) for step in steps):
        from compressor.extras import try_import

        try_import("onnxruntime")


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _hash(facts: Any) -> str:
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none that can be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
