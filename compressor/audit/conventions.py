"""How the official counters of the DCASE years count, each as a pure function of an inventory.

Sources: torchinfo 1.8.0 `LayerInfo.calculate_macs` and `ModelStatistics` (behind NeSsi, the counter
of 2022 to 2025), and the model-size scripts of the 2020 and 2021 baselines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from compressor.audit.graph import Graph
from compressor.audit.inventory import Inventory, StoredTensor

__all__ = ["CONVENTIONS", "SizeCount", "is_batchnorm", "nessi_macs", "nessi_params", "sizes"]

CONVENTIONS: Mapping[str, str] = {
    "strict": "multiply-accumulates of convolutions, linear layers, matrix products, recurrent "
    "products and attention; every parameter once",
    "nessi": "torchinfo 1.8.0: convolution (weights + bias) x output positions, every other layer "
    "its parameters once; functional operators 0; tied weights twice",
    "keras-2020": "DCASE 2020 Task 1B: non-zero parameters without BatchNorm layers; no MACs",
    "keras-2021": "DCASE 2021 Task 1A: non-zero parameters, BatchNorm with its moving statistics; "
    "no MACs",
}


@dataclass(frozen=True, slots=True)
class SizeCount:
    """Parameters, those not zero, and the bytes of those not zero, as one convention counts."""

    params: int
    nonzero: int
    nonzero_bytes: int


def is_batchnorm(kind: str) -> bool:
    """Tells whether a class name is a batch normalisation."""
    return "BatchNorm" in kind


def sizes(inventory: Inventory) -> dict[str, SizeCount]:
    """Counts the parameters under every convention."""
    kinds = inventory.kinds
    parameters = inventory.parameters
    statistics = [
        t
        for t in inventory.buffers
        if is_batchnorm(kinds.get(t.module, ""))
        and t.name.endswith((".running_mean", ".running_var"))
    ]
    strict = _size(parameters)
    nessi = nessi_params(inventory)
    return {
        "strict": strict,
        "nessi": SizeCount(nessi, strict.nonzero, strict.nonzero_bytes),
        "keras-2020": _size([t for t in parameters if not is_batchnorm(kinds.get(t.module, ""))]),
        "keras-2021": _size([*parameters, *statistics]),
    }


def _size(tensors: list[StoredTensor] | tuple[StoredTensor, ...]) -> SizeCount:
    return SizeCount(
        params=sum(t.numel for t in tensors),
        nonzero=sum(t.effective_nonzero for t in tensors),
        nonzero_bytes=sum(t.effective_nonzero * (t.nbytes // t.numel) for t in tensors if t.numel),
    )


def _torchinfo_numel(inventory: Inventory) -> dict[str, int]:
    """Elements by name as torchinfo takes them: `x_orig` counts the ones of `x_mask`."""
    by_name = {t.name: t for t in inventory.tensors}
    numel: dict[str, int] = {}
    for t in by_name.values():
        mask = by_name.get(t.name.removesuffix("_orig") + "_mask")
        masked = t.name.endswith("_orig") and mask is not None
        numel[t.name] = mask.nonzero if masked and mask is not None else t.numel
    return numel


def nessi_macs(inventory: Inventory) -> dict[int, int]:
    """Counts MACs as torchinfo 1.8.0 `total_mult_adds` does, by module index.

    Only modules without children that are called count, each call anew. Of their own parameters
    `weight` and `bias` count: (weight + bias) x output positions (all axes but the channel) where
    the class name contains "Conv", batch x parameters otherwise; further names with "weight" or
    "bias" in them (recurrent layers) times the first two output sizes.
    """
    graph = inventory.graph
    if graph is None:
        return {}
    numel = _torchinfo_numel(inventory)
    macs: dict[int, int] = {}
    for index, shape in graph.calls:
        module = graph.modules[index]
        if not module.leaf:
            continue
        count = 0
        own = {graph.tied.get(name, name): name for name in reversed(module.parameters)}
        for name in own.values():
            local, size = name.rpartition(".")[2].removesuffix("_orig"), numel.get(name, 0)
            if local in {"weight", "bias"}:
                conv = "Conv" in module.type
                count += size * (prod(shape[:1] + shape[2:]) if conv else _first(shape))
            elif "weight" in local or "bias" in local:
                count += size * prod(shape[:2])
        if count:
            macs[index] = macs.get(index, 0) + count
    return macs


def _first(shape: tuple[int, ...]) -> int:
    return shape[0] if shape else 1


def nessi_params(inventory: Inventory) -> int:
    """Counts parameters as torchinfo 1.8.0 `total_params` does.

    Each called layer without children counts its parameters; what a module holds beyond that is
    added as the remainder, never negative. So a tensor tied between two layers counts twice, and a
    layer that is never called counts once, in the remainder.
    """
    numel = _torchinfo_numel(inventory)
    graph = inventory.graph
    if graph is None:
        return sum(numel[t.name] for t in inventory.parameters)
    return _nessi_tree(graph, numel)


def _nessi_tree(graph: Graph, numel: Mapping[str, int]) -> int:
    called = {index for index, _ in graph.calls}
    top = sum(numel.get(name, 0) for name in graph.parameters if name not in graph.tied)
    inside = 0
    for index, module in enumerate(graph.modules):
        if index not in called or not module.leaf:
            continue
        own = {graph.tied.get(name, name): numel.get(name, 0) for name in module.parameters}
        inside += sum(own.values())
    return inside + max(top - inside, 0)
