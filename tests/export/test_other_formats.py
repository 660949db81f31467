"""`.pt2` and safetensors: read back by others' means, and broken files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from compressor.artifact import Artifact
from compressor.errors import MeasureError, ModelFileError
from compressor.export import export
from compressor.export.description import Description
from compressor.export.safetensors import from_bytes, read, to_bytes


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_pt2_runs_without_this_project(artifact: Artifact, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "network.pt2"
    report = export(artifact, path, "pt2", kind)
    assert report.comparison is not None
    extra = {"compressor.json": ""}
    program = torch.export.load(path, extra_files=extra)
    assert {str(t.dtype) for t in program.state_dict.values() if t.is_floating_point()} == {
        f"torch.{kind}"
    }
    x = torch.randn(3, *artifact.input_shape, generator=torch.Generator().manual_seed(2))
    model = artifact.build()
    if kind == "float16":
        model = model.half().float()
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x), rtol=0, atol=1e-6)
    assert Description.from_strings(json.loads(extra["compressor.json"]), "x").dtype == kind


def test_safetensors_bytes_are_as_specified() -> None:
    """Two tensors, worked out by hand: header length, header, then 4 bytes and 3 bytes."""
    content = to_bytes(
        {
            "a": torch.tensor([[1.0, -2.0]], dtype=torch.float16),
            "b": torch.tensor([1, 2, -1]).to(torch.int8),
        },
        {"k": "v"},
    )
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length]) == {
        "__metadata__": {"k": "v"},
        "a": {"dtype": "F16", "shape": [1, 2], "data_offsets": [0, 4]},
        "b": {"dtype": "I8", "shape": [3], "data_offsets": [4, 7]},
    }
    # float16: 1.0 is 0x3C00, -2.0 is 0xC000, little-endian
    assert content[8 + length :] == bytes([0x00, 0x3C, 0x00, 0xC0, 1, 2, 255])


def test_safetensors_round_trip(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    report = export(artifact, path, "safetensors")
    assert report.comparison is None
    tensors, strings = read(path)
    assert tensors.keys() == artifact.state_dict.keys()
    for name, tensor in artifact.state_dict.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert Description.from_strings(strings, "x").classes == artifact.classes
    model = artifact.build()
    model.load_state_dict(tensors, strict=True)
    export(artifact, path, "safetensors", "float16")
    half, _ = read(path)
    assert {t.dtype for t in half.values() if t.is_floating_point()} == {torch.float16}


def test_safetensors_holds_empty_and_scalar_tensors() -> None:
    given = {"none": torch.empty(0, 3), "one": torch.tensor(7), "yes": torch.tensor([True])}
    found, _ = from_bytes(to_bytes(given, {}), "x")
    assert all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in given.items())


def broken(name: str) -> bytes:
    content = to_bytes({"a": torch.ones(4)}, {})
    match name:
        case "empty":
            return b""
        case "cut off in the header":
            return content[:20]
        case "cut off in the data":
            return content[:-1]
        case "no JSON":
            return struct.pack("<Q", 8) + b"nonsense"
        case "offsets outside":
            return content.replace(b"[0,16]", b"[8,24]")
        case "shape does not fit":
            return content.replace(b"[4]", b"[5]")
        case "unknown type":
            return content.replace(b"F32", b"F31")
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "cut off in the header",
        "cut off in the data",
        "no JSON",
        "offsets outside",
        "shape does not fit",
        "unknown type",
    ],
)
def test_broken_safetensors_are_refused(name: str) -> None:
    with pytest.raises(ModelFileError, match=r"^x\.safetensors") as caught:
        from_bytes(broken(name), "x.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("to", ["onnx", "pt2", "safetensors"])
def test_weights_that_are_not_finite_are_named(artifact: Artifact, tmp_path: Path, to: str) -> None:
    import dataclasses

    name = next(n for n, t in artifact.state_dict.items() if t.dim() == 4)
    broken = artifact.state_dict[name].clone()
    broken.view(-1)[0] = float("nan")
    bad = dataclasses.replace(artifact, state_dict={**artifact.state_dict, name: broken})
    with pytest.raises(MeasureError, match=f"'{name}' holds values that are not finite"):
        export(bad, tmp_path / "bad", to)
    assert list(tmp_path.iterdir()) == []
