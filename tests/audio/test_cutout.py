from __future__ import annotations

import numpy as np
import pytest
import torch

from compressor.audio.cutout import cutout, random_cutout


def test_rectangles_by_hand_one_across_the_corner() -> None:
    x = torch.ones(1, 2, 4, 5)
    cut = cutout(x, torch.tensor([[1, -1]]), torch.tensor([[2, -2]]), 2, 3)
    expected = [
        [0, 1, 1, 1, 1],  # of the second rectangle only one corner lies inside
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1],
    ]
    assert cut.int().tolist() == [[expected, expected]]
    assert x.eq(1).all()


def test_centres_lie_everywhere_and_sides_are_the_shares() -> None:
    n, mels, total = 6000, 10, 20
    x = torch.ones(n, 1, mels, total)
    hidden = random_cutout(x, np.random.default_rng(0), freq_share=0.3, time_share=0.2)[:, 0] == 0
    heights, widths = hidden.any(2).sum(1), hidden.any(1).sum(1)
    assert (heights.max(), widths.max()) == (3, 4)
    assert torch.equal(hidden.sum((1, 2)), heights * widths)  # one rectangle
    # Centred on a uniform band m, a rectangle of 3 bands covers m - 1, m, m + 1 where they exist.
    covered = np.convolve(np.full(mels, 1 / mels), np.ones(3), "same")
    shown = hidden.any(2).float().mean(0).numpy()
    assert shown == pytest.approx(covered, abs=0.02)


def test_more_rectangles_hide_more_and_a_seed_repeats() -> None:
    x = torch.ones(500, 1, 20, 20)
    share = [
        random_cutout(x, np.random.default_rng(3), masks=k, freq_share=0.4, time_share=0.4)
        for k in (1, 1, 3)
    ]
    assert torch.equal(share[0], share[1])
    assert (share[2] == 0).sum() > 2 * (share[0] == 0).sum()


@pytest.mark.parametrize(("masks", "freq", "time"), [(0, 0.5, 0.5), (1, 0.0, 0.5), (1, 0.5, 0.0)])
def test_nothing_to_cut(masks: int, freq: float, time: float) -> None:
    x = torch.ones(3, 1, 8, 8)
    rng = np.random.default_rng(0)
    assert random_cutout(x, rng, masks=masks, freq_share=freq, time_share=time) is x
