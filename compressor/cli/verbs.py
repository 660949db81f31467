"""The single verbs: slim, prune, finetune, cast and quantize, each a recipe of one step.

What runs a recipe is imported where it is used: this file is loaded by every command.
"""

from __future__ import annotations

from typing import Annotated

import typer

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

__all__ = ["cast", "finetune", "prune", "quantize", "slim"]


def slim(
    model: Model,
    ratio: Annotated[float | None, typer.Argument(help="Share to remove, 0 to below 1.")] = None,
    *,
    by: By = None,
    importance: Importance = None,
    target_params: TargetParams = None,
    target_macs: TargetMacs = None,
    target_bytes: TargetBytes = None,
    fit: Fit = None,
    min_channels: MinChannels = None,
    min_share: MinShare = None,
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
    from compressor.cli.compress_run import run_recipe
    from compressor.cli.recipe_args import slim_step
    from compressor.recipe import Recipe

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
    scope: Scope = None,
    pattern: Pattern = None,
    gradual: Gradual = None,
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
    from compressor.cli.compress_run import run_recipe
    from compressor.cli.recipe_args import prune_step
    from compressor.recipe import Recipe

    options = {"scope": scope, "gradual": gradual, "keep": keep}
    step = prune_step(sparsity, pattern, options)
    run_recipe(
        "pruned", model, Recipe((step,), seed or 0), out=out, data=data, fold=fold,
        cache=cache, threads=threads, output=output,
    )  # fmt: skip


def finetune(
    model: Model,
    epochs: Annotated[int, typer.Argument(help="Passes over the training part.")] = 20,
    *,
    teacher: TeacherOption = None,
    temperature: Temperature = None,
    distill_weight: DistillWeight = None,
    lr: FinetuneRate = None,
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
    from compressor.cli.compress_run import run_recipe
    from compressor.cli.recipe_args import distillation, finetune_step
    from compressor.recipe import Recipe

    step = finetune_step(epochs, lr, distillation(teacher, temperature, distill_weight))
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
    from compressor.cli.compress_run import run_recipe
    from compressor.recipe import Cast, Recipe

    run_recipe(
        dtype, model, Recipe((Cast(dtype=dtype),)), out=out, data=data, fold=fold, cache=cache,
        threads=threads, output=output,
    )  # fmt: skip


def quantize(
    model: Model,
    scheme: Annotated[str, typer.Argument(help="int8-ptq or int8-qat.")] = "int8-ptq",
    *,
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
    from compressor.cli.compress_run import run_recipe
    from compressor.cli.recipe_args import distillation, quantize_step
    from compressor.recipe import Recipe

    options = {
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
        "epochs": epochs,
    }
    distill = distillation(teacher, temperature, distill_weight)
    if scheme != "int8-qat" and distill:
        raise UsageError(f"--teacher is given, but {scheme} does not train; use int8-qat")
    step = quantize_step(scheme, options, distill)
    run_recipe(
        scheme, model, Recipe((step,), seed or 0), out=out, data=data, fold=fold, cache=cache,
        threads=threads, output=output,
    )  # fmt: skip
