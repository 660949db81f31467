from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressor.errors import DataError, UsageError
from compressor.training import inputs
from compressor.training.inputs import Clips, Preparer, crashes_channels_last, pick_device

CPU = torch.device("cpu")
Make = Callable[..., Any]


@pytest.mark.parametrize("in_memory", [True, False])
def test_clips_are_taken_by_row_of_the_part(
    make_part: Make, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.setattr(inputs, "IN_MEMORY_BYTES", 0)
    part = make_part(20)
    clips, rows = Clips(part, CPU), np.array([7, 0, 7, 19])
    taken = clips.take(rows)
    assert taken.dtype == torch.float16
    assert np.array_equal(taken.numpy(), part.x[part.index[rows]])
    assert clips.labels(rows).tolist() == part.y[rows].tolist()


def test_taking_clips_never_shares_memory_with_the_cache(make_part: Make) -> None:
    part = make_part(8)
    before = part.x.copy()
    Clips(part, CPU).take(np.arange(8)).zero_()
    assert np.array_equal(part.x, before)


def test_read_only_features_are_fine(make_part: Make) -> None:
    part = make_part(8)
    part.x.setflags(write=False)
    assert len(Clips(part, CPU)) == 8


def test_infinite_features_are_refused(make_part: Make) -> None:
    part = make_part(8)
    x = part.x.copy()
    x[part.index[3], 0, 2, 1] = np.inf
    with pytest.raises(DataError, match="infinite or NaN"):
        Clips(dataclasses.replace(part, x=x), CPU)


def test_standardisation_equals_the_standardizers_own(
    make_part: Make, make_standardizer: Make
) -> None:
    part = make_part(30, (2, 12, 10))
    standardizer = make_standardizer(part)
    prepare = Preparer(standardizer, "CFT", CPU)
    ours = prepare(Clips(part, CPU).take(np.arange(30)))
    assert np.allclose(ours.numpy(), standardizer.apply(part.array()), atol=1e-5)
    assert ours.mean(dim=(0, 3)).abs().max().item() < 1e-3
    assert ours.std(dim=(0, 3)).sub(1).abs().max().item() < 1e-2


def test_layouts(make_part: Make, make_standardizer: Make) -> None:
    part = make_part(6, (2, 12, 10))
    standardizer, rows = make_standardizer(part), np.arange(6)
    x = Clips(part, CPU).take(rows)
    cft = Preparer(standardizer, "CFT", CPU)(x)
    ctf = Preparer(standardizer, "CTF", CPU)(x)
    last = Preparer(standardizer, "CFT", CPU, channels_last=True)(x)
    assert torch.equal(ctf, cft.transpose(2, 3))
    assert ctf.is_contiguous()
    assert torch.equal(last, cft)
    assert last.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(UsageError, match="allowed: CFT, CTF"):
        Preparer(standardizer, "TF", CPU)


@pytest.mark.parametrize(
    ("layer", "crashes"),
    [
        (nn.Conv2d(8, 16, 1, stride=2), True),
        (nn.Conv2d(15, 16, 1, stride=(1, 2)), True),
        (nn.Conv2d(32, 32, 1, stride=2, groups=4), True),
        (nn.Conv2d(16, 16, 1, stride=2), False),
        (nn.Conv2d(8, 16, 1), False),
        (nn.Conv2d(8, 16, 3, stride=2), False),
    ],
)
def test_the_crashing_layers_are_found(layer: nn.Module, crashes: bool) -> None:
    network = nn.Sequential(nn.ReLU(), nn.Sequential(layer))
    assert crashes_channels_last(network, CPU) is crashes
    assert not crashes_channels_last(network, torch.device("cuda"))


def test_devices() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA device"):
            pick_device("cuda")
