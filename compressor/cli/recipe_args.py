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

__all__ = ["distillation", "one_line", "parse_mixed", "slim_step"]


def slim_step(ratio: float | None, targets: Mapping[str, Any], options: Mapping[str, Any]) -> Slim:
    """A slim step from options, those left out at their defaults.

    Args:
        ratio: share to remove, None with a target.
        targets: target_params, target_macs, target_bytes, fit; None or "" where not given.
        options: further fields of `Slim`, None where not given.
    """
    given = {k: v for k, v in {**targets, **options}.items() if v not in (None, "", [])}
    if "keep" in given:
        given["keep"] = tuple(given["keep"])
    return Slim(ratio=ratio, **given)


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
    importance: str | None,
    prune: float | None,
    pattern: str | None,
    finetune: int | None,
    distill: Mapping[str, Any],
    cast: str | None,
    quantize: str | None,
    qat_epochs: int | None,
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
    steps: list[Step] = []
    has_target = any(value not in (None, "") for value in targets.values())
    if slim is not None or has_target:
        steps.append(slim_step(slim, targets, {"importance": importance}))
    elif importance is not None:
        raise UsageError("--importance is given, but neither --slim nor a target")
    if pattern is not None:
        if prune is not None:
            raise UsageError("--prune and --pattern both say which weights go; give one of them")
        steps.append(Prune(pattern=pattern))
    elif prune is not None:
        steps.append(Prune(sparsity=prune))
    if finetune is not None:
        steps.append(Finetune(epochs=finetune, **distill))
    if cast is not None:
        steps.append(Cast(dtype=cast))
    if quantize is not None:
        trained = quantize == "int8-qat"
        given: dict[str, Any] = dict(distill) if trained else {}
        if qat_epochs is not None:
            if not trained:
                raise UsageError("--qat-epochs is given, but not --quantize int8-qat")
            given["epochs"] = qat_epochs
        steps.append(Quantize(scheme=quantize, **given))
    elif qat_epochs is not None:
        raise UsageError("--qat-epochs is given, but not --quantize int8-qat")
    if distill and not any(getattr(step, "teacher", "") for step in steps):
        raise UsageError("--teacher is given, but no step trains; add --finetune EPOCHS")
    if export is not None:
        steps.append(Export(to=export))
    if recipe is not None:
        if steps:
            kinds = ", ".join(step.kind for step in steps)
            raise UsageError(f"--recipe and options for {kinds} are both given; give one of them")
        found = read_recipe(recipe)
        return found if seed is None else Recipe(found.steps, seed)
    if not steps:
        raise UsageError(
            "nothing to do: give --recipe FILE, or steps such as --slim 0.65 --finetune 20 "
            "--quantize int8-ptq"
        )
    return Recipe(tuple(steps), seed or 0)
