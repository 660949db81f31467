"""Multiply-accumulates and parameters of ONNX structures, each worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import compressor

Node = onnx.NodeProto
MS = "com.microsoft"


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def shape_of(*sizes: int) -> np.ndarray:
    return np.array(sizes, np.int64)


def audit(
    folder: Path,
    nodes: list[Node],
    inputs: dict[str, Any],
    weights: dict[str, np.ndarray],
    *,
    output: str = "y",
    opset: int = 23,
    dtype: int = TensorProto.FLOAT,
) -> compressor.audit.AuditResult:
    """Writes a model and audits it; its checker accepts what it can check."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    model = helper.make_model(graph, opset_imports=domains)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return compressor.audit(path)


def node(kind: str, inputs: str, outputs: str = "y", **attrs: Any) -> Node:
    """An operator; "x - w" leaves the second input out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attrs)


# name: nodes, inputs, weights, MACs, parameters. Every figure is worked out beside the case.
CASES: dict[str, tuple[list[Node], dict[str, Any], dict[str, np.ndarray], int, int]] = {
    # 8 filters of 3 x 3 x 3, each at 10 x 10 places (no kernel_shape, padding 1)
    "conv-without-kernel-shape": (
        [node("Conv", "x w b", pads=[1, 1, 1, 1])],
        {"x": [1, 3, 10, 10]},
        {"w": ones(8, 3, 3, 3), "b": ones(8)},
        8 * 3 * 3 * 3 * 10 * 10,
        8 * 3 * 3 * 3 + 8,
    ),
    # depthwise: 6 filters of 3 x 3, stride 2 without padding: (9 - 3) / 2 + 1 = 4 places an axis
    "conv-depthwise-stride": (
        [node("Conv", "x w", group=6, strides=[2, 2])],
        {"x": [1, 6, 9, 9]},
        {"w": ones(6, 1, 3, 3)},
        6 * 3 * 3 * 4 * 4,
        6 * 3 * 3,
    ),
    # 2 groups: each of 8 filters sees 2 of 4 channels; dilation 3 reaches 7: 12 - 7 + 1 = 6
    "conv-groups-dilation": (
        [node("Conv", "x w", group=2, dilations=[3])],
        {"x": [1, 4, 12]},
        {"w": ones(8, 2, 3)},
        8 * 2 * 3 * 6,
        8 * 2 * 3,
    ),
    # SAME_UPPER, stride 2 on 11: 6 places; a batch of 2
    "conv-same-batch": (
        [node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2])],
        {"x": [2, 4, 11]},
        {"w": ones(5, 4, 3)},
        2 * 5 * 4 * 3 * 6,
        5 * 4 * 3,
    ),
    "conv-3d": (
        [node("Conv", "x w")],
        {"x": [1, 2, 5, 6, 7]},
        {"w": ones(4, 2, 3, 3, 3)},
        4 * 2 * 27 * 3 * 4 * 5,
        4 * 2 * 27,
    ),
    # transposed: each weight meets each of the 5 x 5 *input* places
    "conv-transpose": (
        [node("ConvTranspose", "x w b", strides=[2, 2])],
        {"x": [1, 6, 5, 5]},
        {"w": ones(6, 4, 3, 3), "b": ones(4)},
        5 * 5 * 6 * 4 * 9,
        6 * 4 * 9 + 4,
    ),
    "conv-transpose-groups": (
        [node("ConvTranspose", "x w", group=3)],
        {"x": [1, 6, 7]},
        {"w": ones(6, 2, 4)},
        7 * 6 * 2 * 4,
        6 * 2 * 4,
    ),
    "deform-conv": (
        [node("DeformConv", "x w o", pads=[0, 0, 0, 0])],
        {"x": [1, 2, 5, 5], "o": [1, 18, 3, 3]},
        {"w": ones(4, 2, 3, 3)},
        4 * 2 * 9 * 9,
        4 * 2 * 9,
    ),
    "gemm-transposed-b": (
        [node("Gemm", "x w b", transB=1)],
        {"x": [1, 20]},
        {"w": ones(10, 20), "b": ones(10)},
        200,
        210,
    ),
    "gemm-transposed-a": (
        [node("Gemm", "x w", transA=1)],
        {"x": [20, 3]},
        {"w": ones(20, 10)},
        3 * 20 * 10,
        200,
    ),
    # a linear layer on 3 axes: 1 x 7 rows of 16 by 16 x 4, then a bias that costs nothing
    "matmul-add": (
        [node("MatMul", "x w", "h"), node("Add", "h b")],
        {"x": [1, 7, 16]},
        {"w": ones(16, 4), "b": ones(4)},
        7 * 16 * 4,
        16 * 4 + 4,
    ),
    # 5 x 3 products of (2 x 6) @ (6 x 4); the weight's first axis is spread over 5
    "matmul-broadcast": (
        [node("MatMul", "x w")],
        {"x": [5, 3, 2, 6]},
        {"w": ones(1, 3, 6, 4)},
        5 * 3 * 2 * 6 * 4,
        3 * 6 * 4,
    ),
    "matmul-vector": (
        [node("MatMul", "x w")],
        {"x": [9, 6]},
        {"w": ones(6)},
        9 * 6,
        6,
    ),
    "matmul-of-activations": (
        [node("MatMul", "x z")],
        {"x": [2, 3, 4, 5], "z": [2, 3, 5, 6]},
        {},
        2 * 3 * 4 * 5 * 6,
        0,
    ),
    # b=2, i=3, j=4, k=5: every combination of letters once
    "einsum": (
        [node("Einsum", "x w", equation="bij,jk->bik")],
        {"x": [2, 3, 4]},
        {"w": ones(4, 5)},
        2 * 3 * 4 * 5,
        20,
    ),
    # only sums and a transposition: nothing is multiplied
    "einsum-one-operand": (
        [node("Einsum", "x", equation="bij->jb")],
        {"x": [2, 3, 4]},
        {},
        0,
        0,
    ),
    # i is summed up in x beforehand: 4 x 5 products remain
    "einsum-lonely-letter": (
        [node("Einsum", "x z", equation="ij,k->jk")],
        {"x": [3, 4], "z": [5]},
        {},
        4 * 5,
        0,
    ),
    # left to right: ab,bc -> ac (2 x 3 x 4), then ac,cd -> ad (2 x 4 x 5)
    "einsum-three-operands": (
        [node("Einsum", "x w v", equation="ab,bc,cd->ad")],
        {"x": [2, 3]},
        {"w": ones(3, 4), "v": ones(4, 5)},
        2 * 3 * 4 + 2 * 4 * 5,
        12 + 20,
    ),
    "einsum-ellipsis": (
        [node("Einsum", "x w", equation="...i,ij->...j")],
        {"x": [2, 7, 3]},
        {"w": ones(3, 4)},
        2 * 7 * 3 * 4,
        12,
    ),
    # 3 gates: T=6 steps x N=2 x (3 x 8 x 5 + 3 x 8 x 8); biases 2 x 3 x 8 cost nothing
    "gru": (
        [node("GRU", "x w r b", "y h", hidden_size=8)],
        {"x": [6, 2, 5]},
        {"w": ones(1, 24, 5), "r": ones(1, 24, 8), "b": ones(1, 48)},
        6 * 2 * (24 * 5 + 24 * 8),
        24 * 5 + 24 * 8 + 48,
    ),
    # both directions, 4 gates
    "lstm-bidirectional": (
        [node("LSTM", "x w r b", "y h c", hidden_size=8, direction="bidirectional")],
        {"x": [6, 2, 5]},
        {"w": ones(2, 32, 5), "r": ones(2, 32, 8), "b": ones(2, 64)},
        6 * 2 * 2 * (32 * 5 + 32 * 8),
        2 * (32 * 5 + 32 * 8 + 64),
    ),
    "rnn-reverse-batch-first": (
        [node("RNN", "x w r", hidden_size=4, direction="reverse", layout=1)],
        {"x": [3, 7, 5]},
        {"w": ones(1, 4, 5), "r": ones(1, 4, 4)},
        3 * 7 * (4 * 5 + 4 * 4),
        4 * 5 + 4 * 4,
    ),
    # L=4 queries x S=6 keys x (E=8 + V=10), 3 heads, a batch of 2
    "attention-4-axes": (
        [node("Attention", "q k v")],
        {"q": [2, 3, 4, 8], "k": [2, 3, 6, 8], "v": [2, 3, 6, 10]},
        {},
        2 * 3 * 4 * 6 * (8 + 10),
        0,
    ),
    # 6 query heads of 8 on 2 shared key heads: every query head counts
    "attention-grouped-3-axes": (
        [node("Attention", "q k v", q_num_heads=6, kv_num_heads=2)],
        {"q": [1, 4, 48], "k": [1, 5, 16], "v": [1, 5, 16]},
        {},
        6 * 4 * 5 * (8 + 8),
        0,
    ),
    # two past keys: S = 3 + 2
    "attention-past": (
        [node("Attention", "q k v - pk pv", "y k2 v2")],
        {"q": [1, 2, 3, 4], "k": [1, 2, 3, 4], "v": [1, 2, 3, 4]}
        | {"pk": [1, 2, 2, 4], "pv": [1, 2, 2, 4]},
        {},
        2 * 3 * 5 * (4 + 4),
        0,
    ),
    # projection: 6 x 16 x 48; then 6 x 6 x (16 + 16)
    "microsoft-attention": (
        [node("Attention", "x w b", num_heads=4, domain=MS)],
        {"x": [1, 6, 16]},
        {"w": ones(16, 48), "b": ones(48)},
        6 * 16 * 48 + 6 * 6 * 32,
        16 * 48 + 48,
    ),
    "microsoft-multi-head": (
        [node("MultiHeadAttention", "q k v", num_heads=2, domain=MS)],
        {"q": [1, 4, 12], "k": [1, 6, 12], "v": [1, 6, 10]},
        {},
        4 * 6 * (12 + 10),
        0,
    ),
    "microsoft-grouped-query": (
        [node("GroupQueryAttention", "q k v pk pv", num_heads=4, kv_num_heads=2, domain=MS)],
        {"q": [1, 1, 32], "k": [1, 1, 16], "v": [1, 1, 16]}
        | {"pk": [1, 2, 5, 8], "pv": [1, 2, 5, 8]},
        {},
        1 * 6 * 2 * 32,
        0,
    ),
    "microsoft-fused": (
        [
            node("FusedConv", "x w b", "h", activation="Relu", domain=MS),
            node("Flatten", "h", "f"),
            node("FusedMatMul", "f v", transB=1, domain=MS),
        ],
        {"x": [1, 2, 5]},
        {"w": ones(3, 2, 2), "b": ones(3), "v": ones(7, 12)},
        3 * 2 * 2 * 4 + 7 * 12,
        12 + 3 + 84,
    ),
    # mean and variance of BatchNormalization are buffers; scale and bias are parameters
    "batch-norm": (
        [node("Conv", "x w", "h"), node("BatchNormalization", "h s b m v")],
        {"x": [1, 3, 4, 4]},
        {"w": ones(6, 3, 1, 1), "s": ones(6), "b": ones(6), "m": ones(6), "v": ones(6)},
        6 * 3 * 16,
        18 + 12,
    ),
    "norms-and-prelu": (
        [
            node("LayerNormalization", "x s b", "h"),
            node("InstanceNormalization", "h s2 b2", "i"),
            node("GroupNormalization", "i s3 b3", "j", num_groups=2),
            node("PRelu", "j p"),
        ],
        {"x": [1, 4, 6]},
        {"s": ones(6), "b": ones(6), "s2": ones(4), "b2": ones(4), "s3": ones(4), "b3": ones(4)}
        | {"p": ones(1)},
        0,
        6 + 6 + 4 + 4 + 4 + 4 + 1,
    ),
    # a table of 50 words of 16 numbers: 800 parameters, no multiplication
    "embedding": (
        [node("Gather", "t i")],
        {"i": [3]},
        {"t": ones(50, 16)},
        0,
        800,
    ),
    # shapes, axes, pads, limits and factors are no parameters
    "constants-are-no-parameters": (
        [
            node("Reshape", "x shape", "a"),
            node("Pad", "a pads", "p"),
            node("Slice", "p start end axes", "s"),
            node("Clip", "s low high", "c"),
            node("Mul", "c factor", "m"),
            node("Unsqueeze", "m axes2", "u"),
            node("Resize", "u - scales"),
        ],
        {"x": [1, 2, 8]},
        {
            "shape": shape_of(1, 4, -1),
            "pads": shape_of(0, 0, 1, 0, 0, 1),
            "start": shape_of(0),
            "end": shape_of(4),
            "axes": shape_of(2),
            "low": np.float32(0),
            "high": np.float32(6),
            "factor": np.float32(0.125),
            "axes2": shape_of(0),
            "scales": ones(4) * 2,
        },
        0,
        0,
    ),
    # the target of the Reshape is computed: Shape -> Gather -> Concat, as exporters write it
    "computed-shape": (
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n"),
            node("Concat", "n rest", "t", axis=0),
            node("Reshape", "x t", "r"),
            node("MatMul", "r w"),
        ],
        {"x": [3, 4, 5]},
        {"zero": shape_of(0), "rest": shape_of(-1), "w": ones(20, 2)},
        3 * 20 * 2,
        40,
    ),
    # the same weight at two places: counted once, run twice
    "shared-weight": (
        [node("MatMul", "x w", "h"), node("MatMul", "h w")],
        {"x": [2, 6]},
        {"w": ones(6, 6)},
        2 * (2 * 36),
        36,
    ),
    # behind an Identity and a Transpose it is still one tensor
    "tied-through-identity": (
        [
            node("Identity", "w", "w2"),
            node("Transpose", "w2", "w3", perm=[1, 0]),
            node("Gather", "w i", "h"),
            node("MatMul", "h w3"),
        ],
        {"i": [4]},
        {"w": ones(10, 6)},
        4 * 6 * 10,
        60,
    ),
    "causal-conv": (
        [node("CausalConvWithState", "x w")],
        {"x": [1, 6, 9]},
        {"w": ones(6, 1, 4)},
        6 * 4 * 9,
        24,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_structure(name: str, tmp_path: Path) -> None:
    nodes, inputs, weights, macs, params = CASES[name]
    kind = TensorProto.INT64 if name in {"embedding", "tied-through-identity"} else 1
    opset = 27 if name == "causal-conv" else 23
    result = audit(tmp_path, nodes, inputs, weights, dtype=kind, opset=opset)
    assert (result.macs, result.params) == (macs, params)
    assert result.nonzero_params == params
    assert result.status == "exact", result.notes
