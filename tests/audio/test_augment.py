from __future__ import annotations

import numpy as np
import pytest
import torch

from compressor.audio.augment import (
    band_keep,
    mixup,
    random_mixup,
    random_roll_crop,
    roll_crop,
    spec_augment,
)


def batch(n: int = 6, channels: int = 2, mels: int = 5, frames: int = 11) -> torch.Tensor:
    return torch.arange(n * channels * mels * frames).reshape(n, channels, mels, frames).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_roll_and_crop_equal_torch_roll(dtype: torch.dtype) -> None:
    x = batch().to(dtype)
    starts = torch.tensor([0, 1, 5, 9, 10, 3])
    for frames in (1, 4, 11):
        expected = torch.stack(
            [torch.roll(clip, -int(s), 2)[:, :, :frames] for clip, s in zip(x, starts, strict=True)]
        )
        assert torch.equal(roll_crop(x, starts, frames), expected)


def test_random_roll_keeps_every_frame_once() -> None:
    x = batch(200)
    rolled = random_roll_crop(x, None, True, np.random.default_rng(0))
    assert torch.equal(rolled.sort(dim=3).values, x)
    shifts = (rolled[:, 0, 0] - x[:, 0, 0, :1]).argmin(dim=1)
    assert len(shifts.unique()) == 11  # every shift occurs


def test_crop_without_roll_stays_inside_the_clip() -> None:
    x = batch(300)
    crops = random_roll_crop(x, 4, False, np.random.default_rng(0))
    starts = (crops[:, 0, 0, 0] - x[:, 0, 0, 0]).long()
    assert sorted(starts.unique().tolist()) == list(range(8))
    assert torch.equal(crops, roll_crop(x, starts, 4))
    assert bool((crops.diff(dim=3) == 1).all())  # never round the end


def test_nothing_to_draw_gives_the_batch() -> None:
    x = batch()
    assert random_roll_crop(x, None, False, np.random.default_rng(0)) is x
    assert random_roll_crop(x, 11, False, np.random.default_rng(0)) is x


def test_masks_by_hand() -> None:
    keep = band_keep(6, torch.tensor([[1, 4], [0, 5]]), torch.tensor([[2, 1], [0, 1]]))
    assert keep.int().tolist() == [[1, 0, 0, 1, 0, 1], [1, 1, 1, 1, 1, 0]]


def masked(n: int, **changes: float) -> torch.Tensor:
    settings = {"freq_masks": 0, "freq_share": 0.2, "time_masks": 0, "time_share": 0.3} | changes
    x = torch.ones(n, 2, 40, 50)
    return spec_augment(x, np.random.default_rng(0), **settings)  # type: ignore[arg-type]


def test_frequency_masks_have_the_right_share_and_shape() -> None:
    hidden = masked(4000, freq_masks=1) == 0
    assert torch.equal(hidden, hidden[:, :1, :, :1].expand_as(hidden))  # whole bands, all channels
    widths = hidden[:, 0, :, 0].sum(dim=1)
    assert sorted(widths.unique().tolist()) == list(range(9))  # 0 to 0.2·40
    assert widths.float().mean().item() == pytest.approx(4, abs=0.15)
    assert (hidden[:, 0, 1:, 0] & ~hidden[:, 0, :-1, 0]).sum(1).max() == 1  # one block


def test_time_masks_have_the_right_share_and_cover_the_edges() -> None:
    hidden = (masked(4000, time_masks=1) == 0)[:, 0, 0]
    assert hidden.float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert hidden.any(dim=0).all()
    assert hidden.sum(dim=1).max() == 15


def test_two_masks_hide_more_than_one() -> None:
    one, two = masked(2000, time_masks=1), masked(2000, time_masks=2)
    assert 1.6 < ((two == 0).float().mean() / (one == 0).float().mean()).item() < 2.0


def test_masks_are_seeded_and_differ_between_clips() -> None:
    first, again = masked(50, freq_masks=1, time_masks=1), masked(50, freq_masks=1, time_masks=1)
    assert torch.equal(first, again)
    assert len({clip.numpy().tobytes() for clip in first}) > 40


def test_no_masks_leave_the_batch_untouched() -> None:
    assert masked(3).eq(1).all()
    assert masked(3, freq_masks=1, freq_share=0.0).eq(1).all()


def test_masking_does_not_write_into_its_input() -> None:
    x = torch.ones(8, 1, 10, 10)
    spec_augment(
        x,
        np.random.default_rng(0),
        freq_masks=2,
        freq_share=0.9,
        time_masks=2,
        time_share=0.9,
    )
    assert x.eq(1).all()


def test_mixup_by_hand() -> None:
    x = torch.tensor([[[[1.0]]], [[[3.0]]]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mixed, soft = mixup(x, targets, torch.tensor([0.75, 1.0]), torch.tensor([1, 0]))
    assert mixed.flatten().tolist() == pytest.approx([0.75 * 1 + 0.25 * 3, 3.0])
    assert soft.tolist() == [[0.75, 0.25], [0.0, 1.0]]


def test_random_mixup_mixes_labels_as_it_mixes_clips() -> None:
    """Clips that hold their own one-hot target stay equal to it through any mixing."""
    labels = torch.arange(64) % 4
    targets = torch.nn.functional.one_hot(labels, 4).float()
    mixed, soft = random_mixup(targets.view(64, 1, 4, 1), targets, 2.0, np.random.default_rng(5))
    assert torch.equal(mixed.view(64, 4), soft)
    assert soft.sum(dim=1).tolist() == pytest.approx([1.0] * 64)
    assert ((soft > 0).sum(dim=1) == 2).any()


def test_a_batch_has_one_mixing_weight_and_it_follows_the_beta_distribution() -> None:
    alpha, rng = 0.3, np.random.default_rng(0)
    targets = torch.nn.functional.one_hot(torch.arange(8) % 2, 2).float()
    weights = []
    for _ in range(4000):
        _, soft = random_mixup(torch.zeros(8, 1, 1, 1), targets, alpha, rng)
        own = (soft * targets).sum(dim=1)  # the weight, or 1 where the partner's class is the same
        mixed = own[own < 1]
        if len(mixed):
            assert mixed.max() - mixed.min() < 1e-6
            weights.append(mixed[0].item())
    assert len(weights) > 3000
    assert np.mean(weights) == pytest.approx(0.5, abs=0.03)
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha)
    assert np.var(weights) == pytest.approx(variance, rel=0.05)
