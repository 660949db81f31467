"""`compressor sweep`: prune at several ratios, fine-tune, quantise, and show the curves."""

from __future__ import annotations

import signal
import sys
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
    Model,
    ModelArgs,
    Precision,
    Settings,
    TrainData,
)
from compressor.errors import ConfigError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from compressor.sweep.experiment import Experiment
    from compressor.sweep.preview import Preview
    from compressor.sweep.runner import SweepResult

__all__ = ["make_experiment", "model_args", "read_settings", "sweep"]

FAILED_POINTS = 3  # exit code: some points could not be measured


def model_args(given: list[str]) -> dict[str, Any]:
    """`--model-arg key=value` as arguments: numbers, true/false, comma lists, else text.

    Raises:
        UsageError: no "=" in it, or a key given twice.
    """
    found: dict[str, Any] = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not (separator and key.isidentifier()):
            raise UsageError(f"--model-arg {text!r}: write key=value, such as strides=1,2,2,2")
        if key in found:
            raise UsageError(f"--model-arg {key} is given twice")
        # a list, not a tuple: it goes into JSON records and must read back as it was
        found[key] = [_value(v) for v in value.split(",")] if "," in value else _value(value)
    return found


def _value(text: str) -> Any:
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def read_settings(path: Path | None) -> dict[str, Any]:
    """Training settings from a TOML file of `name = value` lines.

    Raises:
        ConfigError: not readable, or not TOML.
    """
    import tomllib

    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--settings {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--settings {path} is not TOML: {error}") from error


def make_experiment(
    *,
    model: str,
    model_arg: list[str],
    data: str | None,
    cache: Path | None,
    settings: Path | None,
    crop_s: float | None,
    options: dict[str, Any],
    front_end: str = "",
    teacher: str = "",
    qat_epochs: int | None = None,
) -> Experiment:
    """Data, network and settings from options; options win over the file, the file over defaults.

    Args:
        model: `--model`.
        model_arg: `--model-arg`, each.
        data: `--data`; None or "synthetic" is the embedded set.
        cache: `--cache`.
        settings: `--settings`.
        crop_s: `--crop-s`.
        front_end: `--front-end`.
        options: training settings by name, None where the option was not given.
        teacher: "self" or "".
        qat_epochs: `--qat-epochs`.

    Raises:
        UsageError, ConfigError, UnknownNameError: a bad value, with what is allowed.
    """
    from compressor.sweep.defaults import choose
    from compressor.sweep.experiment import Experiment

    spec = None if data in (None, "synthetic") else data
    overrides = {**read_settings(settings), **{k: v for k, v in options.items() if v is not None}}
    chosen = choose(synthetic=spec is None, overrides=overrides)
    return Experiment.make(
        model=model,
        model_args=model_args(model_arg),
        data=spec,
        cache=cache,
        train=chosen.train,
        finetune_epochs=chosen.finetune_epochs,
        crop_s=crop_s,
        front_end=front_end,
        teacher=teacher,
        qat_epochs=qat_epochs,
    )


def sweep(
    *,
    model: Model = "seresnet18",
    model_arg: ModelArgs = None,
    data: TrainData = None,
    folds: Annotated[
        str | None, typer.Option(help="Folds: 1:5 or 1,2. Default: the data set's own.")
    ] = None,
    prune: Annotated[
        str | None,
        typer.Option(
            help="Prune ratios: 0.5:0.8 (step 0.05), 0.5:0.8:0.1 or 0.5,0.6,0.7. "
            "Default 0.5:0.8, or none with --target-params."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="What to prune by, a list: slimming (BatchNorm scales), l1, l2 (filter norms), "
            "random (a control), unstructured (single weights; the ratio is the share of zeros)."
        ),
    ] = "slimming",
    quantize: Annotated[
        str,
        typer.Option(
            help="Also store each network, the dense one too, as one of a list: fp16, int8-ptq "
            "(after training), int8-qat (by training); none (float32) is always there."
        ),
    ] = "none",
    teacher: Annotated[
        Literal["none", "self"],
        typer.Option(help="self: the dense network teaches fine-tuning and int8-qat."),
    ] = "none",
    prune_by: Annotated[
        Literal["channels", "params"],
        typer.Option(
            help="What the ratio is a share of: channels under the global threshold, "
            "or parameters removed."
        ),
    ] = "channels",
    target_params: Annotated[
        int | None, typer.Option(min=1, help="Also prune to at most this many parameters.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Seeds: 0, or 0,1,2, or 0:2 (both ends; 3 is seed 3, not a count).")
    ] = "0",
    epochs: Annotated[int | None, typer.Option(help="Epochs of the dense network.")] = None,
    finetune_epochs: Annotated[int | None, typer.Option(help="Epochs after pruning.")] = None,
    qat_epochs: Annotated[
        int | None, typer.Option(help="Epochs of int8-qat; default: half of the fine-tuning's.")
    ] = None,
    slim_l1: Annotated[
        float | None, typer.Option(help="L1 penalty on BatchNorm scales while training.")
    ] = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    crop_s: CropSeconds = None,
    front_end: FrontEnd = "",
    precision: Precision = None,
    settings: Settings = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Worker processes; default: one a core; 0: none, in this process."
        ),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Time limit of one job in seconds.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; default runs/MODEL-DATA. Started again, a sweep goes on where it was."
        ),
    ] = None,
    cache: Cache = None,
    year: Annotated[
        int, typer.Option(help="Challenge year whose limits judge the networks.")
    ] = 2023,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train the dense network, whatever is there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and an estimate, run nothing.")
    ] = False,
) -> None:
    """Prune a network at several ratios, fine-tune each, and show accuracy against size.

    With --quantize every network is stored in further number types, each from the one fine-tuned
    float network of its method and ratio; int8 accuracy is measured in onnxruntime.

    Results go to the run folder: one JSON file a job, results.csv, results.json and report.html.
    Exit codes: 0 done, 2 bad usage, 3 some points failed (all others are kept).

    Examples:
      compressor sweep --prune 0.5:0.8
      compressor sweep --data DIR --model dsmn_seg --seeds 0:2 --prune 0.5,0.6,0.7
      compressor sweep --model mypackage.networks:build --quantize int8-ptq
    """
    from compressor import runtime
    from compressor.sweep.plan import (
        METHODS,
        QUANTIZERS,
        Grid,
        parse_integers,
        parse_names,
        parse_ratios,
    )

    runtime.tune()
    if prune is None:
        prune = "" if target_params is not None else "0.5:0.8"
    grid = Grid(
        folds=() if folds is None else parse_integers(folds, "--folds"),
        seeds=parse_integers(seeds, "--seeds"),
        ratios=parse_ratios(prune) if prune else (),
        prune_by=prune_by,
        target_params=target_params,
        methods=parse_names(method, "--method", METHODS),
        quantize=parse_names(quantize, "--quantize", QUANTIZERS),
    )
    if any(name.startswith("int8") for name in grid.quantize):
        from compressor.extras import try_import

        try_import("onnxruntime")  # now, not after the dense network was trained
    if timeout is not None and not timeout > 0:
        raise UsageError(f"--timeout is {timeout:g} s; it must be over 0 (leave it out for none)")
    if crop_s is not None and not crop_s > 0:
        raise UsageError(f"--crop-s is {crop_s:g} s; it must be over 0")

    from compressor.audit.rules import years

    if year not in years():
        raise UnknownNameError("challenge year", str(year), map(str, years()))
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
            "finetune_epochs": finetune_epochs,
            "gamma_l1": slim_l1,
            "batch_size": batch_size,
            "lr": lr,
            "precision": precision,
        },
        teacher="" if teacher == "none" else teacher,
        qat_epochs=qat_epochs,
    )
    from compressor.cli.sweep_live import watch_of
    from compressor.sweep.runner import SweepConfig, default_out, run_sweep

    config = SweepConfig(
        experiment=experiment,
        grid=grid,
        out=out or default_out(model, experiment.data),
        workers=workers,
        timeout_s=timeout,
        year=year,
        from_scratch=from_scratch,
        command=("compressor", *sys.argv[1:]),
        live=console.fancy(sys.stderr),
    )
    if dry_run:
        from compressor.sweep.preview import preview_sweep

        _print_plan(preview_sweep(config))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # CI ends jobs with it: end in order
    try:
        result = run_sweep(config, watch_of(config.out, year))
    except KeyboardInterrupt:
        text = f"interrupted; what is finished is kept: the same command goes on in {config.out}"
        console.note(text)
        raise typer.Exit(INTERRUPTED) from None
    _print_results(result, config.out)
    if result.failed:
        raise typer.Exit(FAILED_POINTS)


def _print_plan(preview: Preview) -> None:
    for job in preview.jobs:
        epochs = preview.todo.get(job.id)
        without = "no training" if job.kind == "quantized" else "checkpoint"
        state = "finished" if epochs is None else f"{epochs} epochs" if epochs else without
        print(f"{job.id:<32} {state}")
    finished, epochs = len(preview.jobs) - len(preview.todo), sum(preview.todo.values())
    print(f"{len(preview.jobs)} jobs, {finished} finished, {epochs} epochs to train")
    if preview.seconds is not None:
        minutes = preview.seconds / 60
        print(f"about {minutes:.1f} min on this machine, without making features")


def _print_results(result: SweepResult, out: Path) -> None:
    """Table, findings, failures, and the report's path as the last line."""
    from compressor.cli.sweep_table import curves, findings, headline, table, title
    from compressor.cli.text import screen_width, wrapped

    if result.results["summary"]["groups"]:
        screen, width = console.stdout(), screen_width()
        for line in wrapped([headline(result.results), title(result.results)], width):
            print(line)
        screen.print(table(result.results, screen.width))
        fancy = console.fancy(sys.stdout)
        print("\n".join([*curves(result.results, width, drawn=fancy), ""]))
        for line in wrapped(findings(result.results), width):
            print(line)
    for job_id, error in result.failed.items():
        console.note(f"failed: {job_id}: {error}")
    print(result.report or out / "results.json")
