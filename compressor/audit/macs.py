"""From operator to multiply-accumulates: the strict convention, as one table.

Strict counts the multiply-accumulates of convolutions, transposed convolutions, linear layers,
matrix products, recurrent products and attention, and nothing else: no bias, no normalisation, no
activation, no pooling, no elementwise product (conventions.py has the official ones). Each rule is
a pure function of shapes. An operator that stands neither in `RULES` nor in `FREE` is *not* taken
for zero: it is reported as uncounted and makes the figure partial.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from compressor.audit.freeops import FREE
from compressor.audit.graph import Graph, Shape
from compressor.errors import ModelFileError

__all__ = ["RULES", "Rule", "is_free", "rule_for", "strict_macs"]

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


def _encoder_layer(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    """A fused transformer layer: source (N, L, E), weights of qkv, out, two norms, two ffn.

    Every token meets the four matrices once; each pair of tokens costs E for its score and E for
    its sum.
    """
    batch, tokens, width = inputs[0]
    matrices = [shape for shape in inputs[1:13] if len(shape) == 2]
    return batch * tokens * (sum(map(prod, matrices)) + 2 * tokens * width)


def _fused_attention(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Query (N, L, E), key (N, S, E), value, then in-projection (3E, E) and out-projection."""
    batch, length, width = inputs[0]
    keys = inputs[1][1]
    projections = (length + 2 * keys) * width * width + length * prod(inputs[5])
    return batch * (projections + 2 * length * keys * width)


def _packed_mm(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """Input (..., K) times a packed weight of any layout: K for each output number."""
    return prod(outputs[0]) * inputs[0][-1]


def _recurrent(inputs: Shapes, _outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """Every weight matrix of a GRU, LSTM or RNN meets every step of every sequence once.

    Biases and the elementwise gate products are not multiply-accumulates of the convention.
    """
    steps = prod(inputs[0][:-1])  # (T, N, I), (N, T, I), (T, I) or packed (steps, I)
    first, last = attrs["weights"]
    return steps * sum(prod(shape) for shape in inputs[first:last] if len(shape) == 2)


def _cell(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Any]) -> int:
    """One step of a recurrent layer: input (N, I), states (N, H), weights (G, I) and (G, H)."""
    steps = prod(inputs[0][:-1])
    return steps * sum(prod(shape) for shape in _cell_weights(inputs))


def _cell_weights(inputs: Shapes) -> Shapes:
    """The two matrices among the arguments: those after one state (GRU, RNN) or two (LSTM)."""
    features, hidden = inputs[0][-1], inputs[1][-1]
    for first in (2, 3):
        pair = inputs[first : first + 2]
        if len(pair) == 2 and all(len(shape) == 2 for shape in pair):
            gates = pair[0][0]
            if (pair[0], pair[1]) == ((gates, features), (gates, hidden)) and gates % hidden == 0:
                return pair
    raise ValueError(f"{inputs} is no recurrent cell")


def _matmul_any(inputs: Shapes, outputs: Shapes, _: Mapping[str, Any]) -> int:
    """`torch.matmul` with broadcasting, also of vectors: one product of length k an output."""
    left, right = inputs[0], inputs[1]
    if not left or not right or left[-1] != (right[-2] if len(right) > 1 else right[-1]):
        raise ValueError(f"{left} @ {right} is not a matrix product")
    batch = _broadcast(left[:-2], right[:-2])
    return prod(batch) * prod(left[-2:]) * (right[-1] if len(right) > 1 else 1)


def _broadcast(left: Shape, right: Shape) -> Shape:
    """Shape of two arrays taken together; raises ValueError where they do not fit."""
    width = max(len(left), len(right))
    padded = ((1,) * (width - len(left)) + left, (1,) * (width - len(right)) + right)
    if any(a != b and 1 not in (a, b) for a, b in zip(*padded, strict=True)):
        raise ValueError(f"{left} and {right} do not fit together")
    return tuple(b if a == 1 else a for a, b in zip(*padded, strict=True))


def _einsum(inputs: Shapes, _outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """Operands are taken from left to right, as torch does; each pair is one matrix product.

    A pair costs the product of the sizes of all its labels, but for those that one operand alone
    has and nothing needs later (they are summed first). A pair without a label to sum over is an
    elementwise product: 0.
    """
    terms, result = _labels(attrs["equation"].replace(" ", ""), inputs)
    size: dict[str, int] = {}
    for term, shape in zip(terms, inputs, strict=True):
        for label, length in zip(term, shape, strict=True):
            size[label] = max(size.get(label, 1), length)
    total = 0
    have = set(terms[0])
    for place, term in enumerate(terms[1:], start=2):
        needed = set(result).union(*terms[place:])
        left = {label for label in have if label in needed or label in term}
        right = {label for label in term if label in needed or label in have}
        if (left & right) - needed:
            total += prod(size[label] for label in left | right)
        have = (left | right) & needed
    return total


def _labels(equation: str, inputs: Shapes) -> tuple[list[str], str]:
    """Splits an equation into one label an axis for each operand, and the labels of the result.

    The axes under "..." get labels of their own, counted from the right.
    """
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(inputs):
        raise ValueError(f"{equation[:80]} does not fit {inputs}")
    widest = ""
    for place, (term, shape) in enumerate(zip(terms, inputs, strict=True)):
        spread = len(shape) - len(term) + 3 if "..." in term else 0
        hidden = "".join(chr(0xE000 + axis) for axis in reversed(range(spread)))
        terms[place] = term.replace("...", hidden)
        widest = max(widest, hidden, key=len)
        if len(terms[place]) != len(shape):
            raise ValueError(f"{equation[:80]} does not fit {inputs}")
    if not arrow:
        once = {c for c in left if c.isalpha() and left.count(c) == 1}
        result = "..." + "".join(sorted(once))
    return terms, result.replace("...", widest)


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
    "aten.matmul": _matmul_any,
    "aten.einsum": _einsum,
    "aten.gru_cell": _cell,
    "aten.lstm_cell": _cell,
    "aten.rnn_tanh_cell": _cell,
    "aten.rnn_relu_cell": _cell,
    "aten.scaled_dot_product_attention": _attention,
    "aten.dot": _mv,
    "aten.vdot": _mv,
    "aten.addmv": _addmv,
    "aten.addr": _outer,
    "aten._int_mm": _mm,
    "aten._scaled_mm": _mm,
    "aten._weight_int8pack_mm": _packed_mm,
    "aten._weight_int4pack_mm": _packed_mm,
    "aten._weight_int4pack_mm_for_cpu": _packed_mm,
    "aten._weight_int4pack_mm_with_scales_and_zeros": _packed_mm,
    "aten._dyn_quant_matmul_4bit": _packed_mm,
    "aten._transformer_encoder_layer_fwd": _encoder_layer,
    "aten._native_multi_head_attention": _fused_attention,
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


# Operators of other formats ("onnx.Conv"): tables of their own, loaded when a graph holds one.
_FORMAT_TABLES: Mapping[str, str] = {
    "onnx": "compressor.audit.onnxops",
    "tflite": "compressor.audit.tfliteops",
    "keras": "compressor.audit.kerasops",
}


def rule_for(name: str) -> Rule | None:
    """Returns the counting rule of an operator of any format; None where it has none."""
    table = _FORMAT_TABLES.get(name.partition(".")[0])
    if table is not None:
        rules: Mapping[str, Rule] = importlib.import_module(table).RULES
        return rules.get(name)
    return RULES.get(name)


def is_free(name: str) -> bool:
    """Tells whether an operator is known to hold no multiply-accumulates."""
    table = _FORMAT_TABLES.get(name.partition(".")[0])
    if table is not None:
        return name in importlib.import_module(table).FREE
    return name in FREE or name.removesuffix("_") in FREE


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
        rule = rule_for(op.name)
        if rule is None:
            if not is_free(op.name):
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
