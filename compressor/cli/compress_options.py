"""Options that the compressing commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compressor.cli import names
from compressor.cli.options import Cache

__all__ = [
    "BiasCorrection",
    "By",
    "Cache",
    "Calibration",
    "Clips",
    "Data",
    "DistillWeight",
    "Equalize",
    "FinetuneRate",
    "Fit",
    "FloatCompute",
    "Fold",
    "Format",
    "Gradual",
    "Importance",
    "KeepFloat",
    "KeepLayers",
    "KeepSteps",
    "MinChannels",
    "MinShare",
    "Mixed",
    "Model",
    "Out",
    "Pattern",
    "Placement",
    "QatEngine",
    "Scope",
    "Seed",
    "TargetBytes",
    "TargetMacs",
    "TargetParams",
    "TeacherOption",
    "Temperature",
    "Threads",
    "WeightBits",
]

Model = Annotated[Path, typer.Argument(metavar="MODEL.pt", help="Model file; never changed.")]
Out = Annotated[
    Path | None, typer.Option(help="Where to write the result; default: beside the model.")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Clips to train and measure on: a folder, a CSV list or 'synthetic'. Without it "
        "nothing is trained and no accuracy is measured.",
        autocompletion=names.data_sets,
    ),
]
Fold = Annotated[int | None, typer.Option(help="Fold of the data. Default: its own first one.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of all that is drawn. Default 0.")]
KeepSteps = Annotated[
    bool,
    typer.Option(
        "--keep-steps", help="Write each finished step beside the result, and go on from there."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="torch threads; default: one a core.")]
Format = Annotated[Literal["text", "json"], typer.Option("--format", help="What to print.")]
TargetParams = Annotated[int | None, typer.Option(help="Prune to at most so many parameters.")]
TargetMacs = Annotated[int | None, typer.Option(help="Prune to at most so many MACs (strict).")]
TargetBytes = Annotated[
    int | None, typer.Option(help="Prune to at most so many bytes, as the last step stores them.")
]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="RULES",
        help="Prune to the limits of dcase2023 or a file.",
        autocompletion=names.fits,
    ),
]
Importance = Annotated[
    str | None,
    typer.Option(help="What makes a channel important: gamma (default), l1, l2, taylor, random."),
]
TeacherOption = Annotated[
    str | None,
    typer.Option(metavar="self|FILE", help="Learn from the network at the start, or from a file."),
]
Temperature = Annotated[float | None, typer.Option(help="Of distillation. Default 2.")]
DistillWeight = Annotated[
    float | None, typer.Option(help="Share of the loss that is the teacher's. Default 0.5.")
]
KeepLayers = Annotated[
    list[str] | None,
    typer.Option(
        "--keep", metavar="LAYER", help="Remove no channels of this layer, zero no weights in it."
    ),
]
By = Annotated[
    str | None, typer.Option(help="What the ratio is a share of: channels (default) or params.")
]
MinChannels = Annotated[int | None, typer.Option(help="Units that every group keeps. Default 2.")]
MinShare = Annotated[float | None, typer.Option(help="The same as a share of the group.")]
Scope = Annotated[
    str | None,
    typer.Option(help="Compare weights of the whole network (global, default) or of each layer."),
]
Pattern = Annotated[
    str | None, typer.Option(metavar="N:M", help="Keep N of every M weights, in place of a share.")
]
Gradual = Annotated[
    int | None, typer.Option(metavar="EPOCHS", help="Reach the share of zeros while fine-tuning.")
]
FinetuneRate = Annotated[float | None, typer.Option(help="Highest learning rate of fine-tuning.")]
Clips = Annotated[
    int | None, typer.Option(help="Training clips that set the integers' ranges. Default 64.")
]
Calibration = Annotated[
    str | None, typer.Option(help="minmax, percentile (default of int8-ptq) or entropy.")
]
WeightBits = Annotated[
    int | None, typer.Option(help="Width of integer weights, 2 to 8. Default 8.")
]
Mixed = Annotated[
    list[str] | None, typer.Option(metavar="LAYER=BITS", help="Another width for a layer.")
]
KeepFloat = Annotated[
    list[str] | None, typer.Option(metavar="LAYER", help="Leave this layer in float32.")
]
FloatCompute = Annotated[
    list[str] | None,
    typer.Option(metavar="LAYER", help="Integer weights, but float32 arithmetic in this layer."),
]
Placement = Annotated[
    str | None,
    typer.Option(
        help="integers (default), or fastest: time here which layers are better in float32."
    ),
]
BiasCorrection = Annotated[
    bool,
    typer.Option("--bias-correction", help="Of int8-ptq: correct biases for the weights' error."),
]
Equalize = Annotated[
    bool, typer.Option("--equalize", help="Of int8-ptq: level neighbouring layers' ranges first.")
]
QatEngine = Annotated[str | None, typer.Option(help="Of int8-qat: light (default) or brevitas.")]
