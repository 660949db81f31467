"""Scripted networks, fused kernels, einsum: figures by hand or against the plain network."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import compressor
from compressor.audit import AuditResult
from compressor.audit.macs import RULES
from compressor.errors import UsageError


def scripted(module: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: jit is deprecated
        return torch.jit.script(module.eval())


def audit(module: Any, *shape: int) -> AuditResult:
    result = compressor.audit(module, input_shape=shape)
    assert sum(layer.macs for layer in result.layers) == result.macs
    assert sum(layer.params for layer in result.layers) == result.params
    assert sum(layer.param_bytes for layer in result.layers) == result.param_bytes
    assert result.status == "exact"
    return result


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        self.tied = nn.Linear(3, 3, bias=False)
        self.again = nn.Linear(3, 3, bias=False)
        self.again.weight = self.tied.weight
        self.dead = nn.Linear(7, 7)
        self.register_buffer("mel", torch.rand(6, 5))
        with torch.no_grad():
            self.conv.weight[0] = 0  # 1 x 3 x 3 zeros

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(x @ self.mel)))
        return self.again(self.tied(self.head(y.mean((2, 3)))))


def test_a_scripted_network_has_the_figures_of_the_plain_one() -> None:
    net = Net().eval()
    script = scripted(net)
    result = audit(script, 1, 2, 6, 6)
    # (2, 6, 6) @ (6, 5); 4 x 3 positions x 4 outputs x 1 input x 9; 4 x 3; twice 3 x 3
    assert result.macs == 2 * 6 * 6 * 5 + 12 * 36 + 12 + 2 * 9
    assert result.params == (36 + 4) + 8 + (12 + 3) + 9 + 56
    assert result.nonzero_params == result.params - 9 - 4  # beta of a fresh BatchNorm
    assert result.bytes_by_dtype == {"float32": 4 * result.params}
    assert result.buffer_bytes == 4 * 30 + 16 + 16 + 8
    assert result.details["tied"] == {"again.weight": "tied.weight"}
    assert result.details["never_called"] == ["dead"]
    assert result.details["weights_in_buffers"] == {"mel": 30}
    live = audit(net, 1, 2, 6, 6)
    assert result.source == live.source == "Net"
    assert result.macs_by_convention == live.macs_by_convention
    assert result.peak_activation_bytes == live.peak_activation_bytes
    macs = {layer.name: (layer.kind, layer.macs) for layer in live.layers if layer.macs}
    # no hook sees which of two tied layers runs: both products stand at the first
    macs["tied"] = ("Linear", macs["tied"][1] + macs.pop("again")[1])
    assert {k.name: (k.kind, k.macs) for k in result.layers if k.macs} == macs


def test_a_scripted_network_is_left_as_it_was() -> None:
    script = scripted(Net()).train()
    before = copy.deepcopy(script.state_dict())
    names = [name for name, _ in script.named_modules()]
    audit(script, 1, 2, 6, 6)
    assert script.training
    assert all(module.training for module in script.modules())
    assert [name for name, _ in script.named_modules()] == names
    assert script.state_dict().keys() == before.keys()
    assert all(torch.equal(script.state_dict()[key], value) for key, value in before.items())
    with pytest.raises(UsageError, match="give inputs="):
        compressor.audit(script)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


def test_scripted_half_precision_and_recurrent() -> None:
    half = audit(scripted(nn.Sequential(nn.Linear(6, 4)).half()), 3, 6)
    assert (half.macs, half.bytes_by_dtype) == (72, {"float16": 2 * 28})
    gru = audit(scripted(Recurrent()), 1, 7, 5)
    assert (gru.macs, gru.params) == (7 * 12 * (5 + 4), 12 * 9 + 24)


def test_the_fused_transformer_kernel_of_a_scripted_layer() -> None:
    """A scripted layer cannot be switched off its fast path: the fused operator has a rule."""
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    # 6 tokens of 8: qkv 8 x 24, out 8 x 8, 8 x 16 twice; 6 x 6 pairs x 8, scores and sums
    macs = 6 * (8 * 24 + 64 + 2 * 128) + 2 * 6 * 6 * 8
    assert audit(scripted(layer), 1, 6, 8).macs == macs
    assert audit(layer, 1, 6, 8).macs == macs


def test_the_fused_attention_operator() -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)
            self.out = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            done: Tensor = torch._native_multi_head_attention(
                x, x, x, 8, 2, self.qkv.weight, self.qkv.bias, self.out.weight, self.out.bias
            )[0]
            return done

    assert audit(Fused(), 1, 6, 8).macs == 6 * 8 * 24 + 2 * 6 * 6 * 8 + 6 * 64


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("nti,oi->nto", [(2, 3, 4), (5, 4)]),
        ("ij,ij->ij", [(3, 4), (3, 4)]),  # elementwise: no product of matrices
        ("i,j->ij", [(3,), (4,)]),  # an outer product: elementwise too
        ("ij,ij->", [(3, 4), (3, 4)]),
        ("ijk,jl->il", [(3, 4, 6), (4, 5)]),  # k is summed first
        ("ij,jk,kl->il", [(3, 4), (4, 5), (5, 6)]),
        ("...ij,...jk->...ik", [(2, 7, 3, 4), (7, 4, 5)]),
        ("b...d,de->b...e", [(2, 3, 5, 4), (4, 6)]),
        ("ij,jk", [(3, 4), (4, 5)]),
        ("...i,i", [(2, 3, 4), (4,)]),
        ("ii,ij->j", [(3, 3), (3, 4)]),
        ("ij->ji", [(3, 4)]),
    ],
)
def test_the_einsum_rule_agrees_with_the_products_that_torch_runs(
    equation: str, shapes: list[tuple[int, ...]]
) -> None:
    class Einsum(nn.Module):
        def forward(self, *operands: Tensor) -> Tensor:
            return torch.einsum(equation, *operands)

    live = compressor.audit(Einsum(), input_shape=shapes)
    rule = RULES["aten.einsum"](shapes, [], {"equation": equation})
    assert rule == live.macs


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (4, 5)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((2, 1, 3, 4), (7, 4, 5))],
)
def test_the_matmul_rule_agrees_with_the_products_that_torch_runs(
    left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.matmul(x, y)

    live = compressor.audit(Product(), input_shape=[left, right])
    assert RULES["aten.matmul"]([left, right], [], {}) == live.macs
