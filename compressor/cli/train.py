"""`compressor train`: train a dense network, plainly or by a paper's recipe, and write it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from compressor.cli import console
from compressor.cli.commands import INTERRUPTED
from compressor.cli.options import (
    BatchSize,
    Cache,
    CropSeconds,
    FrontEnd,
    LearningRate,
    ModelArgs,
    Precision,
    Settings,
    TrainData,
    TrainModel,
)
from compressor.cli.recipe import set_option
from compressor.cli.sweep import make_experiment, model_args, read_settings
from compressor.cli.targets import check_target
from compressor.errors import UsageError

if TYPE_CHECKING:
    from compressor.artifact import Artifact
    from compressor.data import SceneSet
    from compressor.reproduce.prepare import Prepared
    from compressor.reproduce.recipe import TrainingRecipe
    from compressor.sweep.experiment import Experiment
    from compressor.training import Evaluation

__all__ = ["train"]

MODEL_FILE = "model.pt"
CHECKPOINT_FILE = "checkpoint.pt"


def train(
    model_file: Annotated[
        Path | None, typer.Argument(metavar="[MODEL.pt]", help="Where to write the network.")
    ] = None,
    *,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:VARIANT]",
            help="Train as a paper says (compressor recipe list), or by a .toml file.",
        ),
    ] = None,
    change: set_option = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder in place of MODEL.pt: model.pt, a checkpoint after every epoch, "
            "results.json."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last epoch of an interrupted training.")
    ] = False,
    model: TrainModel = None,
    model_arg: ModelArgs = None,
    data: TrainData = None,
    fold: Annotated[int | None, typer.Option(help="Fold. Default: the data set's own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, order and augmentation.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="Epochs.")] = None,
    slim_l1: Annotated[float | None, typer.Option(help="L1 penalty on BatchNorm scales.")] = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    crop_s: CropSeconds = None,
    front_end: FrontEnd = "",
    precision: Precision = None,
    settings: Settings = None,
    store: Annotated[
        Literal["float32", "float16"], typer.Option(help="Number type of the weights in the file.")
    ] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, help="torch threads; default: one a core.")
    ] = None,
    cache: Cache = None,
) -> None:
    """Train a network on a data set's training part and evaluate it on its test part.

    Without --recipe the settings are those of `compressor sweep`: the file can stand for its dense
    network. With --recipe they are the paper's; other options win over the recipe. The compression
    of a recipe is run by `compressor reproduce`. Default network: seresnet18.

    Examples:
      compressor train dense.pt --epochs 40
      compressor train mine.pt --model mypackage.networks:build --data DIR
      compressor train --recipe speakin2021 --out runs/speakin --set training.epochs=20
    """
    from compressor import runtime

    places = _places(model_file, out, resume)
    if change and recipe is None:
        raise UsageError("--set changes a recipe, but there is no --recipe; use --settings FILE")
    options = {
        "epochs": epochs,
        "gamma_l1": slim_l1,
        "batch_size": batch_size,
        "lr": lr,
        "precision": precision,
    }
    run = _Run(places, seed, fold, cache, store)
    if recipe is None:
        runtime.tune(threads=threads or runtime.cores())
        experiment = make_experiment(
            model=model or "seresnet18",
            model_arg=model_arg or [],
            data=data,
            cache=cache,
            settings=settings,
            crop_s=crop_s,
            front_end=front_end,
            options=options,
        )
        work = run.plain(experiment)
    else:
        from compressor.reproduce import load_recipe

        found = load_recipe(recipe, change or ())
        found = found.changed(
            _options(model, model_arg, front_end, crop_s, {**read_settings(settings), **options})
        )
        runtime.tune(threads=threads or runtime.cores())
        spec = None if data in (None, "synthetic") else data
        work = run.by_recipe(found, spec)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # CI ends jobs with it: end in order
    _begin(places.checkpoint, resume)
    try:
        work()
    except KeyboardInterrupt:
        if places.checkpoint is None:
            raise
        console.note(
            f"interrupted; finished epochs are kept in {places.checkpoint}: go on with --resume"
        )
        raise typer.Exit(INTERRUPTED) from None


@dataclass(frozen=True)
class _Places:
    """Where things go: the network, the checkpoint of an unfinished training, the results."""

    model: Path
    checkpoint: Path | None
    results: Path | None


def _places(model_file: Path | None, out: Path | None, resume: bool) -> _Places:
    if (model_file is None) == (out is None):
        given = "neither" if out is None else "both"
        raise UsageError(f"name either MODEL.pt or --out DIR for the network; found {given}")
    if out is not None:
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is a file; name a folder, or give the file as MODEL.pt")
        places = _Places(out / MODEL_FILE, out / CHECKPOINT_FILE, out / "results.json")
    else:
        assert model_file is not None
        # without a folder a checkpoint is only kept where it is asked for
        beside = model_file.with_name(f"{model_file.stem}.{CHECKPOINT_FILE}")
        places = _Places(model_file, beside if resume else None, None)
    check_target(places.model)
    return places


def _begin(checkpoint: Path | None, resume: bool) -> None:
    """Without --resume an earlier training is given up; with it, say where there is none."""
    if checkpoint is None:
        return
    if not resume:
        checkpoint.unlink(missing_ok=True)
    elif not checkpoint.is_file():
        console.note(f"no unfinished training at {checkpoint}: starting anew")


def _options(
    model: str | None,
    given: list[str] | None,
    front_end: str,
    crop_s: float | None,
    training: Mapping[str, Any],
) -> dict[str, Any]:
    """Options as changes of a recipe; those not given change nothing."""
    changes: dict[str, Any] = {
        "training": {name: value for name, value in training.items() if value is not None}
    }
    if model is not None:
        changes["model"] = {"name": model}
    if given:
        changes["model"] = {**changes.get("model", {}), "args": model_args(given)}
    if front_end:
        changes["features"] = {"preset": front_end}
    if crop_s is not None:
        changes["features"] = {**changes.get("features", {}), "crop_s": crop_s}
    return changes


@dataclass(frozen=True)
class _Run:
    """One training, however it was described."""

    places: _Places
    seed: int
    fold: int | None
    cache: Path | None
    store: str

    def plain(self, experiment: Experiment) -> Callable[[], None]:
        """Train with settings from options and files."""

        def work() -> None:
            from compressor.sweep.experiment import open_features
            from compressor.sweep.trial import train_dense

            features = open_features(experiment, self.fold, console)
            with console.progress("epochs", experiment.train.epochs) as bar:
                artifact, scores = train_dense(
                    experiment,
                    features,
                    seed=self.seed,
                    provenance=self._provenance(features.data_hash),
                    dtype=self.store,
                    checkpoint=self.places.checkpoint,
                    on_epoch=lambda _, of, record: bar.advance(f"loss {record['loss']:.3f}"),
                )
            self._finish(artifact, scores, features.dataset)

        return work

    def by_recipe(self, recipe: TrainingRecipe, data: str | None) -> Callable[[], None]:
        """Train as a recipe says."""

        def work() -> None:
            from compressor.reproduce.prepare import prepare
            from compressor.reproduce.run import train_recipe

            prepared = prepare(recipe, data, fold=self.fold, cache=self.cache, watch=console)
            for note in prepared.notes:
                console.note(f"note: {note}")
            with console.progress("epochs", prepared.experiment.train.epochs) as bar:
                artifact, scores = train_recipe(
                    prepared,
                    seed=self.seed,
                    provenance=self._provenance(prepared.features.data_hash),
                    dtype=self.store,
                    checkpoint=self.places.checkpoint,
                    on_epoch=lambda _, of, record: bar.advance(f"loss {record['loss']:.3f}"),
                )
            self._finish(artifact, scores, prepared.features.dataset, prepared)

        return work

    def _provenance(self, data_hash: str) -> dict[str, object]:
        from compressor import provenance

        return provenance.collect(
            command=("compressor", *sys.argv[1:]), seed=self.seed, data_hash=data_hash
        )

    def _finish(
        self,
        artifact: Artifact,
        scores: Evaluation,
        dataset: SceneSet,
        prepared: Prepared | None = None,
    ) -> None:
        from compressor.cli.train_text import limits_of, training_lines
        from compressor.sweep.store import write_json
        from compressor.sweep.trial import save_artifact

        save_artifact(artifact, self.places.model)
        recipe = None if prepared is None else prepared.recipe
        found = limits_of(self.places.model, "all" if recipe is None else recipe.year)
        facts: dict[str, Any] = {}
        if prepared is not None:
            facts = {"recipe": prepared.recipe.plain(), "notes": list(prepared.notes)}
        if self.places.results is not None:
            write_json(
                self.places.results,
                {
                    "schema": 1,
                    "kind": "training",
                    **facts,
                    "test": scores.to_dict(),
                    "verdicts": [] if isinstance(found, str) else [v.to_dict() for v in found],
                    "history": [dict(entry) for entry in artifact.history],
                    "provenance": dict(artifact.provenance),
                },
            )
        if self.places.checkpoint is not None:
            self.places.checkpoint.unlink(missing_ok=True)
        notes = []
        if recipe is not None and recipe.chains:
            notes = [
                f"before compression ({', '.join(recipe.chains)}), which `compressor reproduce "
                f"{recipe.id}` does as the paper says"
            ]
        print("\n".join(training_lines(self.places.model, dataset, scores, found, notes)))
