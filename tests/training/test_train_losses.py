from __future__ import annotations

import math

import pytest
import torch

from compressor.training.losses import smoothed_cross_entropy, soft_targets


def test_label_smoothing_by_hand() -> None:
    # p = (1/2, 1/4, 1/4); t' = 0.7·(0, 1, 0) + 0.3/3 = (0.1, 0.8, 0.1)
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
    expected = 0.1 * math.log(2) + 0.8 * math.log(4) + 0.1 * math.log(4)
    targets = soft_targets(torch.tensor([1]), 3)
    assert smoothed_cross_entropy(logits, targets, 0.3).item() == pytest.approx(expected)
    assert smoothed_cross_entropy(logits, torch.tensor([1]), 0.3).item() == pytest.approx(expected)


def test_soft_targets_and_smoothing_by_hand() -> None:
    # t = (0.6, 0.4); t' = 0.8·t + 0.1 = (0.58, 0.42); mean over two equal clips
    logits = torch.log(torch.tensor([[0.2, 0.8], [0.2, 0.8]]))
    targets = torch.tensor([[0.6, 0.4], [0.6, 0.4]])
    expected = -0.58 * math.log(0.2) - 0.42 * math.log(0.8)
    assert smoothed_cross_entropy(logits, targets, 0.2).item() == pytest.approx(expected)


def test_bfloat16_logits_give_a_float32_loss() -> None:
    loss = smoothed_cross_entropy(torch.zeros(2, 4, dtype=torch.bfloat16), torch.tensor([0, 3]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(4))
