"""Stored numbers of ONNX files: every type, every way of storing, quantised and external."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

import compressor
from compressor.audit.readers.files import read_file

MS = "com.microsoft"
T = TensorProto


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def node(kind: str, inputs: str, outputs: str = "y", **attrs: Any) -> onnx.NodeProto:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attrs)


def write(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Any],
    weights: Sequence[onnx.TensorProto],
    *,
    dtype: int = T.FLOAT,
    sparse: Sequence[onnx.SparseTensorProto] = (),
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info("y")],
        weights,
        sparse_initializer=sparse,
    )
    domains = [helper.make_opsetid("", 23), helper.make_opsetid(MS, 1)]
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=domains).SerializeToString())
    return path


def tensor(name: str, values: Any, dtype: Any = None) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def scale(*values: float) -> onnx.TensorProto:
    return tensor("s", np.array(values, np.float32).reshape(() if len(values) == 1 else -1))


# 3 x 4 numbers, of which 5 are zero (one of them minus zero where the type has it)
NUMBERS = np.array([[1, 0, -1, 2], [0, -0.0, 3, 4], [0, 0, -2, 1]])

# number type, what the audit calls it, bytes of 12 elements
TYPES = [
    (T.FLOAT, "float32", 48),
    (T.DOUBLE, "float64", 96),
    (T.FLOAT16, "float16", 24),
    (T.BFLOAT16, "bfloat16", 24),
    (T.FLOAT8E4M3FN, "float8_e4m3fn", 12),
    (T.FLOAT8E5M2, "float8_e5m2", 12),
    (T.FLOAT4E2M1, "float4_e2m1", 6),
    (T.INT8, "int8", 12),
    (T.INT4, "int4", 6),
    (T.INT2, "int2", 3),
    (T.INT16, "int16", 24),
    (T.INT32, "int32", 48),
    (T.INT64, "int64", 96),
    (T.COMPLEX64, "complex64", 96),
    (T.COMPLEX128, "complex128", 192),
]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize(("kind", "name", "size"), TYPES, ids=[name for _, name, _ in TYPES])
def test_number_types(kind: int, name: str, size: int, raw: bool, tmp_path: Path) -> None:
    """As weights of a MatMul: bytes at the stored width, minus zero is zero."""
    numbers = NUMBERS.copy()
    if kind == T.INT2:
        numbers = numbers.clip(-2, 1)
    values = numbers.astype(helper.tensor_dtype_to_np_dtype(kind))
    if raw:
        weight = numpy_helper.from_array(values, "w")
        if weight.data_type != kind:
            pytest.skip(f"numpy_helper stores {name} as another type")
    else:
        weight = helper.make_tensor("w", kind, [3, 4], values.flatten())
        assert not weight.raw_data
    path = write(tmp_path, [node("MatMul", "x w")], {"x": [2, 3]}, [weight])
    result = compressor.audit(path)
    assert result.bytes_by_dtype == {name: size}
    assert (result.params, result.nonzero_params, result.macs) == (12, 7, 2 * 3 * 4)


def test_large_typed_tensors_are_counted_alike(tmp_path: Path) -> None:
    """Above 300,000 elements numpy counts; small integers and 10-byte varints in one list."""
    values = np.zeros((700, 500), np.int32)
    values[::7] = -5  # 100 rows of 500
    weight = helper.make_tensor("w", T.INT32, values.shape, values.flatten())
    half = helper.make_tensor("v", T.FLOAT16, [500, 700], values.astype(np.float16).flatten())
    nodes = [node("MatMul", "x w", "h"), node("MatMul", "h v")]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 700]}, [weight, half]))
    assert result.nonzero_params == 2 * 100 * 500
    assert result.bytes_by_dtype == {"float16": 700_000, "int32": 1_400_000}


def test_constant_nodes_are_weights(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=tensor("", ones(6, 4))),
        helper.make_node("Constant", [], ["b"], value_floats=[1.0, 0.0, 2.0, 3.0]),
        helper.make_node("Constant", [], ["k"], value_float=0.5),
        helper.make_node("Constant", [], ["t"], value_ints=[4]),
        node("MatMul", "x w", "h"),
        node("Add", "h b", "i"),
        node("Mul", "i k", "j"),
        node("Reshape", "j t"),
    ]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 6]}, []))
    assert (result.params, result.nonzero_params, result.macs) == (28, 27, 24)


def test_initializers_that_are_inputs_too(tmp_path: Path) -> None:
    """Old files list every initializer among the inputs: it is stored all the same."""
    path = write(
        tmp_path, [node("MatMul", "x w")], {"w": [3, 4], "x": [2, 3]}, [tensor("w", ones(3, 4))]
    )
    result = compressor.audit(path)
    assert (result.params, result.input_shape) == (12, (2, 3))


def test_unread_weights_count_as_parameters(tmp_path: Path) -> None:
    weights = [tensor("w", ones(3, 4)), tensor("old.weight", ones(5, 5)), tensor("n", [1, 2, 3])]
    result = compressor.audit(write(tmp_path, [node("MatMul", "x w")], {"x": [2, 3]}, weights))
    assert result.params == 12 + 25
    assert any("never called" in note and "old" in note for note in result.notes)


def test_equal_content_under_two_names_is_stored_twice(tmp_path: Path) -> None:
    weights = [tensor("a.weight", ones(3, 3)), tensor("b.weight", ones(3, 3))]
    nodes = [node("MatMul", "x a.weight", "h"), node("MatMul", "h b.weight")]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 3]}, weights))
    assert (result.params, result.status) == (18, "exact")
    assert any("a.weight = b.weight" in note for note in result.notes)


# -- quantised --


def test_qdq_int8(tmp_path: Path) -> None:
    """Activations and weights between QuantizeLinear and DequantizeLinear: int8 is what counts."""
    weight = np.array([[[[1]], [[0]]], [[[-3]], [[0]]], [[[0]], [[7]]]], np.int8)  # 3 x 2 x 1 x 1
    stored = [
        scale(0.1),
        tensor("z", np.int8(0)),
        tensor("w", weight),
        tensor("ws", [0.1, 0.2, 0.3], np.float32),
        tensor("wz", [0, 0, 0], np.int8),
        tensor("b", [5, 0, 6], np.int32),
        tensor("bs", [0.1, 0.2, 0.3], np.float32),
        tensor("bz", [0, 0, 0], np.int32),
    ]
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("DequantizeLinear", "w ws wz", "wd", axis=0),
        node("DequantizeLinear", "b bs bz", "bd", axis=0),
        node("Conv", "d wd bd", "c"),
        node("QuantizeLinear", "c s z"),
    ]
    path = write(tmp_path, nodes, {"x": [1, 2, 5, 4]}, stored)
    result = compressor.audit(path)
    assert result.macs == 3 * 2 * 5 * 4
    assert result.bytes_by_dtype == {"int8": 6, "int32": 3 * 4}
    assert (result.params, result.nonzero_params) == (9, 3 + 2)
    assert result.status == "exact"
    scales = [t.name for t in read_file(path).tensors if t.role == "scale"]
    assert sorted(scales) == ["bs", "bz", "s", "ws", "wz", "z"]
    # x 160 B float, q 40 B int8, d 160 B float, c 3 x 20 x 4 B, y 60 B: d and c are the most
    assert result.peak_activation_bytes == 160 + 240


@pytest.mark.parametrize(("group", "macs"), [(2, 0), (1, 2 * 2 * 2 * 2 * 2 * 1)])
def test_depthwise_ones_are_an_average(group: int, macs: int, tmp_path: Path) -> None:
    """Ones made at loading, times one number: with a group for each channel an average pooling,
    which costs nothing and stores nothing; over the channels as well a convolution like any other.
    """
    one = tensor("one", [1], np.int8)
    stored = [
        tensor("sizes", [2, 2 // group, 2, 2], np.int64),
        scale(0.25),
        tensor("z", np.int8(0)),
    ]
    nodes = [
        node("ConstantOfShape", "sizes", "ones", value=one),
        node("DequantizeLinear", "ones s z", "w"),
        node("Conv", "x w", group=group, strides=[2, 2]),
    ]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 2, 4, 2]}, stored))
    assert result.macs == macs  # 2 outputs x 2 inputs x 2 x 2 x (2 x 1 places)
    assert result.params == 0
    assert result.status == "exact"


@pytest.mark.parametrize(("sizes", "role"), [((3, 1, 1, 1), "scale"), ((3, 2, 1, 1), "parameter")])
def test_integers_cast_and_scaled(sizes: tuple[int, ...], role: str, tmp_path: Path) -> None:
    """Cast and Mul of stored integers by a number for each output are DequantizeLinear in other
    words; a number for every weight is no scale."""
    stored = [
        tensor("w", [[[[1]], [[0]]], [[[-3]], [[0]]], [[[0]], [[7]]]], np.int8),
        tensor("ws", np.full(sizes, 0.5), np.float32),
    ]
    nodes = [
        node("Cast", "w", "c", to=T.FLOAT),
        node("Mul", "c ws", "wf"),
        node("Conv", "x wf"),
    ]
    path = write(tmp_path, nodes, {"x": [1, 2, 5, 4]}, stored)
    roles = {t.name.rpartition(".")[2]: t.role for t in read_file(path).tensors}
    result = compressor.audit(path)
    assert result.macs == 3 * 2 * 5 * 4
    if role == "scale":
        assert roles == {"weight": "parameter", "ws": "scale"}
        assert result.bytes_by_dtype == {"int8": 6}
    else:
        assert set(roles.values()) == {"parameter"}
        assert result.bytes_by_dtype == {"int8": 6, "float32": 4 * 6}


@pytest.mark.parametrize(
    ("zero", "axis", "used"),
    [
        (np.uint8(128), 1, 4),  # one zero point: 128 twice among six
        (np.array([128, 7], np.uint8), 0, 3),  # rows: [128 7 128] has two, [7 9 0] one
        (np.array([128, 7, 0], np.uint8), 1, 3),  # columns: 128, 7 and 0 once each
    ],
)
def test_zero_is_the_zero_point(zero: Any, axis: int, used: int, tmp_path: Path) -> None:
    values = np.array([[128, 7, 128], [7, 9, 0]], np.uint8)
    count = np.atleast_1d(zero).size
    stored = [tensor("w", values), scale(*[0.1] * count), tensor("z", zero)]
    nodes = [node("DequantizeLinear", "w s z", "d", axis=axis), node("MatMul", "x d")]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 2]}, stored))
    assert (result.params, result.nonzero_params) == (6, used)


def test_zero_points_of_blocks(tmp_path: Path) -> None:
    """int4, blocks of two rows: zero points [[1 2] [3 4]] for a 4 x 2 weight."""
    values = np.array([[1, 2], [1, 3], [3, 4], [0, 4]], ml_dtypes.int4)
    zeros = np.array([[1, 2], [3, 4]], ml_dtypes.int4)
    stored = [tensor("w", values), tensor("s", ones(2, 2)), tensor("z", zeros)]
    nodes = [
        node("DequantizeLinear", "w s z", "d", axis=0, block_size=2),
        node("MatMul", "x d"),
    ]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 4]}, stored))
    # first block: 1, 1 in column 0 and one 2 in column 1; second: one 3, two 4
    assert (result.params, result.nonzero_params) == (8, 8 - 6)
    assert result.bytes_by_dtype == {"int4": 4}


def test_odd_int4_padding_is_no_element(tmp_path: Path) -> None:
    """3 x 3 int4: 9 elements in 5 bytes; the padding of the last byte is not a zero weight."""
    values = np.array([[1, 0, 2], [3, 0, 1], [1, 1, 0]], ml_dtypes.int4)
    stored = [tensor("w", values), scale(0.1)]
    nodes = [node("DequantizeLinear", "w s", "d"), node("MatMul", "x d")]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 3]}, stored))
    assert (result.params, result.nonzero_params, result.param_bytes) == (9, 6, 5)


def test_qoperator_int8(tmp_path: Path) -> None:
    """QLinearConv with an int32 bias, then QLinearMatMul."""
    stored = [
        scale(0.1),
        tensor("z", np.uint8(3)),
        tensor("w", np.array([3, 3, 4, 5, 6, 7, 8, 9], np.uint8).reshape(4, 2, 1, 1)),
        tensor("b", [1, 0, 2, 3], np.int32),
        tensor("m", ones(36, 5, dtype=np.int8)),
        tensor("mz", np.int8(0)),
    ]
    nodes = [
        node("QLinearConv", "x s z w s z s z b", "c"),
        node("Flatten", "c", "f"),
        node("QLinearMatMul", "f s z m s mz s z"),
    ]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 2, 3, 3]}, stored, dtype=T.UINT8))
    assert result.macs == 4 * 2 * 9 + 36 * 5
    assert result.bytes_by_dtype == {"int8": 180, "int32": 16, "uint8": 8}
    assert result.nonzero_params == (8 - 2) + 3 + 180  # two weights are at the zero point 3
    assert result.params == 8 + 4 + 180
    assert result.status == "exact"


def test_dynamic_int8(tmp_path: Path) -> None:
    """MatMulInteger and ConvInteger: the scales that come back through Mul are no parameters."""
    stored = [
        tensor("w", ones(6, 4, dtype=np.int8)),
        tensor("wz", np.int8(0)),
        tensor("ws", ones(4)),
        tensor("b", ones(4)),
    ]
    nodes = [
        node("DynamicQuantizeLinear", "x", "q qs qz"),
        node("MatMulInteger", "q w qz wz", "i"),
        node("Cast", "i", "f", to=1),
        node("Mul", "qs ws", "both"),
        node("Mul", "f both", "g"),
        node("Add", "g b"),
    ]
    result = compressor.audit(write(tmp_path, nodes, {"x": [3, 6]}, stored))
    assert result.macs == 3 * 6 * 4
    assert result.bytes_by_dtype == {"float32": 16, "int8": 24}
    stored = [
        tensor("w", ones(4, 2, 3, 3, dtype=np.uint8)),
        tensor("wz", np.uint8(128)),
        tensor("xz", np.uint8(0)),
        tensor("s", ones(1, 4, 1, 1)),
    ]
    nodes = [
        node("ConvInteger", "x w xz wz", "i"),
        node("Cast", "i", "f", to=1),
        node("Mul", "f s"),
    ]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 2, 5, 5]}, stored, dtype=T.UINT8))
    assert result.macs == 4 * 2 * 9 * 9
    assert (result.params, result.bytes_by_dtype) == (72, {"uint8": 72})


def test_fake_quantised_master_weights_stay_float(tmp_path: Path) -> None:
    """Quantisation-aware training: a float weight behind QuantizeLinear counts as stored."""
    stored = [tensor("w", ones(6, 4)), scale(0.1), tensor("z", np.int8(0))]
    nodes = [
        node("QuantizeLinear", "w s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("MatMul", "x d"),
    ]
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 6]}, stored))
    assert result.bytes_by_dtype == {"float32": 96}


@pytest.mark.parametrize("given", [False, True], ids=["default-zero", "zero-points"])
def test_matmul_nbits(given: bool, tmp_path: Path) -> None:
    """N=3 columns of K=20 numbers in blocks of 16: two blocks, the second padded by 12.

    8 bytes a block; all codes 5 but one 8 (the default zero) in column 0, and the padding is 8.
    """
    packed = np.full((3, 2, 8), 0x55, np.uint8)
    packed[:, 1, 2:] = 0x88  # what is behind the 20th number
    packed[0, 0, 0] = 0x58
    stored = [tensor("w", packed), tensor("s", ones(6))]
    inputs = "x w s"
    if given:  # zero point 5 in the first block of every column, 8 in the second
        stored.append(tensor("z", np.full((3, 1), 0x85, np.uint8)))
        inputs += " z"
    nodes = [node("MatMulNBits", inputs, K=20, N=3, bits=4, block_size=16, domain=MS)]
    result = compressor.audit(write(tmp_path, nodes, {"x": [2, 20]}, stored))
    assert result.macs == 2 * 20 * 3
    assert result.params == 60
    assert result.bytes_by_dtype == {"uint4": 30}
    # zero 8: one element; zero 5 in the first blocks: 3 x 16 - 1 elements
    assert result.nonzero_params == (60 - (48 - 1) if given else 59)
    assert result.status == "exact"


# -- sparse and external --


def test_sparse_initializer(tmp_path: Path) -> None:
    """3 of 12 numbers stored: 12 parameters as torch counts them, 3 not zero, 3 x 4 B + indices."""
    sparse = helper.make_sparse_tensor(
        tensor("w", [1, 2, 3], np.float32), tensor("i", [0, 5, 11], np.int64), [3, 4]
    )
    path = write(tmp_path, [node("MatMul", "x w")], {"x": [1, 3]}, [], sparse=[sparse])
    result = compressor.audit(path)
    assert (result.params, result.nonzero_params, result.param_bytes) == (12, 3, 12)
    assert (result.macs, result.buffer_bytes) == (12, 24)


def external(name: str, shape: list[int], **entries: Any) -> onnx.TensorProto:
    found = onnx.TensorProto(name=name, data_type=T.FLOAT, dims=shape)
    found.raw_data = b""
    set_external_data(found, **entries)
    found.ClearField("raw_data")
    return found


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    data = np.array([[1, 0], [2, 3], [0, 5]], np.float32)
    (tmp_path / "weights" / "all.bin").write_bytes(bytes(8) + data.tobytes() + bytes(16))
    stored = [
        external("w", [3, 2], location="weights/all.bin", offset=8, length=24),
        external("same", [3, 2], location="weights/all.bin", offset=8, length=24),
    ]
    nodes = [node("MatMul", "x w", "h"), node("Add", "h b", "i"), node("MatMul", "x same")]
    stored.append(tensor("b", ones(2)))
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 3]}, stored))
    assert (result.params, result.nonzero_params) == (8, 6)  # the same bytes are one tensor
    assert result.macs == 2 * 6


def test_float16_network(tmp_path: Path) -> None:
    stored = [tensor("w", ones(4, 3, 3), np.float16), tensor("b", ones(4), np.float16)]
    path = write(tmp_path, [node("Conv", "x w b")], {"x": [1, 3, 9]}, stored, dtype=T.FLOAT16)
    result = compressor.audit(path)
    assert (result.bytes_by_dtype, result.macs) == ({"float16": 80}, 4 * 3 * 3 * 7)
    assert result.peak_activation_bytes == 2 * (27 + 28)


# -- golden --


def test_dcase_2022_baseline_in_int8(tmp_path: Path) -> None:
    """The baseline of 2022 and 2023 with BatchNorm folded: int8 weights, int32 biases.

    Published: 45,816 int8 + 174 int32 = 46,512 B.
    784 + 12,544 + 25,088 + 6,400 + 1,000 weights; 16 + 16 + 32 + 100 + 10 biases.
    """
    rng = np.random.default_rng(0)
    stored = [scale(0.1), tensor("z", np.int8(0))]
    nodes: list[onnx.NodeProto] = []
    at = "x"

    def quantised(name: str) -> str:
        nodes.append(node("QuantizeLinear", f"{name} s z", f"{name}.q"))
        nodes.append(node("DequantizeLinear", f"{name}.q s z", f"{name}.d"))
        return f"{name}.d"

    def layer(kind: str, name: str, shape: tuple[int, ...], **attrs: Any) -> None:
        nonlocal at
        weight = rng.integers(1, 127, shape).astype(np.int8)
        stored.append(tensor(f"{name}.w", weight))
        stored.append(tensor(f"{name}.b", np.ones(shape[0], np.int32)))
        nodes.append(node("DequantizeLinear", f"{name}.w s", f"{name}.wd"))
        nodes.append(node("DequantizeLinear", f"{name}.b s", f"{name}.bd"))
        nodes.append(node(kind, f"{quantised(at)} {name}.wd {name}.bd", name, **attrs))
        at = name

    def then(kind: str, name: str, **attrs: Any) -> None:
        nonlocal at
        nodes.append(node(kind, at, name, **attrs))
        at = name

    layer("Conv", "conv1", (16, 1, 7, 7), pads=[3, 3, 3, 3])
    then("Relu", "relu1")
    layer("Conv", "conv2", (16, 16, 7, 7), pads=[3, 3, 3, 3])
    then("Relu", "relu2")
    then("MaxPool", "pool2", kernel_shape=[5, 5], strides=[5, 5])
    layer("Conv", "conv3", (32, 16, 7, 7), pads=[3, 3, 3, 3])
    then("Relu", "relu3")
    then("MaxPool", "pool3", kernel_shape=[4, 10], strides=[4, 10])
    then("Flatten", "flat")
    layer("Gemm", "dense1", (100, 64), transB=1)
    then("Relu", "relu4")
    layer("Gemm", "dense2", (10, 100), transB=1)
    then("Softmax", "y")
    result = compressor.audit(write(tmp_path, nodes, {"x": [1, 1, 40, 51]}, stored))
    assert result.bytes_by_dtype == {"int8": 45_816, "int32": 4 * 174}
    assert result.param_bytes == 46_512
    assert result.params == result.nonzero_params == 45_990
    # 40 x 51 places for two layers, 8 x 10 for the third, then 6,400 + 1,000
    assert result.macs == (784 + 12_544) * 2040 + 25_088 * 80 + 7_400
    assert result.status == "exact"
