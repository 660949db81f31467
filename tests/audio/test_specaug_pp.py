from __future__ import annotations

import numpy as np
import pytest
import torch

from compressor.audio.specaug_pp import mix_masks, random_mix_masks

OFF = {"freq_masks": 0, "freq_share": 0.0, "time_masks": 0, "time_share": 0.0}


def draw(x: torch.Tensor, seed: int = 0, **changes: object) -> torch.Tensor:
    return random_mix_masks(x, np.random.default_rng(seed), **(OFF | changes))  # type: ignore[arg-type]


def numbered(n: int, size: int = 20) -> torch.Tensor:
    """Clip n holds 2^n everywhere: every mean of two clips tells which two."""
    return (2.0 ** torch.arange(n)).view(n, 1, 1, 1).expand(n, 2, size, size).contiguous()


def test_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0]]], [[[10.0, 20.0]]]])
    keep = torch.tensor([[[[True, False]]], [[[False, True]]]])
    mixed = mix_masks(x, keep, torch.tensor([1, 0]))
    assert mixed.flatten().tolist() == [1.0, 11.0, 5.5, 20.0]
    cut = mix_masks(x, keep, torch.tensor([1, 0]), scale=0.0)
    assert cut.flatten().tolist() == [1.0, 20.0, 1.0, 20.0]


def test_stripes_hold_the_mean_with_one_other_clip() -> None:
    n = 12
    x = numbered(n)
    mixed = draw(x, freq_masks=2, freq_share=0.5, time_masks=1, time_share=0.5)
    partners = set()
    for own, clip in enumerate(mixed):
        assert torch.equal(clip[0], clip[1])  # all channels alike
        foreign = clip[clip != x[own]].unique()
        assert len(foreign) <= 1
        if len(foreign):
            partner = np.log2(2 * float(foreign) - 2.0**own)
            assert partner == int(partner)
            assert partner != own
            partners.add(int(partner))
    assert len(partners) > 3


def test_stripes_are_whole_bands_of_the_third_axis_with_specaugments_widths() -> None:
    x = numbered(2, 10).repeat(1000, 1, 1, 1)
    hidden = draw(x, freq_masks=1, freq_share=0.4, mode="zero")[:, 0] == 0
    assert torch.equal(hidden, hidden[:, :, :1].expand_as(hidden))
    widths = hidden[:, :, 0].sum(1)
    assert sorted(widths.unique().tolist()) == [0, 1, 2, 3, 4]
    assert widths.float().mean().item() == pytest.approx(2, abs=0.1)
    across = draw(x, time_masks=1, time_share=0.4, mode="zero")[:, 0] == 0
    assert torch.equal(across, across[:, :1].expand_as(across))


def test_gradients_reach_both_clips_of_a_hidden_map() -> None:
    x = torch.ones(2, 1, 4, 4, requires_grad=True)
    keep = torch.ones(2, 1, 4, 1, dtype=torch.bool)
    keep[0, 0, :2] = False  # half of the first clip is mixed with the second
    mix_masks(x, keep, torch.tensor([1, 0])).sum().backward()
    assert x.grad is not None
    assert x.grad[0].sum().item() == 8 + 8 * 0.5
    assert x.grad[1].sum().item() == 16 + 8 * 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_type_stays_and_a_seed_repeats(dtype: torch.dtype) -> None:
    x = numbered(6).to(dtype)
    first, again = (draw(x, 4, freq_masks=1, freq_share=0.9) for _ in range(2))
    assert first.dtype == dtype
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(x, 5, freq_masks=1, freq_share=0.9))


def test_nothing_to_mask_or_nobody_to_mix_with() -> None:
    x = numbered(3)
    assert draw(x) is x
    assert draw(x[:1], freq_masks=1, freq_share=0.5).equal(x[:1])
    assert (draw(x[:1], freq_masks=3, freq_share=0.9, mode="zero") == 0).any()
