"""Reader for `.pt2` archives of `torch.export.save`: JSON and raw bytes in a zip. No torch.

`torch.export.load` runs pickles of the archive; this reader opens none. What `torch.export.save`
always pickles, the example inputs, is left alone; a weight stored as a pickle is refused. Written
against schema 8 (torch/_export/serde/schema.py of torch 2.13).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from compressor.audit.crosscheck import crosscheck
from compressor.audit.graph import read_graph
from compressor.audit.inventory import Inventory, Role
from compressor.audit.quantised import assign_roles
from compressor.audit.readers.archive import Archive, open_archive
from compressor.audit.readers.exported_graph import DTYPES, Builder, tensor_names
from compressor.audit.readers.exported_modules import ModuleCalls
from compressor.audit.readers.exported_sizes import Sizes, symbol_of
from compressor.audit.readers.safecalls import StorageRef, TensorRef, size_of
from compressor.audit.readers.stored import count_tensors
from compressor.audit.readers.tensors import StorageReader
from compressor.audit.readers.widths import WIDTHS
from compressor.audit.shown import shown_name, shown_reason
from compressor.errors import ModelFileError, UsageError

__all__ = ["read_exported_archive", "read_exported_file"]

SCHEMA = 8
MAX_JSON_BYTES = 24 << 20  # parsed Python takes up to 30 times as much
MAX_TENSORS = 100_000
Shapes = tuple[tuple[int, ...], ...]


def read_exported_file(file: Path, name: str, size: int, shapes: Shapes | None) -> Inventory:
    """Reads a `.pt2` archive.

    Args:
        file: the file.
        name: what messages call it.
        size: its bytes.
        shapes: one shape for each tensor input, for open axes; None: an open first axis is 1,
            any other has the size of the example it was exported with.

    Raises:
        ModelFileError: broken, hostile, of an older layout, with weights in pickles, or
            contradicting itself.
        UsageError: `shapes` that the program does not allow.
    """
    with open_archive(file, name, size) as archive:
        return read_exported_archive(archive, shapes)


def read_exported_archive(archive: Archive, shapes: Shapes | None) -> Inventory:
    """Reads an archive that was opened and checked."""
    prefix, model = _layout(archive)
    try:
        program = _json(archive, f"{prefix}models/{model}.json")
        version = program["schema_version"]["major"]
        if version != SCHEMA:
            raise ModelFileError(
                f"{archive.name}: torch.export schema {shown_name(str(version), 20)}, this program "
                f"reads {SCHEMA}: save it again with torch.export.save of torch 2.9 to 2.13"
            )
        weights = _payload(archive, prefix, "weights", model)
        constants = _payload(archive, prefix, "constants", model)
        return _inventory(archive, prefix, program, weights | constants, shapes)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelFileError(
            f"{archive.name}: not a program as torch.export.save writes it "
            f"({type(error).__name__}: {shown_reason(error)})"
        ) from error
    except (RecursionError, OverflowError, MemoryError) as error:
        raise ModelFileError(f"{archive.name}: an exported program beyond all bounds") from error


def _layout(archive: Archive) -> tuple[str, str]:
    """Finds the top folder and the one model; refuses what is no plain exported program."""
    names = archive.members
    if any(name.rpartition("/")[2] == "serialized_exported_program.json" for name in names):
        raise ModelFileError(
            f"{archive.name}: an exported program of an older torch, whose weights are pickles, "
            "which are never opened: save it again with torch.export.save of torch 2.9 or newer"
        )
    if any("/aotinductor/" in f"/{name}" for name in names):
        raise ModelFileError(
            f"{archive.name}: a compiled package (AOTInductor), which holds machine code: refused, "
            "nothing was executed; give the file of torch.export.save"
        )
    found = [
        name for name in names if name.endswith(".json") and "models" in name.split("/")[:-1][-1:]
    ]
    if len(found) != 1 or found[0].count("/") > 2:
        raise ModelFileError(
            f"{archive.name}: {len(found)} models in an exported archive, expected one"
        )
    folder, _, local = found[0].rpartition("/")
    return folder.removesuffix("models"), local.removesuffix(".json")


def _json(archive: Archive, member: str) -> Any:
    data = archive.read(member, MAX_JSON_BYTES)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{archive.name}: {member[:80]!r} is no JSON") from error


def _payload(archive: Archive, prefix: str, kind: str, model: str) -> dict[str, TensorRef]:
    """Reads one table of stored tensors: name -> record; the storage is as large as its member."""
    member = f"{prefix}data/{kind}/{model}_{kind}_config.json"
    if member not in archive.members:
        return {}
    table = _json(archive, member)["config"]
    if len(table) > MAX_TENSORS:
        raise ModelFileError(f"{archive.name}: {len(table):,} tensors, at most {MAX_TENSORS:,}")
    found = {}
    for key, entry in table.items():
        if entry["use_pickle"] is not False:
            raise ModelFileError(
                f"{archive.name}: {shown_name(key)} is stored as a pickle, which is never opened: "
                "refused, nothing was executed; export the network with plain tensors"
            )
        meta, path = entry["tensor_meta"], entry["path_name"]
        if not isinstance(path, str) or "/" in path or meta["layout"] != 7:
            raise ModelFileError(f"{archive.name}: {shown_name(key)} is no dense tensor of its own")
        dtype = DTYPES.get(meta["dtype"], "unknown")
        info = archive.members.get(f"{prefix}data/{kind}/{path}")
        if info is None or dtype not in WIDTHS:
            raise ModelFileError(
                f"{archive.name}: {shown_name(key)}: "
                + (
                    f"unknown number type {shown_name(str(meta['dtype']), 20)}"
                    if info
                    else "is not stored"
                )
            )
        if info.file_size % WIDTHS[dtype]:
            raise ModelFileError(
                f"{archive.name}: {shown_name(key)} lies about its storage: {info.file_size:,} B "
                f"are no whole number of {dtype}"
            )
        shape, strides = (
            tuple(size_of(s["as_int"]) for s in meta[f]) for f in ("sizes", "strides")
        )
        if len(shape) != len(strides) or len(shape) > 32:
            raise ModelFileError(f"{archive.name}: {shown_name(key)} has a shape that is none")
        found[key] = TensorRef(
            StorageRef(f"{kind}/{path}", dtype, info.file_size // WIDTHS[dtype]),
            size_of(meta["storage_offset"]["as_int"]),
            shape,
            strides,
            bool(meta["requires_grad"]),
        )
    return found


def _inventory(
    archive: Archive,
    prefix: str,
    program: Mapping[str, Any],
    stored: Mapping[str, TensorRef],
    shapes: Shapes | None,
) -> Inventory:
    module = program["graph_module"]
    graph = module["graph"]
    metas = graph["tensor_values"]
    specs = module["signature"]["input_specs"]
    homes: dict[str, tuple[str, str]] = {}  # argument -> (table, stored name)
    users: list[str] = []
    unsaved = []
    for spec in specs:
        ((kind, item),) = spec.items()
        if kind == "user_input":
            users += tensor_names(item["arg"])
        elif kind in {"parameter", "buffer", "tensor_constant"}:
            table = "constants" if kind == "tensor_constant" else f"{kind}s"
            homes[item["arg"]["name"]] = (table, item[f"{kind}_name"])
            if kind == "buffer" and not item["persistent"]:
                unsaved.append(item["buffer_name"])
        elif kind == "custom_obj":
            shown = shown_name(item["custom_obj_name"])
            raise ModelFileError(
                f"{archive.name}: holds an object of its own ({shown}), which only code could "
                "read: refused, nothing was executed"
            )
    sizes = Sizes()
    _bind(sizes, [metas[user]["sizes"] for user in users], shapes, program, archive.name)
    tables: dict[str, dict[str, Any]] = {"parameters": {}, "buffers": {}, "constants": {}}
    for table, key in homes.values():
        if key not in stored:
            raise ModelFileError(f"{archive.name}: {shown_name(key)} of the graph is not stored")
        tables[table][key] = [list(stored[key].shape), stored[key].storage.dtype]
    firsts = _firsts(stored, [key for _, key in homes.values()])
    paths = [entry["fqn"] for entry in module["module_call_graph"]]
    calls = ModuleCalls(paths, tables["parameters"])
    builder = Builder(sizes, calls)
    names = {user: builder.new(metas[user]) for user in users}
    inputs = list(names.values())
    for argument, (_, key) in homes.items():
        names[argument] = builder.new(metas[argument], key)
        shape, dtype, _ = builder.values[names[argument]]
        if tuple(shape) != stored[key].shape or dtype != stored[key].storage.dtype:
            raise ModelFileError(
                f"{archive.name}: contradicts itself: {shown_name(key)} is stored as "
                f"{stored[key].shape} {stored[key].storage.dtype}, the graph says "
                f"{str(tuple(shape))[:80]} {dtype}; export it again"
            )
    builder.walk(graph, names)
    outputs = [  # not the new values of buffers, which a program returns too
        names[name]
        for spec in module["signature"]["output_specs"]
        for kind, item in spec.items()
        if kind == "user_output"
        for name in tensor_names(item["arg"])
    ]
    calls.finish(builder.values[outputs[0]][0] if outputs else None)
    tied = {key: first for key, first in firsts.items() if key != first}
    plain = builder.plain(
        {
            **tables,
            "packed": {},
            "unsaved": unsaved,
            "tied": {k: f for k, f in tied.items() if {k, f} <= tables["parameters"].keys()},
            "frozen": [
                key
                for key in tables["parameters"]
                if not stored[key].requires_grad and "float" in stored[key].storage.dtype
            ],
        },
        inputs,
        outputs,
    )
    try:
        typed = read_graph(plain)
    except ModelFileError as error:
        raise ModelFileError(f"{archive.name}: {error}") from error
    known = {key: stored[key].shape for table in tables.values() for key in table}
    doubts = crosscheck(
        typed, {k: s for k, s in known.items() if k not in tables["constants"]}, archive.name
    )
    if builder.doubts:
        doubts = {**doubts, "macs": (*doubts.get("macs", ()), *builder.doubts)}
    if spare := _unclaimed(stored):
        doubts = {**doubts, "param_bytes": spare}
    reader = StorageReader(archive, prefix, _byteorder(archive, prefix))
    roles: dict[str, Role] = dict.fromkeys(tables["parameters"], "parameter")
    roles |= dict.fromkeys(tables["buffers"], "buffer")
    roles |= dict.fromkeys(tables["constants"], "constant")
    order = dict.fromkeys((*known, *stored))  # of the graph: the first of tied names is its first
    tensors = count_tensors({key: stored[key] for key in order}, roles, reader)
    meta = {"torch_version": str(program.get("torch_version", ""))[:40]}
    if sizes.bound:
        meta["open_sizes"] = ", ".join(f"{k[:40]} = {v}" for k, v in sizes.bound.items())
    return assign_roles(
        Inventory(archive.name, "torch-export", tensors, typed, doubts=doubts, meta=meta)
    )


def _firsts(stored: Mapping[str, TensorRef], order: list[str]) -> dict[str, str]:
    """Maps each stored tensor to the first of the same bytes."""
    seen: dict[Any, str] = {}
    return {
        key: seen.setdefault((r.storage.key, r.offset, r.shape, r.stride), key)
        for key in dict.fromkeys((*order, *stored))
        for r in (stored[key],)
    }


def _unclaimed(stored: Mapping[str, TensorRef]) -> tuple[str, ...]:
    """Names members of which the last bytes belong to no tensor."""
    reach: dict[tuple[str, int], int] = {}
    for ref in stored.values():
        width = WIDTHS[ref.storage.dtype]
        steps = zip(ref.shape, ref.stride, strict=True)
        end = 1 + sum((size - 1) * step for size, step in steps) if prod(ref.shape) else 0
        key = (ref.storage.key, ref.storage.numel * width)
        reach[key] = max(reach.get(key, 0), (ref.offset + end) * width)
    return tuple(
        f"{size - end:,} B of {shown_name(member)} belong to no tensor"
        for (member, size), end in reach.items()
        if end < size
    )


def _byteorder(archive: Archive, prefix: str) -> str:
    member = f"{prefix}byteorder"
    big = member in archive.members and archive.read(member, 16) == b"big"
    return "big" if big else "little"


def _bind(
    sizes: Sizes,
    inputs: list[list[Mapping[str, Any]]],
    shapes: Shapes | None,
    program: Mapping[str, Any],
    name: str,
) -> None:
    """Gives the open axes their sizes: what the caller wants, 1 for a batch, else the example's."""
    ranges = program["range_constraints"]
    if shapes is not None and len(shapes) != len(inputs):
        raise UsageError(
            f"{name}: {len(shapes)} input shapes, the program has {len(inputs)} inputs"
        )
    for place, axes in enumerate(inputs):
        wanted = shapes[place] if shapes is not None else None
        if wanted is not None and len(wanted) != len(axes):
            raise UsageError(f"{name}: input shape {wanted}: expected {len(axes)} axes")
        for axis, size in enumerate(axes):
            if "as_expr" not in size:
                continue
            symbol = symbol_of(size["as_expr"]["expr_str"])
            if symbol is None:
                if wanted is not None:
                    sizes.solve(size["as_expr"]["expr_str"], wanted[axis])
                continue
            if wanted is not None:
                limits = ranges.get(symbol) or {}
                low, high = limits.get("min_val") or 0, limits.get("max_val")
                if wanted[axis] < low or (high is not None and wanted[axis] > high):
                    raise UsageError(
                        f"{name}: input {place} axis {axis} of {wanted[axis]}: the program was "
                        f"exported for {low} to {high if high is not None else 'any size'}"
                    )
                sizes.bind(symbol, wanted[axis])
            elif axis == 0:
                sizes.bind(symbol, 1)
        if wanted is not None:
            own = tuple(sizes.of(size) for size in axes)
            if own != wanted:
                raise UsageError(
                    f"{name}: cannot be counted on {wanted}: the program was exported for {own}"
                )
