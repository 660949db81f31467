"""From an inventory to an audit result: the same arithmetic for live modules and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from compressor.audit.conventions import CONVENTIONS, official_macs, sizes
from compressor.audit.graph import Graph
from compressor.audit.inventory import Inventory, StoredTensor
from compressor.audit.macs import rule_for, strict_macs
from compressor.audit.memory import peak_activation
from compressor.audit.quantised import float_masters
from compressor.audit.records import AuditResult, LayerCount, Status, worst
from compressor.errors import UnknownNameError

__all__ = ["audit_inventory"]


def audit_inventory(inventory: Inventory, convention: str = "strict") -> AuditResult:
    """Counts an inventory.

    Args:
        inventory: what a reader found.
        convention: which convention `AuditResult.macs` follows, a key of
            `conventions.CONVENTIONS`; the others stand beside it in `macs_by_convention`.

    Raises:
        UnknownNameError: no such convention.
        ModelFileError: the graph contradicts itself.
    """
    if convention not in CONVENTIONS:
        raise UnknownNameError("counting convention", convention, CONVENTIONS)
    graph = inventory.graph
    strict, uncounted = strict_macs(graph) if graph else ({}, {})
    official = official_macs(inventory)
    macs: dict[str, int | None] = dict.fromkeys(CONVENTIONS)  # the Keras years count no MACs
    if graph is not None:
        macs |= {key: sum(by_layer.values()) for key, by_layer in official.items()}
        macs["strict"] = sum(strict.values())
    counted = sizes(inventory)
    peak = peak_activation(graph) if graph else None
    bytes_by_dtype: dict[str, int] = {}
    for tensor in inventory.parameters:
        bytes_by_dtype[tensor.dtype] = bytes_by_dtype.get(tensor.dtype, 0) + tensor.nbytes
    doubts = {key: list(reasons) for key, reasons in inventory.doubts.items()}
    if uncounted:
        doubts.setdefault("macs", []).append("no counting rule for " + ", ".join(_times(uncounted)))
    statuses = _statuses(inventory, doubts)
    details = _details(inventory)
    deployed = _deployed(inventory)
    own = counted["strict"]
    return AuditResult(
        macs=macs[convention],
        params=own.params,
        nonzero_params=own.nonzero,
        param_bytes=sum(bytes_by_dtype.values()),
        bytes_by_dtype=dict(sorted(bytes_by_dtype.items())),
        buffer_bytes=sum(t.nbytes for t in inventory.buffers),
        peak_activation_bytes=peak.bytes if peak else None,
        peak_activation_layer=peak.layer if peak else "",
        status=worst(*statuses.values()),
        statuses=statuses,
        layers=_layers(inventory, strict, official.get("nessi", {})),
        convention=convention,
        input_shape=graph.values[graph.inputs[0]].shape if graph and graph.inputs else (),
        macs_by_convention=macs,
        params_by_convention={key: size.params for key, size in counted.items()},
        nonzero_by_convention={key: size.nonzero for key, size in counted.items()},
        bytes_by_convention={key: size.nonzero_bytes for key, size in counted.items()},
        uncounted=tuple(uncounted),
        scale_bytes=sum(t.nbytes for t in inventory.scales),
        deployed_bytes=sum(deployed.values()) if deployed else None,
        deployed_bytes_by_dtype=deployed,
        notes=(
            *_notes(inventory, details, macs),
            *dict.fromkeys(
                (*(reason for reasons in doubts.values() for reason in reasons), *inventory.notes)
            ),
        ),
        details=details,
        source=inventory.source,
        format=inventory.format,
        meta=inventory.meta,
    )


def _deployed(inventory: Inventory) -> dict[str, int]:
    """Bytes by number type when deployed; empty where nothing is stored wider than it means."""
    bits = inventory.deployed_bits
    if not any(t.name in bits for t in inventory.parameters):
        return {}
    found: dict[str, int] = {}
    for tensor in inventory.parameters:
        width = bits.get(tensor.name, 0)
        dtype = f"int{width}" if width else tensor.dtype
        nbytes = -(-tensor.numel * width // 8) if width else tensor.nbytes
        found[dtype] = found.get(dtype, 0) + nbytes
    return dict(sorted(found.items()))


def _times(counter: Mapping[str, int]) -> list[str]:
    return [name if count == 1 else f"{name} ({count} times)" for name, count in counter.items()]


def _statuses(inventory: Inventory, doubts: Mapping[str, list[str]]) -> dict[str, Status]:
    statuses: dict[str, Status] = {}
    for metric in ("params", "nonzero_params", "param_bytes", "macs", "peak_activation_bytes"):
        needs_graph = metric in {"macs", "peak_activation_bytes"}
        if needs_graph and inventory.graph is None:
            statuses[metric] = "unknown"
        elif metric in doubts or (not needs_graph and not inventory.roles_certain):
            statuses[metric] = "partial"
        else:
            statuses[metric] = "exact"
    return statuses


def _layers(
    inventory: Inventory, strict: Mapping[int, int], official: Mapping[int, int]
) -> tuple[LayerCount, ...]:
    """One row for each module that holds parameters, costs MACs, or has no children and runs."""
    graph = inventory.graph
    owned: dict[str, list[StoredTensor]] = {}
    for tensor in inventory.parameters:
        owned.setdefault(tensor.module, []).append(tensor)
    if graph is None:
        kinds = inventory.kinds
        return tuple(_row(path, kinds.get(path, ""), own) for path, own in owned.items())
    calls: dict[int, int] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    for index, shape in graph.calls:
        calls[index] = calls.get(index, 0) + 1
        shapes[index] = shape
    rows = []
    for index, module in enumerate(graph.modules):
        own = owned.pop(module.path, [])
        cost = strict.get(index, 0), official.get(index, 0)
        if not own and not any(cost) and not (module.leaf and index in calls):
            continue
        rows.append(
            replace(
                _row(module.path, module.type, own),
                macs=cost[0],
                macs_official=cost[1],
                output_shape=shapes.get(index, ()),
                calls=calls.get(index, 0),
            )
        )
    rows += [_row(path, "", own) for path, own in owned.items()]  # not in the graph's modules
    return tuple(rows)


def _row(path: str, kind: str, own: list[StoredTensor]) -> LayerCount:
    return LayerCount(
        name=path,
        kind=kind,
        params=sum(t.numel for t in own),
        nonzero_params=sum(t.effective_nonzero for t in own),
        param_bytes=sum(t.nbytes for t in own),
        dtype="+".join(sorted({t.dtype for t in own})),
        weight_params=sum(t.numel for t in own if len(t.shape) >= 2 and "Norm" not in kind),
    )


def _details(inventory: Inventory) -> dict[str, Any]:
    """Facts that are listed apart: tied, frozen, never called, masked, unsaved, constants."""
    graph = inventory.graph
    parameters = inventory.parameters
    names = {t.name for t in inventory.tensors}
    details: dict[str, Any] = {
        "tied": {t.name: t.first for t in inventory.tensors if t.first != t.name},
        "masked": {
            t.name: {"stored_nonzero": t.nonzero, "effective_nonzero": t.effective_nonzero}
            for t in inventory.tensors
            if t.name.endswith("_orig") and t.name.removesuffix("_orig") + "_mask" in names
        },
        "constants": {t.name: t.numel for t in inventory.tensors if t.role == "constant"},
        "buffers": {t.name: t.nbytes for t in inventory.buffers},
        "scales": {t.name: t.nbytes for t in inventory.scales},
        "stored_wider": {
            t.name: {"stored_bytes": t.nbytes, "deployed_bits": inventory.deployed_bits[t.name]}
            for t in parameters
            if t.name in inventory.deployed_bits
        },
    }
    if graph is not None:
        called = {index for index, _ in graph.calls}
        used = graph.read_homes()
        firsts = {t.name: t.first for t in inventory.tensors}
        used |= {firsts.get(home, home) for home in used}
        details["never_called"] = [
            module.path
            for index, module in enumerate(graph.modules)
            if index not in called
            and module.parameters
            and not any(firsts.get(name, name) in used for name in module.parameters)
        ]
        details["float_masters"] = float_masters(graph)
        details["frozen"] = [t.name for t in parameters if t.name in graph.frozen]
        details["weights_in_buffers"] = _buffers_as_weights(inventory, graph)
    return {key: value for key, value in details.items() if value}


def _buffers_as_weights(inventory: Inventory, graph: Graph) -> dict[str, int]:
    """Buffers and constants that a convolution or matrix product reads: weights by another name."""
    roles = {t.name: t for t in inventory.tensors if t.role in {"buffer", "constant"}}
    found: dict[str, int] = {}
    for op in graph.ops:
        if rule_for(op.name) is not None:
            for index in op.inputs:
                home = graph.values[index].home
                if isinstance(home, str) and home in roles and len(graph.values[index].shape) >= 2:
                    found[home] = roles[home].numel
    return found


def _notes(
    inventory: Inventory, details: Mapping[str, Any], macs: Mapping[str, int | None]
) -> list[str]:
    notes = []
    if inventory.graph is None:
        notes.append("no operator graph: MACs and activation memory are unknown")
    if tied := details.get("tied"):
        notes.append(f"tied (counted once): {_some(tied)}")
    if never := details.get("never_called"):
        notes.append(f"never called (parameters count, MACs 0): {_some(never)}")
    if masked := details.get("masked"):
        stored = sum(item["stored_nonzero"] for item in masked.values())
        kept = sum(item["effective_nonzero"] for item in masked.values())
        notes.append(
            f"pruning masks not baked in: {stored:,} non-zero as stored, {kept:,} with the masks "
            f"({_some(masked)})"
        )
    if hidden := details.get("weights_in_buffers"):
        notes.append(
            f"used as weights but not parameters ({sum(hidden.values()):,} numbers): "
            f"{_some(hidden)}"
        )
    if masters := details.get("float_masters"):
        notes.append(f"float weights left behind by quantisation, not counted: {_some(masters)}")
    if scales := inventory.scales:
        notes.append(
            f"scales and zero points beside the parameters: {len(scales)} tensors, "
            f"{sum(t.nbytes for t in scales):,} B"
        )
    if deployed := _deployed(inventory):
        stored = sum(t.nbytes for t in inventory.parameters)
        widths = ", ".join(f"{size:,} B {dtype}" for dtype, size in deployed.items())
        notes.append(
            f"stored wider than deployed (as after quantisation-aware training): {stored:,} B as "
            f"stored, {sum(deployed.values()):,} B as deployed ({widths})"
        )
    strict, official = macs.get("strict"), macs.get("nessi")
    if strict is not None and official is not None and official < strict:
        notes.append(f"the official counter reads {official:,} MACs, the true figure is {strict:,}")
    if not inventory.roles_certain:
        notes.append("parameters and buffers are told apart by name: the file does not say")
    return notes


def _some(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
