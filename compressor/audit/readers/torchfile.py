"""Reader for torch archives: the project's own model files and plain state dicts. No torch.

Parameters, non-zeros, bytes and buffers come from the stored tensors; MACs from the operator graph
that the project's files carry, after it was checked against those tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressor.audit.crosscheck import crosscheck
from compressor.audit.graph import Graph, read_graph
from compressor.audit.inventory import Inventory, Role, StoredTensor
from compressor.audit.readers.archive import Archive, open_archive
from compressor.audit.readers.pickles import load_plain
from compressor.audit.readers.safecalls import TensorRef
from compressor.audit.readers.stored import count_tensors, packed_shapes, roles_by_name
from compressor.audit.readers.tensors import StorageReader
from compressor.audit.readers.widths import WIDTHS
from compressor.audit.shown import one_line, shown_value
from compressor.errors import ModelFileError

__all__ = ["FORMAT", "FORMAT_VERSION", "read_torch_file"]

FORMAT = "compressor-model"
FORMAT_VERSION = 3  # 2: weights stored as whole numbers; 3: those of 4 bits two to a byte
MAX_PICKLE_BYTES = 64 << 20
MAX_TENSORS = 200_000
_META = (
    "arch",
    "arch_args",
    "num_classes",
    "classes",
    "input_shape",
    "layout",
    "front_end",
    "format_version",
)
_NESTED = ("state_dict", "model_state_dict", "model", "net")


def read_torch_file(path: Path, name: str, size: int) -> Inventory:
    """Reads a `.pt` archive.

    Args:
        path: the file.
        name: what messages call it.
        size: its bytes.

    Raises:
        ModelFileError: broken, hostile, not a state dict, from a newer version, or contradicting
            itself.
    """
    with open_archive(path, name, size) as archive:
        prefix = _prefix(archive)
        order = archive.members.get(f"{prefix}byteorder")
        big = order is not None and archive.read(f"{prefix}byteorder", 16) == b"big"
        tree = load_plain(archive.read(f"{prefix}data.pkl", MAX_PICKLE_BYTES), name)
        reader = StorageReader(archive, prefix, "big" if big else "little")
        if isinstance(tree, Mapping) and tree.get("format") == FORMAT:
            return _artifact(tree, reader, name)
        return _state_dict(tree, reader, name)


def _prefix(archive: Archive) -> str:
    """Finds the one top folder of a torch archive."""
    names = archive.members
    tops = {member.partition("/")[0] for member in names if "/" in member}
    for top in sorted(tops):
        if f"{top}/data.pkl" in names:
            if len(tops) > 1:
                raise ModelFileError(f"{archive.name}: more than one top folder in the archive")
            return f"{top}/"
    raise ModelFileError(f"{archive.name}: a zip archive without a torch model (no data.pkl)")


def _artifact(tree: Mapping[Any, Any], reader: StorageReader, name: str) -> Inventory:
    version = tree.get("format_version")
    if type(version) is not int or version < 1:
        raise ModelFileError(
            f"{name}: format_version {shown_value(version)}, expected {FORMAT_VERSION}"
        )
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{name}: written by a newer compressor (format {version}, this one reads "
            f"{FORMAT_VERSION}): update compressor"
        )
    stored = _tensors(tree.get("state_dict"), f"{name}: 'state_dict'")
    packed = packed_shapes(tree.get("packed"), stored, name)
    plain = tree.get("graph")
    try:
        graph = read_graph(plain) if plain else None
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from error
    if graph is None:
        roles = roles_by_name(stored)
        tensors = count_tensors(stored, roles, reader, packed)
        return Inventory(name, FORMAT, tensors, None, roles_certain=False, meta=_meta(tree))
    owned: dict[str, Role] = dict.fromkeys((*graph.parameters, *graph.packed), "parameter")
    owned |= dict.fromkeys(graph.buffers, "buffer")
    shapes = {key: packed.get(key, ref.shape) for key, ref in stored.items()}
    doubts = crosscheck(graph, shapes, name)
    shape = tree.get("input_shape")
    given = graph.values[graph.inputs[0]].shape if graph.inputs else ()
    if isinstance(shape, (list, tuple)) and len(shape) <= 8 and tuple(shape) != given[1:]:
        raise ModelFileError(
            f"{name}: contradicts itself: input_shape is {tuple(shape)}, the graph was traced on "
            f"{given}; write the file again"
        )
    tensors = count_tensors(stored, owned, reader, packed)
    return Inventory(
        name,
        FORMAT,
        (*tensors, *_unsaved(graph, stored)),
        graph,
        doubts=doubts,
        meta=_meta(tree),
        deployed_bits=_narrow_weights(tree, stored),
    )


def _narrow_weights(tree: Mapping[Any, Any], stored: Mapping[str, TensorRef]) -> dict[str, int]:
    """Weights of up to 4 bits in files of format 2, which held each in a byte: deployed as 4."""
    plain = tree.get("quantization")
    layers = plain.get("weights") if isinstance(plain, Mapping) else None
    found: dict[str, int] = {}
    for layer, entry in layers.items() if isinstance(layers, Mapping) else ():
        bits = entry.get("bits") if isinstance(entry, Mapping) else None
        key = f"{layer}.weight"
        whole = key in stored and stored[key].storage.dtype == "int8"
        if whole and type(bits) is int and 1 <= bits <= 4:
            found[key] = 4
    return found


def _unsaved(graph: Graph, stored: Mapping[str, TensorRef]) -> list[StoredTensor]:
    """What the network has but a state dict leaves out: taken from the graph."""
    found = []
    tables: tuple[tuple[Role, Mapping[str, tuple[tuple[int, ...], str]]], ...] = (
        ("buffer", {name: graph.buffers[name] for name in graph.unsaved if name in graph.buffers}),
        ("constant", graph.constants),
    )
    for role, table in tables:
        for name, (shape, dtype) in table.items():
            if name in stored:
                continue
            numel = 1
            for size in shape:
                numel *= size
            nbytes = numel * WIDTHS.get(dtype, 0) if role == "buffer" else 0
            found.append(StoredTensor(name, shape, dtype, role, numel, 0, 0, nbytes, name))
    return found


def _state_dict(tree: Any, reader: StorageReader, name: str) -> Inventory:
    for key in _NESTED:  # the usual checkpoint: {"model": state_dict, "optimizer": ..., ...}
        if isinstance(tree, Mapping) and isinstance(tree.get(key), Mapping):
            tree = tree[key]
            break
    if not isinstance(tree, Mapping) or not any(isinstance(v, TensorRef) for v in tree.values()):
        raise ModelFileError(
            f"{name}: holds no state dict; save torch.save(model.state_dict(), ...) or let "
            "compressor write the file"
        )
    stored = _tensors({k: v for k, v in tree.items() if isinstance(v, TensorRef)}, name)
    tensors = count_tensors(stored, roles_by_name(stored), reader)
    return Inventory(name, "state-dict", tensors, None, roles_certain=False)


def _tensors(tree: Any, where: str) -> dict[str, TensorRef]:
    if not isinstance(tree, Mapping) or not tree:
        raise ModelFileError(f"{where}: expected a state dict with tensors")
    if len(tree) > MAX_TENSORS:
        raise ModelFileError(f"{where}: {len(tree):,} tensors, at most {MAX_TENSORS:,} are read")
    for key, value in tree.items():
        if not isinstance(key, str) or len(key) > 512 or not key.isprintable():
            raise ModelFileError(f"{where}: {shown_value(key)} is not the name of a tensor")
        if not isinstance(value, TensorRef):
            raise ModelFileError(f"{where}: {shown_value(key)} is not a tensor")
    return dict(tree)


def _meta(tree: Mapping[Any, Any]) -> dict[str, Any]:
    budget = [10_000]
    return {key: _bounded(tree.get(key), budget, 6) for key in _META if key in tree}


def _bounded(value: Any, budget: list[int], depth: int) -> Any:
    """Copies plain data of a foreign file; shared or cyclic structures end at the budget."""
    budget[0] -= 1
    if budget[0] < 0 or depth < 0:
        return "..."
    if isinstance(value, Mapping):
        return {str(k)[:200]: _bounded(v, budget, depth - 1) for k, v in list(value.items())[:1000]}
    if isinstance(value, (list, tuple)):
        return [_bounded(item, budget, depth - 1) for item in value[:1000]]
    if isinstance(value, str):
        return one_line(value[:1000])
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 64:
        return "..."
    return value if isinstance(value, (bool, int, float, type(None))) else type(value).__name__
