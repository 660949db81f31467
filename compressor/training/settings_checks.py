"""What a training setting may be: one range or list of choices a name, and what must fit together.

Standard library only.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Literal, get_args

from compressor.errors import ConfigError

if TYPE_CHECKING:
    from compressor.training.settings import TrainSettings

__all__ = [
    "Loss",
    "MixMasks",
    "MixupKind",
    "Optimizer",
    "Precision",
    "Schedule",
    "Tasks",
    "check_together",
    "check_value",
]

Optimizer = Literal["adamw", "sgd", "adam", "radam"]
Schedule = Literal["onecycle", "cosine", "constant"]
Precision = Literal["float32", "bfloat16"]
Loss = Literal["cross_entropy", "cm_softmax"]
Tasks = Literal["scene", "scene+group"]
MixupKind = Literal["plain", "level"]
MixMasks = Literal["off", "input", "input+hidden"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
    "loss": get_args(Loss),
    "tasks": get_args(Tasks),
    "mixup_kind": get_args(MixupKind),
    "mix_masks": get_args(MixMasks),
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
    "cm_scale": (0, math.inf, False, False),
    "cm_angular_margin": (0, math.pi / 2, True, False),
    "cm_additive_margin": (0, 1, True, False),
    "group_weight": (0, math.inf, False, False),
    "group_logit_share": (0, 1, True, True),
    "lr_final": (0, math.inf, True, False),
    "early_stop_epochs": (0, math.inf, True, False),
    "mixup_from": (0, 1, True, True),
    "mixup_until": (0, 1, True, True),
    "mixup_late_share": (0, 1, True, True),
    "time_warp_frames": (0, math.inf, True, False),
    "cutout_masks": (0, math.inf, True, False),
    "cutout_freq_share": (0, 1, True, True),
    "cutout_time_share": (0, 1, True, True),
    "time_shift_frames": (0, math.inf, True, False),
    "spectrum_share": (0, 1, True, True),
    "speeds": (0.5, 2, True, True),  # of each speed
    "mixstyle_share": (0, 1, True, True),
    "mixstyle_alpha": (0, math.inf, False, False),
    "tta_copies": (0, math.inf, True, False),
}


def check_value(name: str, kind: str, value: object) -> None:
    """Check one setting.

    Args:
        name: of the setting.
        kind: its annotated type.
        value: what was given.

    Raises:
        ConfigError: not of that type, or out of the setting's range.
    """
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            close = difflib.get_close_matches(str(value), _CHOICES[name], n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(
                f"training setting {name} is {value!r}; {meant}allowed: {', '.join(_CHOICES[name])}"
            )
    elif kind == "bool":
        if not isinstance(value, bool):
            raise ConfigError(f"training setting {name} is {value!r}; give true or false")
    elif name == "hidden_mask_layers":
        if not (isinstance(value, tuple) and all(isinstance(one, str) and one for one in value)):
            raise ConfigError(
                f"training setting {name} is {value!r}; give a list of layer names, "
                "such as ['body.0']"
            )
    elif name == "speeds":
        if not isinstance(value, tuple) or not value:
            raise ConfigError(
                f"training setting {name} is {value!r}; give a list of numbers, "
                "such as [0.9, 1.0, 1.1]"
            )
        for one in value:
            _check_number(name, "float", one)
        if 1 not in value:
            raise ConfigError(
                f"training setting {name} is {value!r}; 1.0 must be among them: clips at another "
                "speed stand beside the clips, not in their place"
            )
        if len(set(value)) < len(value):
            raise ConfigError(
                f"training setting {name} is {value!r}; give each number once: clips that are "
                "there twice count twice"
            )
    elif value is not None or not kind.endswith("None"):
        _check_number(name, kind, value)


def _check_number(name: str, kind: str, value: object) -> None:
    """Raise ConfigError unless `value` is a number of `kind` within the setting's range."""
    whole = kind.startswith("int")
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        wanted = "a whole number" if whole else "a number"
        raise ConfigError(f"training setting {name} is {value!r}; give {wanted}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"training setting {name} is {value!r}; give a finite number")
    low, high, low_in, high_in = _RANGES[name]
    above = value >= low if low_in else value > low
    below = value <= high if high_in else value < high
    if not (above and below):
        bounds = f"{'at least' if low_in else 'more than'} {low:g}"
        if high < math.inf:
            bounds += f" and {'at most' if high_in else 'less than'} {high:g}"
        raise ConfigError(f"training setting {name} is {value!r}; it must be {bounds}")


def check_together(settings: TrainSettings) -> None:
    """Check what one setting asks of another.

    Raises:
        ConfigError: two that contradict each other.
    """
    if settings.mix_masks == "input+hidden" and not settings.hidden_mask_layers:
        raise ConfigError(
            "training setting mix_masks is 'input+hidden', but hidden_mask_layers is empty; name "
            "the layers after which to mask, or set mix_masks = 'input'"
        )
    if settings.early_stop_epochs > 0 and settings.validation_share == 0:
        raise ConfigError(
            f"training setting early_stop_epochs is {settings.early_stop_epochs}, but without "
            "validation no epoch is better than another; set validation_share above 0, or "
            "early_stop_epochs = 0"
        )
    if settings.mixup_from > settings.mixup_until:
        raise ConfigError(
            f"training setting mixup_from is {settings.mixup_from}, but mixup_until is "
            f"{settings.mixup_until}; mixup must begin before it ends"
        )
    if settings.schedule == "cosine" and settings.lr_final > settings.lr:
        raise ConfigError(
            f"training setting lr_final is {settings.lr_final}, but lr is {settings.lr}; the "
            "cosine falls: give an lr_final of at most lr"
        )
