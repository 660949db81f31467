"""Half precision: what is rounded, what overflows, what is lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from compressor.errors import MeasureError, UnknownNameError
from compressor.methods.cast import cast


def layer(*values: float) -> nn.Module:
    model = nn.Linear(len(values), 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([values]))
    return model


def test_rounding_to_float16_by_hand() -> None:
    # 11 significant bits: between 1 and 2 the step is 2^-10; 1 + 2^-11 lies between 1 and 1 + 2^-10
    # and goes to the even one, 1; 1 + 3 * 2^-11 goes to 1 + 2^-9
    model = layer(1 + 2**-11, 1 + 3 * 2**-11, -0.5)
    result = cast(model, "float16")
    assert result.model.weight.tolist() == [[1.0, 1 + 2**-9, -0.5]]
    assert result.largest_error == pytest.approx(2**-11 / (1 + 2**-11))
    assert (result.overflowed, result.subnormal, result.flushed) == ((), (), ())
    assert model.weight.tolist() == [[1 + 2**-11, 1 + 3 * 2**-11, -0.5]]  # untouched
    assert result.model.weight.dtype == torch.float32
    assert result.in_type().weight.dtype == torch.float16


def test_bfloat16_keeps_the_range_and_loses_digits() -> None:
    # 8 significant bits: between 1 and 2 the step is 2^-7
    result = cast(layer(1e5, 1e-30, 1 + 2**-9), "bfloat16")
    assert result.overflowed == result.flushed == result.subnormal == ()
    assert result.model.weight[0, 2] == 1.0
    assert result.largest_error <= 2**-8


def test_overflow_subnormals_and_flushed_values_are_reported() -> None:
    # float16: largest 65504, smallest normal 2^-14 = 6.1e-5, smallest subnormal 2^-24 = 6e-8
    result = cast(layer(1e5, -7e4, 3e-5, 1e-9, 1.0), "float16")
    (over,), (small,), (lost,) = result.overflowed, result.subnormal, result.flushed
    assert (over.name, over.values, over.of) == ("weight", 2, 5)
    assert over.extreme == pytest.approx(1e5)
    assert (small.values, small.extreme) == (1, pytest.approx(3e-5))
    assert (lost.values, lost.extreme) == (1, pytest.approx(1e-9))
    values = result.model.weight[0].tolist()
    assert values[:2] == [65504.0, -65504.0]
    assert values[2] == 503 * 2**-24  # 3e-5 / 2^-24 = 503.3
    assert values[3:] == [0.0, 1.0]


def test_statistics_are_cast_counters_and_tied_weights_counted_once() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1), nn.Linear(1, 1))
    model[2].weight = model[1].weight
    with torch.no_grad():
        model[0].running_var.fill_(1e-6)
        model[1].weight.fill_(1e6)
    result = cast(model, "float16")
    assert [r.name for r in result.overflowed] == ["1.weight"]
    assert [r.name for r in result.subnormal] == ["0.running_var"]
    assert result.model[2].weight is result.model[1].weight
    assert result.model[0].num_batches_tracked.dtype == torch.int64


def test_bad_input() -> None:
    with pytest.raises(MeasureError, match="'weight' holds values that are not finite"):
        cast(layer(float("nan")), "float16")
    with pytest.raises(UnknownNameError, match=r"type 'float15'; did you mean .*float16"):
        cast(layer(1.0), "float15")  # type: ignore[arg-type]


def test_half_precision_keeps_the_classes(trained: nn.Module, clips: Any) -> None:
    x, _ = clips(200, 9)
    with torch.no_grad():
        expected = trained(x).argmax(1)
        for dtype in ("float16", "bfloat16"):
            found = cast(trained, dtype).model(x).argmax(1)  # type: ignore[arg-type]
            assert (found == expected).float().mean() >= 0.99
