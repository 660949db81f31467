"""Options that the compressing commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compressor.cli import names
from compressor.cli.options import Cache

__all__ = [
    "Cache",
    "Data",
    "DistillWeight",
    "Fit",
    "Fold",
    "Format",
    "Importance",
    "KeepLayers",
    "KeepSteps",
    "Model",
    "Out",
    "Seed",
    "TargetBytes",
    "TargetMacs",
    "TargetParams",
    "TeacherOption",
    "Temperature",
    "Threads",
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
    list[str] | None, typer.Option("--keep", metavar="LAYER", help="Leave this layer alone.")
]
