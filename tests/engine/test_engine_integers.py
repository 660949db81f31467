"""Integer steps in the engine: counted as deployed, measured in onnxruntime, zeros kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from compressor.artifact import Artifact, load, save
from compressor.audit import audit
from compressor.data.features import Features
from compressor.engine import compress
from compressor.errors import UnknownNameError, UsageError
from compressor.recipe import Export, Finetune, Prune, Quantize, Slim


@pytest.mark.parametrize("bits", [8, 3])
def test_predicted_bytes_are_those_of_the_integers(
    dense: Artifact, features: Features, tmp_path: Path, bits: int
) -> None:
    records: list[Any] = []
    steps = [
        Slim(target_bytes=12_000, importance="l1"),
        Finetune(epochs=1),
        Quantize(weight_bits=bits),
    ]
    result = compress(dense, steps, features, on_step=records.append)
    save(result, tmp_path / "int8.pt")
    counted = audit(tmp_path / "int8.pt")
    assert 11_500 < counted.param_bytes <= 12_000
    assert set(counted.bytes_by_dtype) == {"int8" if bits == 8 else "int4", "int32"}
    predicted = records[0].facts["predicted"]
    assert predicted["number_type"] == "int8"
    assert predicted["param_bytes"] == counted.param_bytes
    assert predicted["macs"] == counted.macs_by_convention["strict"]
    assert records[-1].notes == ()
    assert load(tmp_path / "int8.pt").history[-1]["calibrated_on"] == len(features.train)


def test_accuracy_of_integers_is_that_of_the_exported_file(
    dense: Artifact, features: Features, tmp_path: Path
) -> None:
    """Oracle: the file in a plain onnxruntime session."""
    records: list[Any] = []
    path = tmp_path / "int8.onnx"
    compress(dense, [Quantize(), Export(path=str(path))], features, on_step=records.append)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = features.standardizer.apply(features.test.array())
    logits = session.run(None, {session.get_inputs()[0].name: x})[0]
    accuracy = float((logits.argmax(axis=1) == np.asarray(features.test.y)).mean())
    assert records[0].measured_in == "onnxruntime"
    assert records[0].accuracy_after["accuracy"] == pytest.approx(accuracy)
    assert records[0].facts["scale_bytes"] == audit(path).scale_bytes > 0
    assert records[1].audit_after == records[0].audit_after
    assert records[1].measured_in == "as before"


def test_the_fastest_placement_is_measured_and_written_down(
    dense: Artifact, features: Features
) -> None:
    records: list[Any] = []
    plain = compress(dense, [Quantize()], features)
    result = compress(dense, [Quantize(placement="fastest")], features, on_step=records.append)
    found = records[0].facts["placement"]
    again = found["cpu_ms_again"]
    assert found["speedup"] == pytest.approx(again["float32"] / again[found["chosen"]])
    assert found["chosen"] in found["cpu_ms"]
    assert f"placement: {found['chosen']}, {found['speedup']:.2f} times" in records[0].notes[0]
    chosen = result.quantization["float_compute"]
    assert bool(chosen) == (found["chosen"] not in ("integers", "layers on integers"))
    # the same bytes wherever a layer computes
    assert records[0].audit_after["param_bytes"] == sum(
        tensor.numel() * tensor.element_size()
        for name, tensor in plain.state_dict.items()
        if name.endswith(("weight", "bias"))
    )
    # left out of records where it is not asked for: steps of older runs are the same steps
    assert "placement" not in Quantize().to_dict()
    with pytest.raises(UnknownNameError, match="did you mean fastest"):
        Quantize(placement="fast")


def test_training_for_integers_keeps_pruned_weights_at_zero(
    dense: Artifact, features: Features
) -> None:
    records: list[Any] = []
    steps = [
        Prune(sparsity=0.5, scope="layer"),
        Quantize(scheme="int8-qat", epochs=1, teacher="self"),
    ]
    result = compress(dense, steps, features, on_step=records.append)
    pruned = compress(dense, steps[0])
    for name, weight in pruned.state_dict.items():
        if weight.ndim > 1:
            integers = result.state_dict[name]
            assert str(integers.dtype) == "torch.int8"
            assert not integers[weight == 0].any(), name
            assert integers.any(), name
    assert len(records[1].facts["epochs"]) == 1
    assert records[1].facts["teacher"] == "self"


def test_integers_are_the_end(dense: Artifact, features: Features) -> None:
    result = compress(dense, Quantize(calibration_clips=8), features)
    with pytest.raises(UsageError, match="quantised already and can only be exported"):
        compress(result, Slim(ratio=0.5))


def test_export_stands_beside_the_result(dense: Artifact, tmp_path: Path) -> None:
    result = compress(dense, [Slim(ratio=0.5), Export()], out=tmp_path / "small.pt")
    assert (tmp_path / "small.onnx").is_file()
    assert result.history[-1]["path"] == str(tmp_path / "small.onnx")
    with pytest.raises(UsageError, match="step export needs a path"):
        compress(dense, Export())


def test_integers_are_trained_in_float32(dense: Artifact, features: Features) -> None:
    """bfloat16 rounds more coarsely than the integers' grid, so the setting has no effect here."""
    made = [
        compress(
            dense,
            Quantize(scheme="int8-qat", epochs=1, settings={"precision": precision}),
            features,
        )
        for precision in ("float32", "bfloat16")
    ]
    for name, integers in made[0].state_dict.items():
        assert bool((integers == made[1].state_dict[name]).all()), name
