"""Loading, running and evaluating ONNX files whose outputs are known."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compressor.data.features import FeatureSet, Standardizer
from compressor.deploy.session import OnnxNetwork, arranged, evaluate_onnx
from compressor.errors import DataError, MeasureError, ModelFileError, ShapeError, UsageError
from compressor.export.description import Description

Write = Callable[..., Path]


def part(values: list[float], labels: list[int]) -> FeatureSet:
    """Clips whose every feature has one value."""
    x = np.repeat(np.array(values, np.float16), 84).reshape(len(values), 1, 4, 21)
    n = len(labels)
    return FeatureSet(
        x=x,
        index=np.arange(n),
        y=np.array(labels),
        devices=("a",) * n,
        groups=("",) * n,
        classes=("quiet", "loud"),
    )


def test_outputs_are_as_worked_out(mean_network: Path) -> None:
    network = OnnxNetwork(mean_network)
    x = np.stack([np.full((1, 4, 21), 2.0), np.full((1, 4, 21), -0.5)]).astype(np.float32)
    np.testing.assert_allclose(network(x), [[-2.0, 2.0, 9.0], [0.5, -0.5, 9.0]], rtol=1e-6)
    assert network.input_shape == (1, 4, 21)


def test_the_description_comes_with_the_file(
    mean_network: Path, description: Description, write_mean: Write, tmp_path: Path
) -> None:
    assert OnnxNetwork(mean_network).description == description
    assert OnnxNetwork(write_mean(tmp_path / "bare.onnx", None)).description is None


def test_evaluation_by_hand(mean_network: Path) -> None:
    """Standardised values: (v - mean) / std of the four bands, with means 1 2 3 4, stds 1 2 4 8.

    v = 5: (4 + 3/2 + 2/4 + 1/8) / 4 = 1.53125, logits -+1.53125, class 1
    v = -3: (-4 - 5/2 - 6/4 - 7/8) / 4 = -2.21875, logits +-2.21875, class 0
    v = 1: (0 - 1/2 - 2/4 - 3/8) / 4 = -0.34375, class 0
    Labels 1, 0, 1: two of three right; class-wise 1 of 1 and 1 of 2.
    The cross-entropy of a clip is ln(1 + exp(-2 m)) with m the margin's half on the right side.
    """
    found = evaluate_onnx(mean_network, part([5.0, -3.0, 1.0], [1, 0, 1]), batch_size=2)
    assert (found.n, found.accuracy) == (3, pytest.approx(2 / 3))
    assert found.macro_accuracy == pytest.approx((1 + 1 / 2) / 2)
    loss = [math.log1p(math.exp(-2 * m)) for m in (1.53125, 2.21875, -0.34375)]
    assert found.log_loss == pytest.approx((loss[1] + (loss[0] + loss[2]) / 2) / 2, rel=1e-4)


def test_given_standardizer_wins(mean_network: Path) -> None:
    flat = Standardizer(((3.0,) * 4,), ((1.0,) * 4,))
    # v = 5 is +2, v = 1 is -2: both right
    found = evaluate_onnx(mean_network, part([5.0, 1.0], [1, 0]), standardizer=flat)
    assert found.accuracy == 1.0


def test_transposed_layout() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    plain = Standardizer(((0.0, 0.0),), ((1.0, 2.0),))
    np.testing.assert_array_equal(arranged(x, plain, "CFT")[0, 0], [[0, 1, 2], [1.5, 2, 2.5]])
    np.testing.assert_array_equal(arranged(x, plain, "CTF")[0, 0], [[0, 1.5], [1, 2], [2, 2.5]])


def test_what_cannot_be_evaluated(
    mean_network: Path, write_mean: Write, tmp_path: Path, description: Description
) -> None:
    with pytest.raises(DataError, match="no clips"):
        evaluate_onnx(mean_network, part([1.0], [0]).subset([]))
    with pytest.raises(ModelFileError, match="standardizer and layout"):
        evaluate_onnx(write_mean(tmp_path / "bare.onnx", None), part([1.0], [0]))
    four = dataclasses.replace(part([1.0], [0]), classes=("a", "b", "c", "d"))
    with pytest.raises(ShapeError, match="4 classes"):
        evaluate_onnx(mean_network, four)
    long = write_mean(tmp_path / "l.onnx", dataclasses.replace(description, input_shape=(1, 4, 9)))
    with pytest.raises(ShapeError, match=r"\(1, 4, 9\), not \(1, 4, 21\)"):
        evaluate_onnx(long, part([1.0], [0]))
    with pytest.raises(MeasureError, match="infinite or NaN"):
        evaluate_onnx(mean_network, part([float("inf")], [0]))


@pytest.mark.parametrize("content", [b"", b"no network", b"PK\x03\x04 no network either"])
def test_broken_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"onnxruntime cannot load .*broken\.onnx") as caught:
        OnnxNetwork(path)
    assert "\n" not in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        OnnxNetwork(tmp_path / "no.onnx")
    with pytest.raises(ModelFileError, match="is a folder"):
        OnnxNetwork(tmp_path)


def test_missing_onnxruntime_names_the_extra(
    mean_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'compressor\[run\]'"):
        OnnxNetwork(mean_network)


def test_a_model_file_is_told_to_be_exported_first(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    with pytest.raises(ModelFileError, match=r"of it: compressor export .*model\.pt"):
        OnnxNetwork(tmp_path / "model.pt")
