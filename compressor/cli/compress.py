"""`compressor compress`: a recipe, or steps from options, on a model file.

What runs a recipe is imported where it is used: this file is loaded by every command.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from compressor.cli import names, verbs
from compressor.cli.compress_options import (
    BiasCorrection,
    By,
    Cache,
    Calibration,
    Clips,
    Data,
    DistillWeight,
    Equalize,
    FinetuneRate,
    Fit,
    FloatCompute,
    Fold,
    Format,
    Gradual,
    Importance,
    KeepFloat,
    KeepLayers,
    KeepSteps,
    MinChannels,
    MinShare,
    Mixed,
    Model,
    Out,
    Pattern,
    Placement,
    QatEngine,
    Scope,
    Seed,
    TargetBytes,
    TargetMacs,
    TargetParams,
    TeacherOption,
    Temperature,
    Threads,
    WeightBits,
)
from compressor.errors import UsageError

__all__ = ["COMMANDS", "compress"]


def compress(
    model: Model,
    *,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Recipe, TOML or .json.", autocompletion=names.recipes),
    ] = None,
    slim: Annotated[
        float | None, typer.Option(metavar="RATIO", help="Remove channels by this ratio.")
    ] = None,
    target_params: TargetParams = None,
    target_macs: TargetMacs = None,
    target_bytes: TargetBytes = None,
    fit: Fit = None,
    by: By = None,
    importance: Importance = None,
    min_channels: MinChannels = None,
    min_share: MinShare = None,
    prune: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Make this share of weights zero.")
    ] = None,
    scope: Scope = None,
    pattern: Pattern = None,
    gradual: Gradual = None,
    keep: KeepLayers = None,
    finetune: Annotated[
        int | None, typer.Option(metavar="EPOCHS", help="Train on for so many epochs.")
    ] = None,
    lr: FinetuneRate = None,
    teacher: TeacherOption = None,
    temperature: Temperature = None,
    distill_weight: DistillWeight = None,
    cast: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Store as float16 or bfloat16.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="int8-ptq or int8-qat.")
    ] = None,
    clips: Clips = None,
    calibration: Calibration = None,
    weight_bits: WeightBits = None,
    mixed: Mixed = None,
    keep_float: KeepFloat = None,
    float_compute: FloatCompute = None,
    placement: Placement = None,
    bias_correction: BiasCorrection = False,
    equalize: Equalize = False,
    engine: QatEngine = None,
    qat_epochs: Annotated[int | None, typer.Option(help="Epochs of int8-qat. Default 10.")] = None,
    export: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="Also write onnx, pt2, safetensors or tflite."),
    ] = None,
    out: Out = None,
    data: Data = None,
    fold: Fold = None,
    seed: Seed = None,
    cache: Cache = None,
    keep_steps: KeepSteps = False,
    save_recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the recipe that is run.")
    ] = None,
    threads: Threads = None,
    output: Format = "text",
) -> None:
    """Compress a model file step by step: a recipe, or steps in a fixed order from options.

    Order of the options' steps: slim, prune, finetune, cast or quantize, export. Exit codes: 0
    done, 2 bad usage or values, 3 it cannot be done with this network.

    Example: compressor compress model.pt --slim 0.65 --finetune 20 --quantize int8-ptq --data DIR
    """
    from compressor.cli.compress_run import run_recipe
    from compressor.cli.recipe_args import distillation, one_line

    steps = one_line(
        recipe=recipe,
        slim=slim,
        targets={
            "target_params": target_params,
            "target_macs": target_macs,
            "target_bytes": target_bytes,
            "fit": fit,
        },
        slim_options={
            "by": by,
            "importance": importance,
            "min_channels": min_channels,
            "min_share": min_share,
        },
        prune=prune,
        pattern=pattern,
        prune_options={"scope": scope, "gradual": gradual},
        keep=keep,
        finetune=finetune,
        lr=lr,
        distill=distillation(teacher, temperature, distill_weight),
        cast=cast,
        quantize=quantize,
        quantize_options={
            "clips": clips,
            "calibration": calibration,
            "weight_bits": weight_bits,
            "mixed": mixed,
            "keep_float": keep_float,
            "float_compute": float_compute,
            "placement": placement,
            "bias_correction": bias_correction,
            "equalize": equalize,
            "engine": engine,
            "qat_epochs": qat_epochs,
        },
        export=export,
        seed=seed,
    )
    if save_recipe is not None:
        text = steps.to_json() if save_recipe.suffix == ".json" else steps.to_toml()
        try:
            save_recipe.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{save_recipe} cannot be written: {error.strerror}") from error
    run_recipe(
        "compressed", model, steps, out=out, data=data, fold=fold, cache=cache,
        keep_steps=keep_steps, threads=threads, output=output,
    )  # fmt: skip


COMMANDS: list[tuple[str, Callable[..., None]]] = [
    ("compress", compress),
    ("slim", verbs.slim),
    ("prune", verbs.prune),
    ("finetune", verbs.finetune),
    ("cast", verbs.cast),
    ("quantize", verbs.quantize),
]
"""Names and functions of this group, in the order of the help text."""
