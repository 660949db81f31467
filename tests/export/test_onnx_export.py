"""ONNX files beside the PyTorch network: numbers, types, outputs, nothing else in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

import zoo
from compressor.artifact import Artifact
from compressor.errors import MeasureError, UnknownNameError, UsageError
from compressor.export import export
from compressor.export.description import Description
from compressor.export.write import check_inputs

Make = Callable[..., Artifact]


def run(path: Path, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"features": x.numpy()})[0])


def stored(path: Path) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}


@pytest.fixture(scope="module")
def files(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    paths = {kind: folder / f"{kind}.onnx" for kind in ("float32", "float16")}
    for kind, path in paths.items():
        report = export(artifact, path, "onnx", kind)
        assert report.dtype == kind
        assert report.file_bytes == path.stat().st_size
        assert report.comparison is not None
        assert report.comparison.difference <= 1e-5
        assert report.operators["Conv"] == 3  # the baseline's three convolutions
        assert report.operators["BatchNormalization"] == 3
    return paths


@pytest.mark.parametrize("batch", [1, 5])
def test_outputs_are_those_of_pytorch(
    artifact: Artifact, files: dict[str, Path], batch: int
) -> None:
    x = 2.0 * torch.randn(batch, *artifact.input_shape, generator=torch.Generator().manual_seed(1))
    model = artifact.build()
    with torch.no_grad():
        expected = model(x).numpy()
        half = model.half().float()(x).numpy()
    np.testing.assert_allclose(run(files["float32"], x), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(run(files["float16"], x), half, rtol=0, atol=1e-5)
    assert np.abs(half - expected).max() > 1e-5  # so the two files are told apart


def test_the_file_holds_the_numbers_of_the_model_file(
    artifact: Artifact, files: dict[str, Path]
) -> None:
    tensors = {n: t for n, t in artifact.state_dict.items() if t.is_floating_point()}
    plain = stored(files["float32"])
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(numpy_helper.to_array(plain[name]), tensor.numpy())
    half = stored(files["float16"])
    for name, tensor in tensors.items():
        found = half[f"{name}.float16"]
        assert found.data_type == TensorProto.FLOAT16
        np.testing.assert_array_equal(numpy_helper.to_array(found), tensor.half().numpy())
    # nothing else of any size: shapes for reshapes, not biases of zeros
    others = [t for n, t in plain.items() if n not in tensors]
    assert sum(int(np.prod(t.dims)) for t in others) <= 8


def test_the_file_is_self_contained_and_names_no_place(files: dict[str, Path]) -> None:
    for path in files.values():
        onnx.checker.check_model(onnx.load(path), full_check=True)
        assert [p.name for p in path.parent.iterdir() if p.suffix != ".onnx"] == []
        content = path.read_bytes()
        for place in (Path(zoo.__file__).parent, Path(torch.__file__).parent, Path.cwd()):
            assert str(place).encode() not in content


def test_the_file_describes_itself(artifact: Artifact, files: dict[str, Path]) -> None:
    session = onnxruntime.InferenceSession(files["float16"], providers=["CPUExecutionProvider"])
    strings = session.get_modelmeta().custom_metadata_map
    found = Description.from_strings(strings, "x.onnx")
    assert found.classes == ("bus", "metro", "park", "tram")
    assert found.front_end == artifact.front_end
    assert found.standardizer == artifact.standardizer
    assert (found.input_shape, found.layout) == (artifact.input_shape, artifact.layout)
    assert found.dtype == "float16"


def test_the_same_network_gives_the_same_bytes(
    artifact: Artifact, files: dict[str, Path], tmp_path: Path
) -> None:
    export(artifact, tmp_path / "again.onnx", "onnx")
    assert (tmp_path / "again.onnx").read_bytes() == files["float32"].read_bytes()


def test_a_file_that_is_not_equal_is_not_kept(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compressor.export import check

    right = check.run_once
    monkeypatch.setattr(check, "run_once", lambda path, x: right(path, x) + 1e-3)
    target = tmp_path / "network.onnx"
    target.write_bytes(b"what was there")
    with pytest.raises(MeasureError, match=r"outputs differ by 0\.001"):
        export(artifact, target, "onnx")
    assert target.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [target]


def test_weights_beyond_float16_are_refused(make: Make, tmp_path: Path) -> None:
    artifact = make()
    name = next(n for n, t in artifact.state_dict.items() if t.dim() == 4)
    artifact.state_dict[name][0, 0, 0, 0] = 1e5  # the largest float16 is 65,504
    with pytest.raises(MeasureError, match=f"{name}.*reaches 1e\\+05.*float16"):
        export(artifact, tmp_path / "x.onnx", "onnx", "float16")
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_say_what_is_allowed(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean onnx"):
        export(artifact, tmp_path / "x", "onx")
    with pytest.raises(UnknownNameError, match="float16"):
        export(artifact, tmp_path / "x", "onnx", "float15")
    with pytest.raises(UsageError, match="quantise it first"):
        export(artifact, tmp_path / "x", "onnx", "int8")
    with pytest.raises(UsageError, match="cannot be written"):
        export(artifact, tmp_path / "no" / "folder.safetensors", "safetensors")


def test_check_inputs_differ_and_repeat(artifact: Artifact) -> None:
    one, two = check_inputs(artifact), check_inputs(artifact)
    assert torch.equal(one, two)
    assert one.shape == (16, *artifact.input_shape)
    assert len(set(one.mean(dim=(1, 2, 3)).tolist())) == 16


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models())
def test_every_network_exports(name: str, make: Make, tmp_path: Path) -> None:
    artifact = make(name)
    for kind in ("float32", "float16", "bfloat16"):
        report = export(artifact, tmp_path / f"{kind}.onnx", "onnx", kind)
        assert report.comparison is not None
        assert report.comparison.difference <= 1e-5 * max(1.0, report.comparison.largest)
        export(artifact, tmp_path / f"{kind}.pt2", "pt2", kind)
