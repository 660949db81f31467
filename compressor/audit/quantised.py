"""Which stored tensors are quantised weights, which scales, and at what width, off the graph."""

from __future__ import annotations

from dataclasses import replace

from compressor.audit.graph import Graph
from compressor.audit.inventory import Inventory, Role

__all__ = ["assign_roles", "float_masters"]

_WHOLE = frozenset({"int8", "uint8", "int16", "uint16", "int32", "int4", "uint4"})
_CONVERSIONS = ("quantized_decomposed.dequantize", "quantized_decomposed.quantize")
_FAKE = ("aten.fake_quantize", "aten.fused_moving_avg_obs_fake_quant", "aten._fused_moving_avg_obs")


def assign_roles(inventory: Inventory) -> Inventory:
    """Returns an inventory with quantised weights as parameters and scales listed apart.

    A program quantised by PT2E keeps int8 weights and their scales in buffers: a weight is what a
    `dequantize` operator reads first, a scale or zero point is what `quantize`, `dequantize` and
    fake quantisers read beside. A parameter that goes through a fake quantiser is the float master
    of a narrower number.
    """
    graph = inventory.graph
    if graph is None:
        return inventory
    roles = _roles(graph)
    roles |= dict.fromkeys(float_masters(graph), "buffer")
    bits = {**_masters(graph), **inventory.deployed_bits}
    tensors = tuple(
        replace(t, role=roles[t.name]) if t.name in roles else t for t in inventory.tensors
    )
    return replace(inventory, tensors=tensors, deployed_bits=bits)


def _roles(graph: Graph) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for op in graph.ops:
        if not op.name.startswith((*_CONVERSIONS, *_FAKE)):
            continue
        for place, index in enumerate(op.inputs):
            value = graph.values[index]
            if not isinstance(value.home, str):
                continue
            if place:
                roles.setdefault(value.home, "scale")
            elif value.dtype in _WHOLE and op.name.startswith(_CONVERSIONS):
                roles[value.home] = "parameter"
    return roles


def float_masters(graph: Graph) -> dict[str, str]:
    """Finds float parameters that quantisation left behind: name -> the whole-number weight.

    PT2E puts an int8 weight beside the float one it was made of; nothing reads the latter any more.
    """
    read = graph.read_homes()
    found: dict[str, str] = {}
    weights = [
        (name, {**graph.buffers, **graph.constants}[name][0])
        for name, role in _roles(graph).items()
        if role == "parameter" and name not in graph.parameters and name not in graph.packed
    ]
    for weight, shape in weights:
        for name, (own, dtype) in graph.parameters.items():
            if own == shape and "float" in dtype and name not in read and name not in found:
                found[name] = weight
                break
    return found


def _masters(graph: Graph) -> dict[str, int]:
    """Parameters that a fake quantiser reads, and the bits of its range of whole numbers."""
    found: dict[str, int] = {}
    for op in graph.ops:
        if not op.name.startswith(_FAKE) or not op.inputs:
            continue
        home = graph.values[op.inputs[0]].home
        low, high = op.attrs.get("quant_min"), op.attrs.get("quant_max")
        if type(low) is not int or type(high) is not int or high <= low:
            continue
        if isinstance(home, str) and home in graph.parameters:
            found[home] = min((high - low).bit_length(), 64)
    return found
