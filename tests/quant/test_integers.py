"""Grids by hand: weights, biases, activations."""

from __future__ import annotations

import pytest
import torch

from compressor.methods.quant.integers import (
    Activation,
    activation_grid,
    quantize_bias,
    quantize_weight,
    widen_for_bias,
)


def test_weights_per_channel() -> None:
    # channel 0: scale 1.27 / 127 = 0.01; channel 1: scale 2.54 / 127 = 0.02; channel 2 is silent
    weight = torch.tensor([[1.27, -0.504], [-2.54, 0.03], [0.0, 0.0]])
    found = quantize_weight(weight)
    assert found.scale.tolist() == pytest.approx([0.01, 0.02, 1.0])
    # -0.504 / 0.01 = -50.4; 0.03 / 0.02 = 1.5, just below or above in float32
    assert found.values[0].tolist() == [127, -50]
    assert found.values[1, 0] == -127
    assert found.values[1, 1] in (1, 2)
    assert found.values[2].tolist() == [0, 0]
    assert found.values.dtype == torch.int8
    assert found.float()[0].tolist() == pytest.approx([1.27, -0.50])


def test_weights_per_layer_and_of_fewer_bits() -> None:
    weight = torch.tensor([[0.7, -0.34], [0.1, 0.04]])
    found = quantize_weight(weight, 4, per_channel=False)  # scale 0.7 / 7 = 0.1
    assert found.scale.tolist() == pytest.approx([0.1])
    assert found.values.tolist() == [[7, -3], [1, 0]]
    assert found.nbytes == 2  # four values of four bits
    assert quantize_weight(weight, 2).values.tolist() == [[1, 0], [1, 0]]  # 0.34/0.7, 0.04/0.1
    assert quantize_weight(torch.ones(3, 1), 3).nbytes == 2  # no 3-bit type: 12 bits
    assert quantize_weight(torch.ones(3, 1), 5).nbytes == 3


def test_biases_have_the_scale_of_the_products() -> None:
    weight = quantize_weight(torch.tensor([[1.27], [2.54]]))  # scales 0.01 and 0.02
    found = quantize_bias(torch.tensor([0.1, -0.1]), weight, 0.5)  # steps 0.005 and 0.01
    assert found.values.tolist() == [20, -10]
    assert found.values.dtype == torch.int32
    assert found.float().tolist() == pytest.approx([0.1, -0.1])
    assert found.nbytes == 8


def test_a_bias_beyond_32_bits_coarsens_its_channel_only() -> None:
    weight = quantize_weight(torch.tensor([[1e-9, 5e-10], [1.27, 0.5]]))
    bias = torch.tensor([3.0, 0.1])
    wide = widen_for_bias(weight, bias, 1e-3)
    # channel 0: 3 / (1e-9 / 127 * 1e-3) = 4e14 > 2^30, so its scale becomes 3 / (2^30 * 1e-3)
    assert wide.scale[0].item() == pytest.approx(3 / (2**30 * 1e-3))
    assert wide.scale[1] == weight.scale[1]
    assert wide.values.tolist() == [[0, 0], weight.values[1].tolist()]
    found = quantize_bias(bias, wide, 1e-3)
    assert found.float().tolist() == pytest.approx(bias.tolist(), rel=1e-4)
    assert abs(int(found.values[0])) <= 2**30
    untouched = widen_for_bias(weight, torch.zeros(2), 1e-3)
    assert untouched is weight


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 2.55, 0.01, 0),
        (-2.55, 0.0, 0.01, 255),
        (-1.0, 1.55, 0.01, 100),
        (0.5, 2.55, 0.01, 0),  # zero is always on the grid
        (0.0, 0.0, 1.0, 0),  # a silent tensor
        (0.0, 1e-35, 1.0, 0),
    ],
)
def test_activation_grids(low: float, high: float, scale: float, zero_point: int) -> None:
    found = activation_grid(low, high)
    assert found.scale == pytest.approx(scale)
    assert found.zero_point == zero_point
    assert found.round(torch.zeros(1)).item() == 0


def test_activations_round_half_to_even_and_clip() -> None:
    grid = Activation(0.5, 1)  # from -0.5 to 127
    x = torch.tensor([-3.0, -0.25, 0.25, 0.75, 0.76, 126.9, 200.0])
    # -0.25 / 0.5 = -0.5 -> 0; 0.5 -> 0; 1.5 -> 2; 1.52 -> 2; 253.8 -> 254
    assert grid.round(x).tolist() == [-0.5, 0.0, 0.0, 1.0, 1.0, 127.0, 127.0]
    expected = torch.fake_quantize_per_tensor_affine(x, 0.5, 1, 0, 255)  # torch's own
    assert torch.equal(grid.round(x), expected)


def test_a_silent_input_is_coarsened_and_not_the_weights() -> None:
    """ReLU leaves next to nothing (1e-12) in front of a layer with biases of 1: the step of the
    activation becomes 1 / (2^30 x 1 / 127), the weights stay at full scale."""
    from torch import nn

    from compressor.methods.quant import quantize_static

    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 2)).eval()
    with torch.no_grad():
        model[0].weight.fill_(1e-12)
        model[2].weight.copy_(torch.tensor([[1.0], [0.5]]))
        model[2].bias.copy_(torch.tensor([1.0, -0.25]))
    x = torch.rand(8, 1, generator=torch.Generator().manual_seed(0))
    network = quantize_static(model, x, [x])
    assert network.weights["2"].values.flatten().tolist() == [127, 127]
    assert network.activations["1"].scale == pytest.approx(127 / 2**30, rel=1e-5)
    assert network.simulate(x)[0].tolist() == pytest.approx([1.0, -0.25])
