"""Branches, loops, scans, sequences and local functions of ONNX, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import compressor

Node = onnx.NodeProto


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def node(kind: str, inputs: str, outputs: str = "y", **attrs: Any) -> Node:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attrs)


def graph(
    nodes: list[Node],
    inputs: dict[str, Any],
    outputs: str = "y",
    weights: dict[str, Any] | None = None,
) -> onnx.GraphProto:
    """A graph; an input (type, shape) has another type than float32."""
    infos = []
    for name, held in inputs.items():
        dtype, shape = held if isinstance(held, tuple) else (TensorProto.FLOAT, held)
        infos.append(helper.make_tensor_value_info(name, dtype, shape))
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()]
    empty = [helper.make_empty_tensor_value_info(name) for name in outputs.split()]
    return helper.make_graph(nodes, "g", infos, empty, stored)


def audit(
    folder: Path,
    top: onnx.GraphProto,
    functions: tuple[onnx.FunctionProto, ...] = (),
    domains: tuple[str, ...] = (),
) -> compressor.audit.AuditResult:
    opsets = [helper.make_opsetid("", 21), *(helper.make_opsetid(name, 1) for name in domains)]
    model = helper.make_model(top, opset_imports=opsets, functions=functions)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return compressor.audit(path)


BOOL, LONG = (TensorProto.BOOL, []), (TensorProto.INT64, [])


def branches(small: int, large: int) -> dict[str, onnx.GraphProto]:
    """Two branches: a product with 6 x small numbers, and one with 6 x large."""
    return {
        "then_branch": graph([node("MatMul", "x w1", "a")], {}, "a", {"w1": ones(6, small)}),
        "else_branch": graph([node("MatMul", "x w2", "b")], {}, "b", {"w2": ones(6, large)}),
    }


def test_if_counts_the_larger_branch_and_says_so(tmp_path: Path) -> None:
    top = graph([node("If", "c", **branches(2, 5))], {"c": BOOL, "x": [3, 6]})
    result = audit(tmp_path, top)
    assert result.macs == 3 * 6 * 5  # the other has 3 x 6 x 2
    assert result.params == 6 * 2 + 6 * 5  # both are stored
    assert any("the larger is counted (90 MACs, the other 36)" in note for note in result.notes)
    assert result.statuses["macs"] == "exact"


@pytest.mark.parametrize(("condition", "macs"), [(True, 3 * 6 * 2), (False, 3 * 6 * 5)])
def test_if_with_a_known_condition(condition: bool, macs: int, tmp_path: Path) -> None:
    top = graph(
        [node("If", "c", **branches(2, 5))], {"x": [3, 6]}, weights={"c": np.array(condition)}
    )
    result = audit(tmp_path, top)
    assert (result.macs, result.params) == (macs, 6 * 7)
    assert not any("branch" in note for note in result.notes)


def test_if_on_a_computed_shape(tmp_path: Path) -> None:
    """What torch writes for `x if x.shape[0] == 3 else ...`: the condition is known."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Equal", "n three", "c"),
        node("If", "c", **branches(2, 5)),
    ]
    top = graph(nodes, {"x": [3, 6]}, weights={"zero": np.int64(0), "three": np.int64(3)})
    assert audit(tmp_path, top).macs == 3 * 6 * 2


def loop_body(nodes: list[Node], carried: dict[str, Any], outputs: str) -> onnx.GraphProto:
    return graph(nodes, {"i": LONG, "go": BOOL, **carried}, outputs)


STEP = loop_body(
    [node("Identity", "go", "go2"), node("MatMul", "h w", "h2"), node("Relu", "h2", "out")],
    {"h": [2, 4]},
    "go2 h2 out",
)


def test_loop_with_a_constant_trip_count(tmp_path: Path) -> None:
    """1,000 passes of 2 x 4 x 4; the weight lies outside of the body and counts once."""
    top = graph(
        [node("Loop", "n go0 x", "last all", body=STEP), node("MatMul", "last w2")],
        {"x": [2, 4]},
        "y all",
        {"n": np.int64(1000), "go0": np.array(True), "w": ones(4, 4), "w2": ones(4, 3)},
    )
    result = audit(tmp_path, top)
    assert result.macs == 1000 * 2 * 4 * 4 + 2 * 4 * 3
    assert (result.params, result.status) == (16 + 12, "exact")
    matmul = next(layer for layer in result.layers if layer.params == 16)
    assert matmul.calls == 1000


def test_nested_loops_multiply(tmp_path: Path) -> None:
    outer = loop_body(
        [node("Identity", "go", "go2"), node("Loop", "m go x2", "r all", body=STEP)],
        {"x2": [2, 4]},
        "go2 r",
    )
    weights = {"n": np.int64(100), "m": np.int64(70), "w": ones(4, 4)}
    top = graph([node("Loop", "n - x", body=outer)], {"x": [2, 4]}, weights=weights)
    assert audit(tmp_path, top).macs == 100 * 70 * 32


def test_loop_whose_value_grows_is_unrolled(tmp_path: Path) -> None:
    """h grows by 4 columns a pass; it is multiplied with itself: (2 x k) @ (k x 2)."""
    body = loop_body(
        [
            node("Identity", "go", "go2"),
            node("Concat", "h x", "h2", axis=1),
            node("Transpose", "h2", "t"),
            node("MatMul", "h2 t", "p"),
        ],
        {"h": [2, None]},
        "go2 h2 p",
    )
    top = graph(
        [node("Loop", "n - x", "h9 all", body=body), node("MatMul", "h9 w")],
        {"x": [2, 4]},
        weights={"n": np.int64(3), "w": ones(16, 5)},
    )
    result = audit(tmp_path, top)
    # passes with 8, 12 and 16 columns, then 16 columns @ (16 x 5)
    assert result.macs == 2 * 2 * (8 + 12 + 16) + 2 * 16 * 5
    assert result.status == "exact"


def test_while_loop_over_constants_is_unrolled(tmp_path: Path) -> None:
    """Ends when the counter reaches 5: five passes."""
    body = loop_body(
        [node("Add", "k one", "k2"), node("Less", "k2 five", "go2"), node("MatMul", "h w", "h2")],
        {"k": LONG, "h": [2, 4]},
        "go2 k2 h2",
    )
    weights = {"one": np.int64(1), "five": np.int64(5), "zero": np.int64(0), "w": ones(4, 4)}
    weights["go0"] = np.array(True)
    top = graph([node("Loop", "- go0 zero x", "k9 y", body=body)], {"x": [2, 4]}, weights=weights)
    result = audit(tmp_path, top)
    assert (result.macs, result.status) == (5 * 32, "exact")


def test_unbounded_loop_is_partial_and_named(tmp_path: Path) -> None:
    weights = {"go0": np.array(True), "w": ones(4, 4)}
    top = graph([node("Loop", "- go0 x", "y all", body=STEP)], {"x": [2, 4]}, weights=weights)
    result = audit(tmp_path, top)
    assert (result.macs, result.statuses["macs"]) == (32, "partial")  # one pass
    assert any("onnx.Loop" in note and "how often it runs" in note for note in result.notes)


def test_loop_that_may_end_early_is_partial(tmp_path: Path) -> None:
    body = loop_body(
        [
            node("MatMul", "h w", "h2"),
            node("ReduceMax", "h2", "m", keepdims=0),
            node("Less", "m limit", "go2"),
        ],
        {"h": [2, 4]},
        "go2 h2",
    )
    weights = {"n": np.int64(100), "w": ones(4, 4), "limit": np.float32(9)}
    top = graph([node("Loop", "n - x", body=body)], {"x": [2, 4]}, weights=weights)
    result = audit(tmp_path, top)
    assert (result.macs, result.statuses["macs"]) == (100 * 32, "partial")
    assert any("may end before its 100 passes" in note for note in result.notes)


def test_loop_that_never_runs(tmp_path: Path) -> None:
    weights = {"n": np.int64(0), "w": ones(4, 4)}
    top = graph([node("Loop", "n - x", "y all", body=STEP)], {"x": [2, 4]}, weights=weights)
    result = audit(tmp_path, top)
    assert (result.macs, result.params) == (0, 16)


def test_scan(tmp_path: Path) -> None:
    """A recurrent layer by hand: 9 steps of (2 x 5) @ (5 x 3) and (2 x 3) @ (3 x 3)."""
    body = graph(
        [
            node("MatMul", "xt w", "a"),
            node("MatMul", "h r", "b"),
            node("Add", "a b", "c"),
            node("Tanh", "c", "h2"),
            node("Identity", "h2", "o"),
        ],
        {"h": [2, 3], "xt": [2, 5]},
        "h2 o",
    )
    weights = {"w": ones(5, 3), "r": ones(3, 3), "h0": np.zeros((2, 3), np.float32)}
    top = graph(
        [
            node("Scan", "h0 x", "last all", body=body, num_scan_inputs=1),
            node("Flatten", "all", "f", axis=0),
            node("MatMul", "f v"),
        ],
        {"x": [9, 2, 5]},
        weights=weights | {"v": ones(9 * 2 * 3, 1)},
    )
    result = audit(tmp_path, top)
    assert result.macs == 9 * (2 * 5 * 3 + 2 * 3 * 3) + 54
    assert result.status == "exact"


def test_sequences(tmp_path: Path) -> None:
    """Split into three pieces of two columns, the second one picked, all joined again."""
    nodes = [
        node("SplitToSequence", "x two", "s", axis=1),
        node("SequenceAt", "s one", "p"),
        node("MatMul", "p w", "q"),
        node("SequenceConstruct", "q q", "t"),
        node("ConcatFromSequence", "t", "u", axis=1),
        node("MatMul", "u v"),
    ]
    weights = {"two": np.int64(2), "one": np.int64(1), "w": ones(2, 3), "v": ones(6, 7)}
    result = audit(tmp_path, graph(nodes, {"x": [4, 6]}, weights=weights))
    assert result.macs == 4 * 2 * 3 + 4 * 6 * 7
    assert result.status == "exact"


# -- local functions --


def linear() -> onnx.FunctionProto:
    """y = relu(x @ w + c), with a constant inside and an attribute of the call."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(ones(4), "inside")),
        helper.make_node("Add", ["h", "c"], ["i"]),
        helper.make_node("LeakyRelu", ["i"], ["y"]),
    ]
    slope = nodes[-1].attribute.add()
    slope.name, slope.ref_attr_name, slope.type = "alpha", "slope", onnx.AttributeProto.FLOAT
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_function(
        "my", "Linear", ["x", "w"], ["y"], nodes, opsets, attributes=["slope"]
    )


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    """Called twice with different weights; the constant inside is stored once."""
    nodes = [
        helper.make_node("Linear", ["x", "a"], ["h"], domain="my", name="one", slope=0.1),
        helper.make_node("Linear", ["h", "b"], ["y"], domain="my", name="two", slope=0.1),
    ]
    top = graph(nodes, {"x": [3, 6]}, weights={"a": ones(6, 4), "b": ones(4, 4)})
    result = audit(tmp_path, top, (linear(),), ("my",))
    assert result.macs == 3 * 6 * 4 + 3 * 4 * 4
    assert result.params == 24 + 16 + 4
    assert result.status == "exact"
    assert [layer.name for layer in result.layers if layer.macs] == ["one.MatMul_0", "two.MatMul_0"]


def test_functions_in_functions_and_branches(tmp_path: Path) -> None:
    """A function whose attribute decides the transposition of a Gemm two calls below."""
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"])
    flag = gemm.attribute.add()
    flag.name, flag.ref_attr_name, flag.type = "transB", "flip", onnx.AttributeProto.INT
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    inner = helper.make_function(
        "my", "Inner", ["x", "w"], ["y"], [gemm], opsets, attributes=["flip"]
    )
    call = helper.make_node("Inner", ["x", "w"], ["y"], domain="my")
    flag = call.attribute.add()
    flag.name, flag.ref_attr_name, flag.type = "flip", "turn", onnx.AttributeProto.INT
    outer = helper.make_function(
        "my", "Outer", ["x", "w"], ["y"], [call], opsets, attributes=["turn"]
    )
    nodes = [helper.make_node("Outer", ["x", "w"], ["y"], domain="my", turn=1)]
    top = graph(nodes, {"x": [2, 6]}, weights={"w": ones(5, 6)})
    result = audit(tmp_path, top, (inner, outer), ("my",))
    assert result.macs == 2 * 6 * 5


def test_operators_out_of_order(tmp_path: Path) -> None:
    """Some tools write operators in another order; runtimes accept it."""
    nodes = [node("MatMul", "h v"), node("MatMul", "x w", "h")]
    top = graph(nodes, {"x": [2, 3]}, weights={"w": ones(3, 4), "v": ones(4, 5)})
    assert audit(tmp_path, top).macs == 2 * 3 * 4 + 2 * 4 * 5
