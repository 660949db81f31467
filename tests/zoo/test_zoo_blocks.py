"""Residual blocks and heads against their formulas, written with functions only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.bupt2020 import ResidualBlock, smallest_side
from zoo.cpmobile2024 import InvertedBlock, divisible
from zoo.deepsound2021 import MBConv4
from zoo.layers import SE
from zoo.pku2022 import SeparableBlock
from zoo.speakin2021 import BasicBlock

Small = Callable[[str], tuple[nn.Module, Tensor]]
M = TypeVar("M", bound=nn.Module)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def settled(module: M) -> M:
    """Random BatchNorm values and eval mode."""
    for seed, norm in enumerate(m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        width = norm.num_features
        norm.weight.data = random(width, seed=seed) + 1
        norm.bias.data = random(width, seed=seed + 100)
        norm.running_mean = random(width, seed=seed + 200)
        norm.running_var = random(width, seed=seed + 300).abs() + 0.5
    return module.eval()


def norm(bn: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(bn, nn.BatchNorm2d)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    shape = (1, -1, 1, 1)
    scale = bn.weight / (bn.running_var + 1e-5).sqrt()
    return (x - bn.running_mean.view(shape)) * scale.view(shape) + bn.bias.view(shape)


def gate(se: nn.Module, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    assert isinstance(se, SE)
    means = x.mean((2, 3))
    squeezed = activation(F.linear(means, se.fc1.weight.flatten(1), se.fc1.bias))
    scale = F.linear(squeezed, se.fc2.weight.flatten(1), se.fc2.bias).sigmoid()
    return x * scale[:, :, None, None]


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 16, 1), (8, 8, 2)])
@torch.no_grad()
def test_seresnet_block_is_equation_2(inputs: int, outputs: int, stride: int) -> None:
    torch.manual_seed(0)
    block = settled(BasicBlock(inputs, outputs, stride, 4, True))
    x = random(2, inputs, 7, 8)
    y = F.relu(norm(block.bn1, F.conv2d(x, block.conv1.weight, stride=stride, padding=1)))
    y = norm(block.bn2, F.conv2d(y, block.conv2.weight, padding=1))
    shortcut = x
    if inputs != outputs or stride != 1:
        assert isinstance(block.down, nn.Sequential)
        shortcut = norm(block.down[1], F.conv2d(x, block.down[0].weight, stride=stride))
    expected = F.relu(gate(block.se, y, F.relu) + shortcut)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("outputs", [8, 12])
@torch.no_grad()
def test_deepsound_block_is_figure_1(stride: tuple[int, int], fused: bool, outputs: int) -> None:
    if outputs == 8 and stride != (1, 1):
        pytest.skip("the network has strides only where the width changes")
    torch.manual_seed(0)
    block = settled(MBConv4(8, outputs, stride, fused=fused))
    x = random(2, 8, 7, 9)
    if fused:
        y = F.silu(norm(block.x[1], F.conv2d(x, block.x[0].weight, stride=stride, padding=1)))
    else:
        y = F.silu(norm(block.x[1], F.conv2d(x, block.x[0].weight)))
        y = F.conv2d(y, block.x[3].weight, stride=stride, padding=1, groups=32)
        y = F.silu(norm(block.x[4], y))
    assert block.se.fc1.out_channels == 2  # a quarter of the 8 that come in, not of the 32
    y = norm(block.r[1], F.conv2d(gate(block.se, y, F.silu), block.r[0].weight))
    if outputs == 8:
        expected = y + x
    else:
        assert isinstance(block.s, nn.Conv2d)
        expected = y + F.conv2d(x, block.s.weight, stride=stride)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outputs", [6, 12])
@pytest.mark.parametrize("kernels", [(3, 1), (3, 3), (1, 1)])
@torch.no_grad()
def test_cp_resnet_block(outputs: int, kernels: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = settled(ResidualBlock(6, outputs, kernels))
    x = random(2, 6, 7, 8)
    pads = [kernel // 2 for kernel in kernels]
    y = F.relu(norm(block.a[1], F.conv2d(x, block.a[0].weight, padding=pads[0])))
    y = norm(block.b[1], F.conv2d(y, block.b[0].weight, padding=pads[1]))
    shortcut = x
    if outputs != 6:
        assert isinstance(block.s, nn.Sequential)
        shortcut = norm(block.s[1], F.conv2d(x, block.s[0].weight))
    torch.testing.assert_close(block(x), F.relu(y + shortcut), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("outputs", "stride"), [(8, (1, 1)), (8, (1, 2)), (16, (2, 1))])
@torch.no_grad()
def test_cp_mobile_block(outputs: int, stride: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = settled(InvertedBlock(8, outputs, 2.1, stride))
    x = random(2, 8, 7, 9)
    expand, depthwise, project = block.block
    wide = expand[0].out_channels
    assert wide == 16  # 8 * 2.1 = 16.8, to a multiple of 8
    y = F.relu(norm(expand[1], F.conv2d(x, expand[0].weight)))
    y = F.conv2d(y, depthwise[0].weight, stride=stride, padding=1, groups=wide)
    y = F.relu(norm(depthwise[1], y))
    y = norm(project[1], F.conv2d(y, project[0].weight))
    if outputs == 8:
        y = y + (x if stride == (1, 1) else F.avg_pool2d(x, 3, stride=stride, padding=1))
    torch.testing.assert_close(block(x), F.relu(y), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_sepcnn_block_is_equation_2() -> None:
    torch.manual_seed(0)
    block = settled(SeparableBlock(4, 8))
    x = random(2, 4, 8, 10)
    g = norm(block.bn1, F.conv2d(x, block.pw.weight))
    h = F.conv2d(g, block.dt.weight, padding=(2, 0), dilation=(2, 1), groups=8)
    h = h + F.conv2d(g, block.df.weight, padding=(0, 2), dilation=(1, 2), groups=8)
    expected = F.avg_pool2d(block.ca(F.relu(norm(block.bn2, h))), 2)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def seen_by(network: nn.Module, layer: str, x: Tensor) -> Tensor:
    """What a layer is given when the network runs on x."""
    seen: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    with torch.no_grad():
        network(x)
    hook.remove()
    return seen[0]


def given_by(network: nn.Module, layer: str, x: Tensor) -> Tensor:
    """What a layer gives when the network runs on x."""
    seen: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(
        lambda _, inputs, output: seen.append(output)
    )
    with torch.no_grad():
        network(x)
    hook.remove()
    return seen[0]


def test_deepsound_head_adds_mean_and_maximum(small: Small) -> None:
    network, x = small("mbconv_deepsound")
    top = given_by(network, "top", x)
    expected = top.mean((2, 3)) + top.amax((2, 3))
    torch.testing.assert_close(seen_by(network, "fc", x), expected)


def test_sepcnn_head_pools_mel_first(small: Small) -> None:
    network, x = small("sepcnn_coordatt")
    body = given_by(network, "body", x).mean(3)  # (N, C, T)
    torch.testing.assert_close(seen_by(network, "fc1", x), body.mean(2) + body.amax(2))


@pytest.mark.parametrize("name", ["dsmn_seg", "dsmn", "dsmn_mixed"])
def test_dsmn_embedding_is_the_mean_of_the_last_four_blocks(name: str, small: Small) -> None:
    network, x = small(name)
    means = [given_by(network, f"blocks.{i}", x).mean((2, 3)) for i in (1, 2, 3, 4)]
    torch.testing.assert_close(seen_by(network, "l1", x), torch.cat(means, 1))


def test_cp_resnet_averages_after_the_classifier(small: Small) -> None:
    network, x = small("cp_resnet")
    with torch.no_grad():
        torch.testing.assert_close(network(x), given_by(network, "head", x).mean((2, 3)))


@pytest.mark.parametrize("pools", [0, 1, 3, 5])
def test_cp_resnet_smallest_side(pools: int) -> None:
    def left(side: int) -> int:
        side = (side + 2 - 5) // 2 + 1
        for _ in range(pools):
            side //= 2
        return side

    assert left(smallest_side(pools)) == 1
    assert left(smallest_side(pools) - 1) < 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [(32, 32), (57.6, 56), (103.68, 104), (67.2, 64), (3, 8), (13, 16), (17.6, 16)],
)
def test_divisible_widths(value: float, expected: int) -> None:
    assert divisible(value) == expected
    assert expected % 8 == 0
    assert expected >= 0.9 * value
