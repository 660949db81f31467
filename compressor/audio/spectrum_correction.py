"""Spectrum correction: clips of one recording device as another one would have recorded them.

M. Kosmider, "Spectrum correction: acoustic scene classification with mismatched recording devices",
Interspeech 2020: a device is a factor for every frequency, found as the ratio of the spectra of
recordings made at the same place and time. On log-mels the factor is a difference, and its
geometric mean over recordings a mean of differences. SCUT's DCASE 2023 report, section 2.2, uses it
as augmentation: clips of device a are corrected towards the mean spectrum of all other devices.

The report leaves open how devices are weighted (here: equally) and how often a clip is corrected
(its published code: in 12 of 13 batches; here: each clip with that probability).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.audio.draws import to_device
from compressor.audio.spectrum import FloatArray
from compressor.errors import DataError

__all__ = ["SCUT_SHARE", "apply", "fit", "random_correction"]

SCUT_SHARE = 12 / 13
"""Share of the clips of device a that SCUT's published code corrects."""


def fit(
    spectra: NDArray[Any],
    devices: Sequence[str],
    groups: Sequence[str] = (),
    source: str = "a",
) -> FloatArray:
    """What device `source` lacks of the mean of the other devices, band by band.

    For each other device, the difference of its mean spectrum and that of `source` is taken within
    each group (location) where both recorded and averaged over those groups, so that what differs
    is the device and not the place. The coefficients are the mean of these differences over the
    devices; one that shares no group with `source` is left out. Only where none shares a group are
    the devices' means over all their clips compared.

    Args:
        spectra: (N, C, M) log-mels of the training clips averaged over time
            (`FeatureSet.mean_spectra`); float16 is fine.
        devices: (N,) device of each clip; "" where unknown, such clips are left out.
        groups: (N,) location of each clip; () or "" where unknown.
        source: the device to correct.

    Returns:
        (C, M) float32 to be added to clips of `source`, in units of the features.

    Raises:
        DataError: no clip of `source`, or of no other device.
    """
    device_of = np.asarray(devices, dtype=str)
    others = sorted(set(device_of.tolist()) - {"", source})
    if source not in device_of or not others:
        known = ", ".join(sorted(set(device_of.tolist()) - {""})) or "none"
        raise DataError(
            f"spectrum correction of device {source!r} needs training clips of it and of another "
            f"device; devices of the training part: {known}; set spectrum_correction = false"
        )
    group_of = np.asarray(groups, dtype=str) if len(groups) else np.full(len(device_of), "")
    names, numbers = np.unique(group_of, return_inverse=True)
    means = {
        device: _group_means(spectra, np.flatnonzero(device_of == device), numbers, len(names))
        for device in (source, *others)
    }
    known_group = names != ""
    at_shared_places = []
    for device in others:
        shared = ~np.isnan(means[device][:, 0, 0] + means[source][:, 0, 0]) & known_group
        if shared.any():
            at_shared_places.append((means[device] - means[source])[shared].mean(axis=0))
    if at_shared_places:
        return np.asarray(np.mean(at_shared_places, axis=0), dtype=np.float32)
    overall = {
        device: np.asarray(spectra[device_of == device], dtype=np.float64).mean(axis=0)
        for device in (source, *others)
    }
    there = np.mean([overall[device] for device in others], axis=0)
    return np.asarray(there - overall[source], dtype=np.float32)


def _group_means(
    spectra: NDArray[Any], rows: NDArray[np.int64], numbers: NDArray[np.int64], groups: int
) -> NDArray[np.float64]:
    """(groups, C, M) mean of the rows of each group; NaN where a group has none."""
    total = np.zeros((groups, *spectra.shape[1:]))
    np.add.at(total, numbers[rows], np.asarray(spectra[rows], dtype=np.float64))
    count = np.bincount(numbers[rows], minlength=groups).astype(float)
    count[count == 0] = np.nan
    return np.asarray(total / count[:, None, None])


def apply(
    x: Tensor, coefficients: FloatArray | Tensor, *, standardized_per_clip: bool = False
) -> Tensor:
    """Add the coefficients to every frame.

    Args:
        x: (N, C, M, T) log-mels in the units of `fit`; float16 is fine.
        coefficients: (C, M) from `fit`.
        standardized_per_clip: bring every channel of every clip back to mean 0 and deviation 1, for
            front-ends that standardise so (`LogMel.standardize`). There the units are deviations of
            a clip, so the correction has the right shape and, over all clips, the right size.

    Returns:
        (N, C, M, T) float32.
    """
    shift = torch.as_tensor(coefficients, dtype=torch.float32, device=x.device)
    corrected = x.float() + shift.unsqueeze(-1)
    if standardized_per_clip:
        std, mean = torch.std_mean(corrected, dim=(2, 3), keepdim=True, correction=0)
        # A silent clip has no spread: as in the front-end it is not divided by zero.
        corrected = (corrected - mean) / torch.where(std > 1e-8, std, torch.ones_like(std))
    return corrected


def random_correction(
    x: Tensor,
    of_source: Tensor | NDArray[np.bool_],
    coefficients: FloatArray | Tensor,
    rng: np.random.Generator,
    *,
    share: float = SCUT_SHARE,
    standardized_per_clip: bool = False,
) -> Tensor:
    """`apply` to a random choice of the clips that device `source` recorded.

    Args:
        x: (N, C, M, T) log-mels in the units of `fit`; float16 is fine.
        of_source: (N,) bool, whether the clip is of the device to correct.
        coefficients: (C, M) from `fit`.
        rng: where the choice is drawn from, one number a clip.
        share: probability that such a clip is corrected.
        standardized_per_clip: see `apply`.

    Returns:
        (N, C, M, T) float32, a new tensor.
    """
    drawn = to_device(rng.random(x.shape[0]) < share, x)
    rows = (torch.as_tensor(of_source, device=x.device) & drawn).nonzero().flatten()
    result = x.float() if x.dtype != torch.float32 else x.clone()
    if len(rows):
        result[rows] = apply(
            result[rows], coefficients, standardized_per_clip=standardized_per_clip
        )
    return result
