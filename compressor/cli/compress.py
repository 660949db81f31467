"""`compressor compress` and the single verbs: run a recipe on a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.cli.compress_options import (
    Cache,
    Data,
    DistillWeight,
    Fit,
    Fold,
    Format,
    Importance,
    KeepLayers,
    KeepSteps,
    Model,
    Out,
    Seed,
    TargetBytes,
    TargetMacs,
    TargetParams,
    TeacherOption,
    Temperature,
    Threads,
)
from compressor.cli.compress_run import run_recipe
from compressor.cli.recipe_args import distillation, one_line, parse_mixed, slim_step
from compressor.errors import UsageError
from compressor.recipe import Cast, Finetune, Prune, Quantize, Recipe

__all__ = ["COMMANDS", "cast", "compress", "finetune", "prune", "quantize", "slim"]


def compress(
    model: Model,
    *,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Recipe, TOML or .json.")
    ] = None,
    slim: Annotated[
        float | None, typer.Option(metavar="RATIO", help="Remove channels by this ratio.")
    ] = None,
    target_params: TargetParams = None,
    target_macs: TargetMacs = None,
    target_bytes: TargetBytes = None,
    fit: Fit = None,
    importance: Importance = None,
    prune: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Make this share of weights zero.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(metavar="N:M", help="Keep N of every M weights.")
    ] = None,
    finetune: Annotated[
        int | None, typer.Option(metavar="EPOCHS", help="Train on for so many epochs.")
    ] = None,
    teacher: TeacherOption = None,
    temperature: Temperature = None,
    distill_weight: DistillWeight = None,
    cast: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Store as float16 or bfloat16.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="int8-ptq or int8-qat.")
    ] = None,
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
    steps = one_line(
        recipe=recipe,
        slim=slim,
        targets={
            "target_params": target_params,
            "target_macs": target_macs,
            "target_bytes": target_bytes,
            "fit": fit,
        },
        importance=importance,
        prune=prune,
        pattern=pattern,
        finetune=finetune,
        distill=distillation(teacher, temperature, distill_weight),
        cast=cast,
        quantize=quantize,
        qat_epochs=qat_epochs,
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


def slim(
    model: Model,
    ratio: Annotated[float | None, typer.Argument(help="Share to remove, 0 to below 1.")] = None,
    *,
    by: Annotated[
        str, typer.Option(help="What the ratio is a share of: channels or params.")
    ] = "channels",
    importance: Importance = None,
    target_params: TargetParams = None,
    target_macs: TargetMacs = None,
    target_bytes: TargetBytes = None,
    fit: Fit = None,
    min_channels: Annotated[
        int | None, typer.Option(help="Units that every group keeps. Default 2.")
    ] = None,
    min_share: Annotated[float | None, typer.Option(help="The same as a share.")] = None,
    keep: KeepLayers = None,
    out: Out = None,
    data: Data = None,
    fold: Fold = None,
    seed: Seed = None,
    cache: Cache = None,
    threads: Threads = None,
    output: Format = "text",
) -> None:
    """Remove whole channels, by a ratio or to a limit; exact, and the file stays runnable.

    Example: compressor slim model.pt --fit dcase2023 --data DIR
    """
    targets = {
        "target_params": target_params,
        "target_macs": target_macs,
        "target_bytes": target_bytes,
        "fit": fit,
    }
    options = {
        "by": by,
        "importance": importance,
        "min_channels": min_channels,
        "min_share": min_share,
        "keep": keep,
    }
    recipe = Recipe((slim_step(ratio, targets, options),), seed or 0)
    run_recipe(
        "slim", model, recipe, out=out, data=data, fold=fold, cache=cache, threads=threads,
        output=output,
    )  # fmt: skip


def prune(
    model: Model,
    sparsity: Annotated[float | None, typer.Argument(help="Share of zeros, 0 to below 1.")] = None,
    *,
    scope: Annotated[
        str, typer.Option(help="Compare weights of the whole network (global) or of each layer.")
    ] = "global",
    pattern: Annotated[
        str | None, typer.Option(metavar="N:M", help="Keep N of every M weights instead.")
    ] = None,
    gradual: Annotated[
        int | None, typer.Option(metavar="EPOCHS", help="Reach the share while fine-tuning.")
    ] = None,
    keep: KeepLayers = None,
    out: Out = None,
    data: Data = None,
    fold: Fold = None,
    seed: Seed = None,
    cache: Cache = None,
    threads: Threads = None,
    output: Format = "text",
) -> None:
    """Make single weights zero; says what each year's rules make of the zeros.

    Example: compressor prune model.pt 0.7 --gradual 20 --data DIR
    """
    if (sparsity is None) == (pattern is None):
        raise UsageError("give a share of zeros (such as 0.7) or --pattern N:M, one of them")
    given: dict[str, Any] = {"scope": scope, "keep": tuple(keep or ())}
    given |= {"sparsity": sparsity} if sparsity is not None else {"pattern": pattern}
    if gradual is not None:
        given |= {"schedule": "gradual", "epochs": gradual}
    run_recipe(
        "pruned", model, Recipe((Prune(**given),), seed or 0), out=out, data=data, fold=fold,
        cache=cache, threads=threads, output=output,
    )  # fmt: skip


def finetune(
    model: Model,
    epochs: Annotated[int, typer.Argument(help="Passes over the training part.")] = 20,
    *,
    teacher: TeacherOption = None,
    temperature: Temperature = None,
    distill_weight: DistillWeight = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    out: Out = None,
    data: Data = None,
    fold: Fold = None,
    seed: Seed = None,
    cache: Cache = None,
    threads: Threads = None,
    output: Format = "text",
) -> None:
    """Train on with the settings of the network's own training; pruned weights stay zero.

    Example: compressor finetune small.pt 20 --teacher dense.pt --data DIR
    """
    settings = {} if lr is None else {"lr": lr}
    step = Finetune(
        epochs=epochs, settings=settings, **distillation(teacher, temperature, distill_weight)
    )
    run_recipe(
        "finetuned", model, Recipe((step,), seed or 0), out=out, data=data, fold=fold, cache=cache,
        threads=threads, output=output,
    )  # fmt: skip


def cast(
    model: Model,
    dtype: Annotated[str, typer.Argument(help="float16 or bfloat16.")] = "float16",
    *,
    out: Out = None,
    data: Data = None,
    fold: Fold = None,
    cache: Cache = None,
    threads: Threads = None,
    output: Format = "text",
) -> None:
    """Store weights in two bytes; says what overflows or loses digits.

    Example: compressor cast model.pt float16 --data DIR
    """
    run_recipe(
        dtype, model, Recipe((Cast(dtype=dtype),)), out=out, data=data, fold=fold, cache=cache,
        threads=threads, output=output,
    )  # fmt: skip


def quantize(
    model: Model,
    scheme: Annotated[str, typer.Argument(help="int8-ptq or int8-qat.")] = "int8-ptq",
    *,
    clips: Annotated[
        int | None, typer.Option(help="Training clips that set the ranges. Default 64.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="minmax (default), percentile or entropy.")
    ] = None,
    weight_bits: Annotated[int | None, typer.Option(help="2 to 8. Default 8.")] = None,
    mixed: Annotated[
        list[str] | None, typer.Option(metavar="LAYER=BITS", help="Another width for a layer.")
    ] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Leave this layer in float32.")
    ] = None,
    float_compute: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER", help="Integer weights, but float32 arithmetic in this layer."
        ),
    ] = None,
    placement: Annotated[
        str | None,
        typer.Option(
            help="integers (default), or fastest: time here which layers are better in float32."
        ),
    ] = None,
    bias_correction: Annotated[bool, typer.Option("--bias-correction")] = False,
    equalize: Annotated[bool, typer.Option("--equalize")] = False,
    engine: Annotated[
        str | None, typer.Option(help="Of int8-qat: light (default) or brevitas.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of int8-qat. Default 10.")] = None,
    teacher: TeacherOption = None,
    temperature: Temperature = None,
    distill_weight: DistillWeight = None,
    out: Out = None,
    data: Data = None,
    fold: Fold = None,
    seed: Seed = None,
    cache: Cache = None,
    threads: Threads = None,
    output: Format = "text",
) -> None:
    """Integer weights and activations, after training or by training for it.

    Example: compressor quantize model.pt int8-qat --epochs 10 --data DIR
    """
    given: dict[str, Any] = {
        "calibration_clips": clips,
        "calibration": calibration,
        "weight_bits": weight_bits,
        "mixed": parse_mixed(mixed or []),
        "keep_float": tuple(keep_float or ()),
        "float_compute": tuple(float_compute or ()),
        "placement": placement,
        "bias_correction": bias_correction,
        "equalize": equalize,
        "engine": engine,
        "epochs": epochs,
    }
    step = Quantize(
        scheme=scheme,
        **{name: value for name, value in given.items() if value is not None},
        **distillation(teacher, temperature, distill_weight),
    )
    run_recipe(
        scheme, model, Recipe((step,), seed or 0), out=out, data=data, fold=fold, cache=cache,
        threads=threads, output=output,
    )  # fmt: skip


COMMANDS: list[tuple[str, Callable[..., None]]] = [
    ("compress", compress),
    ("slim", slim),
    ("prune", prune),
    ("finetune", finetune),
    ("cast", cast),
    ("quantize", quantize),
]
"""Names and functions of this group, in the order of the help text."""
