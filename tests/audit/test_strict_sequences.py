"""Recurrent layers and attention, each count by hand."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import compressor
from compressor.audit import AuditResult


def audit(module: nn.Module, *shape: int, inputs: Any = None) -> AuditResult:
    result = compressor.audit(module, inputs=inputs, input_shape=shape or None)
    assert sum(layer.macs for layer in result.layers) == result.macs
    assert sum(layer.params for layer in result.layers) == result.params
    assert sum(layer.nonzero_params for layer in result.layers) == result.nonzero_params
    assert sum(layer.param_bytes for layer in result.layers) == result.param_bytes
    assert sum(result.bytes_by_dtype.values()) == result.param_bytes
    return result


def test_gru_two_layers_both_directions() -> None:
    # 7 steps; each direction: 3 gates x hidden 4 x (inputs + hidden); layer 2 sees 2 x 4 inputs
    steps = 7
    macs = steps * 2 * (3 * 4 * (5 + 4) + 3 * 4 * (8 + 4))
    result = audit(nn.GRU(5, 4, num_layers=2, bidirectional=True), steps, 1, 5)
    assert result.macs == macs
    assert result.params == 2 * (3 * 4 * (5 + 4) + 24) + 2 * (3 * 4 * (8 + 4) + 24)


@pytest.mark.parametrize("batch_first", [False, True])
def test_lstm_with_batch(batch_first: bool) -> None:
    shape = (2, 7, 5) if batch_first else (7, 2, 5)
    result = audit(nn.LSTM(5, 4, batch_first=batch_first), *shape)
    assert result.macs == 7 * 2 * 4 * 4 * (5 + 4)
    assert result.params == 4 * 4 * (5 + 4) + 2 * 16


def test_lstm_projection_rnn_and_packed_sequence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: no oneDNN kernel for projections
        projected = audit(nn.LSTM(5, 4, proj_size=3), 7, 1, 5)
    assert projected.macs == 7 * (16 * 5 + 16 * 3 + 3 * 4)  # W_ih, W_hh on 3 numbers, W_hr
    assert audit(nn.RNN(5, 4), 7, 1, 5).macs == 7 * 4 * 9
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(7, 2, 5), torch.tensor([7, 3]))
    assert audit(nn.GRU(5, 4), inputs=(packed,)).macs == (7 + 3) * 3 * 4 * 9


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_recurrent_rule_agrees_with_the_step_by_step_product(kind: Any) -> None:
    """The collapsed layer against the same steps by hand, counted as plain matrix products."""
    layer = kind(5, 4)
    gates = 3 if kind is nn.GRU else 4

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.randn(5, gates * 4))
            self.b = nn.Parameter(torch.randn(4, gates * 4))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros(x.shape[1], 4)
            for frame in x:
                h = (frame @ self.a + h @ self.b)[:, :4]
            return h

    assert audit(layer, 6, 2, 5).macs == audit(Steps(), 6, 2, 5).macs


def test_gru_cell_in_a_loop() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], 4)
            for frame in x:
                h = self.cell(frame, h)
            return h

    result = audit(Loop(), 6, 1, 5)
    assert result.macs == 6 * 3 * 4 * (5 + 4)
    assert next(layer for layer in result.layers if layer.name == "cell").calls == 6


def test_multihead_attention_in_eval_mode() -> None:
    # 6 tokens of 8: in-projection 3 x 8x8, scores and sums 2 heads x 6x6 x 4 each, out 8x8
    macs = 6 * 8 * 24 + 2 * 2 * (6 * 6 * 4) + 6 * 8 * 8
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(1, 6, 8)
    result = audit(attention, inputs=(x, x, x))
    assert result.macs == macs
    assert result.params == 24 * 8 + 24 + 8 * 8 + 8


def test_transformer_encoder_layer_off_the_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True).eval()
    attention = 6 * 8 * 24 + 2 * 2 * (6 * 6 * 4) + 6 * 8 * 8
    assert audit(layer, 1, 6, 8).macs == attention + 6 * 8 * 16 * 2


def test_scaled_dot_product_attention_grouped_and_causal() -> None:
    class Attend(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, is_causal=False)

    q, k, v = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 7, 4), torch.randn(1, 2, 7, 3)
    assert audit(Attend(), inputs=(q, k, v)).macs == 2 * (5 * 7 * 4 + 5 * 7 * 3)
