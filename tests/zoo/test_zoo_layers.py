"""Shared layers against plain arithmetic and against the form in which they were published."""

from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from compressor.errors import ShapeError
from zoo.layers import ECA, SE, check_input, check_size, global_max, subsample
from zoo.pku2022 import CoordinateAttention
from zoo.scut2023 import DSSC, Block


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (1, 3)])
def test_subsample_then_1x1_is_the_strided_1x1(
    size: tuple[int, int], stride: tuple[int, int]
) -> None:
    x, weight = random(2, 5, *size), random(3, 5, 1, 1, seed=1)
    expected = F.conv2d(x, weight, stride=stride)
    torch.testing.assert_close(F.conv2d(subsample(x, stride), weight), expected)


def test_global_max() -> None:
    x = random(3, 4, 5, 6)
    assert torch.equal(global_max(x), torch.amax(x, (2, 3)))


def test_se_by_hand() -> None:
    se = SE(2, 1)
    with torch.no_grad():
        se.fc1.weight[:] = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
        se.fc1.bias.fill_(0.5)  # type: ignore[union-attr]
        se.fc2.weight[:] = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        se.fc2.bias.fill_(0.0)  # type: ignore[union-attr]
    x = torch.ones(1, 2, 2, 2)
    x[0, 1] *= 3
    # means 1 and 3: squeeze relu(1 + 6 + 0.5) = 7.5; gates sigmoid(7.5) and sigmoid(-7.5)
    gates = torch.sigmoid(torch.tensor([7.5, -7.5]))
    torch.testing.assert_close(se(x), x * gates.view(1, 2, 1, 1))


def eca_by_loops(x: Tensor, kernel: Tensor) -> Tensor:
    means = x.mean((2, 3))
    out = torch.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            around = [means[n, i] if 0 <= i < x.shape[1] else 0.0 for i in (c - 1, c, c + 1)]
            gate = torch.sigmoid(sum(k * v for k, v in zip(kernel, around, strict=True)))
            out[n, c] = x[n, c] * gate
    return out


def test_eca_by_loops() -> None:
    eca, x = ECA(6), random(2, 6, 3, 4)
    with torch.no_grad():
        torch.testing.assert_close(eca(x), eca_by_loops(x, eca.conv.weight.flatten()))


@pytest.mark.parametrize("kept", [[0, 1, 2, 4], [5], [1, 3], [0, 5], [0, 1, 2, 3, 4, 5]])
def test_pruned_eca_equals_the_masked_one(kept: list[int]) -> None:
    eca, x = ECA(6), random(2, 6, 3, 4)
    masked = torch.zeros_like(x)
    masked[:, kept] = x[:, kept]
    with torch.no_grad():
        expected = eca(masked)
        eca.set_kept(torch.tensor(kept))
        assert (eca.channels, eca.full_channels) == (len(kept), 6)
        torch.testing.assert_close(eca(x[:, kept]), expected[:, kept])
    assert expected[:, [i for i in range(6) if i not in kept]].abs().sum() == 0


def test_eca_can_be_pruned_again() -> None:
    eca, x = ECA(6), random(1, 6, 2, 2)
    masked = x.clone()
    masked[:, [0, 3, 4]] = 0
    with torch.no_grad():
        expected = eca(masked)[:, [1, 2, 5]]
        eca.set_kept(torch.tensor([1, 2, 3, 5]))
        eca.set_kept(eca.kept[[0, 1, 3]])
        torch.testing.assert_close(eca(x[:, [1, 2, 5]]), expected)


def test_eca_state_dict_carries_the_channels() -> None:
    eca, x = ECA(6), random(1, 4, 2, 2)
    eca.set_kept(torch.tensor([0, 2, 3, 5]))
    file = io.BytesIO()
    torch.save(eca.state_dict(), file)
    file.seek(0)
    again = ECA(6)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert again.channels == 4
    with torch.no_grad():
        assert torch.equal(again(x), eca(x))


@pytest.mark.parametrize("kept", [[], [1, 0], [0, 0], [-1, 2], [0, 6]])
def test_eca_refuses_impossible_channels(kept: list[int]) -> None:
    eca = ECA(6)
    with pytest.raises(ShapeError, match="between 0 and 5"):
        eca.set_kept(torch.tensor(kept, dtype=torch.int64))
    assert eca.channels == 6


def test_eca_has_three_parameters() -> None:
    assert [p.shape for p in ECA(6).parameters()] == [(1, 1, 3)]


def published_dssc(layer: DSSC, x: Tensor) -> Tensor:
    """The published form on (N, C, time, mel): one grouped 1x1, kernels with time first.

    Output j of the grouped 1x1 mixes inputs 2j and 2j+1.
    """
    if layer.halving:
        width = layer.pw.out_channels
        paired = torch.stack([torch.arange(width), torch.arange(width) + width], 1).flatten()
        weight = torch.cat([layer.pw.weight, layer.pw2.weight], dim=1)
        x = F.conv2d(x[:, paired], weight, groups=width)
    else:
        x = F.conv2d(x, layer.pw.weight, groups=x.shape[1])
    width = x.shape[1]
    time = layer.dw_t.weight.transpose(2, 3)  # (C, 1, 3, 1)
    mel = layer.dw_f.weight.transpose(2, 3)  # (C, 1, 1, 3)
    x = F.conv2d(x, time, padding=(2, 0), dilation=(2, 1), groups=width) + F.conv2d(
        x, mel, padding=(0, 2), dilation=(1, 2), groups=width
    )
    bn = layer.bn
    assert bn.running_mean is not None
    assert bn.running_var is not None
    return F.relu(F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias))


def settle(module: nn.Module) -> nn.Module:
    """Random BatchNorm values and eval mode."""
    for seed, norm in enumerate(m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        width = norm.num_features
        norm.weight.data = random(width, seed=seed) + 1
        norm.bias.data = random(width, seed=seed + 100)
        norm.running_mean = random(width, seed=seed + 200)
        norm.running_var = random(width, seed=seed + 300).abs() + 0.5
    return module.eval()


@pytest.mark.parametrize(("inputs", "outputs"), [(6, 6), (6, 3)])
def test_dssc_is_the_published_one(inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    layer = DSSC(inputs, outputs)
    settle(layer)
    x = random(2, inputs, 8, 7)
    with torch.no_grad():
        found = layer(x).transpose(2, 3)
        torch.testing.assert_close(found, published_dssc(layer, x.transpose(2, 3)))


@pytest.mark.parametrize("segment", [True, False])
def test_dsmn_block_is_the_published_one(segment: bool) -> None:
    torch.manual_seed(0)
    block = Block(6, 4, segment=segment)
    settle(block)
    x = random(2, 6, 8, 7)
    t = x.transpose(2, 3)  # (N, C, time, mel), as published
    with torch.no_grad():
        if segment:
            low, high = t[:, :, :, :4], t[:, :, :, 4:]
            deep = low
            for layer in (block.c1, block.c2, block.c3):
                deep = published_dssc(layer, deep)
            y = block.d1(low) + block.d2(high) + deep
        else:
            x1 = published_dssc(block.c1, t)
            x3 = published_dssc(block.c3, published_dssc(block.c2, x1))
            y = torch.cat([block.d1(t), block.d2(x1), x3], 1)
        y = eca_by_loops(y, block.eca.conv.weight.flatten())
        y = F.relu(block.bn(block.out(y)))
        expected = F.avg_pool2d(y, (2, 1) if segment else 2)
        torch.testing.assert_close(block(x).transpose(2, 3), expected)


def test_coordinate_attention_by_marginals() -> None:
    torch.manual_seed(0)
    attention = CoordinateAttention(16)
    settle(attention)
    x = random(2, 16, 5, 7)
    with torch.no_grad():

        def squeezed(marginal: Tensor) -> Tensor:  # (N, C, L) -> (N, 8, L)
            y = F.conv1d(marginal, attention.c1.weight.squeeze(3), attention.c1.bias)
            y = attention.bn(y.unsqueeze(3)).squeeze(3)
            return y * (y + 3).clamp(0, 6) / 6

        def gate(conv: nn.Conv2d, y: Tensor) -> Tensor:
            return torch.sigmoid(F.conv1d(y, conv.weight.squeeze(3), conv.bias))

        time, mel = gate(attention.ch, squeezed(x.mean(3))), gate(attention.cw, squeezed(x.mean(2)))
        expected = x * time.unsqueeze(3) * mel.unsqueeze(2)
        torch.testing.assert_close(attention(x), expected)


def test_mel_norm_of_deepsound_is_over_mel_bands() -> None:
    network = zoo.build("mbconv_deepsound", mels=8)
    seen = []
    stem: nn.Module = network.stem  # type: ignore[assignment]
    stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.train()(random(4, 1, 33, 8) * 7 + torch.arange(8))
    torch.testing.assert_close(seen[0].mean((0, 1, 2)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        seen[0].var((0, 1, 2), correction=0), torch.ones(8), atol=1e-3, rtol=0
    )


def test_check_input_returns_the_tensor_itself() -> None:
    x = torch.zeros(1, 2, 3, 4)
    assert check_input(x, 2, 3, (4, 4)) is x
    assert check_input(x, 2, 4, (1, None), "CTF") is x


@pytest.mark.parametrize(
    ("frames", "message"),
    [((5, None), "4 frames.*5 or more frames"), ((1, 3), "4 frames.*1 to 3 frames")],
)
def test_check_input_names_the_frames(frames: tuple[int, int | None], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        check_input(torch.zeros(1, 2, 3, 4), 2, 3, frames)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3", None])
def test_check_size(value: object) -> None:
    assert check_size("n", 1) == 1
    with pytest.raises(ShapeError, match=r"n .*at least 1"):
        check_size("n", value)  # type: ignore[arg-type]
