"""The steps of a compression recipe: frozen dataclasses whose values are checked when made.

Each has a `kind`, goes to plain data and comes back equal. Standard library only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args, get_type_hints

from compressor.errors import ConfigError, UnknownNameError

__all__ = [
    "STEPS",
    "Cast",
    "Export",
    "Finetune",
    "Prune",
    "Quantize",
    "Reestimate",
    "Slim",
    "Step",
    "step_from_dict",
]

_IMPORTANCES = ("gamma", "l1", "l2", "taylor", "random")
_EXPORTS = ("onnx", "pt2", "safetensors", "tflite")
# Settings of a quantise step that one scheme alone reads.
_STATIC_ONLY = ("bias_correction", "equalize")
_TRAINED_ONLY = (
    *("engine", "freeze_after", "epochs", "teacher", "temperature", "weight"),
    "settings",
)


@dataclass(frozen=True)
class Step:
    """What all steps share: a kind, a check of their values, plain data."""

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value of the wrong type."""
        for name, kind in _types(type(self)).items():
            object.__setattr__(self, name, _typed(self.kind, name, kind, getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the kind first; settings that are not given are left out."""
        values = {name: getattr(self, name) for name in _types(type(self))}
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }
        return {"kind": self.kind, **plain}


@dataclass(frozen=True)
class Slim(Step):
    """Remove whole channels: by a ratio, or the least that keeps every limit given.

    Attributes:
        ratio: share to remove, 0 to below 1; not with a target.
        by: what the ratio is a share of, "channels" or "params".
        importance: gamma, l1, l2, taylor or random.
        target_params: most parameters.
        target_macs: most multiply-accumulates of one inference.
        target_bytes: most bytes of parameters as the recipe's end stores them.
        fit: rules to keep, "dcase2023" or the path of a rule file.
        reduction: score of tied channels, their "max" or "mean".
        min_channels: units that every group of layers keeps at least.
        min_share: the same as a share of the group.
        normalize: divide scores by their layer's mean; not given: for l1 and l2 only.
        keep: layers whose output channels all stay, beside those the network's entry names.
        reestimate: training clips on which BatchNorm statistics are estimated anew; 0 is off.
        score_clips: training clips on which `taylor` measures the loss.
    """

    kind: ClassVar[str] = "slim"
    ratio: float | None = None
    by: str = "channels"
    importance: str = "gamma"
    target_params: int | None = None
    target_macs: int | None = None
    target_bytes: int | None = None
    fit: str = ""
    reduction: str = "max"
    min_channels: int = 2
    min_share: float = 0.0
    normalize: bool | None = None
    keep: tuple[str, ...] = ()
    reestimate: int = 512
    score_clips: int = 512

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range, or not exactly one way to say how much."""
        super().__post_init__()
        _choice(self, "by", ("channels", "params"))
        _choice(self, "importance", _IMPORTANCES)
        _choice(self, "reduction", ("max", "mean"))
        targets = ("target_params", "target_macs", "target_bytes", "fit")
        given = [name for name in targets if getattr(self, name) not in (None, "")]
        if (self.ratio is None) == (not given):
            found = "none" if self.ratio is None else f"ratio and {', '.join(given)}"
            raise ConfigError(
                f"step slim needs either a ratio or some of {', '.join(targets)}; found {found}"
            )
        if self.ratio is not None:
            _range(self, "ratio", 0, 1, high_in=False)
        for name in (*targets[:3], "min_channels", "score_clips"):
            if getattr(self, name) is not None:
                _range(self, name, 1, math.inf)
        _range(self, "min_share", 0, 1)
        _range(self, "reestimate", 0, math.inf)

    @property
    def has_target(self) -> bool:
        """Whether it prunes to limits instead of a ratio."""
        return self.ratio is None


@dataclass(frozen=True)
class Prune(Step):
    """Make single weights zero; the network keeps its shape.

    Attributes:
        sparsity: share of weights that is zero in the end, 0 to below 1.
        scope: "global" compares all weights, "layer" takes the share from each.
        pattern: "N:M" keeps N of every M weights, in place of the sparsity.
        schedule: "oneshot", or "gradual" while fine-tuning `epochs` epochs, along a cubic.
        epochs: of the gradual schedule.
        ramp_share: share of its steps over which the sparsity rises.
        keep: layers whose weights all stay.
        settings: training settings that differ from the training's own (gradual only).
    """

    kind: ClassVar[str] = "prune"
    sparsity: float = 0.5
    scope: str = "global"
    pattern: str = ""
    schedule: str = "oneshot"
    epochs: int = 10
    ramp_share: float = 0.7
    keep: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        _range(self, "sparsity", 0, 1, high_in=False)
        _choice(self, "scope", ("global", "layer"))
        _choice(self, "schedule", ("oneshot", "gradual"))
        _range(self, "epochs", 1, math.inf)
        _range(self, "ramp_share", 0, 1, low_in=False)
        _training(self)
        if self.pattern:
            parts = self.pattern.split(":")
            sizes = [int(p) for p in parts if p.isdigit()]
            if len(parts) != 2 or len(sizes) != 2 or not 0 < sizes[0] < sizes[1]:
                raise ConfigError(
                    f"step prune: pattern is {self.pattern!r}; write N:M with 0 < N < M, as 2:4"
                )
            if self.schedule == "gradual":
                raise ConfigError(
                    "step prune: a pattern cannot be reached gradually; use schedule = 'oneshot'"
                )


@dataclass(frozen=True)
class Reestimate(Step):
    """Estimate the BatchNorm statistics anew on training clips, without labels.

    Attributes:
        clips: how many.
    """

    kind: ClassVar[str] = "reestimate"
    clips: int = 512

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        _range(self, "clips", 1, math.inf)


@dataclass(frozen=True)
class Finetune(Step):
    """Train on with the training's own settings, without the penalty on BatchNorm scales.

    Attributes:
        epochs: passes over the training part.
        teacher: "" for none, "self" for the network the recipe began with, or a model file.
        temperature: what logits are divided by before they are compared.
        weight: share of the loss that is the teacher's.
        settings: training settings that differ from the training's own.
    """

    kind: ClassVar[str] = "finetune"
    epochs: int = 20
    teacher: str = ""
    temperature: float = 2.0
    weight: float = 0.5
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        _range(self, "epochs", 1, math.inf)
        _range(self, "temperature", 0, math.inf, low_in=False, high_in=False)
        _range(self, "weight", 0, 1)
        _training(self)


@dataclass(frozen=True)
class Cast(Step):
    """Store weights in two bytes.

    Attributes:
        dtype: "float16" or "bfloat16".
    """

    kind: ClassVar[str] = "cast"
    dtype: str = "float16"

    def __post_init__(self) -> None:
        """Raises ConfigError for another type."""
        super().__post_init__()
        _choice(self, "dtype", ("float16", "bfloat16"))


@dataclass(frozen=True)
class Quantize(Step):
    """Integer weights and activations, after training or by training with the rounding in place.

    Attributes:
        scheme: "int8-ptq" (static, after training) or "int8-qat".
        weight_bits: width of integer weights, 2 to 8.
        per_channel: one weight scale for each output channel.
        calibration_clips: training clips that set the ranges of activations.
        calibration: "minmax", "percentile" or "entropy". Not given: "percentile" for int8-ptq,
            whose ranges are final, "minmax" for int8-qat, which only begins with them.
        percentile: of `calibration = "percentile"`, above 50 to 100.
        bias_correction: correct biases for the mean error of the weights (int8-ptq).
        equalize: equalise the ranges of neighbouring layers first (int8-ptq).
        keep_float: layers that stay float32, weights and all.
        float_compute: layers that compute in float32 on integer weights.
        placement: "fastest" measures which layers and operators onnxruntime runs faster in float32
            on this machine, before anything is rounded; "integers" (and not given): all on
            integers but `float_compute`.
        rescale: use what the scales leave free: fold per-channel factors, level channels.
        mixed: layer -> width of its weights where it is another one.
        engine: "light" or "brevitas" (int8-qat).
        freeze_after: share of the steps after which statistics and ranges stand still (int8-qat).
        epochs: of training with the rounding in place (int8-qat).
        teacher: as in `Finetune` (int8-qat).
        temperature: as in `Finetune`.
        weight: as in `Finetune`.
        settings: training settings that differ from the training's own (int8-qat).
    """

    kind: ClassVar[str] = "quantize"
    scheme: str = "int8-ptq"
    weight_bits: int = 8
    per_channel: bool = True
    calibration_clips: int = 64
    calibration: str = ""  # resolved below, so that records always name it
    percentile: float = 99.99
    bias_correction: bool = False
    equalize: bool = False
    keep_float: tuple[str, ...] = ()
    float_compute: tuple[str, ...] = ()
    placement: str | None = None  # None is left out of records, so older runs stay comparable
    rescale: bool = True
    mixed: Mapping[str, int] = field(default_factory=dict)
    engine: str = "light"
    freeze_after: float = 0.7
    epochs: int = 10
    teacher: str = ""
    temperature: float = 2.0
    weight: float = 0.5
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        _choice(self, "scheme", ("int8-ptq", "int8-qat"))
        if not self.calibration:
            chosen = "minmax" if self.trains else "percentile"
            object.__setattr__(self, "calibration", chosen)
        _choice(self, "calibration", ("minmax", "percentile", "entropy"))
        _choice(self, "engine", ("light", "brevitas"))
        if self.placement is not None:
            _choice(self, "placement", ("integers", "fastest"))
        _range(self, "weight_bits", 2, 8)
        _range(self, "calibration_clips", 1, math.inf)
        _range(self, "percentile", 50, 100, low_in=False)
        _range(self, "freeze_after", 0, 1)
        _range(self, "epochs", 1, math.inf)
        _range(self, "temperature", 0, math.inf, low_in=False, high_in=False)
        _range(self, "weight", 0, 1)
        for layer, bits in self.mixed.items():
            if not isinstance(bits, int) or isinstance(bits, bool) or not 2 <= bits <= 8:
                raise ConfigError(f"step quantize: mixed {layer} = {bits!r}; give 2 to 8 bits")
        _training(self)
        idle, other = (_STATIC_ONLY, "int8-ptq") if self.trains else (_TRAINED_ONLY, "int8-qat")
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if one.name in idle and value not in (one.default, {}):
                raise ConfigError(
                    f"step quantize: {one.name} = {value!r} is of {other} and does nothing in "
                    f"{self.scheme}; leave it out, or use scheme = {other!r}"
                )

    @property
    def trains(self) -> bool:
        """Whether the step runs epochs; those of int8-ptq are only a field's default."""
        return self.scheme == "int8-qat"


@dataclass(frozen=True)
class Export(Step):
    """Write the network in a format that other programs run.

    Attributes:
        to: "onnx", "pt2", "safetensors" or "tflite".
        path: where to; "" puts it beside the model file.
    """

    kind: ClassVar[str] = "export"
    to: str = "onnx"
    path: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown format."""
        super().__post_init__()
        _choice(self, "to", _EXPORTS)


STEPS: dict[str, type[Step]] = {
    step.kind: step for step in (Slim, Prune, Reestimate, Finetune, Cast, Quantize, Export)
}


def step_from_dict(record: Mapping[str, Any]) -> Step:
    """A step from plain data with its `kind`.

    Raises:
        UnknownNameError: an unknown kind or setting, with close ones.
        ConfigError: no kind, or a bad value.
    """
    values = dict(record)
    kind = values.pop("kind", None)
    if kind is None:
        raise ConfigError(f"a step has no kind; give one of {', '.join(STEPS)}")
    if kind not in STEPS:
        raise UnknownNameError("kind of step", str(kind), STEPS)
    known = _types(STEPS[kind])
    for key in values:
        if key not in known:
            raise UnknownNameError(f"setting of step {kind}", str(key), known)
    return STEPS[kind](**values)


def _types(kind: type[Step]) -> dict[str, Any]:
    """Field name -> type of a step, in the order of its fields."""
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _typed(step: str, name: str, kind: Any, value: Any) -> Any:
    """`value` as the field's type (lists as tuples, whole numbers as floats where they may be)."""
    allowed = get_args(kind) or (kind,)
    if value is None and type(None) in allowed:
        return None
    wanted = next(a for a in allowed if a is not type(None))
    if kind == tuple[str, ...]:
        if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return tuple(value)
        raise ConfigError(f"step {step}: {name} is {value!r}; give a list of layer names")
    if getattr(kind, "__origin__", None) is Mapping:
        if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
            return dict(value)
        raise ConfigError(f"step {step}: {name} is {value!r}; give a table of name = value")
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool)):
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise ConfigError(f"step {step}: {name} is {value!r}; give {words[wanted]}")
    return value


def _choice(step: Step, name: str, allowed: Iterable[str]) -> None:
    if getattr(step, name) not in allowed:
        raise UnknownNameError(f"{name} of step {step.kind}", getattr(step, name), allowed)


def _range(
    step: Step,
    name: str,
    low: float,
    high: float,
    *,
    low_in: bool = True,
    high_in: bool = True,
) -> None:
    value = getattr(step, name)
    above = value >= low if low_in else value > low
    below = value <= high if high_in else value < high
    if not (above and below):  # also true for NaN
        bounds = f"{'at least' if low_in else 'above'} {low:g}"
        if high < math.inf:
            bounds += f" and {'at most' if high_in else 'below'} {high:g}"
        raise ConfigError(f"step {step.kind}: {name} is {value}, but must be {bounds}")


def _training(step: Finetune | Prune | Quantize) -> None:
    """Check training settings now, not after the first step has run."""
    from compressor.training.settings import TrainSettings

    if "epochs" in step.settings:
        raise ConfigError(f"step {step.kind}: epochs is a setting of the step, not of its settings")
    TrainSettings.from_dict(step.settings)
