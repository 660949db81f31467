"""Own shape functions against the results that ONNX's own operator tests prescribe."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compressor.audit.readers.onnx_ordinary import SHAPES
from compressor.audit.readers.onnx_payload import DTYPES, Payload
from compressor.audit.readers.onnx_proto import read_model
from compressor.audit.readers.onnx_state import Frame, Scope
from compressor.audit.readers.onnx_values import Buffer, Val
from compressor.audit.readers.onnx_walk import Walker
from compressor.audit.readers.onnx_wire import Wire


def walked(model: onnx.ModelProto, inputs: dict[str, Val]) -> list[Val]:
    """Returns the outputs as the reader sees them; nothing is taken from declared shapes."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        output.ClearField("type")
    wire = Wire(bare.SerializeToString(), "case")
    read = read_model(wire)
    walker = Walker(read, Payload(wire, Path()), "case")
    scope = Scope()
    held = {item.name for item in bare.graph.initializer}
    scope.names.update({name: value for name, value in inputs.items() if name not in held})
    return walker.graph(read.graph, scope, Frame(opsets=read.opsets))


def value_of(info: onnx.ValueInfoProto, data: Any) -> Val:
    if not isinstance(data, (np.ndarray, np.generic)):
        return Val("", None)
    kind = DTYPES.get(info.type.tensor_type.elem_type, ("", 0))[0]
    return Val(kind, np.shape(data), home=Buffer(0))


@pytest.mark.slow
def test_shapes_of_the_operator_tests() -> None:
    """Some 1,900 cases with data: shape, type and (where they are computed) numbers.

    Inputs of at most 64 elements become initializers, so that shapes are computed from them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy on the way to NaN and infinity
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    right = computed = 0
    wrong: list[str] = []
    unknown: set[str] = set()
    for case in cases:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        given, expected = case.data_sets[0]
        values = {}
        for info, data in zip(model.graph.input, given, strict=False):
            values[info.name] = value_of(info, data)
            if isinstance(data, onnx.TensorProto):
                model.graph.initializer.append(data)
                model.graph.initializer[-1].name = info.name
            elif isinstance(data, (np.ndarray, np.generic)) and np.size(data) <= 64:
                initializer = numpy_helper.from_array(np.asarray(data), info.name)
                model.graph.initializer.append(initializer)
        outputs = walked(model, values)
        for info, found, result in zip(case.model.graph.output, outputs, expected, strict=False):
            packed = isinstance(result, onnx.TensorProto)  # of a type that numpy lacks
            data = numpy_helper.to_array(result) if packed else result
            if not isinstance(data, (np.ndarray, np.generic)):  # sequences and optionals
                continue
            kind = DTYPES.get(info.type.tensor_type.elem_type, ("", 0))[0]
            if found.shape is None:
                if len(model.graph.node) == 1 and model.graph.node[0].op_type in SHAPES:
                    unknown.add(model.graph.node[0].op_type)
                continue
            if (found.shape, found.dtype) != (np.shape(data), kind):
                wrong.append(f"{case.name}: {found.shape} {found.dtype}, not {np.shape(data)}")
            elif found.const is not None and np.asarray(data).dtype.kind in "iufb":
                computed += 1
                numbers = np.array(found.const, float).reshape(found.shape)
                if not np.allclose(numbers, np.asarray(data, float), equal_nan=True):
                    wrong.append(f"{case.name}: {found.const}")
            right += 1
    assert not wrong
    assert right > 1800
    assert computed > 200
    assert unknown <= {"Compress", "NonMaxSuppression", "NonZero", "Unique"}  # depend on data


def test_shapes_against_the_package(tmp_path: Path) -> None:
    """A chain of what ASC networks are made of: every value as onnx.shape_inference has it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
        helper.make_node("AveragePool", ["b"], ["c"], kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("ConvTranspose", ["c", "t"], ["d"], strides=[2, 3], output_padding=[1, 2]),
        helper.make_node("ReduceMean", ["d", "axes"], ["e"], keepdims=0),
        helper.make_node("Softmax", ["e"], ["f"]),
        helper.make_node("Split", ["f"], ["g", "h"], axis=1, num_outputs=2),
        helper.make_node("Concat", ["g", "h", "g"], ["i"], axis=2),
        helper.make_node("Transpose", ["i"], ["j"], perm=[2, 0, 1]),
        helper.make_node("Flatten", ["j"], ["k"], axis=2),
        helper.make_node("TopK", ["k", "three"], ["l", "m"], axis=0),
        helper.make_node("ArgMax", ["l"], ["y"], axis=1, keepdims=0),
    ]
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(6, 3, 3, 3)).astype(np.float32),
        "t": rng.normal(size=(6, 4, 3, 3)).astype(np.float32),
        "axes": np.array([2]),
        "three": np.array([3]),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 31, 40])],
        [helper.make_empty_tensor_value_info(name) for name in "abcdefghijklmy"],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True)
    expected = {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in inferred.graph.output
    }
    found = walked(model, {"x": Val("float32", (2, 3, 31, 40), home=Buffer(0))})
    assert {
        name: value.shape for name, value in zip("abcdefghijklmy", found, strict=True)
    } == expected
