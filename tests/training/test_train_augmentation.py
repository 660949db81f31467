from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressor.audio.augment import random_mixup, random_roll_crop, spec_augment
from compressor.data.features import Standardizer
from compressor.errors import DataError, ShapeError, UnknownNameError
from compressor.training import TrainSettings, fit, predict
from compressor.training.augmentation import Augmenter, augmented_copy, mixed_share
from compressor.training.hidden_masks import hidden_masks
from compressor.training.inputs import Clips, Preparer
from compressor.training.losses import soft_targets

Make = Callable[..., Any]
CPU = torch.device("cpu")
BARE = TrainSettings(
    batch_size=8, time_roll=False, mixup_alpha=0.0, freq_masks=0, time_masks=0, epochs=10
)
LEVELS = {f"clip{i}": 10.0 * i for i in range(8)}


def unit(part: Any) -> Standardizer:
    """Leaves features as they are."""
    _, channels, mels, _ = part.x.shape
    return Standardizer(((0.0,) * mels,) * channels, ((1.0,) * mels,) * channels)


def numbered(part: Any) -> Any:
    """Clip n of the part holds n + 1 everywhere."""
    x = np.zeros_like(part.x)
    x[part.index] = (np.arange(len(part)) + 1)[:, None, None, None]
    return dataclasses.replace(part, x=x)


@pytest.fixture
def batch(make_part: Make) -> Make:
    """Batch and targets of the first eight clips under some settings."""

    def make(settings: TrainSettings, part: Any = None, epoch: int = 1, seed: int = 0) -> Any:
        part = make_part() if part is None else part
        clips = Clips(part, CPU)
        rng = np.random.default_rng(seed)
        augment = Augmenter(part, clips, Preparer(unit(part), "CFT", CPU), settings, rng)
        return *augment.batch(np.arange(8), epoch), rng

    return make


def test_the_default_is_roll_masks_and_mixup_in_this_order(batch: Make, make_part: Make) -> None:
    settings, part = TrainSettings(crop_frames=7), make_part()
    x, targets, used = batch(settings, part)
    rng = np.random.default_rng(0)
    expected = torch.from_numpy(part.array()[:8])
    expected = random_roll_crop(expected, 7, True, rng).float()
    expected = spec_augment(
        expected, rng, freq_masks=1, freq_share=0.15, time_masks=1, time_share=0.2
    )
    labels = soft_targets(torch.from_numpy(part.y[:8]), 3)
    expected, labels = random_mixup(expected, labels, 0.3, rng)
    assert torch.equal(x, expected)
    assert torch.equal(targets, labels)
    assert used.random() == rng.random(), "nothing else was drawn"


@pytest.mark.parametrize(
    "values",
    [
        {"time_warp_frames": 3},
        {"cutout_masks": 2},
        {"time_shift_frames": 3.0},
        {"mix_masks": "input", "freq_masks": 2, "freq_mask_share": 0.5},
        {"spectrum_correction": True, "spectrum_share": 0.5},
        {"mixstyle_share": 1.0},
        {"mixup_alpha": 0.4},
    ],
    ids=lambda values: next(iter(values)),
)
def test_each_augmentation_is_drawn_from_the_seed_alone(batch: Make, values: Any) -> None:
    plain = batch(BARE)[0]
    settings = dataclasses.replace(BARE, **values)
    x, targets, _ = batch(settings)
    again = batch(settings)
    assert not torch.equal(x, plain)
    assert torch.equal(x, again[0])
    assert torch.equal(targets, again[1])
    assert not torch.equal(x, batch(settings, seed=1)[0])
    assert torch.isfinite(x).all()


def test_mixup_over_the_epochs_by_hand() -> None:
    settings = dataclasses.replace(
        BARE, mixup_alpha=0.4, mixup_from=0.2, mixup_until=0.6, mixup_late_share=0.5
    )
    shares = [mixed_share(settings, epoch) for epoch in range(1, 11)]
    assert shares == [0, 0, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    assert mixed_share(BARE, 1) == 0


def test_later_only_half_of_the_batch_is_mixed(batch: Make, make_part: Make) -> None:
    settings = dataclasses.replace(BARE, mixup_alpha=5.0, mixup_until=0.5, mixup_late_share=0.5)
    part = numbered(make_part())
    early, late = (batch(settings, part, epoch)[:2] for epoch in (5, 6))
    own = torch.arange(1.0, 9.0)
    for (x, targets), mixed in ((early, 8), (late, 4)):
        values = x.mean(dim=(1, 2, 3))
        assert torch.allclose(values[mixed:], own[mixed:])
        assert (targets[mixed:].max(dim=1).values == 1).all()
        assert (values[:mixed] != own[:mixed]).sum() >= mixed - 2, "a clip may be its own partner"
    assert early[1].shape == late[1].shape == (8, 3)


def test_device_a_is_moved_to_the_mean_of_the_others(batch: Make, make_part: Make) -> None:
    """Device b lies 2 above a, device c 4: a is moved up by 3, b and c stay."""
    part = make_part(devices=("a", "b", "c"), groups_of=100)
    x = np.zeros_like(part.x)
    for clip, device in enumerate(part.devices):
        x[part.index[clip]] = {"a": 1.0, "b": 3.0, "c": 5.0}[device]
    part = dataclasses.replace(part, x=x, groups=("here",) * len(part))
    settings = dataclasses.replace(BARE, spectrum_correction=True, spectrum_share=1.0)
    found = batch(settings, part)[0].mean(dim=(1, 2, 3))
    wanted = [{"a": 4.0, "b": 3.0, "c": 5.0}[device] for device in part.devices[:8]]
    assert found.tolist() == pytest.approx(wanted)
    none = dataclasses.replace(settings, spectrum_share=0.0)
    assert batch(none, part)[0].mean(dim=(1, 2, 3))[0].item() == 1.0
    with pytest.raises(DataError, match="set spectrum_correction = false"):
        batch(settings, dataclasses.replace(part, devices=("a",) * len(part)))


def test_levels_decide_the_weights(batch: Make, make_part: Make) -> None:
    """A clip 10 dB louder counts sqrt(10) times less: interpolation with p, targets with r."""
    part = numbered(make_part())
    part = dataclasses.replace(
        part,
        paths=tuple(f"clip{i % 8}" for i in range(len(part))),
        level_reader=lambda paths: np.array([LEVELS[path] for path in paths], dtype=np.float32),
        y=np.arange(len(part)) % 3,
    )
    settings = dataclasses.replace(BARE, mixup_alpha=2.0, mixup_kind="level")
    x, targets, _ = batch(settings, part)
    rng = np.random.default_rng(0)
    r, partners = rng.beta(2.0, 2.0), rng.permutation(8)
    own = np.arange(8)
    p = 1 / (1 + 10 ** ((10.0 * own - 10.0 * partners) / 20) * (1 - r) / r)
    expected = p * (own + 1) + (1 - p) * (partners + 1)
    assert x.mean(dim=(1, 2, 3)).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    labels = np.eye(3)[part.y[:8]]
    assert targets.numpy() == pytest.approx(r * labels + (1 - r) * labels[partners], rel=1e-5)
    # natural logarithms of power: powers are added before anything is standardised
    powers = np.log(
        (p**2 * np.exp(own + 1) + (1 - p) ** 2 * np.exp(partners + 1)) / (p**2 + (1 - p) ** 2)
    )
    logs = batch(settings, dataclasses.replace(part, log_unit=1.0))[0]
    assert logs.mean(dim=(1, 2, 3)).tolist() == pytest.approx(powers.tolist(), rel=1e-4)


def test_levels_that_nobody_knows(batch: Make) -> None:
    with pytest.raises(DataError, match="no recordings"):
        batch(dataclasses.replace(BARE, mixup_alpha=0.6, mixup_kind="level"))


def test_mixed_masks_hold_the_mean_of_two_clips(batch: Make, make_part: Make) -> None:
    settings = dataclasses.replace(
        BARE, mix_masks="input", time_masks=2, time_mask_share=0.5, freq_masks=0
    )
    x, targets, _ = batch(settings, numbered(make_part()))
    assert (targets.max(dim=1).values == 1).all(), "labels stay"
    for clip in range(8):
        values = set(x[clip].unique().tolist())
        others = {(clip + 1 + other) / 2 for other in range(1, 9) if other != clip + 1}
        assert values <= {clip + 1.0} | others
        assert len(values - {clip + 1.0}) <= 1, "one partner for all of a clip's masks"
    assert any(len(x[clip].unique()) == 2 for clip in range(8))


class Maps(nn.Module):
    """Two stages of maps, as they leave them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.second = nn.Sequential(nn.Identity())
        self.flat = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.flat(self.second(self.first(x)))
        return y


@pytest.mark.parametrize(("layout", "axis"), [("CFT", 2), ("CTF", 3)])
def test_hidden_maps_are_masked_while_training(layout: str, axis: int) -> None:
    settings = dataclasses.replace(
        BARE,
        mix_masks="input+hidden",
        hidden_mask_layers=("second",),
        freq_masks=1,
        freq_mask_share=0.5,
        time_masks=0,
    )
    network = Maps()
    x = torch.arange(1.0, 7.0).view(6, 1, 1, 1).expand(6, 2, 8, 8).contiguous()
    with hidden_masks(network, settings, layout, np.random.default_rng(0)):
        masked = network(x).view_as(x)
        network.eval()
        assert torch.equal(network(x).view_as(x), x)
    touched = masked != x
    assert touched.any()
    along = touched.any(dim=1, keepdim=True).any(dim=5 - axis, keepdim=True)
    assert torch.equal(touched, along.expand_as(touched)), "whole stripes over the mel axis"
    network.train()
    assert torch.equal(network(x).view_as(x), x), "nothing is left behind"


def test_hidden_layers_that_cannot_be_masked() -> None:
    settings = dataclasses.replace(BARE, mix_masks="input+hidden", hidden_mask_layers=("frist",))
    rng = np.random.default_rng(0)
    with (
        pytest.raises(UnknownNameError, match=r"frist'.*did you mean first"),
        hidden_masks(Maps(), settings, "CFT", rng),
    ):
        pass
    flat = dataclasses.replace(settings, hidden_mask_layers=("flat",), freq_masks=1)
    network = Maps()
    with (
        pytest.raises(ShapeError, match=r"'flat' gives \(3, 4\), not maps"),
        hidden_masks(network, flat, "CFT", rng),
    ):
        network(torch.ones(3, 1, 2, 2))


def test_hidden_masks_change_the_training(
    make_part: Make, make_network: Make, make_standardizer: Make
) -> None:
    part = make_part()
    weights = []
    for values in ({}, {"mix_masks": "input+hidden", "hidden_mask_layers": ("0",)}):
        network = make_network()
        settings = TrainSettings(epochs=1, batch_size=16, **values)
        fit(network, part, settings, standardizer=make_standardizer(part), device="cpu")
        weights.append(network[0].weight.detach())
        assert not network[0]._forward_hooks
    assert not torch.equal(*weights)


def test_copies_for_testing_do_not_mix_clips(make_part: Make) -> None:
    part = numbered(make_part())
    settings = TrainSettings(
        mix_masks="input", freq_masks=2, time_masks=2, time_shift_frames=3.0, crop_frames=4
    )
    x = Clips(part, CPU).take(np.arange(8))
    prepare = Preparer(unit(part), "CFT", CPU)
    copy = augmented_copy(x, prepare, settings, np.random.default_rng(0))
    assert copy.shape == x.shape, "whole clips, whatever the crop"
    for clip in range(8):
        assert set(copy[clip].unique().tolist()) <= {0.0, clip + 1.0}
    assert (copy == 0).any()


def test_probabilities_are_averaged_over_copies(make_part: Make) -> None:
    """A network that sees only the first frame: every copy sees another one."""
    part = make_part(6, (1, 3, 4))
    frames = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float16)
    part = dataclasses.replace(part, x=np.broadcast_to(frames, part.x.shape))

    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0, 0, 0], 0 * x[:, 0, 0, 0], 1 - x[:, 0, 0, 0]], dim=1)

    settings = dataclasses.replace(BARE, time_roll=True, tta_copies=4000)
    plain = {"standardizer": unit(part), "num_classes": 3, "device": "cpu"}
    found = predict(First(), part, settings=settings, **plain)
    p = np.stack([np.exp([f, 0, 1 - f]) / np.exp([f, 0, 1 - f]).sum() for f in range(4)])
    assert np.exp(found).sum(axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    # 4,000 draws of four frames: the mean is known to 0.5 % of a deviation of under 0.4, times 3
    assert np.exp(found) == pytest.approx(np.tile(p.mean(axis=0), (6, 1)), abs=0.02)
    off = dataclasses.replace(settings, time_roll=False, tta_copies=3)
    still = predict(First(), part, settings=off, **plain)
    assert still == pytest.approx(np.log(np.tile(p[0], (6, 1))), abs=1e-5)
    seeds = [predict(First(), part, settings=settings, seed=s, **plain) for s in (0, 1)]
    assert np.array_equal(found, seeds[0])
    assert not np.array_equal(*seeds)


def test_copies_at_other_speeds_do_not_validate(
    make_part: Make, make_network: Make, make_standardizer: Make
) -> None:
    part = make_part(48)
    both = dataclasses.replace(
        part,
        index=np.concatenate([part.index, part.index]),
        y=np.concatenate([part.y, part.y]),
        devices=part.devices * 2,
        groups=part.groups * 2,
        speed=np.repeat(np.array([1.0, 0.9], dtype=np.float32), 48),
    )
    settings = TrainSettings(epochs=1, batch_size=16, validation_share=0.25)
    plain = {"standardizer": make_standardizer(part), "device": "cpu"}
    single = fit(make_network(), part, settings, **plain).validation
    double = fit(make_network(), both, settings, **plain).validation
    assert single is not None
    assert double is not None
    assert double.n == single.n
    assert math.isfinite(double.log_loss)
