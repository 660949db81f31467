"""Tells a model file by its content and hands it to the reader of its format."""

from __future__ import annotations

import os
from pathlib import Path

from compressor.audit.inventory import Inventory
from compressor.errors import ModelFileError

__all__ = ["MAX_FILE_BYTES", "read_file"]

MAX_FILE_BYTES = 8 << 30  # far above any network that a budget of 128 kB is about


def read_file(path: str | os.PathLike[str]) -> Inventory:
    """Reads a model file of any supported format; nothing in it is ever executed.

    Order of checks: size, magic bytes (never the extension), container, contents.

    Raises:
        ModelFileError: no such file, not a model file, or a broken, foreign or hostile one.
    """
    file = Path(path)
    name = _printable(file.name)
    try:
        if file.is_dir():
            raise ModelFileError(f"{name}: is a directory, expected a model file")
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise ModelFileError(f"{name}: cannot be read: {error.strerror or error}") from error
    if size == 0:
        raise ModelFileError(f"{name}: the file is empty, expected a model file")
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"{name}: {size:,} B, at most {MAX_FILE_BYTES:,} B are read")
    if head.startswith(b"PK\x03\x04"):
        from compressor.audit.readers.torchfile import read_torch_file

        return read_torch_file(file, name, size)
    raise ModelFileError(f"{name}: {_what(head)}")


def _what(head: bytes) -> str:
    """Says what a file that is not a torch archive seems to be, and what to do."""
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        return (
            "a bare or legacy pickle, which is never opened; write it with compressor, or with "
            "torch.save(model.state_dict(), ...) of torch 1.6 or newer"
        )
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "an HDF5 (Keras) file, a format that is not read yet; give a .pt file"
    if head[4:8] == b"TFL3":
        return "a TFLite file, a format that is not read yet; give a .pt file"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:
        return "a safetensors file, a format that is not read yet; give a .pt file"
    if head[:1] in {b"\x08", b"\x0a"} and b"\x12" in head[:16]:
        return "probably an ONNX file, a format that is not read yet; give a .pt file"
    text = all(byte in b"\t\r\n\f" or 32 <= byte < 127 for byte in head)
    kind = "a text file" if text else "an unknown kind of file"
    return f"{kind}, expected a .pt file as compressor or torch.save(state_dict) writes it"


def _printable(name: str) -> str:
    """Makes a file name harmless for a terminal."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= 120 else shown[:117] + "..."
