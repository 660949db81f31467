"""Every network through torch.export, ONNX with onnxruntime, and static int8.

torch.export with a free batch size runs for all networks. ONNX and int8 run for one network of each
of two families by default and for all under the `slow` marker: an export takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import Tensor, nn

import zoo

MODELS = zoo.list_models()
QUICK = ("seresnet18", "dsmn_seg")
SOME = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
Small = Callable[[str], tuple[nn.Module, Tensor]]


def export(network: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    return torch.export.export(network, (x,), dynamic_shapes=({0: batch},))


@pytest.fixture
def quiet_exporter() -> Iterator[None]:
    """torch 2.13's ONNX exporter copies a class that torch itself has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated", FutureWarning)
        yield


def write_onnx(network: nn.Module, x: Tensor, path: Path) -> None:
    torch.onnx.export(
        network,
        (x,),
        path,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["features"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )


def run_onnx(path: Path, x: Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"features": x.numpy()})[0])


@pytest.mark.parametrize("name", MODELS)
def test_torch_export_with_free_batch_size(name: str, small: Small) -> None:
    network, x = small(name)
    module = export(network, x).module()
    with torch.no_grad():
        for batch in (x, x[:2], torch.cat([x, x.flip(0), x])):
            torch.testing.assert_close(module(batch), network(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.usefixtures("quiet_exporter")
def test_onnx_and_static_int8(name: str, small: Small, tmp_path: Path) -> None:
    network, x = small(name)
    path, quantised = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    write_onnx(network, x, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    larger = torch.cat([x, 2 * x.flip(0)])  # another batch size than the exported one
    with torch.no_grad():
        expected = network(larger).numpy()
    difference = np.abs(run_onnx(path, larger) - expected).max()
    assert difference <= 1e-5 * np.abs(expected).max()

    class Clips(CalibrationDataReader):
        def __init__(self) -> None:
            self.clips = iter(larger.split(2))

        def get_next(self) -> dict[str, np.ndarray] | None:
            clip = next(self.clips, None)
            return None if clip is None else {"features": clip.numpy()}

    quantize_static(
        path,
        quantised,
        Clips(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    weights = [t for t in onnx.load(quantised).graph.initializer if len(t.dims) == 4]
    assert weights
    assert all(t.data_type == onnx.TensorProto.INT8 for t in weights)
    # int8 of an untrained network is near, not equal; how near is the quantiser's business
    error = np.abs(run_onnx(quantised, larger) - expected).mean()
    assert error <= 0.5 * np.ptp(expected, axis=0).mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_torch_export_with_free_segment_length(name: str, small: Small) -> None:
    """All but the baselines, whose last pooling spans a fixed segment."""
    if zoo.entry(name).family == "dcase_baseline":
        pytest.skip("the segment length is fixed when the network is built")
    network, x = small(name)
    axis = 3 if zoo.entry(name).layout == "CFT" else 2
    long = torch.cat([x] * 4, dim=axis)
    frames = torch.export.Dim("frames", min=2 * x.shape[axis], max=4096)
    module = torch.export.export(network, (long,), dynamic_shapes=({axis: frames},)).module()
    other = torch.cat([x] * 3, dim=axis)
    with torch.no_grad():
        torch.testing.assert_close(module(other), network(other), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("quiet_exporter")
def test_pruned_eca_exports(tmp_path: Path) -> None:
    """The pruned form of ECA (padding, two gathers) is another graph than the whole one."""
    from zoo.layers import ECA

    torch.manual_seed(0)
    network, x = ECA(6).eval(), torch.randn(3, 4, 5, 6)
    network.set_kept(torch.tensor([0, 2, 3, 5]))
    with torch.no_grad():
        expected = network(x)
    torch.testing.assert_close(export(network, x).module()(x[:2]), expected[:2])
    torch.testing.assert_close(torch.fx.symbolic_trace(network)(x), expected)
    write_onnx(network, x, tmp_path / "eca.onnx")
    np.testing.assert_allclose(run_onnx(tmp_path / "eca.onnx", x), expected.numpy(), rtol=1e-5)
