"""Reader for TFLite files. Pure Python: neither TensorFlow nor the flatbuffers package.

Every operator becomes a layer, named after the tensor it writes. Parameters are the stored tensors
that operators compute with, at their stored width: where a float16 weight goes through DEQUANTIZE,
the float16 is the parameter. Shapes, axes and single numbers are constants; scales and zero points
are listed apart. Nothing in the file is executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compressor.audit.inventory import Inventory, Role, StoredTensor
from compressor.audit.macs import strict_macs
from compressor.audit.readers.filebytes import file_bytes
from compressor.audit.readers.flatbuffer import Buffer
from compressor.audit.readers.tflite_graph import GraphBuilder, carried_slots, consumers_of
from compressor.audit.readers.tflite_roles import WEIGHT_VIEWS, layer_name, local_name, role_of
from compressor.audit.readers.tflite_schema import (
    ModelRecord,
    SubgraphRecord,
    TensorRecord,
    read_model,
)
from compressor.audit.readers.tflite_weights import ZeroCounter
from compressor.errors import ModelFileError, UsageError

__all__ = ["read_tflite_file"]

Shapes = tuple[tuple[int, ...], ...]


def read_tflite_file(file: Path, name: str, size: int, shapes: Shapes | None) -> Inventory:
    """Reads a TFLite model.

    Args:
        file: the file.
        name: what messages call it.
        size: its bytes.
        shapes: input shapes wanted; a TFLite file has fixed ones, others are refused.

    Raises:
        ModelFileError: broken, hostile, or contradicting itself.
        UsageError: other input shapes than those of the file.
    """
    source = Buffer(file_bytes(file, name, size), name, "TFLite")
    model = read_model(source)
    own = tuple(model.subgraphs[0].tensors[i].shape for i in model.subgraphs[0].inputs)
    if shapes is not None and shapes != own:
        raise UsageError(
            f"{name}: a TFLite file is counted on the input it was converted for ({_show(own)}), "
            f"{_show(shapes)} was asked for; convert the network again for that input"
        )
    return _inventory(source, model, name)


def _show(shapes: Shapes) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes) or "none"


@dataclass(frozen=True, slots=True)
class _Held:
    """A stored tensor: where it stands, its name, role and record."""

    part: int
    tensor: int
    name: str
    role: Role
    record: TensorRecord


def _inventory(source: Buffer, model: ModelRecord, name: str) -> Inventory:
    paths = _paths(model)
    held = list(_held(source, model, paths))
    firsts: dict[int, str] = {}
    for item in sorted(held, key=lambda item: item.role != "parameter"):  # parameters first
        firsts.setdefault(item.record.buffer, item.name)
    zeros = ZeroCounter(source)
    tensors = [_stored(zeros, model, item, firsts[item.record.buffer]) for item in held]
    owned: dict[str, list[str]] = {}
    for tensor in tensors:
        if tensor.role == "parameter":
            owned.setdefault(tensor.module, []).append(tensor.name)
    homes = {(item.part, item.tensor): item.name for item in held}
    builder = GraphBuilder(source, model, homes, paths)
    graph = builder.build(
        parameters={t.name: (t.shape, t.dtype) for t in tensors if t.role == "parameter"},
        constants={t.name: (t.shape, t.dtype) for t in tensors if t.role == "constant"},
        tied={t.name: t.first for t in tensors if t.first != t.name and t.role == "parameter"},
        owned=owned,
    )
    try:
        strict_macs(graph)
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from error
    doubts = (*builder.doubts, *_open_axes(model), *_other_signatures(model))
    return Inventory(
        source=name,
        format="tflite",
        tensors=(*tensors, *_indices(held), *_scales(model, held)),
        graph=graph,
        doubts={"macs": doubts, "peak_activation_bytes": doubts} if doubts else {},
        notes=tuple(builder.notes),
    )


def _paths(model: ModelRecord) -> dict[tuple[int, int], str]:
    """Names every operator; where a name repeats, its number in the subgraph is added.

    What only unpacks a stored weight is part of the layer that uses the weight.
    """
    named: dict[tuple[int, int], str] = {}
    belongs: dict[tuple[int, int], int] = {}
    for p, part in enumerate(model.subgraphs):
        readers = consumers_of(part)
        for i, op in enumerate(part.ops):
            named[p, i] = layer_name(op, part)
            if op.name in WEIGHT_VIEWS and op.inputs and op.outputs:
                record = part.tensors[op.inputs[0]]
                user = next((u for u, _ in readers.get(op.outputs[0], ()) if u > i), None)
                if user is not None and record.buffer and len(model.buffers[record.buffer]):
                    belongs[p, i] = user
    often = Counter(name for key, name in named.items() if key not in belongs)
    paths = {
        (p, i): name if often[name] == 1 else f"{name} ({f'{p}:' if p else ''}{i})"
        for (p, i), name in named.items()
    }
    for (p, i), user in sorted(belongs.items(), reverse=True):  # users stand behind: done already
        paths[p, i] = paths[p, user]
    return paths


def _held(source: Buffer, model: ModelRecord, paths: dict[tuple[int, int], str]) -> Iterator[_Held]:
    """Finds the tensors with a buffer, and names each after the first operator that reads it."""
    used: Counter[str] = Counter()
    taken: set[str] = set()
    for p, part in enumerate(model.subgraphs):
        readers = consumers_of(part)
        written = {tensor for op in part.ops for tensor in op.outputs} | set(part.inputs)
        carried = _carried(model, part)
        for t, record in enumerate(part.tensors):
            if not record.buffer or not model.buffers[record.buffer] or record.variable:
                continue
            if t in written:
                raise source.fail(f"tensor {record.name[:80]!r} is stored and written as well")
            uses = []
            for index, slot in readers.get(t, ()):
                op = part.ops[index]
                if op.name in WEIGHT_VIEWS and op.outputs and slot == 0:
                    uses += readers.get(op.outputs[0], [])
                else:
                    uses.append((index, slot))
            roles: list[Role] = [
                "constant"
                if slot in carried.get(i, ())
                else role_of(part.ops[i].name, slot, record)
                for i, slot in uses
            ]
            role: Role = role_of("", 0, record)
            path, local = f"unused/{record.name[:200].replace('.', '_') or t}", "data"
            if uses:
                role = "parameter" if "parameter" in roles else "constant"
                index, slot = uses[roles.index(role)]
                path, local = paths[p, index], local_name(part.ops[index].name, slot)
            name = f"{path}.{local}"
            base = name
            while name in taken:
                used[base] += 1
                name = f"{base}_{used[base] + 1}"
            taken.add(name)
            yield _Held(p, t, name, role, record)


def _carried(model: ModelRecord, part: SubgraphRecord) -> dict[int, frozenset[int]]:
    """Operands of loops that every round writes anew: what they start from is no parameter."""
    found = {}
    for index, op in enumerate(part.ops):
        if op.name == "WHILE" and op.options is not None:
            body = op.options.integer(1, "i")
            if 0 <= body < len(model.subgraphs):
                found[index] = carried_slots(op, model.subgraphs[body])
    return found


def _stored(zeros: ZeroCounter, model: ModelRecord, item: _Held, first: str) -> StoredTensor:
    record = item.record
    data = model.buffers[record.buffer]
    nbytes = zeros.stored_bytes(record, data)
    constant = item.role == "constant"
    nonzero = 0 if constant else zeros.nonzero(record, data)
    return StoredTensor(
        name=item.name,
        shape=record.shape,
        dtype=record.dtype,
        role=item.role,
        numel=record.numel,
        nonzero=nonzero,
        effective_nonzero=nonzero,
        nbytes=nbytes,
        first=item.name if constant else first,
    )


def _indices(held: list[_Held]) -> Iterator[StoredTensor]:
    """What a sparse tensor stores beside its numbers."""
    for item in held:
        if item.record.index_bytes:
            name = f"{item.name}_indices"
            nbytes = item.record.index_bytes
            yield StoredTensor(name, (), "int32", "buffer", 0, 0, 0, nbytes, name)


def _scales(model: ModelRecord, held: list[_Held]) -> Iterator[StoredTensor]:
    """Scales (float32) and zero points (int64) of all tensors, activations included."""
    names = {(item.part, item.tensor): item.name for item in held}
    for p, part in enumerate(model.subgraphs):
        for t, record in enumerate(part.tensors):
            base = names.get((p, t), f"{record.name.replace('.', '_')[:200]} ({p}:{t})")
            points = len(record.zero_points) // 8
            for suffix, count, dtype, width in (
                ("scale", record.scales, "float32", 4),
                ("zero_point", points if record.scales else 0, "int64", 8),
            ):
                if count:
                    name = f"{base}.{suffix}"
                    nbytes = count * width
                    yield StoredTensor(
                        name, (count,), dtype, "scale", count, count, count, nbytes, name
                    )


def _open_axes(model: ModelRecord) -> Iterator[str]:
    """Inputs that leave more open than the number of clips."""
    main = model.subgraphs[0]
    for index in main.inputs:
        record = main.tensors[index]
        if axes := [axis for axis in record.open_axes if axis]:
            yield (
                f"input {record.name[:80]!r} leaves axis {', '.join(map(str, axes))} open, counted "
                f"as {'x'.join(map(str, record.shape))}"
            )


def _other_signatures(model: ModelRecord) -> Iterator[str]:
    """Entry points beside the first: they are stored, and not counted."""
    others = sorted({name for name, part in model.signatures if part})
    if others:
        yield f"counted is subgraph 0; not the signatures {', '.join(map(repr, others[:4]))}"
