"""Settings of a run where the user names none: one place, by data set and network.

The values for the embedded set are chosen for the time limit of the default run (seven ratios in
six minutes on two cores, `docs/performance.md`) and measured there; those for recordings for
accuracy. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compressor.training.settings import TrainSettings

__all__ = ["Defaults", "choose"]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a run uses where the user says nothing.

    Attributes:
        train: training of the dense network; fine-tuning uses the same but for the epochs.
        finetune_epochs: epochs after pruning.
    """

    train: TrainSettings
    finetune_epochs: int


_SYNTHETIC = Defaults(TrainSettings(epochs=40, gamma_l1=3e-3), finetune_epochs=12)
_RECORDINGS = Defaults(TrainSettings(epochs=80, gamma_l1=2e-3), finetune_epochs=20)


def choose(*, synthetic: bool, overrides: Mapping[str, object]) -> Defaults:
    """The defaults for a data set, with what the user gave on top.

    Args:
        synthetic: whether it is the embedded set.
        overrides: settings by name (`TrainSettings`, and `finetune_epochs`); from a settings file
            and from options.

    Returns:
        Checked settings.

    Raises:
        UnknownNameError, ConfigError: a setting that does not exist or has a bad value.
    """
    base = _SYNTHETIC if synthetic else _RECORDINGS
    given = dict(overrides)
    finetune_epochs = given.pop("finetune_epochs", base.finetune_epochs)
    train = TrainSettings.from_dict({**base.train.to_dict(), **given})
    # The same check and the same words as for the training's epochs.
    epochs = TrainSettings.from_dict({"epochs": finetune_epochs}).epochs
    return Defaults(train, epochs)
