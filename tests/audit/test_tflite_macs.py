"""TFLite operators, strict and official MACs: every expected number is worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tflite_helpers import G, O, T, baseline, conv, model, pool, save

import compressor
from compressor.audit import AuditResult
from compressor.errors import ModelFileError


def ones(*shape: int) -> list[float]:
    count = 1
    for size in shape:
        count *= size
    return [1.0] * count


def weight(name: str, *shape: int) -> T:
    return T(name, shape, data=ones(*shape))


def one_op(tmp_path: Path, op: O, *tensors: T) -> AuditResult:
    """Audits one operator; activations that it reads are the inputs."""
    by_name = {tensor.name: tensor for tensor in tensors}
    given = [n for n in op.inputs if n and by_name[n].data is None and not by_name[n].variable]
    data = model(G(tensors, [op], given, op.outputs))
    return compressor.audit(save(tmp_path / "one.tflite", data))


def test_convolution(tmp_path: Path) -> None:
    # 8 x 6 output positions, filter 5 x 3 x 3 x 2 = 90: 48 * 90 = 4,320
    result = one_op(
        tmp_path,
        O("CONV_2D", ["x", "w", "b"], ["y"], conv()),
        T("x", (1, 8, 6, 2)),
        weight("w", 5, 3, 3, 2),
        weight("b", 5),
        T("y", (1, 8, 6, 5)),
    )
    assert result.macs == 4_320
    assert result.macs_by_convention["nessi-tflite"] == 4_320
    assert (result.params, result.param_bytes, result.status) == (95, 380, "exact")
    assert result.input_shape == (1, 8, 6, 2)
    # input 96 + output 240 numbers of 4 B alive together
    assert result.peak_activation_bytes == 1_344


def test_grouped_convolution_sees_its_own_channels(tmp_path: Path) -> None:
    # two groups: filter 4 x 1 x 1 x 3 on 6 channels, 10 positions: 10 * 12
    result = one_op(
        tmp_path,
        O("CONV_2D", ["x", "w", None], ["y"], conv()),
        T("x", (1, 2, 5, 6)),
        weight("w", 4, 1, 1, 3),
        T("y", (1, 2, 5, 4)),
    )
    assert result.macs == 120


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("CONV_2D", ((1, 4, 4, 2), (3, 1, 1, 0), (1, 4, 4, 3))),
        ("CONV_2D", ((1, 4, 4, 2), (3, 1, 1, 2), (1, 4, 4, 5))),
        ("CONV_2D", ((1, 4, 2), (3, 1, 1, 2), (1, 4, 4, 3))),
        ("CONV_3D", ((1, 4, 4, 4, 2), (1, 1, 1, 0, 3), (1, 4, 4, 4, 3))),
        ("DEPTHWISE_CONV_2D", ((1, 4, 4, 2), (2, 1, 1, 2), (1, 4, 4, 2))),
        ("FULLY_CONNECTED", ((1, 4), (3, 0), (1, 3))),
        ("FULLY_CONNECTED", ((1, 4), (3, 3), (1, 3))),
        ("BATCH_MATMUL", ((4, 2), (3, 4), (4, 4))),
    ],
)
def test_shapes_that_contradict_each_other(
    kind: str, shapes: tuple[tuple[int, ...], ...], tmp_path: Path
) -> None:
    given, held, out = shapes
    with pytest.raises(ModelFileError, match=r"^one.tflite: .* contradict each other"):
        one_op(tmp_path, O(kind, ["x", "w"], ["y"]), T("x", given), weight("w", *held), T("y", out))


def test_depthwise_convolution(tmp_path: Path) -> None:
    # stride 2: 4 x 3 positions; filter 1 x 3 x 3 x 8 (multiplier 2 on 4 channels) = 72: 864
    result = one_op(
        tmp_path,
        O("DEPTHWISE_CONV_2D", ["x", "w", "b"], ["y"], {**conv(2), 3: ("i", 2)}),
        T("x", (1, 8, 6, 4)),
        weight("w", 1, 3, 3, 8),
        weight("b", 8),
        T("y", (1, 4, 3, 8)),
    )
    assert result.macs == 864
    assert result.macs_by_convention["nessi-tflite"] == 864


def test_transposed_convolution_counts_input_positions(tmp_path: Path) -> None:
    # 4 x 3 input positions, filter 5 x 2 x 2 x 7 = 140: 1,680 (the 8 x 6 output would say 6,720)
    result = one_op(
        tmp_path,
        O("TRANSPOSE_CONV", ["shape", "w", "x", "b"], ["y"], conv(2)),
        T("shape", (4,), "int32", [1, 8, 6, 5]),
        weight("w", 5, 2, 2, 7),
        T("x", (1, 4, 3, 7)),
        weight("b", 5),
        T("y", (1, 8, 6, 5)),
    )
    assert result.macs == 1_680
    assert result.macs_by_convention["nessi-tflite"] == 0  # the official counter has no rule
    assert result.params == 145  # the output shape is a constant
    assert result.details["constants"] == {"y.operand0": 4}
    assert any("official counter reads 0 MACs" in note for note in result.notes)


def test_3d_convolutions(tmp_path: Path) -> None:
    # 2 x 3 x 3 positions, filter 2 x 2 x 2 x 3 x 4 = 96: 1,728
    result = one_op(
        tmp_path,
        O("CONV_3D", ["x", "w", None], ["y"]),
        T("x", (1, 3, 4, 4, 3)),
        weight("w", 2, 2, 2, 3, 4),
        T("y", (1, 2, 3, 3, 4)),
    )
    assert result.macs == 1_728
    # transposed, filter (D, H, W, O, I): 2 x 2 x 2 input positions x 1 * 2 * 2 * 4 * 3 = 48: 384
    result = one_op(
        tmp_path,
        O("CONV_3D_TRANSPOSE", ["shape", "w", "x"], ["y"]),
        T("shape", (5,), "int32", [1, 2, 4, 4, 4]),
        weight("w", 1, 2, 2, 4, 3),
        T("x", (1, 2, 2, 2, 3)),
        T("y", (1, 2, 4, 4, 4)),
    )
    assert result.macs == 384


def test_fully_connected_on_rows(tmp_path: Path) -> None:
    # 1 x 7 rows of 6 -> 4: 7 * 24
    result = one_op(
        tmp_path,
        O("FULLY_CONNECTED", ["x", "w", "b"], ["y"], {2: ("B", 1)}),
        T("x", (1, 7, 6)),
        weight("w", 4, 6),
        weight("b", 4),
        T("y", (1, 7, 4)),
    )
    assert result.macs == 168
    assert result.macs_by_convention["nessi-tflite"] == 168


def test_fully_connected_flattens_and_the_official_counter_does_not(tmp_path: Path) -> None:
    # 2 x 1 x 32 = 64 numbers -> 100: 6,400; by the last axis only: 100 * 32
    result = one_op(
        tmp_path,
        O("FULLY_CONNECTED", ["x", "w", None], ["y"]),
        T("x", (1, 2, 1, 32)),
        weight("w", 100, 64),
        T("y", (1, 100)),
    )
    assert result.macs == 6_400
    assert result.macs_by_convention["nessi-tflite"] == 3_200


@pytest.mark.parametrize(
    ("left", "right", "flags", "out", "macs"),
    [
        ((2, 5, 3), (2, 3, 4), (0, 0), (2, 5, 4), 2 * 5 * 3 * 4),
        ((2, 3, 5), (2, 3, 4), (1, 0), (2, 5, 4), 120),  # the left one transposed
        ((2, 5, 3), (2, 4, 3), (0, 1), (2, 5, 4), 120),  # the right one
        ((3, 1, 5, 3), (2, 3, 4), (0, 0), (3, 2, 5, 4), 360),  # 3 x 2 products by broadcasting
    ],
)
def test_batch_matmul(
    left: tuple[int, ...],
    right: tuple[int, ...],
    flags: tuple[int, int],
    out: tuple[int, ...],
    macs: int,
    tmp_path: Path,
) -> None:
    result = one_op(
        tmp_path,
        O("BATCH_MATMUL", ["a", "b"], ["y"], {0: ("B", flags[0]), 1: ("B", flags[1])}),
        T("a", left),
        T("b", right),
        T("y", out),
    )
    assert (result.macs, result.params, result.status) == (macs, 0, "exact")


def test_batch_matmul_with_a_stored_matrix(tmp_path: Path) -> None:
    result = one_op(
        tmp_path,
        O("BATCH_MATMUL", ["a", "b"], ["y"]),
        T("a", (1, 5, 3)),
        weight("b", 1, 3, 4),
        T("y", (1, 5, 4)),
    )
    assert (result.macs, result.params) == (60, 12)


def test_sequence_lstm(tmp_path: Path) -> None:
    # 10 steps x (4 input matrices 8 x 6 + 4 recurrent 8 x 8) = 10 * 448 = 4,480
    gates = range(4)
    tensors = [T("x", (1, 10, 6)), T("y", (1, 10, 8))]
    tensors += [weight(f"w{i}", 8, 6) for i in gates] + [weight(f"r{i}", 8, 8) for i in gates]
    tensors += [weight(f"b{i}", 8) for i in gates] + [weight(f"p{i}", 8) for i in range(3)]
    tensors += [T("h", (1, 8), variable=True), T("c", (1, 8), variable=True)]
    inputs: list[str | None] = ["x", *(f"w{i}" for i in gates), *(f"r{i}" for i in gates)]
    inputs += ["p0", "p1", "p2", *(f"b{i}" for i in gates), None, None, "h", "c"]
    result = one_op(tmp_path, O("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, ["y"]), *tensors)
    assert result.macs == 4_480
    assert result.params == 4 * 48 + 4 * 64 + 4 * 8 + 3 * 8
    # x 240 B, y 320 B, the two states 32 B each
    assert result.peak_activation_bytes == 624
    assert result.status == "exact"


def test_recurrent_cells(tmp_path: Path) -> None:
    # the basic LSTM kernel: one matrix (4 * 8, 6 + 8), one step
    basic = one_op(
        tmp_path,
        O("LSTM", ["x", "h", "w", "b", "c"], ["y"], {3: ("b", 1)}),
        T("x", (1, 6)),
        T("h", (1, 8), variable=True),
        weight("w", 32, 14),
        weight("b", 32),
        T("c", (1, 8), variable=True),
        T("y", (1, 8)),
    )
    assert basic.macs == 32 * 14
    # RNN: (8, 6) and (8, 8)
    rnn = one_op(
        tmp_path,
        O("RNN", ["x", "w", "r", "b", "h"], ["y"]),
        T("x", (1, 6)),
        weight("w", 8, 6),
        weight("r", 8, 8),
        weight("b", 8),
        T("h", (1, 8), variable=True),
        T("y", (1, 8)),
    )
    assert rnn.macs == 48 + 64
    # SVDF: 12 features of 6 numbers, then 12 products over a memory of 5 frames
    svdf = one_op(
        tmp_path,
        O("SVDF", ["x", "f", "t", "b", "s"], ["y"], {0: ("i", 2)}),
        T("x", (1, 6)),
        weight("f", 12, 6),
        weight("t", 12, 5),
        weight("b", 6),
        T("s", (1, 60), variable=True),
        T("y", (1, 6)),
    )
    assert (svdf.macs, svdf.params) == (72 + 60, 72 + 60 + 6)


def test_pooling_add_mean_and_product_cost_nothing_in_strict(tmp_path: Path) -> None:
    shapes = {"x": (1, 8, 6, 3), "p": (1, 4, 3, 3), "s": (1, 4, 3, 3), "m": (1, 3)}
    tensors = [*(T(name, shape) for name, shape in shapes.items()), T("q", (1, 4, 3, 3))]
    tensors.append(T("axes", (2,), "int32", [1, 2]))
    ops = [
        O("AVERAGE_POOL_2D", ["x"], ["p"], pool(2, 2)),
        O("ADD", ["p", "p"], ["s"]),
        O("MUL", ["s", "p"], ["q"]),
        O("MEAN", ["q", "axes"], ["m"]),
    ]
    result = compressor.audit(
        save(tmp_path / "free.tflite", model(G(tensors, ops, ["x"], ["m"]))), convention="nessi"
    )
    assert result.macs_by_convention["strict"] == 0
    # pool 4 * 3 * 3 outputs x 4; ADD 36 outputs; MEAN 36 inputs; MUL nothing
    assert result.macs == 36 * 4 + 36 + 36
    assert (result.params, result.status) == (0, "exact")
    assert result.details["constants"] == {"m.operand1": 2}


def test_unknown_operators_make_the_figure_partial(tmp_path: Path) -> None:
    tensors = [T("x", (1, 8)), T("y", (1, 8)), T("z", (1, 8)), T("length", (1,), "int32", [8])]
    ops = [
        O("CUSTOM", ["x"], ["y"], custom="Frob<script>\n"),
        O("RFFT2D", ["y", "length"], ["z"]),
    ]
    path = save(tmp_path / "custom.tflite", model(G(tensors, ops, ["x"], ["z"])))
    result = compressor.audit(path)
    assert result.statuses["macs"] == "partial"
    assert result.statuses["params"] == "exact"
    assert result.uncounted == ("tflite.CUSTOM:Frob<script>? at y", "tflite.RFFT2D at z")


def test_an_activation_of_unknown_shape_is_not_a_contradiction(tmp_path: Path) -> None:
    result = one_op(
        tmp_path,
        O("FULLY_CONNECTED", ["x", "w", None], ["y"]),
        T("x", ()),
        weight("w", 4, 6),
        T("y", ()),
    )
    assert result.statuses["macs"] == "partial"
    assert result.uncounted == ("tflite.FULLY_CONNECTED (of unknown shape) at y",)


def test_open_axes(tmp_path: Path) -> None:
    def audit(signature: tuple[int, ...]) -> AuditResult:
        return one_op(
            tmp_path,
            O("RELU", ["x"], ["y"]),
            T("x", (1, 1, 6), signature=signature),
            T("y", (1, 1, 6)),
        )

    assert audit((-1, 1, 6)).status == "exact"  # one clip
    result = audit((1, -1, 6))
    assert result.statuses["macs"] == "partial"
    assert any("leaves axis 1 open" in note for note in result.notes)


def test_official_baseline_2022(tmp_path: Path) -> None:
    """Golden: 45,816 int8 and 174 int32 numbers, 46,512 B, 29,234,920 MACs by the counter."""
    result = compressor.audit(save(tmp_path / "model_task1.tflite", baseline()))
    assert result.bytes_by_dtype == {"int8": 45_816, "int32": 4 * 174}
    assert (result.params, result.nonzero_params) == (45_990, 45_990)
    assert result.param_bytes == 46_512
    assert result.bytes_by_convention["nessi-tflite"] == 46_512
    # 40 * 51 positions x 7 * 7 x 16, the same x 16 channels, 8 * 10 x 7 * 7 * 16 * 32
    convolutions = 2_040 * 784 + 2_040 * 12_544 + 80 * 25_088
    assert result.macs == convolutions + 6_400 + 1_000 == 29_203_560
    # the counter adds 8 * 10 * 16 windows of 25 and 2 * 32 of 40, and sees 32 of the 64 inputs
    official = convolutions + 1_280 * 25 + 64 * 40 + 3_200 + 1_000
    assert result.macs_by_convention["nessi-tflite"] == official == 29_234_920
    assert result.macs_by_convention["nessi"] == 29_234_920  # NeSsi's mode for this format
    assert result.params_by_convention["keras-2020"] == 45_990
    # two maps of 40 * 51 * 16 int8 numbers at the second convolution
    assert result.peak_activation_bytes == 2 * 40 * 51 * 16
    assert result.status == "exact"
    assert [layer.name for layer in result.layers if layer.params] == [
        "conv2d",
        "conv2d_1",
        "conv2d_2",
        "dense",
        "dense_1",
    ]
    assert sum(layer.macs for layer in result.layers) == result.macs
