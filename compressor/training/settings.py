"""What a training run is told: one frozen record, checked when it is made, to and from plain data.

Standard library only, so that a plan can be read and checked without loading torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from compressor.errors import UnknownNameError
from compressor.training.settings_checks import (
    Loss,
    MixMasks,
    MixupKind,
    Optimizer,
    Precision,
    Schedule,
    Tasks,
    check_together,
    check_value,
)

__all__ = ["TrainSettings"]


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Settings of one training or fine-tuning run.

    The defaults are those of the project's own sweep, not of a paper.

    Attributes:
        epochs: passes over the training part.
        batch_size: clips a step; what is left at an epoch's end is dropped (other clips each time).
        optimizer: AdamW, SGD with Nesterov momentum, Adam or RAdam (both with the decay in the
            gradient).
        lr: highest learning rate of the schedule.
        weight_decay: never applied to one-dimensional parameters (biases, BatchNorm).
        momentum: SGD's momentum, the others' first beta; one-cycle moves it by 0.05 to either side.
        schedule: one-cycle (Smith & Topin 2018), a cosine to `lr_final` after a linear warm-up, or
            constant after it.
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
        loss: softmax cross-entropy, or CM-softmax: cosines with an additive angular and an additive
            margin (SpeakIn 2021, section 2.2); the network keeps its shape.
        cm_scale: what CM-softmax multiplies the cosines by.
        cm_angular_margin: added to the angle of the true class, radians.
        cm_additive_margin: taken from its cosine.
        tasks: the scenes, or the scenes and their three groups as a second task (SCUT 2023,
            section 3.3); then the outputs after the scenes' are the groups'.
        group_weight: weight of the second task's loss.
        pcgrad: project conflicting gradients of the two tasks (Yu et al. 2020); of no effect with
            one task.
        group_logit_share: share s of the group's logit at evaluation,
            (1 - s) x scene + s x its group; of no effect with one task.
        lr_final: learning rate in which the cosine ends.
        early_stop_epochs: stop after so many epochs without a better one; 0 is off.
        mixup_kind: weights as drawn, or weights that allow for the clips' sound pressure (Tokozume
            et al. 2018).
        mixup_from: share of the epochs after which mixup begins.
        mixup_until: share of the epochs until which all clips are mixed.
        mixup_late_share: share of a batch that is still mixed after that.
        time_warp_frames: farthest a frame is moved by SpecAugment's time warping; 0 is off.
        cutout_masks: rectangles hidden, a clip (DeVries & Taylor 2017).
        cutout_freq_share: height of such a rectangle, at most, as a share of the bands.
        cutout_time_share: its width, at most, as a share of the frames.
        time_shift_frames: deviation of a normally distributed roll, in frames; 0 is off.
        mix_masks: masks mix in another clip instead of hiding (SpecAugment++, Wang et al. 2021), at
            the input or in hidden layers too; number and width as `freq_masks` to
            `time_mask_share` say.
        hidden_mask_layers: names of the layers after which "input+hidden" masks.
        spectrum_correction: move spectra of device a to the mean of the other devices (Kosmider
            2020; SCUT 2023, section 2.2).
        spectrum_share: probability that a clip of device a is moved.
        speeds: factors of speed at which each training clip is present; used where features are
            computed (`compressor.data`).
        mixstyle_share: probability that a batch has its bands' statistics mixed (Freq-MixStyle).
        mixstyle_alpha: both parameters of the Beta distribution of that mixing.
        tta_copies: augmented copies over which probabilities are averaged at evaluation; 0 is off.

    Raises:
        ConfigError: a value of the wrong type or out of range, or values that contradict another.
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
    # `to_dict` leaves out the fields from here on where they have their default: see there.
    loss: Loss = "cross_entropy"
    cm_scale: float = 30.0
    cm_angular_margin: float = 0.2
    cm_additive_margin: float = 0.1
    tasks: Tasks = "scene"
    group_weight: float = 1.0
    pcgrad: bool = False
    group_logit_share: float = 0.2
    lr_final: float = 0.0
    early_stop_epochs: int = 0
    mixup_kind: MixupKind = "plain"
    mixup_from: float = 0.0
    mixup_until: float = 1.0
    mixup_late_share: float = 0.0
    time_warp_frames: int = 0
    cutout_masks: int = 0
    cutout_freq_share: float = 0.25
    cutout_time_share: float = 0.25
    time_shift_frames: float = 0.0
    mix_masks: MixMasks = "off"
    hidden_mask_layers: tuple[str, ...] = ()
    spectrum_correction: bool = False
    spectrum_share: float = 12 / 13  # of SCUT's published code
    speeds: tuple[float, ...] = (1.0,)
    mixstyle_share: float = 0.0
    mixstyle_alpha: float = 0.3
    tta_copies: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_value(field.name, str(field.type), getattr(self, field.name))
        check_together(self)

    def to_dict(self) -> dict[str, object]:
        """Plain data (JSON, TOML) from which `from_dict` makes an equal record.

        Settings that came after the first version are left out at their default: files and hashes
        written before they existed stay equal to those of the same training now.
        """
        data: dict[str, object] = {}
        later = False
        for field in dataclasses.fields(self):
            later = later or field.name == "loss"
            value = getattr(self, field.name)
            if not later or value != field.default:
                data[field.name] = list(value) if isinstance(value, tuple) else value
        return data

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
        values = {key: _as_kind(types[key], value) for key, value in data.items()}
        return cls(**values)  # type: ignore[arg-type]  # __post_init__ checks every type


def _as_kind(kind: str, value: object) -> object:
    """What a file says in the type of the record: equal settings are then equal records.

    A file may say `lr = 1` for 1.0, and has lists where the record has tuples.
    """
    if isinstance(value, list | tuple):
        inner = kind.removeprefix("tuple[").removesuffix(", ...]")
        return tuple(_as_kind(inner, one) for one in value)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
