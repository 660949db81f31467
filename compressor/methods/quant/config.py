"""Settings of int8 quantisation, as frozen dataclasses that a recipe can write down.

`StaticInt8` quantises a trained network after training, `QatInt8` trains with the rounding in
place. Both describe the same deployed form: weights as signed integers with one scale for each
output channel, activations as unsigned 8-bit integers with one scale and zero point for each
tensor, biases as 32-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from compressor.errors import ConfigError, UnknownNameError

__all__ = [
    "CALIBRATIONS",
    "ENGINES",
    "INTEGER_OPERATORS",
    "MAX_BITS",
    "MIN_BITS",
    "QatInt8",
    "StaticInt8",
]

Calibration = Literal["minmax", "percentile", "entropy"]
Engine = Literal["light", "brevitas"]

CALIBRATIONS: tuple[str, ...] = ("minmax", "percentile", "entropy")
ENGINES: tuple[str, ...] = ("light", "brevitas")
MIN_BITS, MAX_BITS = 2, 8  # one bit leaves only zero in a symmetric grid
# Operators that may run on integers besides convolutions and linear layers, which always do.
INTEGER_OPERATORS: tuple[str, ...] = ("add", "mul", "cat", "average", "sigmoid")

Config = TypeVar("Config", bound="_Int8")


@dataclass(frozen=True)
class _Int8:
    """What both ways to int8 have in common.

    Attributes:
        weight_bits: width of the weights, 2 to 8; the grid is symmetric, +-(2^(bits-1) - 1).
        per_channel: one weight scale for each output channel instead of one for the layer.
        calibration_clips: inputs of the training part from which activation ranges are taken.
        calibration: "minmax", "percentile" (of all values, both ends) or "entropy" (the range
            whose 8-bit histogram loses least in Kullback-Leibler divergence).
        percentile: share of the values inside the range, in %, for "percentile".
        keep_float: layers (or whole modules) that stay in float32, weights and all.
        float_compute: layers (or whole modules) whose weights are stored as integers, but which
            compute in float32: for places where integer kernels are slow or too coarse.
        mixed: width of single layers, {layer: bits}; the others have `weight_bits`.
        rescale: use what the scales leave free, with no change to the function: per-channel factors
            (depthwise 1x1 convolutions) go into the layers behind them, and the channels of
            tensors that only depthwise convolutions read get equal ranges.
        integer_operators: operators between the layers that run on integers too; the others
            compute in float32 on the dequantised values.
    """

    weight_bits: int = 8
    per_channel: bool = True
    calibration_clips: int = 64
    calibration: Calibration = "minmax"
    percentile: float = 99.99
    keep_float: tuple[str, ...] = ()
    float_compute: tuple[str, ...] = ()
    mixed: Mapping[str, int] = field(default_factory=dict)
    rescale: bool = True
    integer_operators: tuple[str, ...] = INTEGER_OPERATORS

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range, UnknownNameError for a wrong name."""
        for name in ("keep_float", "float_compute", "integer_operators"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if not isinstance(self.mixed, Mapping):
            raise ConfigError(f"mixed is {self.mixed!r}, but must map layers to bits")
        object.__setattr__(self, "mixed", dict(self.mixed))
        _check_bits("weight_bits", self.weight_bits)
        for layer, bits in self.mixed.items():
            _check_bits(f"mixed[{layer!r}]", bits)
        _check_choice("calibration", self.calibration, CALIBRATIONS)
        for name in self.integer_operators:
            _check_choice("integer operator", name, INTEGER_OPERATORS)
        if isinstance(self.calibration_clips, bool) or not (
            isinstance(self.calibration_clips, int) and self.calibration_clips >= 1
        ):
            raise ConfigError(
                f"calibration_clips is {self.calibration_clips!r}, but must be at least 1"
            )
        _check_number("percentile", self.percentile, above=50, up_to=100)

    def bits_of(self, layer: str) -> int:
        """Width of the weights of `layer`."""
        return self.mixed.get(layer, self.weight_bits)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML and JSON; `from_dict` takes them back."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
        """The settings that `to_dict` wrote; missing ones have their defaults.

        Raises:
            UnknownNameError: a key that is no setting; the message offers close ones.
            ConfigError: a value out of range.
        """
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise UnknownNameError(f"setting of {cls.__name__}", str(key), known)
        return cls(**values)


@dataclass(frozen=True)
class StaticInt8(_Int8):
    """int8 after training.

    Attributes, beside those of both ways:
        bias_correction: shift biases by the mean error that rounding the weights makes.
        equalize: level the weight ranges of neighbouring layers first (cross-layer equalisation).
        calibration: the percentile cuts single extremes, which would make every other value
            coarse: 2.4 points of accuracy for a trained `dsmn` on ESC-50.
    """

    calibration: Calibration = "percentile"
    bias_correction: bool = False
    equalize: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        _check_flags(self, ("per_channel", "rescale", "bias_correction", "equalize"))


@dataclass(frozen=True)
class QatInt8(_Int8):
    """int8 by training with the rounding in place.

    Attributes, beside those of both ways:
        engine: "light" (a few operators of torch) or "brevitas", several times slower.
        freeze_after: share of the training steps after which BatchNorm statistics and activation
            ranges stand still; needs the number of steps, see `prepare_qat`.
        range_momentum: weight of a new batch in the moving activation ranges (light engine).
    """

    engine: Engine = "light"
    freeze_after: float = 0.7
    range_momentum: float = 0.05

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range, UnknownNameError for another engine."""
        super().__post_init__()
        _check_flags(self, ("per_channel", "rescale"))
        _check_choice("QAT engine", self.engine, ENGINES)
        _check_number("freeze_after", self.freeze_after, above=-1e-9, up_to=1)
        _check_number("range_momentum", self.range_momentum, above=0, up_to=1)


def _names(what: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(item, str) for item in _items(what, value)):
        raise ConfigError(f"{what} is {value!r}, but must be a list of names")
    return tuple(value)


def _items(what: str, value: Any) -> Iterator[Any]:
    try:
        return iter(value)
    except TypeError:
        raise ConfigError(f"{what} is {value!r}, but must be a list of names") from None


def _check_bits(what: str, bits: Any) -> None:
    if isinstance(bits, bool) or not isinstance(bits, int) or not MIN_BITS <= bits <= MAX_BITS:
        raise ConfigError(f"{what} is {bits!r}, but must be {MIN_BITS} to {MAX_BITS} bits")


def _check_choice(what: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UnknownNameError(what, str(value), allowed)


def _check_number(what: str, value: Any, *, above: float, up_to: float) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not above < value <= up_to:
        raise ConfigError(f"{what} is {value!r}, but must be above {above:g} and at most {up_to:g}")


def _check_flags(config: object, names: tuple[str, ...]) -> None:
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise ConfigError(f"{name} is {getattr(config, name)!r}, but must be true or false")
