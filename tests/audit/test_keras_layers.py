"""Keras layers one by one: multiply-accumulates and output shapes, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from keras_helpers import chain, functional, layer, ones, save_h5, sequential

import compressor
from compressor.audit import AuditResult
from compressor.errors import ModelFileError


def audit(
    tmp_path: Path, config: dict[str, Any], weights: dict[str, dict[str, Any]]
) -> AuditResult:
    return compressor.audit(save_h5(tmp_path / "a.h5", weights, config))


def one(
    tmp_path: Path, shape: tuple[int, ...], kind: str, arrays: dict[str, Any], **config: Any
) -> AuditResult:
    """Audits one layer behind an input; an empty Dense-like list of weights is fine."""
    layers = [
        layer("InputLayer", "in", batch_input_shape=[None, *shape]),
        layer(kind, "l", **config),
    ]
    return audit(tmp_path, chain(layers), {"l": arrays, "extra": {"kernel": ones(1)}})


def shape_of(result: AuditResult) -> tuple[int, ...]:
    return next(row.output_shape for row in result.layers if row.name == "l")


WINDOW = {"kernel_size": [3, 3], "strides": [1, 1], "padding": "valid"}


@pytest.mark.parametrize(
    ("kind", "shape", "arrays", "config", "out", "macs"),
    [
        # 6 x 8 positions, 3 x 3 x 2 x 5
        (
            "Conv2D",
            (8, 10, 2),
            {"kernel": ones(3, 3, 2, 5), "bias": ones(5)},
            {"filters": 5, **WINDOW},
            (1, 6, 8, 5),
            48 * 90,
        ),
        # SAME and stride 2: 4 x 5 positions
        (
            "Conv2D",
            (8, 10, 2),
            {"kernel": ones(3, 3, 2, 5)},
            {"filters": 5, **WINDOW, "strides": [2, 2], "padding": "same"},
            (1, 4, 5, 5),
            20 * 90,
        ),
        # a window of 3 at dilation 3 is 7 wide: 2 x 4 positions
        (
            "Conv2D",
            (8, 10, 2),
            {"kernel": ones(3, 3, 2, 5)},
            {"filters": 5, **WINDOW, "dilation_rate": [3, 3]},
            (1, 2, 4, 5),
            8 * 90,
        ),
        # two groups see 2 of the 4 channels each
        (
            "Conv2D",
            (8, 10, 4),
            {"kernel": ones(1, 1, 2, 6)},
            {"filters": 6, "kernel_size": [1, 1], "groups": 2},
            (1, 8, 10, 6),
            80 * 12,
        ),
        (
            "Conv2D",
            (2, 8, 10),
            {"kernel": ones(3, 3, 2, 5)},
            {"filters": 5, **WINDOW, "data_format": "channels_first"},
            (1, 5, 6, 8),
            48 * 90,
        ),
        # causal: as many steps as before
        (
            "Conv1D",
            (10, 3),
            {"kernel": ones(5, 3, 4)},
            {"filters": 4, "kernel_size": [5], "padding": "causal", "dilation_rate": [2]},
            (1, 10, 4),
            10 * 60,
        ),
        (
            "Conv3D",
            (4, 4, 4, 2),
            {"kernel": ones(3, 3, 3, 2, 2)},
            {"filters": 2, "kernel_size": [3, 3, 3]},
            (1, 2, 2, 2, 2),
            8 * 108,
        ),
        # multiplier 2: 6 x 8 positions, 3 x 3 x 4 x 2
        (
            "DepthwiseConv2D",
            (8, 10, 4),
            {"depthwise_kernel": ones(3, 3, 4, 2)},
            {**WINDOW, "depth_multiplier": 2},
            (1, 6, 8, 8),
            48 * 72,
        ),
        # depthwise 3 x 3 x 4 and pointwise 4 x 5, both at 6 x 8 positions
        (
            "SeparableConv2D",
            (8, 10, 4),
            {"depthwise_kernel": ones(3, 3, 4, 1), "pointwise_kernel": ones(1, 1, 4, 5)},
            {"filters": 5, **WINDOW},
            (1, 6, 8, 5),
            48 * (36 + 20),
        ),
        # kernel (window, O, I) at the 4 x 5 *input* positions
        (
            "Conv2DTranspose",
            (4, 5, 3),
            {"kernel": ones(2, 2, 6, 3)},
            {"filters": 6, "kernel_size": [2, 2], "strides": [2, 2]},
            (1, 8, 10, 6),
            20 * 72,
        ),
        # valid and overlapping: (4 - 1) * 2 + 3 = 9 and 11
        (
            "Conv2DTranspose",
            (4, 5, 3),
            {"kernel": ones(3, 3, 6, 3)},
            {"filters": 6, **WINDOW, "strides": [2, 2]},
            (1, 9, 11, 6),
            20 * 162,
        ),
        # every row of a matrix
        ("Dense", (7, 6), {"kernel": ones(6, 4)}, {"units": 4}, (1, 7, 4), 7 * 24),
        # 10 steps of 4 gates (6 x 8 and 8 x 8)
        (
            "LSTM",
            (10, 6),
            {"lstm_cell/kernel": ones(6, 32), "lstm_cell/recurrent_kernel": ones(8, 32)},
            {"units": 8, "return_sequences": True},
            (1, 10, 8),
            10 * (192 + 256),
        ),
        # 3 gates; the last state only
        (
            "GRU",
            (10, 6),
            {"kernel": ones(6, 24), "recurrent_kernel": ones(8, 24), "bias": ones(2, 24)},
            {"units": 8},
            (1, 8),
            10 * (144 + 192),
        ),
        # forward and backward, side by side
        (
            "Bidirectional",
            (10, 6),
            {
                f"{way}_gru/gru_cell/{name}": ones(rows, 24)
                for way in ("forward", "backward")
                for name, rows in (("kernel", 6), ("recurrent_kernel", 8))
            },
            {
                "merge_mode": "concat",
                "layer": {"class_name": "GRU", "config": {"units": 8, "return_sequences": True}},
            },
            (1, 10, 16),
            2 * 10 * (144 + 192),
        ),
        # the layer at each of 5 steps
        (
            "TimeDistributed",
            (5, 8, 10, 2),
            {"kernel": ones(3, 3, 2, 4)},
            {"layer": {"class_name": "Conv2D", "config": {"filters": 4, **WINDOW}}},
            (1, 5, 6, 8, 4),
            5 * 48 * 72,
        ),
    ],
)
def test_layers_with_macs(
    kind: str,
    shape: tuple[int, ...],
    arrays: dict[str, Any],
    config: dict[str, Any],
    out: tuple[int, ...],
    macs: int,
    tmp_path: Path,
) -> None:
    result = one(tmp_path, shape, kind, arrays, **config)
    assert shape_of(result) == out
    assert (result.macs, result.status) == (macs, "exact")
    assert result.params == sum(array.size for array in arrays.values()) + 1


@pytest.mark.parametrize(
    ("kind", "shape", "config", "out"),
    [
        ("MaxPooling2D", (9, 10, 3), {"pool_size": [2, 3]}, (1, 4, 3, 3)),
        ("MaxPool2D", (9, 10, 3), {"pool_size": 2, "padding": "same"}, (1, 5, 5, 3)),
        ("AveragePooling1D", (10, 3), {"pool_size": [4], "strides": [2]}, (1, 4, 3)),
        ("GlobalAveragePooling2D", (9, 10, 3), {}, (1, 3)),
        ("GlobalMaxPooling1D", (9, 3), {"keepdims": True}, (1, 1, 3)),
        ("Flatten", (9, 10, 3), {}, (1, 270)),
        ("Reshape", (6, 4), {"target_shape": [3, -1]}, (1, 3, 8)),
        ("Permute", (2, 3, 4), {"dims": [3, 1, 2]}, (1, 4, 2, 3)),
        ("RepeatVector", (5,), {"n": 3}, (1, 3, 5)),
        ("ZeroPadding2D", (4, 5, 2), {"padding": [[1, 2], [3, 4]]}, (1, 7, 12, 2)),
        ("ZeroPadding1D", (4, 2), {"padding": [1, 2]}, (1, 7, 2)),
        ("Cropping2D", (6, 7, 2), {"cropping": [[1, 2], [0, 3]]}, (1, 3, 4, 2)),
        ("UpSampling2D", (4, 5, 2), {"size": [2, 3]}, (1, 8, 15, 2)),
        ("PReLU", (4, 5), {}, (1, 4, 5)),
        ("LayerNormalization", (4, 5), {}, (1, 4, 5)),
        ("Embedding", (7,), {"output_dim": 4}, (1, 7, 4)),
    ],
)
def test_layers_without_macs(
    kind: str, shape: tuple[int, ...], config: dict[str, Any], out: tuple[int, ...], tmp_path: Path
) -> None:
    result = one(tmp_path, shape, kind, {}, **config)
    assert shape_of(result) == out
    assert (result.macs, result.status) == (0, "exact")


def test_branches_join(tmp_path: Path) -> None:
    config = functional(
        [
            layer("InputLayer", "in", batch_input_shape=[None, 8]),
            layer("Concatenate", "both", ["left", "right"], axis=-1),  # before what it reads
            layer("Dense", "left", ["in"], units=3),
            layer("Dense", "right", ["in"], units=4),
            layer("Dense", "out", ["both"], units=2),
        ],
        ["in"],
        ["out"],
    )
    weights = {
        "left": {"kernel": ones(8, 3)},
        "right": {"kernel": ones(8, 4)},
        "out": {"kernel": ones(7, 2)},
    }
    result = audit(tmp_path, config, weights)
    assert (result.macs, result.status) == (24 + 32 + 14, "exact")
    # at the concatenation: 3 + 4 numbers and 7 more; at "right": 8 + 3 + 4 are more
    assert result.peak_activation_bytes == 4 * 15


def test_a_layer_called_twice_counts_its_weights_once(tmp_path: Path) -> None:
    shared = layer("Dense", "shared", units=8)
    shared["inbound_nodes"] = [[["in", 0, 0, {}]], [["shared", 0, 0, {}]]]
    config = functional(
        [layer("InputLayer", "in", batch_input_shape=[None, 8]), shared], ["in"], []
    )
    config["config"]["output_layers"] = [["shared", 1, 0]]
    result = audit(tmp_path, config, {"shared": {"kernel": ones(8, 8), "bias": ones(8)}})
    assert (result.params, result.macs) == (72, 128)
    (row,) = [row for row in result.layers if row.params]
    assert row.calls == 2


def test_a_model_inside_a_model(tmp_path: Path) -> None:
    """Keras 2 stores the inner layers' weights under the inner model, by their own names."""
    inner = chain(
        [
            layer("InputLayer", "inner_in", batch_input_shape=[None, 6]),
            layer("Dense", "first", units=4),
            layer("BatchNormalization", "norm"),
        ]
    )
    nested = {**layer("Functional", "body", ["in"]), "config": {**inner["config"], "name": "body"}}
    config = functional(
        [
            layer("InputLayer", "in", batch_input_shape=[None, 6]),
            nested,
            layer("Dense", "last", ["body"], units=2),
        ],
        ["in"],
        ["last"],
    )
    path = save_h5(tmp_path / "a.h5", {"in": {}, "last": {"kernel": ones(4, 2)}}, config)
    import h5py

    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        group.attrs["layer_names"] = [b"in", b"body", b"last"]
        body = group.create_group("body")
        names = ["first/kernel:0", "norm/gamma:0", "norm/moving_mean:0", "norm/moving_variance:0"]
        body.attrs["weight_names"] = [name.encode() for name in names]
        body.create_dataset(names[0], data=ones(6, 4))
        for name in names[1:]:
            body.create_dataset(name, data=ones(4))
    result = compressor.audit(path)
    assert (result.params, result.macs, result.status) == (24 + 4 + 8, 24 + 8, "exact")
    assert result.params_by_convention["keras-2020"] == 32
    assert {row.name for row in result.layers if row.params} == {"body/first", "body/norm", "last"}


def test_a_layer_of_the_authors_own_makes_the_figure_partial(tmp_path: Path) -> None:
    result = one(tmp_path, (4, 4), "MyAttention", {"w": ones(4, 4)})
    assert result.uncounted == ("keras.MyAttention at l",)
    assert result.statuses["macs"] == "partial"
    assert (result.params, result.statuses["params"]) == (17, "exact")


def test_a_layer_whose_weights_are_missing_is_partial(tmp_path: Path) -> None:
    result = one(tmp_path, (7, 6), "Dense", {}, units=4)
    assert result.uncounted == ("keras.Dense (its weights are not stored) at l",)
    assert result.statuses["macs"] == "partial"


@pytest.mark.parametrize(
    ("shape", "kind", "arrays", "config", "match"),
    [
        ((7, 6), "Dense", {"kernel": ones(5, 4)}, {"units": 4}, "contradict each other"),
        ((7, 6), "Dense", {"kernel": ones(6, 5)}, {"units": 4}, "contradict each other"),
        ((2, 2, 1), "Conv2D", {}, {"filters": 2, **WINDOW}, "too small for the layer"),
        (
            (8, 8, 2),
            "Conv2D",
            {"kernel": ones(3, 3, 0, 2)},
            {"filters": 2, **WINDOW},
            "contradict each other",
        ),
        ((8, 8, 1), "Conv2D", {}, {"filters": 2, **WINDOW, "padding": "odd"}, "padding 'odd'"),
        ((8, 8, 1), "Conv2D", {}, {"filters": "two", **WINDOW}, "whole numbers are expected"),
        ((8, 8, 1), "Conv2D", {}, {"filters": 2, "kernel_size": "\n\x1b"}, r"ValueError \?\?"),
        ((8, 8, 1), "Conv2D", {}, {"filters": -2, **WINDOW}, "whole numbers are expected"),
        ((8, 8, 1), "Conv2D", {}, {"filters": 2}, "KeyError"),
        ((8, 8, 1), "Conv2D", {}, {"filters": 2, **WINDOW, "strides": [0, 0]}, "stride 0"),
        ((6, 4), "Reshape", {}, {"target_shape": [5, -1]}, "cannot become"),
        ((6, 4), "Reshape", {}, {"target_shape": ["x"]}, "invalid literal"),
        ((6, 4), "Permute", {}, {"dims": [1, 1]}, r"axes \[1, 1\]"),
        ((6,), "RepeatVector", {}, {"n": 1 << 62}, "whole numbers are expected"),
        ((6,), "Embedding", {}, {"output_dim": (1 << 31) - 1}, None),
        ((6,), "Reshape", {}, {"target_shape": [1] * 40 + [6]}, "41 axes|42 axes"),
    ],
)
def test_configurations_that_cannot_be(
    shape: tuple[int, ...],
    kind: str,
    arrays: dict[str, Any],
    config: dict[str, Any],
    match: str | None,
    tmp_path: Path,
) -> None:
    if match is None:
        assert one(tmp_path, shape, kind, arrays, **config).macs == 0
        return
    with pytest.raises(ModelFileError, match=match) as caught:
        one(tmp_path, shape, kind, arrays, **config)
    assert str(caught.value).startswith("a.h5: ")
    assert str(caught.value).isprintable()


def test_circles_and_loose_ends(tmp_path: Path) -> None:
    start = layer("InputLayer", "in", batch_input_shape=[None, 8])
    circle = functional(
        [start, layer("Add", "a", ["in", "b"]), layer("Activation", "b", ["a"])], ["in"], ["b"]
    )
    loose = functional([start, layer("Activation", "a", ["nobody"])], ["in"], ["a"])
    absent = functional([start, layer("Activation", "a", ["in"])], ["in"], ["z"])
    twice = functional([start, start], ["in"], ["in"])
    for config, match in (
        (circle, "waits for a layer that never runs"),
        (loose, "waits for a layer that never runs"),
        (absent, "no output 0 of 'z'"),
        (twice, "two layers of one name"),
        (sequential([]), "lists no layers"),
        ({"class_name": "MyModel", "config": {"units": 3}}, "save it as a functional model"),
        ({"class_name": 3, "config": {"layers": [start]}}, "no class name"),
        ({"config": {"layers": ["x"]}, "class_name": "Model"}, "a layer that is no object"),
    ):
        with pytest.raises(ModelFileError, match=match):
            audit(tmp_path, config, {"a": {"kernel": ones(2)}})


def test_models_that_call_models_many_times_end(tmp_path: Path) -> None:
    """Nine levels that each run the next ten times: refused in bounded time."""
    import time

    config: dict[str, Any] = chain(
        [layer("InputLayer", "in9", batch_input_shape=[None, 8]), layer("Activation", "act")]
    )
    for level in range(8, -1, -1):
        inner = {**layer("Functional", f"m{level}"), "config": config["config"]}
        inner["inbound_nodes"] = [[[f"in{level}", 0, 0, {}]]]
        inner["inbound_nodes"] += [[[f"m{level}", i, 0, {}]] for i in range(9)]
        start = layer("InputLayer", f"in{level}", batch_input_shape=[None, 8])
        config = functional([start, inner], [f"in{level}"], [])
        config["config"]["output_layers"] = [[f"m{level}", 9, 0]]
    begin = time.process_time()
    with pytest.raises(ModelFileError, match="more than 50,000 layer calls"):
        audit(tmp_path, config, {"a": {"kernel": ones(2)}})
    assert time.process_time() - begin < 5
