"""`.safetensors`: figures by hand, and every lie a header can tell."""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import compressor
import zoo
from compressor.errors import ModelFileError, UsageError

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write(path: Path, tensors: dict[str, Tensor], metadata: Any = None) -> Path:
    """The format by hand: header length, header, the tensors one behind the other."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for name, tensor in tensors.items():
        data = tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        ends = [len(body), len(body) + len(data)]
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": ends,
        }
        body += data
    return raw(path, header, body)


def raw(path: Path, header: object, body: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def refused(path: Path, match: str) -> None:
    start = time.process_time()
    with pytest.raises(ModelFileError, match=match) as caught:
        compressor.audit(path)
    assert time.process_time() - start < 5
    assert caught.value.exit_code == 3
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_figures_of_a_file(tmp_path: Path) -> None:
    weight = torch.arange(24.0).reshape(4, 6)  # one zero
    tensors = {
        "conv.weight": weight,
        "conv.bias": torch.tensor([0.0, -0.0, 1.0, 2.0]),  # two zeros
        "bn.running_mean": torch.ones(4),
        "bn.num_batches_tracked": torch.tensor([3]),
        "half": torch.ones(3, dtype=torch.float16),
        "empty": torch.zeros(0, 5),
    }
    path = write(tmp_path / "m.safetensors", tensors, {"format": "pt", "x\x1b[2J": "y\n::error::"})
    result = compressor.audit(path)
    assert (result.format, result.params, result.nonzero_params) == ("safetensors", 31, 28)
    assert result.bytes_by_dtype == {"float16": 6, "float32": 4 * 28}
    assert result.buffer_bytes == 16 + 8
    assert (result.macs, result.peak_activation_bytes) == (None, None)
    assert (result.statuses["macs"], result.statuses["params"]) == ("unknown", "partial")
    assert result.meta["metadata"]["format"] == "pt"
    assert all(key.isprintable() for key in result.meta["metadata"])
    assert all(value.isprintable() for value in result.meta["metadata"].values())


@pytest.mark.parametrize("dtype", [t for t in NAMES if t not in {torch.bool, torch.int64}])
def test_zeros_in_every_number_type(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.tensor([0.0, -0.0, 1.0, 2.0, 0.0, 3.0]).to(dtype)
    result = compressor.audit(write(tmp_path / "z.safetensors", {"w": values}))
    assert (result.params, result.nonzero_params) == (6, 3)
    assert result.bytes_by_dtype == {str(dtype).removeprefix("torch."): 6 * dtype.itemsize}


def test_masks_that_are_not_baked_in(tmp_path: Path) -> None:
    tensors = {"fc.weight_orig": torch.ones(2, 3), "fc.weight_mask": torch.eye(2, 3)}
    result = compressor.audit(write(tmp_path / "m.safetensors", tensors))
    assert (result.params, result.nonzero_params, result.buffer_bytes) == (6, 2, 24)


def test_the_network_gives_the_macs(tmp_path: Path) -> None:
    state = zoo.build("dcase2024_baseline").half().state_dict()
    state["head.0.weight"][0] = 0
    zeros = sum(int((v == 0).sum()) for k, v in state.items() if k.endswith(("weight", "bias")))
    flat = {k: v.reshape(1) if v.dim() == 0 else v for k, v in state.items()}
    shapes = {k: v.shape for k, v in state.items()}
    path = tmp_path / "s.safetensors"
    write(path, flat)
    data = path.read_bytes()  # a scalar has no axes
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    for key, entry in header.items():
        entry["shape"] = list(shapes[key])
    raw(path, header, data[8 + length :])
    result = compressor.audit(path, arch="dcase2024_baseline")
    assert (result.format, result.meta["arch"]) == ("safetensors", "dcase2024_baseline")
    assert (result.macs, result.macs_by_convention["nessi"]) == (29_416_448, 29_419_156)
    assert (result.params, result.nonzero_params) == (61_148, 61_148 - zeros)
    assert result.bytes_by_dtype == {"float16": 2 * 61_148}
    assert (result.status, result.input_shape) == ("exact", (1, 1, 256, 65))


def test_what_needs_a_network_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", {"w": torch.ones(2, 2)})
    with pytest.raises(UsageError, match=r"has no graph .* name its network too: arch="):
        compressor.audit(path, input_shape=(1, 2))
    with pytest.raises(UsageError, match="run only when asked for"):
        compressor.audit(path, input_shape=(1, 2), arch="torch.nn:Linear")


def entry(dtype: object = "F32", shape: object = (2,), ends: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": ends}


@pytest.mark.parametrize(
    ("header", "body", "match"),
    [
        ({"a": entry(shape=(3,))}, 8, r"'?a'? lies about its size: 3 x float32 in 8 B"),
        ({"a": entry(shape=(1 << 40, 1 << 40))}, 8, "lies about its size"),
        ({"a": entry(ends=(0, 16)), "b": entry()}, 8, "lies at 0 to 16 of 8 B"),
        ({"a": entry(ends=(8, 0))}, 8, "lies at 8 to 0"),
        ({"a": entry(), "b": entry(ends=(4, 12))}, 12, "b'? overlaps another tensor"),
        ({"a": entry(), "b": entry(ends=(16, 24))}, 24, "b'? leaves a gap of 8 B"),
        ({"a": entry()}, 12, "4 B at the end belong to no tensor"),
        ({"a": entry(dtype="F7")}, 8, "has the number type '?F7'?; known are F64"),
        ({"a": entry(dtype=3)}, 8, "number type"),
        ({"a": entry(shape="2")}, 8, "a shape or offsets that are none"),
        ({"a": entry(shape=(-2,))}, 8, "a shape or offsets that are none"),
        ({"a": entry(shape=(True, 2))}, 8, "a shape or offsets that are none"),
        ({"a": entry(ends=(0, 4, 8))}, 8, "a shape or offsets that are none"),
        ({"a": {"dtype": "F32"}}, 8, "has no 'dtype'"),
        ({"a": {**entry(), "extra": 1}}, 8, "has no 'dtype'"),
        ({"a": 7}, 8, "has no 'dtype'"),
        ({"a\x1b[2J": entry()}, 8, "is not the name of a tensor"),
        ({"a" * 600: entry()}, 8, "is not the name of a tensor"),
        ({"__metadata__": {"a": 1}, "a": entry()}, 8, "no table of texts"),
        ({"__metadata__": {}}, 0, "holds no tensors"),
        ({}, 0, "holds no tensors"),
        (b'{"a": ' + b"[" * 5000, 0, "header is no JSON"),
        (b'{"a"', 0, "header is no JSON"),
        (b"{\xff}", 0, "header is no JSON"),
        (b'{"a": %b, "a": %b}' % ((json.dumps(entry()).encode(),) * 2), 8, "'?a'? stands twice"),
    ],
)
def test_headers_that_lie(header: object, body: int, match: str, tmp_path: Path) -> None:
    refused(raw(tmp_path / "h.safetensors", header, bytes(body)), match)


def test_headers_beyond_the_file_and_all_bounds(tmp_path: Path) -> None:
    path = raw(tmp_path / "h.safetensors", {"a": entry()}, bytes(8), length=90_000_000)
    refused(path, "a safetensors header of 90,000,000 B, at most")
    path = raw(tmp_path / "t.safetensors", {"a": entry()}, bytes(8), length=4_000)
    refused(path, "truncated safetensors file: a header of 4,000 B")
    path = raw(tmp_path / "u.safetensors", {"a": entry()}, bytes(8), length=1 << 62)
    refused(path, "unknown kind of file")
    many = {f"t{index}": entry(shape=(0,), ends=(0, 0)) for index in range(100_001)}
    refused(raw(tmp_path / "m.safetensors", many, b""), "100,001 tensors, at most 100,000")


def test_cut_and_flipped_bytes_never_give_a_traceback(tmp_path: Path) -> None:
    good = write(tmp_path / "g.safetensors", {"w": torch.ones(4, 4), "b": torch.ones(4)})
    data = good.read_bytes()
    path = tmp_path / "x.safetensors"
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 0x5A]) + data[index + 1 :])
        try:
            compressor.audit(path)
        except ModelFileError as error:
            assert str(error).isprintable()
        path.write_bytes(data[:index])
        with pytest.raises(ModelFileError, match=r"x\.safetensors: "):
            compressor.audit(path)


def test_no_torch_and_little_time(tmp_path: Path) -> None:
    state = zoo.build("dcase2024_baseline").state_dict()
    flat = {k: v.reshape(1) if v.dim() == 0 else v for k, v in state.items()}
    path = write(tmp_path / "b.safetensors", flat)
    code = (
        "import sys\n"
        "from compressor.audit import audit, verdicts\n"
        f"r = audit({str(path)!r}); verdicts(r)\n"
        "print(r.params, 'torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    for _ in range(2):  # the first writes bytecode
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.split() == ["61148", "False", "False"]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_two_numbers_of_four_bits_in_a_byte(tmp_path: Path) -> None:
    """0x1f, 0x70, 0x00: 15, 1, 0, 7, 0 by halves, the lower one first; three are not zero."""
    path = tmp_path / "packed.safetensors"
    data = {"w": torch.tensor([0x1F, 0x70, 0x00], dtype=torch.uint8)}
    found = compressor.audit(write(path, data, {"compressor.packed": '{"w": [5, 1]}'}))
    assert (found.params, found.nonzero_params, found.param_bytes) == (5, 3, 3)
    assert found.bytes_by_dtype == {"int4": 3}
    full = {"w": torch.tensor([0x1F, 0x70, 0x30], dtype=torch.uint8)}
    for tensors, declared, message in (
        (full, '{"w": [5]}', "the half of a byte behind the last one is not empty"),
        (data, '{"w": [7]}', "said to hold"),
        (data, '{"w": [4294967296]}', "a shape that is none"),
        (data, '{"w": 5}', "a shape that is none"),
        (data, '{"v": [5]}', "said to hold"),
        (data, "[1]", "no table of shapes"),
        (data, "{", "is no JSON"),
        ({"w": torch.zeros(3)}, '{"w": [5]}', "said to hold"),
    ):
        write(path, tensors, {"compressor.packed": declared})
        with pytest.raises(ModelFileError, match=message):
            compressor.audit(path)
