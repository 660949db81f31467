"""What a TFLite file stores: parameters, zeros, bytes by type, constants, scales, sharing."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from tflite_helpers import G, O, T, model, save

import compressor
from compressor.audit import AuditResult
from compressor.errors import UsageError


def audit(tmp_path: Path, *graphs: G, outside: bool = False) -> AuditResult:
    return compressor.audit(save(tmp_path / "a.tflite", model(*graphs, outside=outside)))


def dense(w: T, *more: T, bias: str | None = None) -> G:
    """A fully connected layer 6 -> 4 with this weight."""
    tensors = [T("x", (1, 6)), w, *more, T("model/dense/MatMul", (1, 4))]
    op = O("FULLY_CONNECTED", ["x", w.name, bias], ["model/dense/MatMul"])
    return G(tensors, [op], ["x"], ["model/dense/MatMul"])


def test_float32_zeros_and_minus_zeros(tmp_path: Path) -> None:
    values = [0.0, -0.0, 1e-42, 1.0] * 6  # a denormal is not zero
    result = audit(tmp_path, dense(T("w", (4, 6), data=values)))
    assert (result.params, result.nonzero_params, result.param_bytes) == (24, 12, 96)
    assert result.bytes_by_convention["keras-2020"] == 48


def test_large_buffers_count_the_same_with_numpy(tmp_path: Path) -> None:
    values = np.ones((700, 600), np.float32)
    values[::2] = 0
    values[1, 1] = -0.0
    op = O("FULLY_CONNECTED", ["x", "w", None], ["y"])
    tensors = [T("x", (1, 600)), T("w", (700, 600), data=values.tobytes()), T("y", (1, 700))]
    result = audit(tmp_path, G(tensors, [op], ["x"], ["y"]))
    assert result.nonzero_params == 350 * 600 - 1


def test_float16_behind_dequantize_is_the_parameter(tmp_path: Path) -> None:
    tensors = [
        T("x", (1, 6)),
        T("half", (4, 6), "float16", [0.0] * 5 + [1.0] * 19),
        T("full", (4, 6)),
        T("half_bias", (4,), "float16", [1.0] * 4),
        T("full_bias", (4,)),
        T("model/dense/MatMul", (1, 4)),
    ]
    ops = [
        O("DEQUANTIZE", ["half"], ["full"]),
        O("DEQUANTIZE", ["half_bias"], ["full_bias"]),
        O("FULLY_CONNECTED", ["x", "full", "full_bias"], ["model/dense/MatMul"]),
    ]
    result = audit(tmp_path, G(tensors, ops, ["x"], ["model/dense/MatMul"]))
    assert result.bytes_by_dtype == {"float16": 56}
    assert (result.params, result.nonzero_params, result.macs) == (28, 23, 24)
    (layer,) = [layer for layer in result.layers if layer.params]
    assert (layer.name, layer.kind, layer.macs) == ("dense", "FULLY_CONNECTED", 24)
    # the float32 copy of the weight is no activation: input 24 B + output 16 B
    assert result.peak_activation_bytes == 40
    # each stored tensor is an operand once, of its DEQUANTIZE
    assert result.bytes_by_convention["nessi-tflite"] == 56


def test_dynamic_range_int8(tmp_path: Path) -> None:
    weight = T("w", (4, 6), "int8", [0] * 4 + [5] * 20, [0.1] * 4)
    result = audit(tmp_path, dense(weight, T("b", (4,), data=[1.0] * 4), bias="b"))
    assert result.bytes_by_dtype == {"int8": 24, "float32": 16}
    assert result.nonzero_params == 24
    assert result.details["scales"] == {"dense.weight.scale": 16, "dense.weight.zero_point": 32}


@pytest.mark.parametrize(("dtype", "width"), [("int32", 4), ("int64", 8)])
def test_full_integer_biases_are_parameters(dtype: str, width: int, tmp_path: Path) -> None:
    weight = T("w", (4, 6), "int8", [3] * 24, [0.1])
    bias = T("b", (4,), dtype, [0, 1, 2, 3], [0.01])
    result = audit(tmp_path, dense(weight, bias, bias="b"))
    assert result.bytes_by_dtype == {"int8": 24, dtype: 4 * width}
    assert result.nonzero_params == 24 + 3
    unscaled = T("b", (4,), dtype, [0, 1, 2, 3])  # what a bias is for says enough
    assert audit(tmp_path, dense(weight, unscaled, bias="b")).params == 28


def test_zero_is_where_the_zero_point_is(tmp_path: Path) -> None:
    old = T("w", (4, 6), "uint8", [120] * 10 + [0] * 14, [0.1], [120])
    assert audit(tmp_path, dense(old)).nonzero_params == 14
    signed = T("w", (4, 6), "int8", [-5] * 7 + [0] * 17, [0.1], [-5])
    assert audit(tmp_path, dense(signed)).nonzero_params == 17
    never = T("w", (4, 6), "int8", [0] * 24, [0.1], [1000])  # no int8 number is 1000
    assert audit(tmp_path, dense(never)).nonzero_params == 24


def test_zero_points_of_their_own_for_each_channel(tmp_path: Path) -> None:
    # row r is all r; zero points 0, 9, 2, 9: rows 0 and 2 are zero
    values = [row for row in range(4) for _ in range(6)]
    rows = T("w", (4, 6), "int8", values, [0.1] * 4, [0, 9, 2, 9])
    assert audit(tmp_path, dense(rows)).nonzero_params == 12
    # along axis 1: column c of each row is c; zero points 0 1 2 9 9 9: 4 * 3 zeros
    columns = T("w", (4, 6), "int8", list(range(6)) * 4, [0.1] * 6, [0, 1, 2, 9, 9, 9], axis=1)
    assert audit(tmp_path, dense(columns)).nonzero_params == 12


def test_int4_two_numbers_a_byte(tmp_path: Path) -> None:
    # low half first: 0x10 is 0 then 1; 0x00 two zeros; 0x32 none
    packed = bytes([0x10, 0x00, 0x32] * 4)
    result = audit(tmp_path, dense(T("w", (4, 6), "int4", packed, [0.1])))
    assert (result.params, result.nonzero_params) == (24, 24 - 4 * 3)
    assert result.bytes_by_dtype == {"int4": 12}
    # an odd count: the spare half of the last byte (zero) is nobody's
    odd = T("w", (1, 3), "int4", bytes([0x11, 0x01]), [0.1])
    op = O("FULLY_CONNECTED", ["x", "w", None], ["y"])
    result = audit(tmp_path, G([T("x", (1, 3)), odd, T("y", (1, 1))], [op], ["x"], ["y"]))
    assert (result.params, result.nonzero_params, result.param_bytes) == (3, 3, 2)


def test_a_buffer_that_two_tensors_share_counts_once(tmp_path: Path) -> None:
    tensors = [
        T("x", (1, 4)),
        T("w", (4, 4), data=[1.0] * 16),
        T("again", (4, 4), data=[1.0] * 16, shares="w"),
        T("same", (4, 4), data=[1.0] * 16),  # equal numbers, but stored a second time
        *(T(name, (1, 4)) for name in ("a", "b", "c")),
    ]
    ops = [
        O("FULLY_CONNECTED", ["x", "w", None], ["a"]),
        O("FULLY_CONNECTED", ["a", "again", None], ["b"]),
        O("FULLY_CONNECTED", ["b", "same", None], ["c"]),
    ]
    result = audit(tmp_path, G(tensors, ops, ["x"], ["c"]))
    assert (result.params, result.param_bytes, result.macs) == (32, 128, 48)
    assert result.details["tied"] == {"b.weight": "a.weight"}
    assert result.bytes_by_convention["nessi-tflite"] == 3 * 64  # the counter adds up operands


def test_one_tensor_that_two_layers_read_counts_once(tmp_path: Path) -> None:
    tensors = [T("x", (1, 4)), T("w", (4, 4), data=[1.0] * 16), T("a", (1, 4)), T("b", (1, 4))]
    ops = [
        O("FULLY_CONNECTED", ["x", "w", None], ["a"]),
        O("FULLY_CONNECTED", ["a", "w", None], ["b"]),
    ]
    result = audit(tmp_path, G(tensors, ops, ["x"], ["b"]))
    assert (result.params, result.macs) == (16, 32)


def test_shapes_axes_and_single_numbers_are_constants(tmp_path: Path) -> None:
    tensors = [
        T("x", (1, 6)),
        T("shape", (2,), "int32", [2, 3]),
        T("r", (2, 3)),
        T("pads", (2, 2), "int32", [0, 0, 1, 1]),
        T("p", (2, 5)),
        T("epsilon", (), data=[1e-3]),
        T("s", (2, 5)),
        T("scale", (5,), data=[1.0] * 5),  # a folded normalisation: a parameter
        T("y", (2, 5)),
    ]
    ops = [
        O("RESHAPE", ["x", "shape"], ["r"]),
        O("PAD", ["r", "pads"], ["p"]),
        O("ADD", ["p", "epsilon"], ["s"]),
        O("MUL", ["s", "scale"], ["y"]),
    ]
    result = audit(tmp_path, G(tensors, ops, ["x"], ["y"]))
    assert (result.params, result.param_bytes) == (5, 20)
    assert sorted(result.details["constants"].values()) == [1, 2, 4]
    # the official counter takes them all for weights: 8 + 16 + 4 + 20 B
    assert result.bytes_by_convention["nessi-tflite"] == 48
    # the reshaped input takes no place of its own: 40 B before and behind ADD, and MUL
    assert result.peak_activation_bytes == 80


def test_embedding_tables_are_parameters_and_indices_are_not(tmp_path: Path) -> None:
    tensors = [
        T("table", (10, 4), data=[1.0] * 40),
        T("rows", (3,), "int32", [1, 2, 3]),
        T("y", (3, 4)),
    ]
    result = audit(tmp_path, G(tensors, [O("GATHER", ["table", "rows"], ["y"])], [], ["y"]))
    assert (result.params, result.details["constants"]) == (40, {"y.operand1": 3})
    assert result.input_shape == ()


def test_stored_tensors_that_nothing_reads_count_and_are_named(tmp_path: Path) -> None:
    graph = dense(T("w", (4, 6), data=[1.0] * 24), T("left.over", (5,), data=[1.0] * 5))
    result = audit(tmp_path, graph)
    assert result.params == 29
    assert result.details["never_called"] == ["unused/left_over"]


def test_buffers_behind_the_flatbuffer(tmp_path: Path) -> None:
    """Files above 2 GB keep their buffers behind the flatbuffer, by offset and size."""
    graph = dense(T("w", (4, 6), data=[1.0] * 20 + [0.0] * 4))
    result = audit(tmp_path, graph, outside=True)
    assert (result.params, result.nonzero_params, result.macs) == (24, 20, 24)


def test_other_input_shapes_are_refused_with_the_reason(tmp_path: Path) -> None:
    from compressor.audit.readers.files import read_file

    path = save(tmp_path / "a.tflite", model(dense(T("w", (4, 6), data=[1.0] * 24))))
    assert read_file(path, shapes=((1, 6),)).format == "tflite"
    with pytest.raises(UsageError, match=r"converted for \(1x6\), 2x6 was asked for"):
        read_file(path, shapes=((2, 6),))


def test_the_light_path_imports_no_heavy_package(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = save(tmp_path / "a.tflite", model(dense(T("w", (4, 6), data=[1.0] * 24))))
    code = (
        "import sys; from compressor.audit import audit; audit(sys.argv[1]); "
        "print(sorted({'torch', 'numpy', 'tensorflow', 'flatbuffers', 'h5py'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_writer_packs_numbers_as_the_format_says() -> None:
    """Guards the tests themselves: little-endian numbers, as struct has them."""
    assert T("a", (2,), "int16", [1, -2]).payload() == struct.pack("<hh", 1, -2)
