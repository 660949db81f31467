from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressor.errors import MeasureError, ShapeError, UsageError
from compressor.training import batches, evaluate, predict

Make = Callable[..., Any]


def test_logits_come_in_the_order_of_the_part(
    make_part: Make, make_standardizer: Make, make_network: Make
) -> None:
    part, network = make_part(50), make_network(extra=2)
    standardizer = make_standardizer(part)
    logits = predict(network, part, standardizer=standardizer, num_classes=3, batch_size=16)
    with torch.no_grad():
        x = torch.from_numpy(np.asarray(standardizer.apply(part.array()), dtype=np.float32))
        whole = network.eval()(x).numpy()
    assert logits.dtype == np.float32
    assert logits.shape == (50, 3)  # the second task's two outputs are dropped
    assert np.allclose(logits, whole[:, :3], atol=1e-5)


def test_prediction_leaves_mode_and_statistics_alone(
    make_part: Make, make_standardizer: Make, make_network: Make
) -> None:
    part, network = make_part(20), make_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    predict(network, part, standardizer=make_standardizer(part), num_classes=3)
    assert network.training
    assert all(torch.equal(before[name], v) for name, v in network.state_dict().items())


class BandMeans(nn.Module):
    """Answers with the means of the three blocks of bands: right on every clip, without training.

    `axis` is where it looks for the mel bands.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = x.unflatten(self.axis, (3, 4)).movedim(self.axis, 1)
        return blocks.mean(dim=(2, 3, 4))


@pytest.mark.parametrize(("layout", "axis"), [("CFT", 2), ("CTF", 3)])
def test_evaluation_of_a_perfect_network(
    make_part: Make, make_standardizer: Make, layout: str, axis: int
) -> None:
    part = make_part(60, (1, 12, 12))  # square: a wrong axis would run, and be wrong
    result = evaluate(
        BandMeans(axis), part, standardizer=make_standardizer(part), layout=layout, batch_size=7
    )
    assert result.n == 60
    assert result.macro_accuracy > 0.98
    assert set(result.class_accuracy) == {"class0", "class1", "class2"}
    assert set(result.device_accuracy) == {"a", "b"}
    other = "CTF" if layout == "CFT" else "CFT"
    wrong = evaluate(BandMeans(axis), part, standardizer=make_standardizer(part), layout=other)
    assert wrong.macro_accuracy < 0.7


def test_parts_without_devices(make_part: Make, make_standardizer: Make) -> None:
    part = make_part(30, (1, 12, 12), devices=())
    result = evaluate(BandMeans(2), part, standardizer=make_standardizer(part))
    assert result.device_accuracy == {}
    assert result.device_log_loss == {}


def test_a_network_with_too_few_outputs(
    make_part: Make, make_standardizer: Make, make_network: Make
) -> None:
    part = make_part(10)
    with pytest.raises(ShapeError, match=r"\(10, 2\).*3 classes.*num_classes=3"):
        evaluate(make_network(classes=2), part, standardizer=make_standardizer(part))


def test_broken_weights_are_named(
    make_part: Make, make_standardizer: Make, make_network: Make
) -> None:
    part, network = make_part(10), make_network()
    network[-1].bias.data[1] = float("nan")
    with pytest.raises(MeasureError, match="10 of 10 clips"):
        evaluate(network, part, standardizer=make_standardizer(part))


def test_batches_give_every_clip_once(make_part: Make, make_standardizer: Make) -> None:
    part = make_part(22)
    standardizer = make_standardizer(part)
    plain = list(batches(part, standardizer=standardizer, batch_size=8))
    assert [len(x) for x in plain] == [8, 8, 6]
    assert np.allclose(torch.cat(plain).numpy(), standardizer.apply(part.array()), atol=1e-5)
    drawn = torch.cat(list(batches(part, standardizer=standardizer, batch_size=8, seed=1)))
    again = torch.cat(list(batches(part, standardizer=standardizer, batch_size=8, seed=1)))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, torch.cat(plain))
    assert torch.equal(drawn.flatten().sort().values, torch.cat(plain).flatten().sort().values)


def test_batches_limit_counts_clips(make_part: Make, make_standardizer: Make) -> None:
    part = make_part(22, (1, 12, 10))
    sizes = [
        tuple(x.shape)
        for x in batches(
            part, standardizer=make_standardizer(part), layout="CTF", batch_size=8, limit=10, seed=0
        )
    ]
    assert sizes == [(8, 1, 10, 12), (2, 1, 10, 12)]
    with pytest.raises(UsageError, match="limit 0"):
        next(batches(part, standardizer=make_standardizer(part), batch_size=8, limit=0))
