"""What a training run is told: one frozen record, checked when it is made, to and from plain data.

Standard library only, so that a plan can be read and checked without loading torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, get_args

from compressor.errors import ConfigError, UnknownNameError

__all__ = ["TrainSettings"]

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["onecycle", "cosine"]
Precision = Literal["float32", "bfloat16"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
}

# lowest value, highest value, is the lowest allowed, is the highest allowed
_RANGES: dict[str, tuple[float, float, bool, bool]] = {
    "epochs": (1, math.inf, True, False),
    "batch_size": (2, math.inf, True, False),  # BatchNorm has no variance over one clip
    "lr": (0, math.inf, False, False),
    "weight_decay": (0, math.inf, True, False),
    "momentum": (0, 1, True, False),
    "warmup_share": (0, 1, True, False),
    "label_smoothing": (0, 1, True, False),
    "mixup_alpha": (0, math.inf, True, False),
    "freq_masks": (0, math.inf, True, False),
    "freq_mask_share": (0, 1, True, True),
    "time_masks": (0, math.inf, True, False),
    "time_mask_share": (0, 1, True, True),
    "crop_frames": (1, math.inf, True, False),
    "ema_decay": (0, 1, True, False),
    "gamma_l1": (0, math.inf, True, False),
    "validation_share": (0, 0.5, True, True),
    "grad_clip": (0, math.inf, True, False),
}


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Settings of one training or fine-tuning run.

    The defaults are those of the project's own sweep, not of a paper.

    Attributes:
        epochs: passes over the training part.
        batch_size: clips a step; what is left at an epoch's end is dropped (other clips each time).
        optimizer: AdamW, or SGD with Nesterov momentum.
        lr: highest learning rate of the schedule.
        weight_decay: never applied to one-dimensional parameters (biases, BatchNorm).
        momentum: SGD's momentum, AdamW's first beta; one-cycle moves it by 0.05 to either side.
        schedule: one-cycle (Smith & Topin 2018) or a cosine to zero after a linear warm-up.
        warmup_share: share of all steps over which the learning rate rises.
        label_smoothing: share of the target spread over all classes.
        mixup_alpha: both parameters of the Beta distribution of the mixing weight; 0 is off.
        freq_masks: SpecAugment masks over mel bands, a clip.
        freq_mask_share: widest such mask as a share of the bands.
        time_masks: SpecAugment masks over frames, a clip.
        time_mask_share: widest such mask as a share of the frames.
        time_roll: roll each clip by a random number of frames, end to start.
        crop_frames: frames of the random crop to train on; None takes whole clips.
        ema_decay: decay of the moving average of the weights, a step; 0 is off.
        gamma_l1: strength of the L1 penalty on BatchNorm scales (network slimming).
        validation_share: share of the training part, in whole groups, that chooses the best epoch;
            0 takes the last epoch.
        precision: type of the forward pass (bfloat16: autocast; weights stay float32).
        channels_last: memory format; ignored where it would crash (see `training.inputs`).
        grad_clip: largest norm of the gradient; 0 is off.

    Raises:
        ConfigError: a value of the wrong type or out of range.
    """

    epochs: int = 40
    batch_size: int = 32
    optimizer: Optimizer = "adamw"
    lr: float = 5e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: Schedule = "onecycle"
    warmup_share: float = 0.2
    label_smoothing: float = 0.1
    mixup_alpha: float = 0.3
    freq_masks: int = 1
    freq_mask_share: float = 0.15
    time_masks: int = 1
    time_mask_share: float = 0.2
    time_roll: bool = True
    crop_frames: int | None = None
    ema_decay: float = 0.995
    gamma_l1: float = 0.0
    validation_share: float = 0.1
    precision: Precision = "float32"
    channels_last: bool = True
    grad_clip: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, str(field.type), getattr(self, field.name))

    def to_dict(self) -> dict[str, object]:
        """Plain data (JSON, TOML) from which `from_dict` makes an equal record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> TrainSettings:
        """Settings from plain data; keys left out keep their default.

        Raises:
            UnknownNameError: a key that is no setting (with the closest ones).
            ConfigError: a value of the wrong type or out of range.
        """
        types = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        for key in data:
            if key not in types:
                raise UnknownNameError("training setting", str(key), types)
        # A file may say `lr = 1`; the record holds 1.0, so that equal settings are equal records.
        values = {
            key: float(value)
            if types[key] == "float" and isinstance(value, int) and not isinstance(value, bool)
            else value
            for key, value in data.items()
        }
        return cls(**values)  # type: ignore[arg-type]  # __post_init__ checks every type


def _check(name: str, kind: str, value: object) -> None:
    """Raise ConfigError unless `value` has the type `kind` and lies in the setting's range."""
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ConfigError(
                f"training setting {name} is {value!r}; allowed: {', '.join(_CHOICES[name])}"
            )
        return
    if kind == "bool":
        if not isinstance(value, bool):
            raise ConfigError(f"training setting {name} is {value!r}; give true or false")
        return
    if value is None and kind.endswith("None"):
        return
    whole = kind.startswith("int")
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        wanted = "a whole number" if whole else "a number"
        raise ConfigError(f"training setting {name} is {value!r}; give {wanted}")
    low, high, low_in, high_in = _RANGES[name]
    above = value >= low if low_in else value > low
    below = value <= high if high_in else value < high
    if not (above and below):  # also true for NaN
        bounds = f"{'at least' if low_in else 'more than'} {low:g}"
        if high < math.inf:
            bounds += f" and {'at most' if high_in else 'less than'} {high:g}"
        raise ConfigError(f"training setting {name} is {value!r}; it must be {bounds}")
