"""The second back end of the benchmark: the same outputs, its own kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from compressor.cli.bench import bench as bench_command
from compressor.deploy.bench import bench, open_network
from compressor.deploy.openvino import kind_of
from compressor.errors import CompressorError, ModelFileError, ShapeError, UnknownNameError


@pytest.mark.parametrize(
    ("op", "kernel", "expected"),
    [
        ("Convolution", "brgconv_avx512_I8", "integer"),
        ("Convolution", "jit_avx512_FP32", "float"),
        ("Eltwise", "jit_avx512_U8", "integer"),
        ("Reorder", "jit_uni_I8", "convert"),
        ("Reshape", "unknown_FP32", "other"),
    ],
)
def test_kinds(op: str, kernel: str, expected: str) -> None:
    assert kind_of(op, kernel) == expected


def test_unknown_back_end(conv_networks: tuple[Path, Path]) -> None:
    with pytest.raises(UnknownNameError, match=r"back end 'openvin'.*openvino"):
        open_network(conv_networks[0], "openvin")


def test_without_the_package(
    conv_networks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(CompressorError, match=r"pip install 'compressor\[openvino\]'") as caught:
        open_network(conv_networks[0], "openvino")
    assert caught.value.exit_code == 2


@pytest.fixture
def openvino() -> Any:
    return pytest.importorskip("openvino")


def test_same_outputs(openvino: Any, conv_networks: tuple[Path, Path]) -> None:
    x = np.random.default_rng(0).standard_normal((3, 8, 16, 16), dtype=np.float32)
    for file, tolerance in zip(conv_networks, (0.05, 1e-5), strict=True):
        found = open_network(file, "openvino")(x)
        expected = open_network(file)(x)
        assert found.shape == expected.shape == (3, 8)
        assert np.abs(found - expected).max() <= tolerance
    with pytest.raises(ShapeError, match=r"takes inputs of shape \(8, 16, 16\)"):
        open_network(conv_networks[0], "openvino")(x[:, :4])


def test_bench(openvino: Any, conv_networks: tuple[Path, Path]) -> None:
    result = bench(*conv_networks, rounds=2, batch_size=2, memory=False, backend="openvino")
    assert result.backend == "openvino"
    assert result.machine["openvino"].startswith("20")
    assert result.base is not None
    assert result.file.kernels.integer
    assert not result.base.kernels.integer
    assert result.to_dict()["backend"] == "openvino"


def test_command(openvino: Any, conv_networks: tuple[Path, Path]) -> None:
    app = typer.Typer()
    app.command()(bench_command)
    options = ["--rounds", "1", "--batch", "1", "--backend", "openvino"]
    result = CliRunner().invoke(app, [str(conv_networks[1]), *options])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("openvino 20")
    assert "peak above an empty openvino process" in result.stdout


def test_broken_files(openvino: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="OpenVINO cannot load"):
        open_network(broken, "openvino")
    with pytest.raises(ModelFileError, match="does not exist"):
        open_network(tmp_path / "none.onnx", "openvino")
