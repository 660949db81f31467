"""Keras files: golden baselines, layouts, parameters and buffers; figures worked out by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_helpers import (
    baseline,
    chain,
    layer,
    numbered,
    ones,
    save_h5,
    save_keras,
    sequential,
)

import compressor


def test_baseline_2020(tmp_path: Path) -> None:
    """Golden: 115,219 parameters without BatchNorm, 460,876 B."""
    config, weights = baseline([32, 64], [(5, 5), (4, 100)], [100, 3], 500)
    result = compressor.audit(save_h5(tmp_path / "model.h5", weights, config))
    convolutions = 49 * 32 + 32, 49 * 32 * 64 + 64
    dense = 128 * 100 + 100 + 100 * 3 + 3
    assert result.params_by_convention["keras-2020"] == sum(convolutions) + dense == 115_219
    assert result.bytes_by_convention["keras-2020"] == 460_876
    # BatchNorm: scale and shift are parameters, the moving statistics are buffers
    assert result.params == 115_219 + 2 * 32 + 2 * 64
    assert result.buffer_bytes == 4 * (2 * 32 + 2 * 64)
    assert result.params_by_convention["keras-2021"] == 115_219 + 4 * 32 + 4 * 64
    # 40 x 500 positions, then 8 x 100; Flatten gives 2 x 1 x 64
    macs = 20_000 * 49 * 32 + 800 * 49 * 32 * 64 + 12_800 + 300
    assert (result.macs, result.status) == (macs, "exact")
    assert result.input_shape == (1, 40, 500, 1)
    # a map of 20,000 x 32 float32 numbers before and behind BatchNorm
    assert result.peak_activation_bytes == 2 * 4 * 640_000


def test_baseline_2021(tmp_path: Path) -> None:
    """Golden: 46,246 parameters with moving statistics, 90.3 KB as float16."""
    config, weights = baseline([16, 16, 32], [None, (5, 5), (4, 100)], [100, 10], 500)
    result = compressor.audit(save_h5(tmp_path / "model.h5", weights, config))
    assert result.params_by_convention["keras-2021"] == 46_246
    assert result.params == 46_246 - 2 * 64
    halves = {
        name: {key: value.astype("float16") for key, value in arrays.items()}
        for name, arrays in weights.items()
    }
    half = compressor.audit(save_h5(tmp_path / "half.h5", halves, config))
    assert half.bytes_by_convention["keras-2021"] == 92_492
    assert round(92_492 / 1024, 1) == 90.3
    assert half.bytes_by_dtype == {"float16": 2 * 46_118}


def test_baseline_2022_before_folding(tmp_path: Path) -> None:
    """Golden: 46,118 parameters and 29,271,638 MACs by the rules of the torch counter."""
    config, weights = baseline([16, 16, 32], [None, (5, 5), (4, 10)], [100, 10], 51)
    result = compressor.audit(save_h5(tmp_path / "model.h5", weights, config))
    assert result.params == result.params_by_convention["nessi"] == 46_118
    assert result.macs == 2_040 * 784 + 2_040 * 12_544 + 80 * 25_088 + 6_400 + 1_000
    # (weights + bias) x positions, BatchNorm and Dense their parameters once
    official = 2_040 * 800 + 2_040 * 12_560 + 80 * 25_120 + 128 + 6_500 + 1_010
    assert result.macs_by_convention["nessi"] == official == 29_271_638


def test_zeros_do_not_count_in_the_keras_years(tmp_path: Path) -> None:
    config, weights = baseline([32, 64], [(5, 5), (4, 100)], [100, 3], 500)
    weights["dense_0"]["kernel"][:64] = 0
    weights["dense_0"]["kernel"][64:66] = -0.0
    result = compressor.audit(save_h5(tmp_path / "model.h5", weights, config))
    assert result.nonzero_by_convention["keras-2020"] == 115_219 - 6_600
    assert result.params == 115_411


def small() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    config, weights = baseline([4], [(4, 4)], [3], 8)
    return config, weights  # 49 * 4 + 4, 4 * 4, Flatten 10 * 2 * 4 = 80, 80 * 3 + 3


def test_weights_alone_have_no_macs(tmp_path: Path) -> None:
    _, weights = small()
    result = compressor.audit(save_h5(tmp_path / "a.h5", weights))
    assert (result.params, result.macs) == (200 + 8 + 243, None)
    assert result.statuses["macs"] == "unknown"
    assert result.statuses["params"] == "exact"
    assert result.params_by_convention["keras-2020"] == 443
    assert result.params_by_convention["keras-2021"] == 459


def test_optimizer_state_is_left_out_and_said(tmp_path: Path) -> None:
    config, weights = small()
    result = compressor.audit(save_h5(tmp_path / "a.h5", weights, config, optimizer=77))
    assert result.params == 451
    assert any("1 tensors, 308 B" in note for note in result.notes)


def test_long_lists_are_cut_into_parts(tmp_path: Path) -> None:
    """HDF5 attributes hold 64 kB: Keras cuts longer lists into name0, name1, ..."""
    _, weights = small()
    path = save_h5(tmp_path / "a.h5", weights)
    with h5py.File(path, "r+") as file:
        names = list(file.attrs["layer_names"])
        del file.attrs["layer_names"]
        file.attrs["layer_names0"] = names[:2]
        file.attrs["layer_names1"] = names[2:]
    assert compressor.audit(path).params == 451


def archive_parts() -> tuple[dict[str, Any], dict[str, list[Any]]]:
    config, weights = small()
    groups: dict[str, list[Any]] = {
        "layers/conv2d": list(weights["conv2d_0"].values()),
        "layers/batch_normalization": list(weights["bn_conv2d_0"].values()),
        "layers/dense": list(weights["dense_0"].values()),
        "optimizer": [ones(9)],
        "layers/dropout/seed_generator": [np.ones(2, np.uint32)],
    }
    return config, groups


def test_archive_whose_groups_are_numbered_by_class(tmp_path: Path) -> None:
    config, groups = archive_parts()
    result = compressor.audit(save_keras(tmp_path / "a.keras", config, numbered(groups)))
    assert (result.params, result.status, result.format) == (451, "exact", "keras")
    # 40 * 8 positions of 49 x 4, 80 x 3
    assert result.macs == 320 * 196 + 240
    assert result.params_by_convention["keras-2020"] == 443
    # moving statistics 2 x 16 B, the state of the dropout's generator 8 B
    assert result.buffer_bytes == 40
    assert {layer.name for layer in result.layers if layer.params} == {
        "conv2d_0",
        "bn_conv2d_0",
        "dense_0",
    }


def test_archive_whose_groups_carry_the_names(tmp_path: Path) -> None:
    """The names at the groups win over the numbers, whatever the order."""
    config, groups = archive_parts()
    names = {"layers/conv2d": "conv2d_0", "layers/dense": "dense_0"}
    names["layers/batch_normalization"] = "bn_conv2d_0"
    data = numbered(groups, names)
    result = compressor.audit(save_keras(tmp_path / "a.keras", config, data))
    assert (result.params, result.macs, result.status) == (451, 62_960, "exact")
    (tmp_path / "a.weights.h5").write_bytes(data)
    alone = compressor.audit(tmp_path / "a.weights.h5")
    assert (alone.params, alone.params_by_convention["keras-2020"]) == (451, 443)
    assert "bn_conv2d_0" in {layer.name for layer in alone.layers}


def test_keras_3_configuration(tmp_path: Path) -> None:
    """Keras 3 writes connections as tensors inside the arguments, and one output as a flat list."""

    def tensor(name: str) -> dict[str, Any]:
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None, 6], "dtype": "float32", "keras_history": [name, 0, 0]},
        }

    def node(*names: str) -> list[dict[str, Any]]:
        given = [tensor(name) for name in names]
        return [{"args": [given if len(given) > 1 else given[0]], "kwargs": {"mask": None}}]

    first = layer("InputLayer", "in", batch_shape=[None, 6])
    wide = {**layer("Dense", "wide", units=4), "inbound_nodes": node("in")}
    other = {**layer("Dense", "other", units=4), "inbound_nodes": node("in")}
    both = {**layer("Add", "both"), "inbound_nodes": node("wide", "other")}
    config = {
        "class_name": "Functional",
        "config": {
            "name": "m",
            "layers": [first, wide, other, both],
            "input_layers": ["in", 0, 0],
            "output_layers": [["both", 0, 0]],
        },
    }
    groups = {"layers/dense": [ones(6, 4), ones(4)], "layers/dense_1": [ones(6, 4), ones(4)]}
    result = compressor.audit(save_keras(tmp_path / "a.keras", config, numbered(groups)))
    assert (result.params, result.macs, result.status) == (56, 48, "exact")
    # at the sum: two vectors of 4 and their sum
    assert result.peak_activation_bytes == 4 * (6 + 4 + 4)


def test_sequential_models(tmp_path: Path) -> None:
    weights = {"dense": {"kernel": ones(6, 4), "bias": ones(4)}}
    dense = layer("Dense", "dense", units=4)
    with_input = layer("Dense", "dense", units=4, batch_input_shape=[None, 6])
    for config in (
        sequential([with_input]),
        {"class_name": "Sequential", "config": [with_input]},  # Keras 1
        sequential([layer("InputLayer", "in", batch_input_shape=[None, 6]), dense]),
        sequential([dense], build_input_shape=[None, 6]),
    ):
        result = compressor.audit(save_h5(tmp_path / "a.h5", weights, config))
        assert (result.params, result.macs, result.status) == (28, 24, "exact")
    result = compressor.audit(save_h5(tmp_path / "a.h5", weights, sequential([dense])))
    assert result.statuses["macs"] == "unknown"
    assert any("does not give the shape" in note for note in result.notes)


def test_an_open_input_leaves_macs_unknown_and_says_so(tmp_path: Path) -> None:
    config = chain(
        [layer("InputLayer", "in", batch_input_shape=[None, None, 6]), layer("GRU", "g", units=2)]
    )
    weights = {
        "g": {"gru_cell/kernel": ones(6, 6), "gru_cell/recurrent_kernel": ones(2, 6)},
    }
    result = compressor.audit(save_h5(tmp_path / "a.h5", weights, config))
    assert (result.params, result.macs) == (48, None)
    assert any("leaves its input open (1x?x6)" in note for note in result.notes)


def test_one_array_under_two_names_is_tied(tmp_path: Path) -> None:
    weights = {"a": {"kernel": ones(4, 4)}, "b": {"kernel": ones(4, 4)}}
    path = save_h5(tmp_path / "a.h5", weights)
    with h5py.File(path, "r+") as file:
        del file["b/b/kernel:0"]
        file["b/b/kernel:0"] = file["a/a/kernel:0"]
    result = compressor.audit(path)
    assert result.params == 16
    assert result.details["tied"] == {"b.kernel": "a.kernel"}


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("float16", "float16"), ("float64", "float64"), ("int8", "int8"), (">f4", "float32")],
)
def test_number_types(dtype: str, name: str, tmp_path: Path) -> None:
    array = np.array([[0, 1], [-0.0, 2]]).astype(dtype)
    result = compressor.audit(save_h5(tmp_path / "a.h5", {"d": {"kernel": array}}))
    assert result.bytes_by_dtype == {name: 4 * np.dtype(dtype).itemsize}
    assert result.nonzero_params == 2


def test_frozen_layers_are_named(tmp_path: Path) -> None:
    config, weights = small()
    config["config"]["layers"][1]["config"]["trainable"] = False
    result = compressor.audit(save_h5(tmp_path / "a.h5", weights, config))
    assert result.details["frozen"] == ["conv2d_0.kernel", "conv2d_0.bias"]


def test_other_layouts_of_h5py(tmp_path: Path) -> None:
    """Files of the newest HDF5 layout too, as far as their groups are small."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_group("dense/dense").create_dataset("kernel:0", data=ones(3, 2))
        file.attrs["layer_names"] = ["dense"]
        file["dense"].attrs["weight_names"] = ["dense/kernel:0"]
    assert compressor.audit(path).params == 6
    with h5py.File(path, "w", track_order=True) as file:
        file.create_group("some/where", track_order=True).create_dataset("w", data=ones(3, 2))
    assert compressor.audit(path).params == 6


def test_the_light_path_imports_no_heavy_package(tmp_path: Path) -> None:
    config, weights = small()
    path = save_h5(tmp_path / "a.h5", weights, config)
    code = (
        "import sys; from compressor.audit import audit; audit(sys.argv[1]); "
        "print(sorted({'torch', 'numpy', 'keras', 'h5py'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_lambda_is_named_and_never_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = {"class_name": "__lambda__", "config": {"code": "aGVsbG8=", "path": str(canary)}}
    config = chain(
        [
            layer("InputLayer", "in", batch_input_shape=[None, 6]),
            layer("Lambda", "cut", function=code),
            layer("Dense", "d", units=2),
        ]
    )
    weights = {"d": {"kernel": ones(3, 2), "bias": ones(2)}}
    result = compressor.audit(save_h5(tmp_path / "a.h5", weights, config))
    assert result.params == 8
    assert result.statuses["macs"] == "partial"
    assert result.statuses["peak_activation_bytes"] == "partial"
    assert result.uncounted == (
        "keras.Lambda at cut",
        "keras.Dense (of unknown shape) at d",
    )
    assert any("cut: a Lambda layer with code inside the file" in note for note in result.notes)
    assert not canary.exists()
    assert json.loads(json.dumps(result.to_dict()))["format"] == "keras"
