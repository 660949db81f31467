"""Try a training recipe in seconds: shapes, one batch of made-up clips, budgets, figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compressor.reproduce.prepare import GROUPS, fit_settings, make_experiment
from compressor.reproduce.recipe import DENSE, TrainingRecipe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from compressor.audit.rules import Rules
    from compressor.data import SceneSet
    from compressor.data.features import FeatureSet
    from compressor.methods.budget import Sizes
    from compressor.sweep.experiment import Shape

__all__ = ["Check", "CheckReport", "check_recipe", "made_up_clips", "made_up_set"]

Status = Literal["pass", "fail", "open"]

SCENES = (
    "airport", "bus", "metro", "metro_station", "park", "public_square", "shopping_mall",
    "street_pedestrian", "street_traffic", "tram",
)  # fmt: skip
CLIPS = 2  # one step of the smallest batch; BatchNorm has no variance over one clip


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: what.
        status: "open" is what only a whole run can tell.
        text: what was found.
    """

    name: str
    status: Status
    text: str


@dataclass(frozen=True)
class CheckReport:
    """What a recipe's check found.

    Attributes:
        recipe: name and variant.
        input_shape: of the network, without the batch axis.
        checks: in order.
        sizes: by stage that no pruning decides: params, param_bytes, macs, macs_official.
    """

    recipe: str
    input_shape: tuple[int, int, int]
    checks: tuple[Check, ...]
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "fail" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schema": 1,
            "recipe": self.recipe,
            "passed": self.passed,
            "input_shape": list(self.input_shape),
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "sizes": {stage: dict(sizes) for stage, sizes in self.sizes.items()},
        }


def check_recipe(
    recipe: TrainingRecipe, *, on_check: Callable[[Check], None] = lambda check: None
) -> CheckReport:
    """Build what a recipe describes, train it for one step, and hold it against its year's limits.

    The data is made up (noise of the size of the paper's clips): nothing of it is an accuracy.

    Args:
        recipe: what to try.
        on_check: called with each check as soon as it is made.

    Raises:
        UnknownNameError, ConfigError, ShapeError, UsageError: what the recipe names does not exist
            or does not fit together.
        MeasureError: the loss of the first step is not finite.
    """
    from compressor.sweep.experiment import build_network, front_end_of, input_shape

    checks: list[Check] = []

    def found(name: str, status: Status, text: str) -> None:
        checks.append(Check(name, status, text))
        on_check(checks[-1])

    front_end = front_end_of(recipe.model, recipe.front_end)
    shape = front_end.shape(recipe.segment_s)
    found(
        "features", "pass", f"{_by(shape)} (channel x mel band x frame) of {recipe.segment_s:g} s"
    )

    dataset = made_up_set(recipe)
    settings, notes = fit_settings(recipe, dataset, front_end)
    for note in notes:  # what is asked for and cannot be is not tried either
        found("left away", "open", note)
    experiment = make_experiment(recipe, settings)
    model = build_network(experiment, shape, dataset.classes, seed=0)
    network_shape = input_shape(recipe.model, shape)
    params = sum(parameter.numel() for parameter in model.parameters())
    published = _published_params(recipe)
    beside = f", published {published}" if published else ""
    found("network", "pass", f"{recipe.model}, {params:,} parameters{beside}")

    loss, accuracy_clips = _one_batch(recipe, model, dataset, shape, settings)
    found("one batch", "pass", f"{CLIPS} clips trained (loss {loss:.3f}) and {accuracy_clips} read")

    sizes = _budgets(recipe, model, network_shape, found)
    for name in recipe.ablations:
        line = recipe.ablated(name)
        other, _ = fit_settings(line, dataset, front_end_of(line.model, line.front_end))
        shape_of_line = front_end_of(line.model, line.front_end).shape(line.segment_s)
        build_network(make_experiment(line, other), shape_of_line, dataset.classes, seed=0)
    if recipe.ablations:
        found("ablations", "pass", f"{', '.join(recipe.ablations)}: settings and networks fit")
    return CheckReport(recipe.id, network_shape, tuple(checks), sizes)


def _budgets(
    recipe: TrainingRecipe,
    model: nn.Module,
    shape: tuple[int, int, int],
    found: Callable[[str, Status, str], None],
) -> dict[str, dict[str, int]]:
    """The dense network and each chain against the limits of the recipe's year."""
    import torch

    from compressor.audit.rules import rules_for
    from compressor.methods.budget import FLOAT32, NumberType, measure_sizes
    from compressor.recipe import Cast, Quantize, Slim

    rules = rules_for(recipe.year)
    example = torch.zeros(1, *shape)
    sizes: dict[str, dict[str, int]] = {}
    for name, chain in [(DENSE, None), *recipe.chains.items()]:
        steps = () if chain is None else chain.steps
        number_type = FLOAT32
        for step in steps:
            if isinstance(step, Cast):
                number_type = NumberType(step.dtype)
            if isinstance(step, Quantize):
                number_type = NumberType("int8", step.weight_bits, step.keep_float, step.mixed)
        pruning = next((step for step in steps if isinstance(step, Slim)), None)
        label = f"limits of {recipe.year}, {name}"
        if pruning is not None:
            how = f"ratio {pruning.ratio:g}" if pruning.ratio is not None else "its target"
            found(label, "open", f"{number_type.name}; sizes are known after pruning to {how}")
            continue
        measured = measure_sizes(model, example, number_type)
        sizes[name] = {
            "params": measured.params,
            "param_bytes": measured.param_bytes,
            "macs": measured.macs,
            "macs_official": measured.macs_official,
        }
        text = (
            f"{measured.param_bytes:,} B in {number_type.name}, "
            f"{measured.macs_official:,} MACs (official)"
        )
        status, excess = _held(measured, rules)
        if status == "fail" and name == DENSE and recipe.chains:
            status = "open"  # what is compressed afterwards was never meant to fit as it is
        found(label, status, f"{text}{excess}")
    return sizes


def _held(sizes: Sizes, rules: Rules) -> tuple[Status, str]:
    """Whether all limits hold; "open" where the sources leave several readings and only one does.

    MACs are the official counter's: there is no other reading of a rule that names it.
    """
    from compressor.methods.budget import readings

    status: Status = "pass"
    texts = []
    for limit in rules.limits:
        if limit.max is None:
            continue
        values = readings(sizes, limit)
        value, least = max(values), max(values) if limit.metric == "macs" else min(values)
        if value <= limit.strictest:
            continue
        broken = least > limit.max
        status = "fail" if broken or status == "fail" else "open"
        allowed = f"{limit.max:,}" if broken else f"{limit.strictest:,} in the strictest reading"
        texts.append(f"{limit.name} {value:,} over {allowed} {limit.unit}")
    return status, f": {'; '.join(texts)}" if texts else ""


def _one_batch(
    recipe: TrainingRecipe,
    model: nn.Module,
    dataset: SceneSet,
    shape: Shape,
    settings: Any,
) -> tuple[float, int]:
    """Loss of one step with everything the recipe does to a batch; then one evaluation."""
    import zoo
    from compressor.data.features import Standardizer
    from compressor.training import evaluate, fit

    part = made_up_clips(shape, dataset, CLIPS)
    channels, mels, _ = shape
    standardizer = Standardizer(((0.0,) * mels,) * channels, ((1.0,) * mels,) * channels)
    once = dataclasses.replace(
        settings, epochs=1, batch_size=CLIPS, validation_share=0.0, early_stop_epochs=0
    )
    layout = zoo.entry(recipe.model).layout
    result = fit(model, part, once, standardizer=standardizer, layout=layout, device="cpu")
    read = evaluate(
        model,
        part,
        standardizer=standardizer,
        layout=layout,
        device="cpu",
        settings=dataclasses.replace(once, tta_copies=min(2, once.tta_copies)),
    )
    return result.history[0]["loss"], read.n


def made_up_clips(shape: Shape, dataset: SceneSet, count: int) -> FeatureSet:
    """Noise in place of features: `count` clips of two devices in turn.

    Args:
        shape: (C, M, T) of one clip.
        dataset: `made_up_set` of the recipe.
        count: clips, at least 2.
    """
    import numpy as np

    from compressor.data.feature_set import FeatureSet
    from compressor.data.levels import LevelReader

    class Equal(LevelReader):
        """All clips are equally loud."""

        def __call__(self, paths: Sequence[Path]) -> NDArray[np.float32]:
            return np.zeros(len(paths), dtype=np.float32)

    clips = [dataset.train[i % len(dataset.train)] for i in range(count)]
    return FeatureSet(
        x=np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float16),
        index=np.arange(count, dtype=np.int64),
        y=np.array([clip.label for clip in clips], dtype=np.int64),
        devices=tuple(clip.device for clip in clips),
        groups=tuple(clip.group for clip in clips),
        classes=dataset.classes,
        paths=tuple(clip.path for clip in clips),
        level_reader=Equal(Path(), dataset.clip_s),
    )


def made_up_set(recipe: TrainingRecipe) -> SceneSet:
    """What a data set of the recipe's kind says of itself; its clips have no sound."""
    from compressor.data import Clip, SceneSet

    classes = GROUPS if recipe.labels == "groups" else SCENES
    clips = tuple(
        Clip(Path(f"{device}.wav"), label, device=device, group=device)
        for label, device in enumerate(("a", "b"))
    )
    return SceneSet(
        name="made-up",
        title=recipe.data,
        root=Path(),
        classes=classes,
        train=clips,
        test=clips,
        split="none",
        fold=1,
        folds=(1,),
        synthetic=True,
        clip_s=recipe.segment_s,
        sample_rate_hz=48_000,
    )


def _published_params(recipe: TrainingRecipe) -> str:
    """What the paper says of the network before compression, for the line of the network."""
    from compressor.recipe import Slim

    whole = [  # a pruned network has another count
        name
        for name, chain in recipe.chains.items()
        if not any(isinstance(step, Slim) for step in chain.steps)
    ]
    return next(
        (
            row.params
            for stage in (DENSE, *whole)
            for row in recipe.rows
            if row.params and row.of == stage and row.variant in ("", recipe.variant)
        ),
        "",
    )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
