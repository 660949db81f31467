"""What happens to a batch between the cache and the network: one place, in order.

Raw log-mels: spectrum correction, crop and roll, time shift. Standardised: time warping, masks,
cutout, Freq-MixStyle, mixup. Level-aware mixup comes before all that is standardised where the
features are plain log-mels: it then adds powers, as adding the sounds would. Each step is a
function of `compressor.audio`; what is off draws nothing, so that settings of earlier versions give
the batches they gave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.audio.augment import random_mixup, random_roll_crop, spec_augment
from compressor.training.inputs import Clips, Preparer
from compressor.training.losses import soft_targets
from compressor.training.settings import TrainSettings

if TYPE_CHECKING:
    from compressor.data.features import FeatureSet

__all__ = ["Augmenter", "augmented_copy"]

_SOURCE_DEVICE = "a"  # of which TAU's sets hold most


class Augmenter:
    """Batches of a training part, as the settings ask for them."""

    def __init__(
        self,
        part: FeatureSet,
        clips: Clips,
        prepare: Preparer,
        settings: TrainSettings,
        rng: np.random.Generator,
    ) -> None:
        """Raises DataError where the part lacks what the settings ask for.

        Args:
            part: the clips that are trained on.
            clips: the same, on their device.
            prepare: standardisation and layout.
            settings: what to do.
            rng: where everything is drawn from.
        """
        self._clips = clips
        self._prepare = prepare
        self._settings = settings
        self._rng = rng
        self._num_classes = len(part.classes)
        self._levels_db: NDArray[np.float32] | None = None
        self._of_source: NDArray[np.bool_] | None = None
        self._log_unit: float | None = None
        if settings.mixup_kind == "level" and settings.mixup_alpha > 0:
            self._levels_db = part.levels_db
            self._log_unit = part.log_unit
        if settings.spectrum_correction:
            from compressor.audio.spectrum_correction import fit

            self._correction = fit(
                part.mean_spectra(), part.devices, part.groups, source=_SOURCE_DEVICE
            )
            self._of_source = np.asarray(part.devices, dtype=str) == _SOURCE_DEVICE
            self._per_clip = part.standardized_per_clip

    def batch(self, rows: NDArray[np.int64], epoch: int) -> tuple[Tensor, Tensor]:
        """One batch as the network takes it, and its soft targets (N, classes).

        Args:
            rows: of the part.
            epoch: from 1.
        """
        settings, rng = self._settings, self._rng
        x = self._clips.take(rows)
        if self._of_source is not None:
            from compressor.audio.spectrum_correction import random_correction

            x = random_correction(
                x,
                self._of_source[rows],
                self._correction,
                rng,
                share=settings.spectrum_share,
                standardized_per_clip=self._per_clip,
            )
        x = random_roll_crop(x, settings.crop_frames, settings.time_roll, rng)
        if settings.time_shift_frames > 0:
            from compressor.audio.time_shift import random_time_shift

            x = random_time_shift(x, rng, settings.time_shift_frames)
        targets = soft_targets(self._clips.labels(rows), self._num_classes)
        if self._log_unit is not None:
            x, targets = self._mixed(x, targets, rows, epoch)
        x = self._prepare.standardize(x)
        if settings.time_warp_frames > 0:
            from compressor.audio.time_warp import random_time_warp

            x = random_time_warp(x, rng, settings.time_warp_frames)
        x = self._masked(x)
        if settings.cutout_masks > 0:
            from compressor.audio.cutout import random_cutout

            x = random_cutout(
                x,
                rng,
                masks=settings.cutout_masks,
                freq_share=settings.cutout_freq_share,
                time_share=settings.cutout_time_share,
            )
        if settings.mixstyle_share > 0:
            from compressor.audio.mixstyle import random_mixstyle

            x = random_mixstyle(x, rng, settings.mixstyle_share, settings.mixstyle_alpha)
        if self._log_unit is None:
            x, targets = self._mixed(x, targets, rows, epoch)
        return self._prepare.arrange(x), targets

    def _masked(self, x: Tensor) -> Tensor:
        """Stripes of bands and frames hidden, or filled from another clip."""
        settings = self._settings
        mask: Callable[..., Tensor] = spec_augment
        if settings.mix_masks != "off":
            from compressor.audio.specaug_pp import random_mix_masks

            mask = random_mix_masks
        return mask(
            x,
            self._rng,
            freq_masks=settings.freq_masks,
            freq_share=settings.freq_mask_share,
            time_masks=settings.time_masks,
            time_share=settings.time_mask_share,
        )

    def _mixed(
        self, x: Tensor, targets: Tensor, rows: NDArray[np.int64], epoch: int
    ) -> tuple[Tensor, Tensor]:
        """All clips, some or none mixed with others, as the epoch asks for."""
        share = mixed_share(self._settings, epoch)
        if share == 0:
            return x, targets
        alpha, rng = self._settings.mixup_alpha, self._rng
        if self._levels_db is not None:
            from compressor.audio.level_mixup import level_aware_mixup

            mixed, soft = level_aware_mixup(
                x, targets, self._levels_db[rows], alpha, rng, log_unit=self._log_unit
            )
        else:
            mixed, soft = random_mixup(x, targets, alpha, rng)
        count = round(share * len(rows))
        if count == len(rows):
            return mixed, soft
        # The order of clips is random: the first of the batch are any.
        return torch.cat([mixed[:count], x[count:]]), torch.cat([soft[:count], targets[count:]])


def mixed_share(settings: TrainSettings, epoch: int) -> float:
    """Share of a batch that is mixed in an epoch, counted from 1."""
    passed = (epoch - 1) / settings.epochs
    if settings.mixup_alpha == 0 or passed < settings.mixup_from:
        return 0.0
    return 1.0 if passed < settings.mixup_until else settings.mixup_late_share


def augmented_copy(
    x: Tensor, prepare: Preparer, settings: TrainSettings, rng: np.random.Generator
) -> Tensor:
    """One copy for test-time augmentation (PKU/Xiaomi's DCASE 2022 report, section 3.3).

    The training's own time shift (or roll) and masks. The report does not say more. Masks hide and
    never mix: what a clip is taken for must not depend on other clips of the test part. Whole clips
    are used, whatever the training's crop.

    Args:
        x: (N, C, M, T) as cached.
        prepare: standardisation and layout.
        settings: the training's.
        rng: where shifts and masks are drawn from.

    Returns:
        What the network takes.
    """
    if settings.time_shift_frames > 0:
        from compressor.audio.time_shift import random_time_shift

        x = random_time_shift(x, rng, settings.time_shift_frames)
    else:
        x = random_roll_crop(x, None, settings.time_roll, rng)
    return prepare.arrange(
        spec_augment(
            prepare.standardize(x),
            rng,
            freq_masks=settings.freq_masks,
            freq_share=settings.freq_mask_share,
            time_masks=settings.time_masks,
            time_share=settings.time_mask_share,
        )
    )
