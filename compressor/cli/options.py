"""Options that `compressor sweep` and `compressor train` share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compressor.cli import names

__all__ = [
    "BatchSize",
    "Cache",
    "CropSeconds",
    "FrontEnd",
    "LearningRate",
    "Model",
    "ModelArgs",
    "Precision",
    "Settings",
    "TrainData",
    "TrainModel",
]

Model = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Network of the zoo, or your own: package.module:function.",
        autocompletion=names.models,
    ),
]
TrainModel = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Network of the zoo, or your own: package.module:function. Default: seresnet18, "
        "or the recipe's.",
        autocompletion=names.models,
    ),
]
TrainData = Annotated[
    str | None,
    typer.Option(
        help="Data set: a folder (TAU layout, ESC-50, labels) or CSV file; "
        "default: the embedded synthetic scenes.",
        autocompletion=names.data_sets,
    ),
]
ModelArgs = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Argument of the network, such as strides=1,2,2,2."),
]
BatchSize = Annotated[int | None, typer.Option(help="Clips a training step.")]
LearningRate = Annotated[float | None, typer.Option(help="Highest learning rate.")]
CropSeconds = Annotated[
    float | None,
    typer.Option(help="Train on random crops of this many seconds; evaluate on whole clips."),
]
FrontEnd = Annotated[
    str,
    typer.Option(
        metavar="PRESET[:KEY=VALUE,...]",
        help="Log-mel front-end instead of the network's own, such as deepsound2021_64 or "
        "scut2023:n_mels=64 (lengths in samples at the preset's rate).",
        autocompletion=names.front_ends,
    ),
]
Precision = Annotated[
    Literal["float32", "bfloat16"] | None, typer.Option(help="Type of the forward pass.")
]
Settings = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="Training settings; options win over the file."),
]
Cache = Annotated[Path | None, typer.Option(help="Folder of cached features.")]
