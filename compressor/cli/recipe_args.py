"""From options to a recipe: the one-line form, and what the single verbs say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressor.errors import UsageError
from compressor.recipe import (
    Cast,
    Export,
    Finetune,
    Prune,
    Quantize,
    Recipe,
    Slim,
    Step,
    read_recipe,
)

__all__ = [
    "distillation",
    "finetune_step",
    "one_line",
    "parse_mixed",
    "prune_step",
    "quantize_step",
    "slim_step",
]

# Options of a quantise step: name on the command line -> field, where the two differ.
_FIELDS = {"clips": "calibration_clips", "qat_epochs": "epochs"}
_OF_SCHEME = {
    "int8-ptq": ("bias_correction", "equalize"),
    "int8-qat": ("engine", "epochs", "qat_epochs"),
}


def slim_step(ratio: float | None, targets: Mapping[str, Any], options: Mapping[str, Any]) -> Slim:
    """A slim step from options, those left out at their defaults.

    Args:
        ratio: share to remove, None with a target.
        targets: target_params, target_macs, target_bytes, fit; None where not given.
        options: further fields of `Slim`, None where not given.
    """
    return Slim(ratio=ratio, **_given({**targets, **options}))


def prune_step(sparsity: float | None, pattern: str | None, options: Mapping[str, Any]) -> Prune:
    """A prune step from options, those left out at their defaults.

    Args:
        sparsity: share of zeros, None with a pattern.
        pattern: "N:M", None with a share.
        options: scope, gradual (epochs) and keep; None where not given.

    Raises:
        UsageError: not exactly one of share and pattern.
    """
    if (sparsity is None) != bool(pattern):
        raise UsageError("give a share of zeros (such as 0.7) or --pattern N:M, one of them")
    given = _given(options)
    if "gradual" in given:
        given |= {"schedule": "gradual", "epochs": given.pop("gradual")}
    given |= {"sparsity": sparsity} if sparsity is not None else {"pattern": pattern}
    return Prune(**given)


def finetune_step(epochs: int, lr: float | None, distill: Mapping[str, Any]) -> Finetune:
    """A finetune step from options; `lr` None follows the network's own training."""
    return Finetune(epochs=epochs, settings={} if lr is None else {"lr": lr}, **distill)


def quantize_step(scheme: str, options: Mapping[str, Any], distill: Mapping[str, Any]) -> Quantize:
    """A quantise step from options, those left out at their defaults.

    Args:
        scheme: int8-ptq or int8-qat.
        options: by name on the command line; None, False or empty where not given.
        distill: what `distillation` returns.

    Raises:
        UsageError: an option of the other scheme, which would do nothing.
    """
    given = _given(options)
    for other, names in _OF_SCHEME.items():
        for name in names:
            if name in given and other != scheme and scheme in _OF_SCHEME:
                raise UsageError(
                    f"{_flag(name)} is given, but it is of {other} and does nothing in {scheme}"
                )
    if "mixed" in given:
        given["mixed"] = parse_mixed(given["mixed"])
    fields = {_FIELDS.get(name, name): value for name, value in given.items()}
    return Quantize(scheme=scheme, **fields, **distill)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given; lists of layers as tuples."""
    found = {k: v for k, v in options.items() if v is not False and v not in (None, "", [])}
    names = {"keep", "keep_float", "float_compute"}
    return {k: tuple(v) if k in names else v for k, v in found.items()}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _refuse_unused(options: Mapping[str, Any], missing: str) -> None:
    """Raises UsageError for an option whose step is not in the recipe."""
    for name in _given(options):
        raise UsageError(f"{_flag(name)} is given, but {missing}")


def distillation(
    teacher: str | None, temperature: float | None, weight: float | None
) -> dict[str, Any]:
    """Distillation fields of a step that trains.

    Raises:
        UsageError: a temperature or weight without a teacher.
    """
    if not teacher:
        for name, value in (("--temperature", temperature), ("--distill-weight", weight)):
            if value is not None:
                raise UsageError(f"{name} is given, but no --teacher; add --teacher self")
        return {}
    found: dict[str, Any] = {"teacher": teacher}
    if temperature is not None:
        found["temperature"] = temperature
    if weight is not None:
        found["weight"] = weight
    return found


def parse_mixed(given: list[str]) -> dict[str, int]:
    """`--mixed LAYER=BITS` as a table.

    Raises:
        UsageError: no "=" in it, or no whole number behind it.
    """
    found = {}
    for text in given:
        layer, separator, bits = text.rpartition("=")
        if not (separator and layer and bits.isdigit()):
            raise UsageError(f"--mixed {text!r}: write LAYER=BITS, such as layers.0.conv1=4")
        found[layer] = int(bits)
    return found


def one_line(
    *,
    recipe: Path | None,
    slim: float | None,
    targets: Mapping[str, Any],
    slim_options: Mapping[str, Any],
    prune: float | None,
    pattern: str | None,
    prune_options: Mapping[str, Any],
    keep: list[str] | None,
    finetune: int | None,
    lr: float | None,
    distill: Mapping[str, Any],
    cast: str | None,
    quantize: str | None,
    quantize_options: Mapping[str, Any],
    export: str | None,
    seed: int | None,
) -> Recipe:
    """The recipe of `compressor compress`: a file, or steps from options in a fixed order.

    The order is slim, prune, finetune, cast or quantize, export; another order is a recipe file's
    affair.

    Raises:
        UsageError: a file and steps at once, no step at all, or an option without its step.
        ConfigError, UnknownNameError: a bad value or file.
    """
    if recipe is not None:
        single = {"slim": slim, "prune": prune, "pattern": pattern, "keep": keep, "lr": lr}
        single |= {"finetune": finetune, "cast": cast, "quantize": quantize, "export": export}
        tables = (single, targets, slim_options, prune_options, distill, quantize_options)
        for table in tables:
            _refuse_unused(table, "--recipe too: a recipe holds all settings; give one of them")
        found = read_recipe(recipe)
        return found if seed is None else Recipe(found.steps, seed)
    steps: list[Step] = []
    if slim is not None or _given(targets):
        steps.append(slim_step(slim, targets, {**slim_options, "keep": keep}))
    else:
        _refuse_unused(slim_options, "neither --slim nor a target is")
    if pattern is not None and prune is not None:
        raise UsageError("--prune and --pattern both say which weights go; give one of them")
    if pattern is not None or prune is not None:
        steps.append(prune_step(prune, pattern, {**prune_options, "keep": keep}))
    else:
        _refuse_unused(prune_options, "neither --prune nor --pattern is")
    if not steps:
        _refuse_unused({"keep": keep}, "no step removes anything; add --slim or --prune")
    if finetune is not None:
        steps.append(finetune_step(finetune, lr, distill))
    else:
        _refuse_unused({"lr": lr}, "--finetune is not")
    if cast is not None:
        steps.append(Cast(dtype=cast))
    if quantize is not None:
        trained = quantize == "int8-qat"
        steps.append(quantize_step(quantize, quantize_options, distill if trained else {}))
    else:
        _refuse_unused(quantize_options, "--quantize is not")
    if distill and not any(getattr(step, "teacher", "") for step in steps):
        raise UsageError("--teacher is given, but no step trains; add --finetune EPOCHS")
    if export is not None:
        steps.append(Export(to=export))
    if not steps:
        raise UsageError(
            "nothing to do: give --recipe FILE, or steps such as --slim 0.65 --finetune 20 "
            "--quantize int8-ptq"
        )
    return Recipe(tuple(steps), seed or 0)
