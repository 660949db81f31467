"""safetensors: named tensors and a table of contents, nothing that could be executed.

The format is small enough to be written here: eight bytes with the length of a JSON header, the
header (name, dtype, shape and place of every tensor, and `__metadata__` of texts), the bytes of the
tensors. Specification: https://github.com/huggingface/safetensors (format section).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressor.errors import ModelFileError

__all__ = ["from_bytes", "read", "to_bytes"]

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_KINDS = {name: kind for kind, name in _NAMES.items()}
_MAX_HEADER = 100_000_000  # the reference reader's own limit


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file; the same bytes for the same tensors.

    Args:
        tensors: by name, on any device.
        metadata: texts.

    Raises:
        ModelFileError: a number type that the format does not have.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts = []
    place = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ModelFileError(
                f"tensor {name!r} is {tensor.dtype}, which safetensors cannot hold; allowed: "
                f"{', '.join(_KINDS)}"
            )
        plain = tensor.detach().to("cpu").contiguous().reshape(-1)
        data = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + len(data)],
        }
        parts.append(data)
        place += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def from_bytes(content: bytes, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file's content.

    Args:
        content: of the file.
        name: of the file, for messages.

    Raises:
        ModelFileError: it is no such file, cut off, or its table of contents cannot be true.
    """
    if len(content) < 8:
        raise ModelFileError(f"{name} has {len(content)} bytes: no safetensors file")
    (length,) = struct.unpack("<Q", content[:8])
    if not 2 <= length <= min(_MAX_HEADER, len(content) - 8):
        raise ModelFileError(
            f"{name} says its header has {length:,} bytes, the file has {len(content):,}: it is "
            "cut off, or no safetensors file"
        )
    data = memoryview(content)[8 + length :]
    try:
        header = json.loads(content[8 : 8 + length])
        metadata = {str(k): str(v) for k, v in header.pop("__metadata__", {}).items()}
        tensors = {key: _tensor(data, entry) for key, entry in header.items()}
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"{name} is damaged: its header cannot be read: {error}") from error
    return tensors, metadata


def _tensor(data: memoryview, entry: Mapping[str, Any]) -> Tensor:
    kind, shape = _KINDS[entry["dtype"]], [int(size) for size in entry["shape"]]
    first, last = (int(place) for place in entry["data_offsets"])
    wanted = math.prod(shape) * kind.itemsize
    if min(shape, default=1) < 0 or not 0 <= first <= last <= len(data) or last - first != wanted:
        raise ValueError(f"{shape} of {entry['dtype']} does not fit bytes {first} to {last}")
    if wanted == 0:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(bytearray(data[first:last]), dtype=kind).reshape(shape)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    return from_bytes(content, str(path))
