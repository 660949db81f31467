"""From operator to multiply-accumulates: the strict convention, as one table.

Strict counts the multiply-accumulates of convolutions, transposed convolutions, linear layers,
matrix products, recurrent products and attention, and nothing else: no bias, no normalisation, no
activation, no pooling, no elementwise product (conventions.py has the official ones). Each rule is
a pure function of shapes. An operator that stands neither in `RULES` nor in `FREE` is *not* taken
for zero: it is reported as uncounted and makes the figure partial.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from compressor.audit.freeops import FREE
from compressor.audit.graph import Graph, Shape
from compressor.errors import ModelFileError

__all__ = ["RULES", "strict_macs"]

Shapes = Sequence[Shape]
Rule = Callable[[Shapes, Shapes, Mapping[str, Any]], int]


def _convolution(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """Weights x positions they are applied at.

    Weight (O, I/groups, *kernel): every weight meets every output position once. Transposed,
    weight (I, O/groups, *kernel): every weight meets every *input* position once. Padding counts
    as data.
    """
    image, weight = inputs[0], inputs[1]
    positions = image if attrs.get("transposed") else outputs[0]
    spatial = len(weight) - 2
    if len(image) not in {spatial + 1, spatial + 2} or len(positions) < spatial:
        raise ValueError(f"input {image} does not fit a weight {weight}")
    batch = image[0] if len(image) == spatial + 2 else 1
    return batch * prod(positions[len(positions) - spatial :]) * prod(weight)


def _conv_tbc(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Input (T, N, I), weight (K, I, O): each weight at each of T' x N positions."""
    return prod(outputs[0][:2]) * prod(inputs[1])


def _matmul(left: Shape, right: Shape) -> int:
    """(..., m, k) @ (..., k, n) with equal leading axes: m x k x n for each of them."""
    if len(left) < 2 or len(right) < 2 or left[-1] != right[-2]:
        raise ValueError(f"{left} @ {right} is not a matrix product")
    return prod(left) * right[-1]


def _mm(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    return _matmul(inputs[0], inputs[1])


def _addmm(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    """The first input is the bias or summand: additions only."""
    return _matmul(inputs[1], inputs[2])


def _mv(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    return prod(inputs[0])


def _addmv(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    return prod(inputs[1])


def _outer(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    return prod(inputs[1]) * prod(inputs[2])


def _linear(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Input (..., I), weight (O, I): I x O for each row."""
    if inputs[0][-1:] != inputs[1][-1:]:
        raise ValueError(f"{inputs[0]} does not fit a weight {inputs[1]}")
    return prod(inputs[0][:-1]) * prod(inputs[1])


def _attention(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Query (..., L, E), key (..., S, E), value (..., S, V): L x S x (E + V) for each head.

    A causal mask does not lower the count; grouped queries use every query head.
    """
    query, key, value = inputs[0], inputs[1], inputs[2]
    if len(query) < 2 or len(key) < 2 or len(value) < 2:
        raise ValueError(f"{query}, {key}, {value} is no attention")
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(inputs: Shapes, _outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """Every weight matrix of a GRU, LSTM or RNN meets every step of every sequence once.

    Biases and the elementwise gate products are not multiply-accumulates of the convention.
    """
    steps = prod(inputs[0][:-1])  # (T, N, I), (N, T, I), (T, I) or packed (steps, I)
    first, last = attrs["weights"]
    return steps * sum(prod(shape) for shape in inputs[first:last] if len(shape) == 2)


def _onednn_lstm(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    """One layer, one direction: input (T, N, I), then weights (4H, I) and (4H, H)."""
    return prod(inputs[0][:-1]) * (prod(inputs[1]) + prod(inputs[2]))


RULES: Mapping[str, Rule] = {
    "aten.convolution": _convolution,
    "aten._convolution": _convolution,
    "aten.mkldnn_convolution": _convolution,
    "aten.conv_tbc": _conv_tbc,
    "quantized.conv": _convolution,
    "aten.mm": _mm,
    "aten.bmm": _mm,
    "aten.addmm": _addmm,
    "aten.baddbmm": _addmm,
    "aten.addbmm": _addmm,
    "aten._addmm_activation": _addmm,
    "aten.mv": _mv,
    "aten.dot": _mv,
    "aten.vdot": _mv,
    "aten.addmv": _addmv,
    "aten.addr": _outer,
    "aten._int_mm": _mm,
    "aten._sparse_mm": _mm,
    "aten.linear": _linear,
    "aten.mkldnn_linear": _linear,
    "quantized.linear": _linear,
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten._scaled_dot_product_flash_attention": _attention,
    "aten._scaled_dot_product_efficient_attention": _attention,
    "aten._scaled_dot_product_cudnn_attention": _attention,
    "aten._scaled_dot_product_attention_math": _attention,
    "aten.mkldnn_rnn_layer": _onednn_lstm,
    "recurrent": _recurrent,
}


def strict_macs(graph: Graph) -> tuple[dict[int, int], Counter[str]]:
    """Counts a graph.

    Returns:
        MACs by module index, and the operators without a rule with how often each ran
        ("aten._fft_r2c at frontend").

    Raises:
        ModelFileError: the shapes of an operator contradict each other.
    """
    macs: dict[int, int] = {}
    uncounted: Counter[str] = Counter()
    for op in graph.ops:
        rule = RULES.get(op.name)
        if rule is None:
            if op.name not in FREE and op.name.removesuffix("_") not in FREE:
                path = graph.modules[op.module].path
                uncounted[f"{op.name} at {path}" if path else op.name] += 1
            continue
        try:
            count = rule(graph.shapes(op.inputs), graph.shapes(op.outputs), op.attrs)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"graph: the shapes at {graph.where(op)} contradict each other: {error}"
            ) from error
        macs[op.module] = macs.get(op.module, 0) + count
    return macs, uncounted
