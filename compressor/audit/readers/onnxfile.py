"""Reader for ONNX files: weights of every number type, and the operator graph. Nothing is run.

The file is decoded (`onnx_wire`, `onnx_proto`), walked once on its input shapes (`onnx_walk`, shape
functions in `onnx_shapes`), and listed (`onnx_layers`). The `onnx` package is not imported: why,
see `onnx_wire` and `onnx_shapes`; the tests compare with it. What counts as a parameter is decided
by who reads it: see `onnx_roles`.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

from compressor.audit.inventory import Inventory, StoredTensor
from compressor.audit.readers.onnx_layers import Layers
from compressor.audit.readers.onnx_payload import BITS, DTYPES, Payload
from compressor.audit.readers.onnx_proto import read_model
from compressor.audit.readers.onnx_records import GraphDef, SparseTensor, ValueInfo
from compressor.audit.readers.onnx_state import Frame, Scope
from compressor.audit.readers.onnx_values import MAX_ELEMENTS, Buffer, Stored, Val
from compressor.audit.readers.onnx_walk import Walker
from compressor.audit.readers.onnx_wire import Wire
from compressor.errors import ModelFileError, UsageError

__all__ = ["read_onnx_file"]

MAX_BYTES = 1 << 31  # a protobuf message cannot be larger: larger models keep data outside
Shapes = tuple[tuple[int, ...], ...]
_BATCH = frozenset({"n", "b", "bs", "bsz"})


def read_onnx_file(file: Path, name: str, size: int, shapes: Shapes | None) -> Inventory:
    """Reads an ONNX file.

    Args:
        file: the file; external data is looked for in its folder only.
        name: what messages call it.
        size: its bytes.
        shapes: input shapes to count on, in the file's order; None for the file's own. An open
            batch axis then counts as 1; another open axis leaves the MACs unknown.

    Raises:
        ModelFileError: no ONNX model, damaged, contradicting itself, or reaching outside its
            folder.
        UsageError: `shapes` do not fit the inputs that the file declares.
    """
    if size > MAX_BYTES:
        raise ModelFileError(
            f"{name}: {size:,} B, an ONNX file has at most {MAX_BYTES:,} B; save it with external "
            "data"
        )
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{name}: cannot be read: {error.strerror or error}") from error
    if _is_text(data[:64]):
        raise ModelFileError(
            f"{name}: a text file, expected a model file: .pt, .pt2, .safetensors, .onnx, .tflite, "
            ".h5 or .keras"
        )
    wire = Wire(data, name)
    model = read_model(wire)
    walker = Walker(model, Payload(wire, file.parent), name)
    scope = Scope()
    inputs, open_axes = _inputs(model.graph, scope, walker, shapes)
    outputs = walker.graph(model.graph, scope, Frame(opsets=model.opsets))
    layers = Layers(walker)
    tensors = layers.tensors()
    graph = None
    if open_axes:
        walker.doubts = {
            key: texts for key, texts in walker.doubts.items() if key == "nonzero_params"
        }
        walker.notes = {}
        for text in open_axes:
            walker.doubt(("macs", "peak_activation_bytes"), text)
    else:
        graph = layers.graph(inputs, outputs, tensors)
    if same := _same_content(tensors, walker):
        walker.note(same)
    return Inventory(
        name,
        "onnx",
        tensors,
        graph,
        doubts={key: tuple(texts) for key, texts in walker.doubts.items()},
        notes=tuple(walker.notes),
        meta={"producer": model.producer} if model.producer else {},
    )


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\r\n\f" or 32 <= byte < 127 for byte in head)


def _inputs(
    graph: GraphDef, scope: Scope, walker: Walker, shapes: Shapes | None
) -> tuple[list[Val], list[str]]:
    """Puts the graph's inputs into the scope.

    Returns:
        The inputs that are no initializers, and what is open about their shapes.
    """
    held = {
        (tensor.values if isinstance(tensor, SparseTensor) else tensor).name
        for tensor in graph.initializers
    }
    wanted = [info for info in graph.inputs if info.name not in held]
    if shapes is not None and len(shapes) != len(wanted):
        raise UsageError(
            f"{walker.name}: {len(shapes)} input shapes given, the file has {len(wanted)} inputs: "
            f"{', '.join(_shown(info) for info in wanted[:4])}"
        )
    values: list[Val] = []
    open_axes: list[str] = []
    for place, info in enumerate(wanted):
        if info.name in scope.names:
            raise walker.refused(f"input {info.name!r} is there twice")
        shape = _shape(info, None if shapes is None else shapes[place], walker, open_axes)
        dtype = DTYPES.get(info.dtype, ("", 0))[0]
        if shape is not None and prod(shape) >= MAX_ELEMENTS:
            raise walker.refused(f"{_shown(info)} has more elements than any memory holds")
        nbytes = (prod(shape) * BITS.get(dtype, 0) + 7) // 8 if shape is not None else 0
        value = Val(dtype, shape, home=Buffer(nbytes))
        scope.names[info.name] = value
        values.append(value)
    return values, open_axes


def _shape(
    info: ValueInfo, given: tuple[int, ...] | None, walker: Walker, open_axes: list[str]
) -> tuple[int, ...] | None:
    if given is not None:
        fits = info.axes is None or (
            len(info.axes) == len(given)
            and all(
                not isinstance(axis, int) or axis == size
                for axis, size in zip(info.axes, given, strict=True)
            )
        )
        if not fits:
            raise UsageError(
                f"{walker.name}: input shape {given} does not fit {_shown(info)}; only its open "
                "axes can be chosen"
            )
        for axis, size in zip(info.axes or (), given, strict=False):
            if isinstance(axis, str):
                walker.symbols.setdefault(axis, size)
        return given
    if info.axes is None:
        if info.dtype:
            open_axes.append(f"input {info.name!r} has no shape in the file: give --input-shape")
        return None
    named = [i for i, axis in enumerate(info.axes) if _is_batch(axis)]
    batch = named[0] if named else 0
    sizes: list[int] = []
    for place, axis in enumerate(info.axes):
        if isinstance(axis, int):
            sizes.append(axis)
            continue
        if place != batch and walker.symbols.get(axis or "") != 1:
            open_axes.append(f"{_shown(info)} leaves axis {place} open: give --input-shape")
            return None
        if axis:
            walker.symbols[axis] = 1
        sizes.append(1)
    return tuple(sizes)


def _is_batch(axis: int | str | None) -> bool:
    return isinstance(axis, str) and ("batch" in axis.lower() or axis.lower() in _BATCH)


def _shown(info: ValueInfo) -> str:
    axes = "of any shape" if info.axes is None else "x".join(str(axis or "?") for axis in info.axes)
    return f"input {info.name!r} ({axes})"


def _same_content(tensors: tuple[StoredTensor, ...], walker: Walker) -> str:
    """Names weights that are stored twice under two names: counted twice, as they are stored."""
    by_name: dict[str, Stored] = {stored.name: stored for stored in walker.shelf.stored.values()}
    groups: dict[tuple[object, ...], list[StoredTensor]] = {}
    for tensor in tensors:
        if tensor.role == "parameter" and len(tensor.shape) >= 2 and tensor.nonzero:
            key = (tensor.dtype, tensor.shape, tensor.nonzero)
            groups.setdefault(key, []).append(tensor)
    found = []
    for group in groups.values():
        one, *others = group
        for other in others[:8]:
            pair = by_name[one.name], by_name[other.name]
            if walker.shelf.payload.same(pair[0].tensor, pair[1].tensor):
                found.append(f"{one.name} = {other.name}")
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"equal weights stored twice (counted twice): {', '.join(found[:3])}{more}" * bool(found)
