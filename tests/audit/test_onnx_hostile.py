"""Broken and hostile ONNX files: one clear line, bounded time and memory, nothing written."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

import compressor
from compressor.errors import ModelFileError, UsageError

Node = onnx.NodeProto


def node(kind: str, inputs: str, outputs: str = "y", **attrs: Any) -> Node:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attrs)


def tensor(name: str, shape: tuple[int, ...] = (4, 4)) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def model(
    nodes: list[Node] | None = None,
    weights: list[onnx.TensorProto] | None = None,
    inputs: dict[str, Any] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes or [node("MatMul", "x w")],
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (inputs or {"x": [1, 4]}).items()
        ],
        [helper.make_empty_tensor_value_info("y")],
        [tensor("w")] if weights is None else weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def write(folder: Path, made: onnx.ModelProto | bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def refused(path: Path, match: str) -> str:
    before = sorted(path.parent.rglob("*"))
    start = time.process_time()
    with pytest.raises(ModelFileError, match=match) as caught:
        compressor.audit(path)
    assert time.process_time() - start < 5
    text = str(caught.value)
    assert text.isprintable()  # so that it is one line without escapes
    assert len(text) < 600
    assert caught.value.exit_code == 3
    assert sorted(path.parent.rglob("*")) == before
    return text


# -- no model at all --


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"Buy milk, then train the network.\n", "text file"),
        (b"(this could be a tag)", "text file"),
        (b"2022;0.531\n2023;0.587\n", "text file"),
        (b"\x08", "cut off"),
        (b"\x08\x0a", "holds no graph"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "cut off"),
        (b"\x3a\x05abc", "5 B where 3 are left"),
        (b"\x08\x0a\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x40", "are left"),
        (b"\x08\x0a\x3a\x00\x3a\x00", "a second graph"),
        (b"\x08\x0a\x3a\x00", "no opset_import"),
        (b"\x08\x0a\x0b\x00", "wire type 3"),
        (b"\x08\x0a\x00\x00", "field without a number"),
        (b"\x08\x0a\xc2\x3e\x00", "not an ONNX model"),  # field 1000
    ],
)
def test_not_an_onnx_model(data: bytes, match: str, tmp_path: Path) -> None:
    refused(write(tmp_path, data), match)


def test_every_truncation_is_refused_or_harmless(tmp_path: Path) -> None:
    """Cut at any byte: an error of ours, or (cut between two fields) a smaller model."""
    data = model().SerializeToString()
    for size in range(1, len(data)):
        try:
            compressor.audit(write(tmp_path, data[:size]))
        except ModelFileError:
            continue


def test_random_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Identity", "go", "g2"), node("Conv", "h w", "h2", pads=[1, 1])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 4, 8]),
        ],
        [helper.make_empty_tensor_value_info(name) for name in ("g2", "h2")],
    )
    nodes = [
        node("Shape", "x", "s"),
        node("Reshape", "x s", "r"),
        node("Loop", "n - r", "l", body=body),
        node("Einsum", "l v", "e", equation="ncl,lk->nck"),
        node("GRU", "e gw gr", "y z", hidden_size=2),
    ]
    weights = [tensor("w", (4, 4, 3)), tensor("v", (8, 5)), tensor("gw", (1, 6, 5))]
    weights += [tensor("gr", (1, 6, 2)), numpy_helper.from_array(np.int64(3), "n")]
    data = bytearray(model(nodes, weights, {"x": [1, 4, 8]}).SerializeToString())
    # 3 passes of 4 x 4 x 3 weights at 8 places, 4 x 8 x 5, 1 x 4 steps of 30 + 12 weights
    assert compressor.audit(write(tmp_path, bytes(data))).macs == 3 * 384 + 160 + 4 * (30 + 12)
    rng = random.Random(3)
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        try:
            compressor.audit(write(tmp_path, bytes(broken)))
        except ModelFileError as error:
            assert str(error).isprintable()


# -- tensors that lie --


def changed(change: Callable[[onnx.TensorProto], None]) -> onnx.ModelProto:
    weight = tensor("w")
    change(weight)
    return model(weights=[weight])


def _dims(*dims: int) -> Callable[[onnx.TensorProto], None]:
    def change(weight: onnx.TensorProto) -> None:
        weight.dims[:] = dims

    return change


def _typed_floats(weight: onnx.TensorProto) -> None:
    weight.ClearField("raw_data")
    weight.float_data[:] = [1.0] * 15


def _wrong_field(weight: onnx.TensorProto) -> None:
    weight.ClearField("raw_data")
    weight.int64_data[:] = [1] * 16


def _both(weight: onnx.TensorProto) -> None:
    weight.float_data[:] = [1.0] * 16


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_dims(4, 5), "lies about its size: 20 elements declared, it holds 64 B where 80"),
        (_dims(4), "lies about its size"),
        (_dims(2**40, 2**21), "lies about its size"),
        (_dims(-4, -4), "axis of size -4"),
        (_dims(*[1] * 40), "40 axes|more than"),
        (lambda w: setattr(w, "data_type", 77), "unknown type 77"),
        (lambda w: setattr(w, "data_type", TensorProto.DOUBLE), "lies about its size"),
        (lambda w: setattr(w, "data_type", TensorProto.STRING), "lies about its size"),
        (lambda w: w.ClearField("raw_data"), "holds no data"),
        (_typed_floats, "15 entries where 16 belong"),
        (_wrong_field, "data of another type"),
        (_both, "lies about its size"),
    ],
)
def test_tensor_lies(
    change: Callable[[onnx.TensorProto], None], match: str, tmp_path: Path
) -> None:
    refused(write(tmp_path, changed(change)), match)


def test_sparse_lies(tmp_path: Path) -> None:
    made = model(weights=[])
    sparse = made.graph.sparse_initializer.add(dims=[2, 2])
    sparse.values.CopyFrom(tensor("w", (9,)))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(9), "i"))
    refused(write(tmp_path, made), "sparse tensor 'w' contradicts itself")


def test_duplicate_names(tmp_path: Path) -> None:
    refused(write(tmp_path, model(weights=[tensor("w"), tensor("w")])), "'w' is there twice")
    twice = [node("Relu", "x", "h"), node("Relu", "x", "h"), node("MatMul", "h w")]
    refused(write(tmp_path, model(twice)), "'h' is made twice")


@pytest.mark.parametrize(
    "name", ["a\nb", "a\x1b[2Jb", "a\u202eb", "a\x00b", "::error::\r", "\ud7ff\u2028"]
)
def test_control_characters_in_names(name: str, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name=name)]
    refused(write(tmp_path, model(nodes)), "control characters")
    refused(write(tmp_path, model(weights=[tensor(name)])), "control characters")


def test_long_names(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="n" * 100_000)]
    refused(write(tmp_path, model(nodes)), "a name of 100,000 B")


# -- external data --


def outside(folder: Path, **entries: Any) -> Path:
    weight = tensor("w")
    set_external_data(weight, **entries)
    weight.ClearField("raw_data")
    return write(folder, model(weights=[weight]))


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "/etc/passwd",
        "a/../../secret.bin",
        "..\\secret.bin",
        "C:secret.bin",
        "",
        ".",
    ],
)
def test_external_data_outside_of_the_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    refused(outside(folder, location=location), "outside the model's folder")


def test_external_links_pipes_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    folder = tmp_path / "model"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "w.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "inner.bin").symlink_to("real/w.bin")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.bin")
    for location in ("link.bin", "inner.bin", "up/secret.bin"):
        refused(outside(folder, location=location), "symbolic link")
    refused(outside(folder, location="pipe.bin"), "not a plain file")
    refused(outside(folder, location="real"), "not a plain file")
    refused(outside(folder, location="none.bin"), "cannot be read")
    refused(outside(folder, location="real/w.bin/x"), "cannot be read")
    assert compressor.audit(outside(folder, location="real/w.bin")).params == 16


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"offset": 4}, "96 B where 64 belong"),
        ({"offset": 40, "length": 64}, "ends at byte 104 of 100"),
        ({"offset": 10**17, "length": 64}, "ends at byte"),
        ({"length": 60}, "60 B where 64 belong"),
        ({"offset": -8, "length": 64}, "'-8' is no size"),
        ({"length": 10**30}, "is no size"),
    ],
)
def test_external_places_that_lie(entries: dict[str, int], match: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(100))
    refused(outside(tmp_path, location="w.bin", **entries), match)


def test_external_tensors_that_overlap(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(72))
    weights = [tensor("w"), tensor("v")]
    for place, weight in enumerate(weights):
        set_external_data(weight, location="w.bin", offset=8 * place, length=64)
        weight.ClearField("raw_data")
    nodes = [node("MatMul", "x w", "h"), node("MatMul", "h v")]
    refused(write(tmp_path, model(nodes, weights)), "overlap: 128 B claimed of 72")


# -- graphs that make no sense --


def test_cycles(tmp_path: Path) -> None:
    nodes = [node("Add", "x b", "a"), node("Relu", "a", "b"), node("MatMul", "b w")]
    refused(write(tmp_path, model(nodes)), "a cycle at 'Add'")
    nodes = [node("Add", "x a", "a"), node("MatMul", "a w")]
    refused(write(tmp_path, model(nodes)), "a cycle")


def test_names_that_nothing_makes(tmp_path: Path) -> None:
    refused(write(tmp_path, model([node("MatMul", "x ghost")])), "reads 'ghost', which nothing")
    refused(write(tmp_path, model([node("MatMul", "x w", "other")])), "outputs read 'y'")


@pytest.mark.parametrize(
    ("nodes", "inputs", "match"),
    [
        ([node("MatMul", "x w")], {"x": [1, 5]}, r"\(1, 5\) @ \(4, 4\) is not a matrix product"),
        ([node("Conv", "x w")], {"x": [1, 4]}, "does not fit a weight|contradict"),
        ([node("Conv", "x w")], {"x": [1, 3, 9]}, "contradict"),
        ([node("MaxPool", "x", kernel_shape=[9])], {"x": [1, 2, 4]}, "a window of 9"),
        ([node("MaxPool", "x")], {"x": [1, 2, 4]}, "contradict"),
        ([node("Transpose", "x", perm=[0, 0])], {"x": [1, 4]}, r"order \(0, 0\)"),
        ([node("Conv", "x")], {"x": [1, 4, 4]}, "input 1 is missing"),
        ([node("Cast", "x", to=99)], {"x": [1]}, "element type 99"),
        ([node("Softmax", "-")], {"x": [1]}, "missing"),
        ([node("If", "x")], {"x": [1]}, "'then_branch' is no graph"),
        ([node("Concat", "x x", axis=7)], {"x": [1]}, "axis 7 of 1"),
        ([node("Einsum", "x w", equation="ij,jk,k")], {"x": [1, 4]}, "for 2 operands"),
        ([node("GRU", "x w w")], {"x": [1, 1, 4]}, "contradict"),
    ],
)
def test_shapes_that_contradict(
    nodes: list[Node], inputs: dict[str, Any], match: str, tmp_path: Path
) -> None:
    refused(write(tmp_path, model(nodes, inputs=inputs)), match)


def test_sizes_beyond_all_memory(tmp_path: Path) -> None:
    """Huge arrays are arithmetic only: nothing is allocated, absurd ones are refused."""
    big = numpy_helper.from_array(np.array([2**20, 2**20]), "big")
    nodes = [node("ConstantOfShape", "big", "c"), node("MatMul", "c c")]
    result = compressor.audit(write(tmp_path, model(nodes, [big])))
    assert result.macs == 2**60
    assert result.peak_activation_bytes == 2 * 4 * 2**40  # two such arrays; nothing reads x
    absurd = numpy_helper.from_array(np.array([2**40, 2**40]), "big")
    for kind in ("ConstantOfShape", "Expand", "Tile"):
        inputs = "big" if kind == "ConstantOfShape" else "x big"
        text = "far too much|more elements than any memory holds|do not broadcast"
        refused(write(tmp_path, model([node(kind, inputs)], [absurd])), text)
    nodes = [node("Range", "a b s")]
    numbers = {"a": 0, "b": 2**62, "s": 1}
    ends = [numpy_helper.from_array(np.int64(value), name) for name, value in numbers.items()]
    refused(write(tmp_path, model(nodes, ends)), "far too much")
    refused(write(tmp_path, model(inputs={"x": [2**40, 2**40]})), "more elements than any memory")
    refused(write(tmp_path, model(inputs={"x": [-7, 4]})), "axis of size -7")


# -- input shapes --


def test_input_shapes_that_do_not_fit(tmp_path: Path) -> None:
    from compressor.audit.readers.files import read_file

    path = write(tmp_path, model([node("Relu", "x")], [], {"x": ["n", 3, "t"]}))
    graph = read_file(path, shapes=((2, 3, 7),)).graph
    assert graph is not None
    assert graph.values[graph.inputs[0]].shape == (2, 3, 7)
    for shapes, match in (
        (((2, 4, 7),), "does not fit input 'x' \\(nx3xt\\)"),
        (((2, 3),), "does not fit"),
        (((2, 3, 7), (1,)), "2 input shapes given, the file has 1 input"),
    ):
        with pytest.raises(UsageError, match=match):
            read_file(path, shapes=shapes)
