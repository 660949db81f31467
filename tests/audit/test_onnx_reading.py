"""What the ONNX reader says of a network: layers, conventions, memory, open axes, doubts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper

import compressor
from compressor.audit.onnxops import FREE, RULES

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


def test_batch_norm_keeps_its_statistics_apart(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "h"), node("BatchNormalization", "h s b m v")]
    weights = {"w": ones(6, 3, 1, 1), "s": ones(6), "b": ones(6), "m": ones(6), "v": ones(6)}
    result = audit(tmp_path, nodes, {"x": [1, 3, 4, 4]}, weights)
    assert result.buffer_bytes == 2 * 6 * 4
    expected = {
        "strict": 18 + 12,
        "nessi": 18 + 12,
        "keras-2020": 18,  # without BatchNorm
        "keras-2021": 18 + 12 + 12,  # with its moving statistics
    }
    assert {key: result.params_by_convention[key] for key in expected} == expected
    # conv 18 x 16 places; BatchNorm its 12 parameters once
    assert result.macs_by_convention["nessi"] == 18 * 16 + 12


def test_every_standard_operator_is_known_or_named() -> None:
    """An operator is counted, known to be free, or reported: nothing is forgotten by accident."""
    standard = {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}
    known = {name.removeprefix("onnx.") for name in (*RULES, *FREE)}
    # transforms without a rule; operators that hold graphs; others that are reported
    walked = {"If", "Loop", "Scan"}
    reported = {"DFT", "STFT", "Det", "ImageDecoder", "LinearAttention", "SequenceMap"}
    assert standard - known == walked | reported | {"TfIdfVectorizer"}


def test_unknown_operators_make_the_figure_partial_and_are_named(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "h"),
        node("MagicConv", "h v", "m", domain="my.domain"),
        node("Relu", "m"),
    ]
    weights = {"w": ones(2, 2, 1), "v": ones(3, 3)}
    result = audit(tmp_path, nodes, {"x": [1, 2, 5]}, weights)
    assert result.macs == 2 * 2 * 5
    assert result.params == 4 + 9  # what an unknown operator reads is a parameter
    assert result.statuses["macs"] == "partial"
    assert any("onnx.my.domain.MagicConv" in text for text in result.uncounted)


def test_a_product_behind_an_unknown_shape_is_named(tmp_path: Path) -> None:
    nodes = [node("NonZero", "x", "n"), node("Cast", "n", "f", to=1), node("MatMul", "w f")]
    result = audit(tmp_path, nodes, {"x": [4, 4]}, {"w": ones(3, 2)})
    assert result.statuses["macs"] == "partial"
    assert any("onnx.MatMul" in text and "shape not known" in text for text in result.uncounted)


def test_symbolic_batch_counts_as_one(tmp_path: Path) -> None:
    weights = {"w": ones(4, 3, 3)}
    one = audit(tmp_path, [node("Conv", "x w")], {"x": ["batch", 3, 9]}, weights)
    assert (one.macs, one.input_shape, one.status) == (4 * 3 * 3 * 7, (1, 3, 9), "exact")
    unnamed = audit(tmp_path, [node("Conv", "x w")], {"x": [None, 3, 9]}, weights)
    assert unnamed.macs == one.macs
    # (T, N, I): the axis that is called batch is the batch, the first one stays open
    weights = {"w": ones(1, 3, 4), "r": ones(1, 3, 3)}
    rnn = [node("RNN", "x w r", hidden_size=3)]
    named = audit(tmp_path, rnn, {"x": [5, "batch_size", 4]}, weights)
    assert named.macs == 5 * (3 * 4 + 3 * 3)


def test_another_open_axis_leaves_the_macs_unknown(tmp_path: Path) -> None:
    weights = {"w": ones(4, 3, 3)}
    result = audit(tmp_path, [node("Conv", "x w")], {"x": ["n", 3, "time"]}, weights)
    assert result.macs is None
    assert result.statuses["macs"] == "unknown"
    assert result.params == 36
    assert any("'x' (nx3xtime) leaves axis 2 open" in note for note in result.notes)


def test_peak_memory_by_liveness(tmp_path: Path) -> None:
    """x (96 B) -> a (96 B) -> view of a -> b (16 B): the peak is x and a together."""
    nodes = [
        node("Relu", "x", "a"),
        node("Reshape", "a shape", "v"),  # no copy
        node("MatMul", "v w", "b"),
        node("Relu", "b"),
    ]
    weights = {"shape": shape_of(4, 6), "w": ones(6, 1)}
    result = audit(tmp_path, nodes, {"x": [1, 4, 6]}, weights)
    assert result.peak_activation_bytes == 96 + 96
    assert result.peak_activation_layer == "Relu_0 (onnx.Relu)"


def test_layers_are_named_after_weights_or_operators(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x features.0.weight", "h", name="/features/features.0/Conv"),
        node("Conv", "h onnx::Conv_12 onnx::Conv_13", "i", name="/features/features.1/c/Conv"),
        node("Relu", "i", name="/features/features.2/Relu"),
    ]
    weights = {
        "features.0.weight": ones(2, 2, 1),
        "onnx::Conv_12": ones(3, 2, 1),
        "onnx::Conv_13": ones(3),
    }
    result = audit(tmp_path, nodes, {"x": [1, 2, 5]}, weights)
    assert [(layer.name, layer.kind, layer.params, layer.macs) for layer in result.layers] == [
        ("features.0", "Conv", 4, 20),
        ("features.1.c", "Conv", 9, 30),
        ("features.2", "Relu", 0, 0),
    ]


@pytest.mark.parametrize(
    ("scale", "shift", "params"), [(1.0, 0.0, 0), (1.0, 0.5, 8), (2.0, 0.0, 8)]
)
def test_instance_norm_that_changes_nothing_is_no_layer(
    scale: float, shift: float, params: int, tmp_path: Path
) -> None:
    """Exporters write GroupNorm as InstanceNormalization with ones and zeros, then Mul and Add."""
    weights = {"s": ones(4) * np.float32(scale), "b": np.full(4, shift, np.float32)}
    nodes = [node("InstanceNormalization", "x s b", "h"), node("Mul", "h g")]
    result = audit(tmp_path, nodes, {"x": [1, 4, 6]}, weights | {"g": ones(4, 1)})
    assert result.params == params + 4


def test_constants_that_exporters_make_are_no_parameters(tmp_path: Path) -> None:
    """Factors and zero states in Constant nodes; the same as initializers may be learned."""
    made = {"k": ones(1) * 2, "h": np.zeros((1, 4), np.float32)}
    nodes = [
        *(
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
            for name, value in made.items()
        ),
        node("Gemm", "h w", "a"),
        node("Mul", "x k", "b"),
        node("Add", "a b"),
    ]
    weights = {"w": ones(4, 4)}
    result = audit(tmp_path, nodes, {"x": [1, 4]}, weights)
    assert (result.params, result.macs) == (16, 16)
    result = audit(tmp_path, nodes[2:], {"x": [1, 4]}, weights | made)
    assert result.params == 16 + 1 + 4


def test_two_operators_of_one_name_stay_two_layers(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x v", "h", name="same"),
        node("Conv", "h w", name="same"),
    ]
    weights = {"v": ones(4, 2, 1), "w": ones(3, 4, 1)}
    result = audit(tmp_path, nodes, {"x": [1, 2, 5]}, weights)
    assert [(layer.name, layer.params, layer.macs) for layer in result.layers] == [
        ("same", 8, 40),
        ("same_2", 12, 60),
    ]
