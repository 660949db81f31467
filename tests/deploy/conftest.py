"""ONNX files made by hand, so that what they must return can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compressor.audio.logmel import LogMel
from compressor.export.description import Description
from compressor.export.onnxexport import set_metadata

RATE_HZ = 8_000
CLASSES = ("quiet", "loud")

FRONT_END = LogMel(
    name="test",
    source="test",
    sample_rate_hz=RATE_HZ,
    n_fft=256,
    win_length=256,
    hop_length=200,
    n_mels=4,
    f_min_hz=0.0,
    f_max_hz=4_000.0,
    mel_scale="htk",
    mel_norm="none",
    power=2.0,
    log="ln",
    log_floor=1e-5,
    center=True,
    window="hann",
)
# half a second: 1 + 4,000 // 200 = 21 frames
DESCRIPTION = Description(
    arch="by_hand",
    arch_args={},
    num_classes=2,
    classes=CLASSES,
    input_shape=(1, 4, 21),
    layout="CFT",
    front_end=FRONT_END.to_dict(),
    standardizer={"mean": [[1.0, 2.0, 3.0, 4.0]], "std": [[1.0, 2.0, 4.0, 8.0]]},
    clip_s=0.5,
    dtype="float32",
)


def write_mean_network(path: Path, description: Description | None = DESCRIPTION) -> Path:
    """Logits (-m, +m, 9) with m the mean of the input; the third output is no class."""
    shape = (1, 4, 21) if description is None else description.input_shape
    mean = helper.make_node("ReduceMean", ["features", "axes"], ["mean"], keepdims=0)
    column = helper.make_node("Unsqueeze", ["mean", "one"], ["column"])
    product = helper.make_node("Gemm", ["column", "weight", "bias"], ["logits"])
    graph = helper.make_graph(
        [mean, column, product],
        "network",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array([[-1.0, 1.0, 0.0]], np.float32), "weight"),
            numpy_helper.from_array(np.array([0.0, 0.0, 9.0], np.float32), "bias"),
        ],
    )
    return _save(graph, path, description)


def write_conv_network(path: Path, *, quantised: bool) -> Path:
    """A convolution and a sigmoid; quantised: the convolution between QDQ nodes, uint8 and int8."""
    weight = np.linspace(-1.0, 1.0, 8 * 8 * 9, dtype=np.float32).reshape(8, 8, 3, 3)
    tensors = [numpy_helper.from_array(np.array([2, 3]), "axes")]
    nodes = []
    source, kernel, result = "features", "weight", "convolved"
    if quantised:
        tensors += [
            numpy_helper.from_array(np.float32(0.05), "scale"),
            numpy_helper.from_array(np.uint8(128), "zero"),
            numpy_helper.from_array(np.float32(1 / 127), "weight_scale"),
            numpy_helper.from_array(np.int8(0), "weight_zero"),
            numpy_helper.from_array(np.round(weight * 127).astype(np.int8), "weight_int"),
        ]
        nodes += [
            helper.make_node("QuantizeLinear", ["features", "scale", "zero"], ["q_in"]),
            helper.make_node("DequantizeLinear", ["q_in", "scale", "zero"], ["dq_in"]),
            helper.make_node(
                "DequantizeLinear", ["weight_int", "weight_scale", "weight_zero"], ["dq_weight"]
            ),
        ]
        source, kernel = "dq_in", "dq_weight"
    else:
        tensors.append(numpy_helper.from_array(weight, "weight"))
    pads = [1, 1, 1, 1]
    nodes.append(helper.make_node("Conv", [source, kernel], ["convolved"], name="conv", pads=pads))
    if quantised:
        nodes += [
            helper.make_node("QuantizeLinear", ["convolved", "scale", "zero"], ["q_out"]),
            helper.make_node("DequantizeLinear", ["q_out", "scale", "zero"], ["dq_out"]),
        ]
        result = "dq_out"
    nodes += [
        helper.make_node("Erf", [result], ["erf"], name="left_in_float"),
        helper.make_node("ReduceMean", ["erf", "axes"], ["logits"], keepdims=0, name="pool"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 8, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8])],
        tensors,
    )
    return _save(graph, path, None)


def _save(graph: onnx.GraphProto, path: Path, description: Description | None) -> Path:
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(proto, full_check=True)
    if description is not None:
        set_metadata(proto, description.to_strings())
    onnx.save(proto, path)
    return path


@pytest.fixture
def mean_network(tmp_path: Path) -> Path:
    return write_mean_network(tmp_path / "mean.onnx")


@pytest.fixture(scope="session")
def conv_networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(int8, float32)."""
    folder = tmp_path_factory.mktemp("conv")
    return (
        write_conv_network(folder / "int8.onnx", quantised=True),
        write_conv_network(folder / "float.onnx", quantised=False),
    )


@pytest.fixture(scope="session")
def description() -> Description:
    return DESCRIPTION


@pytest.fixture(scope="session")
def write_mean() -> Callable[..., Path]:
    return write_mean_network
