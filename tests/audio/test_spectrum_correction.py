from __future__ import annotations

import numpy as np
import pytest
import torch

from compressor.audio.spectrum_correction import apply, fit, random_correction
from compressor.errors import DataError

OFFSETS = {"a": [0.0, 0.0, 0.0], "b": [1.0, -2.0, 0.5], "s1": [3.0, 0.0, -1.5]}


def spectra(clips: list[tuple[str, str]]) -> np.ndarray:
    """Each location has its own level, each device its own colour: (N, 1, 3)."""
    place = {"paris-1": 4.0, "paris-2": -6.0, "lyon-3": 20.0}
    return np.array([[np.array(OFFSETS[d]) + place[g]] for d, g in clips], dtype=np.float16)


def test_devices_are_compared_at_their_common_places() -> None:
    """b was only at the quietest place, s1 mostly at the loudest: plain means would say so."""
    clips = [("a", "paris-1"), ("a", "paris-1"), ("a", "paris-2"), ("a", "lyon-3")]
    clips += [("b", "paris-2"), ("b", "paris-2"), ("s1", "lyon-3"), ("s1", "lyon-3")]
    clips += [("s1", "paris-1")]
    devices, groups = zip(*clips, strict=True)
    found = fit(spectra(clips), devices, groups)
    expected = (np.array(OFFSETS["b"]) + np.array(OFFSETS["s1"])) / 2
    assert found.dtype == np.float32
    assert found == pytest.approx(expected[None], abs=1e-3)
    assert fit(spectra(clips), devices, groups, source="b") == pytest.approx(
        np.array([(np.array(OFFSETS["a"]) - OFFSETS["b"])]), abs=1e-3
    )  # s1 and b met nowhere: only a tells b's colour


def test_without_common_places_or_places_at_all_means_are_compared() -> None:
    clips = [("a", "paris-1"), ("b", "paris-2"), ("", "lyon-3")]
    x = np.array([[[1.0, 2.0]], [[4.0, 8.0]], [[99.0, 99.0]]])
    devices = [device for device, _ in clips]
    for groups in ((), [group for _, group in clips], ["", "", ""]):
        assert fit(x, devices, groups).tolist() == [[3.0, 6.0]]


@pytest.mark.parametrize("devices", [["a", "a"], ["b", "s1"], ["", ""], ["a", ""]])
def test_one_device_is_not_enough(devices: list[str]) -> None:
    with pytest.raises(DataError, match=r"of it and of another device; devices .*: \S"):
        fit(np.zeros((2, 1, 3)), devices)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_apply_adds_to_every_frame(dtype: torch.dtype) -> None:
    x = torch.randn(2, 1, 3, 5).to(dtype)
    shifted = apply(x, np.array([[1.0, -2.0, 0.25]], dtype=np.float32))
    expected = x.float().numpy() + np.array([1.0, -2.0, 0.25])[None, None, :, None]
    assert shifted.dtype == torch.float32
    assert shifted.numpy() == pytest.approx(expected, abs=1e-6)


def test_clips_standardised_by_themselves_stay_so() -> None:
    """Equal to correcting before standardising, with the correction in deviations of the clip."""
    raw = 3.0 * np.random.default_rng(0).standard_normal((2, 1, 4, 200)) - 5.0
    colour = np.array([2.0, 0.0, -1.0, 0.5])[None, None, :, None]

    def standardised(x: np.ndarray) -> np.ndarray:
        return (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True)

    std = raw.std((2, 3))[0, 0]
    x = torch.from_numpy(standardised(raw[:1]))
    found = apply(x, (colour[0, :, :, 0] / std).astype(np.float32), standardized_per_clip=True)
    assert found.numpy() == pytest.approx(standardised(raw + colour)[:1], abs=1e-5)
    silent = apply(
        torch.zeros(1, 1, 4, 3), np.zeros((1, 4), np.float32), standardized_per_clip=True
    )
    assert silent.eq(0).all()


def test_only_clips_of_the_device_and_only_their_share() -> None:
    n = 6000
    x = torch.zeros(n, 1, 2, 3, dtype=torch.float16)
    of_source = np.arange(n) % 3 == 0
    shift = np.array([[1.0, 2.0]], dtype=np.float32)
    found = random_correction(x, of_source, shift, np.random.default_rng(0))
    changed = found[:, 0, 0, 0] != 0
    assert not changed[torch.from_numpy(~of_source)].any()
    assert changed[torch.from_numpy(of_source)].float().mean() == pytest.approx(12 / 13, abs=0.02)
    assert torch.equal(found[changed], apply(x[changed], shift))
    assert x.eq(0).all()
    everything = random_correction(x, of_source, shift, np.random.default_rng(0), share=1.0)
    assert torch.equal(everything[:, 0, 0, 0] != 0, torch.from_numpy(of_source))
    nothing = random_correction(x, of_source, shift, np.random.default_rng(0), share=0.0)
    assert nothing.dtype == torch.float32
    assert nothing.eq(0).all()
