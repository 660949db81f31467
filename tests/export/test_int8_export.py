"""int8 networks: integers in the file, agreement with the rounded network, kernels that run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from compressor.artifact import Artifact, from_quantized, load, save
from compressor.audit import audit
from compressor.deploy.kernels import profile
from compressor.deploy.session import OnnxNetwork
from compressor.errors import UsageError
from compressor.export import export
from compressor.export.safetensors import read
from compressor.methods.quant import StaticInt8, quantize_static, restore


@pytest.fixture(scope="module")
def int8(artifact: Artifact) -> Artifact:
    generator = torch.Generator().manual_seed(5)
    clips = [torch.randn(16, *artifact.input_shape, generator=generator) for _ in range(2)]
    example = torch.zeros(2, *artifact.input_shape)
    return from_quantized(quantize_static(artifact.build(), example, clips, StaticInt8()), artifact)


@pytest.fixture(scope="module")
def file(int8: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "network.onnx"
    report = export(int8, path)
    assert report.dtype == "int8"
    assert report.comparison is not None
    assert report.comparison.agreement >= 0.9
    # a rounding step of the outputs, not more: 255 steps over their range
    assert report.comparison.difference <= 2 * 2 * report.comparison.largest / 255
    return path


def test_the_file_holds_the_integers_of_the_model_file(int8: Artifact, file: Path) -> None:
    kinds = (TensorProto.INT8, TensorProto.INT32)
    found = [
        numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer if t.data_type in kinds
    ]
    for tensor in int8.state_dict.values():
        if tensor.dtype in (torch.int8, torch.int32):
            same = [a for a in found if a.shape == tuple(tensor.shape)]
            assert any(np.array_equal(a, tensor.numpy()) for a in same)


def test_the_audit_counts_the_same_bytes_in_both_files(
    int8: Artifact, file: Path, tmp_path: Path
) -> None:
    save(int8, tmp_path / "network.pt")
    stored, exported = audit(tmp_path / "network.pt"), audit(file)
    assert stored.param_bytes == exported.param_bytes
    assert stored.params == exported.params


def test_integer_kernels_run(file: Path) -> None:
    x = np.zeros((1, *OnnxNetwork(file).input_shape), dtype=np.float32)
    (table,) = profile([file], [x], runs=2)
    assert [k.op for k in table.kernels].count("QLinearConv") == 3
    assert table.integer


def test_outputs_are_those_of_the_rounded_network(int8: Artifact, file: Path) -> None:
    x = torch.randn(20, *int8.input_shape, generator=torch.Generator().manual_seed(9))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    with torch.no_grad():
        expected = restore(int8).simulate(x).numpy()
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.95


def test_safetensors_holds_the_integers_and_their_scales(int8: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    export(int8, path, "safetensors")
    tensors, strings = read(path)
    assert {n: str(t.dtype) for n, t in tensors.items()} == {
        n: str(t.dtype) for n, t in int8.state_dict.items()
    }
    assert "compressor.quantization" in strings


def test_weights_of_four_bits_are_counted_alike_in_every_format(
    artifact: Artifact, tmp_path: Path
) -> None:
    import json

    from compressor import audit, nibbles

    clips = torch.randn(8, *artifact.input_shape, generator=torch.Generator().manual_seed(5))
    config = StaticInt8(weight_bits=4)
    narrow = from_quantized(quantize_static(artifact.build(), clips[:1], [clips], config), artifact)
    files = [tmp_path / f"network{ending}" for ending in (".pt", ".onnx", ".safetensors")]
    save(narrow, files[0])
    export(narrow, files[1])
    export(narrow, files[2], "safetensors")
    counted = [audit(file) for file in files]
    weights = sum(t.numel() for n, t in narrow.state_dict.items() if t.dtype == torch.int8)
    for found in counted:
        assert found.bytes_by_dtype["int4"] == sum(
            (t.numel() + 1) // 2 for t in narrow.state_dict.values() if t.dtype == torch.int8
        )
        assert found.param_bytes == counted[0].param_bytes < weights
        assert found.params == counted[0].params
    tensors, strings = read(files[2])
    shapes = {n: tuple(s) for n, s in json.loads(strings["compressor.packed"]).items()}
    for name, tensor in nibbles.unpacked(tensors, shapes).items():
        assert torch.equal(tensor, narrow.state_dict[name]), name


def test_float_export_of_a_quantised_network(int8: Artifact, tmp_path: Path) -> None:
    report = export(int8, tmp_path / "float.onnx", "onnx", "float32")
    assert report.comparison is not None
    assert report.comparison.difference <= 1e-5 * max(1.0, report.comparison.largest)
    with pytest.raises(UsageError, match="--to pt2 writes float weights only"):
        export(int8, tmp_path / "x.pt2", "pt2")


def test_a_saved_artifact_exports_alike(int8: Artifact, file: Path, tmp_path: Path) -> None:
    save(int8, tmp_path / "network.pt")
    export(load(tmp_path / "network.pt"), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()
