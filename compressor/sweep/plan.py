"""The grid of a sweep and the jobs it unfolds into.

A plan is a flat list of jobs that name what they need: one dense network a fold and seed, one point
a method and prune ratio that starts from it, and one quantised network a number type that starts
from either: the fine-tuned float network of a ratio is made once. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Literal

from compressor.errors import UnknownNameError, UsageError

__all__ = [
    "DEFAULT_STEP",
    "METHODS",
    "QUANTIZERS",
    "Grid",
    "Job",
    "build_plan",
    "parse_integers",
    "parse_names",
    "parse_ratios",
    "tag",
]

DEFAULT_STEP = Decimal("0.05")  # the step of the papers' prune-ratio tables
MAX_VALUES = 1000  # a longer list is a slip of the finger (0.5:0.8:0.0001), not a plan

METHODS = ("slimming", "l1", "l2", "random", "unstructured")
"""What can be pruned by: BatchNorm scales, filter norms, chance (a control), single weights."""
QUANTIZERS = ("none", "fp16", "int8-ptq", "int8-qat")
"""Number types a network can be stored in; `none` is float32 and is always there."""

PruneBy = Literal["channels", "params", "target", "weights"]
_RATIO_HELP = "write 0.5:0.8 (step 0.05), 0.5:0.8:0.1 or 0.5,0.6,0.7"


@dataclass(frozen=True, slots=True)
class Job:
    """One unit of work: its result is one record file.

    Attributes:
        id: file name of the record, unique in the run folder.
        kind: `dense` trains (or takes) the dense network, `point` prunes and fine-tunes it,
            `quantized` stores the network of another job in another number type.
        fold: fold of the data set.
        seed: seed of training, of the split of the validation part and of fine-tuning.
        method: `dense` or the compression method.
        prune_by: what the ratio is a share of; `target` prunes to a number of parameters,
            `weights` makes single weights zero.
        prune_ratio: 0 for the dense network, None when pruned to a number of parameters.
        target_params: the number of parameters to prune to, or None.
        needs: ids of jobs that must be finished before.
        settings_hash: hash of everything that decides the result; a record with another hash is
            not this job's result.
        quantize: number type, one of `QUANTIZERS`.
    """

    id: str
    kind: Literal["dense", "point", "quantized"]
    fold: int
    seed: int
    method: str
    prune_by: PruneBy
    prune_ratio: float | None
    target_params: int | None
    needs: tuple[str, ...]
    settings_hash: str
    quantize: str = "none"


@dataclass(frozen=True, slots=True)
class Grid:
    """What is varied: every combination of fold, seed, method and ratio (or target) is one point.

    Each point, and the dense network, is also stored in every number type of `quantize`.
    """

    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    ratios: tuple[float, ...]
    prune_by: PruneBy = "channels"
    target_params: int | None = None
    methods: tuple[str, ...] = ("slimming",)
    quantize: tuple[str, ...] = ()


def _decimal(text: str, whole: str) -> Decimal:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise UsageError(f"--prune {whole!r}: {text!r} is not a number; {_RATIO_HELP}") from None
    if not value.is_finite():
        raise UsageError(f"--prune {whole!r}: {text!r} is not a finite number; {_RATIO_HELP}")
    return value


def parse_ratios(text: str) -> tuple[float, ...]:
    """Read prune ratios: `0.5:0.8`, `0.5:0.8:0.05` (both ends included) or `0.5,0.6,0.7`.

    Decimal arithmetic, so that 0.5:0.8 gives seven ratios and each is the float that its two
    digits name.

    Args:
        text: the option's value.

    Returns:
        Ratios in ascending order.

    Raises:
        UsageError: not a number, outside 0 < ratio < 1, a step that does not lead from the first
            to the last, a ratio given twice.
    """
    whole = text.strip()
    if not whole:
        raise UsageError(f"--prune is empty; {_RATIO_HELP}")
    if ":" in whole:
        parts = whole.split(":")
        if len(parts) not in (2, 3):
            raise UsageError(f"--prune {whole!r} has {len(parts)} parts; {_RATIO_HELP}")
        start, stop = _decimal(parts[0], whole), _decimal(parts[1], whole)
        step = _decimal(parts[2], whole) if len(parts) == 3 else DEFAULT_STEP
        if step <= 0:
            raise UsageError(f"--prune {whole!r}: the step is {step}, it must be over 0")
        if stop < start:
            raise UsageError(f"--prune {whole!r}: it ends ({stop}) before it starts ({start})")
        count = (stop - start) / step
        if count > MAX_VALUES:
            raise UsageError(f"--prune {whole!r} makes over {MAX_VALUES} ratios; use a wider step")
        values = [start + step * i for i in range(int(count) + 1)]
    else:
        values = [_decimal(part, whole) for part in whole.split(",")]
    for value in values:
        if not 0 < value < 1:
            raise UsageError(
                f"--prune {whole!r}: ratio {value.normalize()} is outside 0 < ratio < 1 "
                "(the dense network, ratio 0, is in every sweep)"
            )
    if len(set(values)) != len(values):
        raise UsageError(f"--prune {whole!r} names a ratio twice")
    return tuple(float(value) for value in sorted(values))


def parse_integers(text: str, option: str, *, low: int = 0) -> tuple[int, ...]:
    """Read a list of whole numbers: `0`, `0,1,2` or `1:5` (both ends included).

    A single number is that number, never a count: `--seeds 3` is seed 3, `--seeds 0:2` are three.

    Args:
        text: the option's value.
        option: the option's name for messages, such as "--seeds".
        low: smallest number allowed.

    Returns:
        Numbers in ascending order.

    Raises:
        UsageError: not a whole number, under `low`, a range that ends before it starts, a number
            given twice.
    """
    help_text = "write 0, 0,1,2 or 0:2 (both ends included)"
    whole = text.strip()
    values: list[int] = []
    for part in whole.split(","):
        try:
            ends = [int(end) for end in part.split(":")]
        except ValueError:
            text = f"{option} {whole!r}: {part!r} is not a whole number; {help_text}"
            raise UsageError(text) from None
        if len(ends) > 2:
            raise UsageError(f"{option} {whole!r}: {part!r} has {len(ends)} parts; {help_text}")
        if ends[-1] < ends[0]:
            raise UsageError(f"{option} {whole!r}: {part!r} ends before it starts; {help_text}")
        if ends[-1] - ends[0] >= MAX_VALUES:
            raise UsageError(f"{option} {whole!r} makes over {MAX_VALUES} values")
        values += range(ends[0], ends[-1] + 1)
    if min(values) < low:
        raise UsageError(f"{option} {whole!r}: {min(values)} is under {low}, the smallest allowed")
    if len(set(values)) != len(values):
        raise UsageError(f"{option} {whole!r} names a number twice")
    return tuple(sorted(values))


def parse_names(text: str, option: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read a list of names, `slimming,l1`; they come back in the order of `known`.

    Args:
        text: the option's value.
        option: the option's name for messages, such as "--method".
        known: names that are allowed.

    Raises:
        UnknownNameError: a name that is not known; offers the closest.
        UsageError: a name given twice.
    """
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise UnknownNameError(f"value of {option}:", name, known)
    if len(set(names)) != len(names):
        raise UsageError(f"{option} {text!r} names a value twice")
    return tuple(name for name in known if name in names)


def tag(ratio: float) -> str:
    """A ratio as it stands in ids and tables: two digits, more only where needed (0.50, 0.525)."""
    text = format(Decimal(repr(ratio)), "f")
    digits = max(2, len(text.partition(".")[2]))
    return f"{ratio:.{digits}f}"


def settings_hash(settings: object) -> str:
    """Hash of plain JSON data, independent of the order of keys (16 hex digits of SHA-256)."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_plan(
    grid: Grid,
    *,
    dense: Mapping[str, object],
    point: Mapping[str, object],
    quantize: Mapping[str, object] | None = None,
) -> tuple[Job, ...]:
    """Unfold a grid into jobs, each dense network before its points, each point before its types.

    Args:
        grid: folds, seeds, ratios, methods and number types.
        dense: plain JSON of all that decides the dense network (model, data, training).
        point: plain JSON of what a point adds (pruning options, fine-tuning).
        quantize: plain JSON of what a number type adds, by its name.

    Returns:
        Jobs in the order in which a single worker runs them: fold by fold, seed by seed.

    Raises:
        UsageError: the grid has no point, or single weights are to be pruned to a number of
            parameters.
    """
    targets: list[tuple[float | None, int | None]] = [(ratio, None) for ratio in grid.ratios]
    if grid.target_params is not None:
        targets.append((None, grid.target_params))
        if "unstructured" in grid.methods:
            raise UsageError(
                "--target-params removes channels; --method unstructured keeps every parameter "
                "and makes some zero: give it ratios with --prune"
            )
    if not (targets and grid.folds and grid.seeds and grid.methods):
        raise UsageError("the sweep has no point: give at least one ratio, fold and seed")
    types = [name for name in grid.quantize if name != "none"]
    jobs: list[Job] = []
    for fold in grid.folds:
        for seed in grid.seeds:
            base = f"f{fold}-s{seed}"
            dense_hash = settings_hash({"dense": dict(dense), "fold": fold, "seed": seed})
            parent = Job(
                f"{base}-dense", "dense", fold, seed, "dense", "channels", 0.0, None, (), dense_hash
            )
            floats = [parent]
            for method in grid.methods:
                floats += [
                    _point(
                        parent,
                        method,
                        prune_by="weights" if method == "unstructured" else grid.prune_by,
                        ratio=ratio,
                        target_params=target,
                        settings=point,
                    )
                    for ratio, target in targets
                ]
            for job in floats:
                jobs += [job, *(_quantized(job, name, quantize or {}) for name in types)]
    return tuple(jobs)


def _quantized(parent: Job, name: str, settings: Mapping[str, object]) -> Job:
    """The job that stores `parent`'s network in another number type."""
    decided_by = {"float": parent.settings_hash, "quantize": name, "settings": settings.get(name)}
    return replace(
        parent,
        id=f"{parent.id}-{name}",
        kind="quantized",
        needs=(parent.id,),
        settings_hash=settings_hash(decided_by),
        quantize=name,
    )


def _point(
    parent: Job,
    method: str,
    *,
    prune_by: PruneBy,
    ratio: float | None,
    target_params: int | None,
    settings: Mapping[str, object],
) -> Job:
    """The job that prunes `parent`'s network."""
    if ratio is None:
        prune_by, name = "target", f"{method}-to{target_params}"
    else:
        name = f"{method}-p{tag(ratio)}" if prune_by == "params" else f"{method}-{tag(ratio)}"
    decided_by = {
        "dense": parent.settings_hash,
        "method": method,
        "prune_by": prune_by,
        "prune_ratio": ratio,
        "target_params": target_params,
        "point": dict(settings),
    }
    return Job(
        id=f"f{parent.fold}-s{parent.seed}-{name}",
        kind="point",
        fold=parent.fold,
        seed=parent.seed,
        method=method,
        prune_by=prune_by,
        prune_ratio=ratio,
        target_params=target_params,
        needs=(parent.id,),
        settings_hash=settings_hash(decided_by),
    )


def remaining(jobs: Sequence[Job], finished: set[str]) -> tuple[Job, ...]:
    """The jobs still to run, in plan order."""
    return tuple(job for job in jobs if job.id not in finished)
