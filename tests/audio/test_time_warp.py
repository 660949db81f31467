from __future__ import annotations

import numpy as np
import pytest
import torch

from compressor.audio.time_warp import random_time_warp, time_warp
from compressor.errors import ShapeError


def test_by_hand() -> None:
    """Frame 2 of 5 moves to 3: frames before it stretch by 3/2, the one behind shrinks by 2."""
    x = torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0]).view(1, 1, 1, 5)
    warped = time_warp(x, torch.tensor([2]), torch.tensor([1.0]))
    expected = [0.0, 10 * 2 / 3, 10 * 4 / 3, 20.0, 40.0]
    assert warped.flatten().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("total", [7, 44, 501])
def test_equals_numpy_interpolation(total: int) -> None:
    rng = np.random.default_rng(total)
    x = rng.standard_normal((5, 2, 3, total)).astype(np.float32)
    centres = rng.integers(1, total - 1, 5)
    moved = rng.uniform(0.5, total - 1.5, 5)
    result = time_warp(
        torch.from_numpy(x), torch.from_numpy(centres), torch.from_numpy(moved - centres)
    )
    frames = np.arange(total)
    for clip, c, to, warped in zip(x, centres, moved, result.numpy(), strict=True):
        source = np.interp(frames, [0, to, total - 1], [0, c, total - 1])
        for band, expected in zip(clip.reshape(6, -1), warped.reshape(6, -1), strict=True):
            assert expected == pytest.approx(np.interp(source, frames, band), abs=2e-3)


def test_no_distance_changes_nothing_and_edges_stay() -> None:
    x = torch.randn(4, 2, 5, 30, generator=torch.Generator().manual_seed(1))
    still = time_warp(x, torch.tensor([1, 5, 20, 28]), torch.zeros(4))
    assert torch.allclose(still, x, atol=1e-5)
    warped = random_time_warp(x, np.random.default_rng(0), 10)
    assert torch.equal(warped[..., 0], x[..., 0])
    assert torch.equal(warped[..., -1], x[..., -1])
    assert not torch.allclose(warped, x)


def test_frames_move_by_at_most_the_limit_and_by_all_of_it() -> None:
    """A clip that holds its own frame numbers shows where each frame was read."""
    total, limit = 44, 5
    x = torch.arange(float(total)).expand(3000, 1, 1, total)
    moves = random_time_warp(x, np.random.default_rng(0), limit) - x
    assert float(moves.abs().max()) <= limit + 1e-4
    assert float(moves.max()) > 0.97 * limit
    assert float(moves.min()) < -0.97 * limit
    assert bool((random_time_warp(x, np.random.default_rng(0), limit).diff(dim=3) >= 0).all())


def test_seeded_and_off_at_zero() -> None:
    x = torch.randn(3, 1, 4, 20)
    first, again = (random_time_warp(x, np.random.default_rng(7), 4) for _ in range(2))
    assert torch.equal(first, again)
    assert random_time_warp(x, np.random.default_rng(7), 0) is x


@pytest.mark.parametrize("frames", [9, -1])
def test_too_far_for_the_clip(frames: int) -> None:
    with pytest.raises(ShapeError, match=r"the clips have 20; .* at most 8"):
        random_time_warp(torch.zeros(2, 1, 4, 20), np.random.default_rng(0), frames)
    random_time_warp(torch.zeros(2, 1, 4, 20), np.random.default_rng(0), 8)
