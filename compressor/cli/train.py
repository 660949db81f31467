"""`compressor train`: train a dense network and write it as a model file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from compressor.cli import console
from compressor.cli.options import (
    BatchSize,
    Cache,
    CropSeconds,
    FrontEnd,
    LearningRate,
    ModelArgs,
    Precision,
    Settings,
)
from compressor.cli.sweep import make_experiment
from compressor.cli.targets import check_target

__all__ = ["train"]


def train(
    out: Annotated[Path, typer.Argument(metavar="MODEL.pt", help="Where to write the network.")],
    *,
    model: Annotated[str, typer.Option(help="Network of the zoo.")] = "seresnet18",
    model_arg: ModelArgs = None,
    data: Annotated[
        str | None, typer.Option(help="Data set; default: the embedded synthetic scenes.")
    ] = None,
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

    The settings are those of `compressor sweep`: the file can stand for its dense network.
    """
    from compressor import provenance, runtime

    check_target(out)
    runtime.tune(threads=threads or runtime.cores())
    experiment = make_experiment(
        model=model,
        model_arg=model_arg or [],
        data=data,
        cache=cache,
        settings=settings,
        crop_s=crop_s,
        front_end=front_end,
        options={
            "epochs": epochs,
            "gamma_l1": slim_l1,
            "batch_size": batch_size,
            "lr": lr,
            "precision": precision,
        },
    )
    from compressor.sweep.experiment import open_features
    from compressor.sweep.trial import save_artifact, train_dense

    features = open_features(experiment, fold, console)
    with console.progress("epochs", experiment.train.epochs) as bar:
        artifact, scores = train_dense(
            experiment,
            features,
            seed=seed,
            provenance=provenance.collect(
                command=("compressor", *sys.argv[1:]), seed=seed, data_hash=features.data_hash
            ),
            dtype=store,
            on_epoch=lambda epoch, epochs, record: bar.advance(f"loss {record['loss']:.3f}"),
        )
    save_artifact(artifact, out)
    print(f"accuracy {100 * scores.accuracy:.1f} %, log loss {scores.log_loss:.3f}")
    print(out)
