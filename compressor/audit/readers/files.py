"""Tells a model file by its content and hands it to the reader of its format."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from compressor.audit.inventory import Inventory
from compressor.audit.shown import shown_name
from compressor.errors import ModelFileError, UsageError

__all__ = ["MAX_FILE_BYTES", "MAX_SHOWN", "Shapes", "read_file"]

MAX_SHOWN = 120  # characters of a file name in messages
MAX_FILE_BYTES = 8 << 30  # far above any network that a budget of 128 kB is about
Shapes = tuple[tuple[int, ...], ...]

# Tags of the fields that a serialised ModelProto may begin with (field number << 3 | wire type).
_ONNX_FIRST_BYTES = frozenset(
    bytes([tag]) for tag in (0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72)
)
FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*(\(.*\))?")
MAX_SAFETENSORS_HEADER = 100_000_000  # what the format's own library reads at most


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the caller wants of a file: input shapes, permission to run, network of the weights."""

    shapes: Shapes | None
    run: bool
    arch: str | None


def read_file(
    path: str | os.PathLike[str],
    *,
    shapes: Shapes | None = None,
    run: bool = False,
    arch: str | None = None,
) -> Inventory:
    """Reads a model file of any supported format; nothing in it is executed unless asked for.

    Order of checks: size, magic bytes (never the extension), container, contents.

    Args:
        path: the file, or "package.module:factory" (a function that builds a network).
        shapes: input shapes to count on, where the format leaves them open; None for the file's
            own, a symbolic batch axis then counts as 1.
        run: whether what holds code (TorchScript, a factory) may run, in a child process with
            limits.
        arch: the network that a state dict belongs to: a name in the zoo, or a factory.

    Raises:
        ModelFileError: no such file, not a model file, or a broken, foreign or hostile one.
        UsageError: `shapes` for a format that cannot be counted on another input, `arch` for a file
            that carries its own graph, or code that was not permitted to run.
    """
    wish = _Wish(shapes, run, arch)
    file = Path(path)
    name = shown_name(file.name, MAX_SHOWN)
    if FACTORY.fullmatch(str(path)) and not _exists(file):
        return _factory(str(path), wish)
    try:
        if file.is_dir():
            raise ModelFileError(f"{name}: is a directory, expected a model file")
        if not file.is_file() and file.exists():
            raise ModelFileError(f"{name}: is not a regular file, expected a model file")
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(64)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ModelFileError(f"{name}: cannot be read: {reason}") from error
    if size == 0:
        raise ModelFileError(f"{name}: the file is empty, expected a model file")
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"{name}: {size:,} B, at most {MAX_FILE_BYTES:,} B are read")
    return _granted(_reader_of(head, file, name, size, wish), wish)


def _reader_of(head: bytes, file: Path, name: str, size: int, wish: _Wish) -> Inventory:
    """Picks the reader by the first bytes; imports only that one."""
    if head.startswith(b"PK\x03\x04"):
        return _zip(file, name, size, wish)
    if head[4:8] == b"TFL3":
        from compressor.audit.readers.tflitefile import read_tflite_file

        return read_tflite_file(file, name, size, wish.shapes)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        from compressor.audit.readers.kerasfile import read_keras_h5

        return read_keras_h5(file, name, size)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= max(
        size, MAX_SAFETENSORS_HEADER
    ):
        from compressor.audit.readers.safetensorsfile import read_safetensors_file

        return _built(read_safetensors_file(file, name, size), wish)
    if head[:1] in _ONNX_FIRST_BYTES:
        from compressor.audit.readers.onnxfile import read_onnx_file

        return read_onnx_file(file, name, size, wish.shapes)
    raise ModelFileError(f"{name}: {_what(head)}")


def _zip(file: Path, name: str, size: int, wish: _Wish) -> Inventory:
    """A zip holds a torch archive, a TorchScript archive, a .pt2 or a Keras model."""
    from compressor.audit.readers.archive import member_names

    names = member_names(file, name, size)
    last = {member.rpartition("/")[2] for member in names}
    if last & {"archive_format", "serialized_exported_program.json"} or any(
        "/models/" in f"/{member}" and member.endswith(".json") for member in names
    ):
        from compressor.audit.readers.exportedfile import read_exported_file

        return read_exported_file(file, name, size, wish.shapes)
    if "config.json" in names and "model.weights.h5" in names:
        from compressor.audit.readers.kerasfile import read_keras_archive

        return read_keras_archive(file, name, size)
    if any(member.endswith("/constants.pkl") or "/code/" in member for member in names):
        if not wish.run:
            raise ModelFileError(
                f"{name}: a TorchScript archive, which holds code: refused, nothing was executed; "
                "save the state dict instead, or allow it to run in a child process: run=True "
                "(--allow-code)"
            )
        from compressor.audit.readers.child import read_torchscript_file

        return read_torchscript_file(file, name, size, wish.shapes)
    from compressor.audit.readers.torchfile import read_torch_file

    found = read_torch_file(file, name, size)
    if found.format != "compressor-model" or found.graph is None:
        return _built(found, wish)
    own = tuple(found.graph.values[index].shape for index in found.graph.inputs)
    if wish.shapes is None or wish.shapes == own:
        return found
    from compressor.audit.readers.child import rebuilt

    return rebuilt(found, file, wish.shapes)


def _built(found: Inventory, wish: _Wish) -> Inventory:
    """Gives a file of bare weights the graph of the network the caller named."""
    if wish.arch is None:
        if wish.shapes is not None:
            raise UsageError(
                f"{found.source}: a {found.format} file has no graph to count on another input: "
                "name its network too: arch='...' (--arch), a name in the zoo or module:factory"
            )
        return found
    from compressor.audit.readers.child import with_network

    return with_network(found, wish.arch, wish.shapes, run=wish.run)


def _factory(target: str, wish: _Wish) -> Inventory:
    from compressor.audit.readers.child import read_factory

    if wish.arch is not None:
        raise UsageError(f"{shown_name(target, MAX_SHOWN)}: builds its own network: leave arch out")
    return read_factory(target, wish.shapes, run=wish.run)


def _granted(found: Inventory, wish: _Wish) -> Inventory:
    """Refuses a result on another input than the one asked for, and a network named in vain."""
    if wish.arch is not None and found.format not in {"state-dict", "safetensors"}:
        raise UsageError(
            f"{found.source}: a {found.format} file says itself what network it holds: leave "
            f"arch={wish.arch!r} out"
        )
    if wish.shapes is not None:
        own = tuple(found.graph.values[i].shape for i in found.graph.inputs) if found.graph else ()
        if own != wish.shapes:
            shown = ", ".join(map(str, own)) or "it has no graph"
            wanted = ", ".join(map(str, wish.shapes))
            raise UsageError(
                f"{found.source}: cannot be counted on {wanted}: the file is fixed to the input it "
                f"was made on ({shown})"
            )
    return found


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # too long, a null byte
        return False


def _what(head: bytes) -> str:
    """Says what a file that is not a torch archive seems to be, and what to do."""
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        return (
            "a bare or legacy pickle, which is never opened; write it with compressor, or with "
            "torch.save(model.state_dict(), ...) of torch 1.6 or newer"
        )
    text = all(byte in b"\t\r\n\f" or 32 <= byte < 127 for byte in head)
    kind = "a text file" if text else "an unknown kind of file"
    return f"{kind}, expected a model file: .pt, .pt2, .safetensors, .onnx, .tflite, .h5 or .keras"
