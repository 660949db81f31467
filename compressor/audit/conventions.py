"""How the official counters of the DCASE years count, each as a pure function of an inventory.

Sources: torchinfo 1.8.0 `LayerInfo.calculate_macs` and `ModelStatistics` (behind NeSsi, the counter
of 2022 to 2025), its TFLite mode (tflite-tools, 2022 and 2023), and the model-size scripts of the
2020 and 2021 baselines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from compressor.audit.graph import Graph
from compressor.audit.inventory import Inventory, StoredTensor

__all__ = ["CONVENTIONS", "SizeCount", "is_batchnorm", "nessi_macs", "nessi_params"]
__all__ += ["official_macs", "sizes"]

CONVENTIONS: Mapping[str, str] = {
    "strict": "multiply-accumulates of convolutions, linear layers, matrix products, recurrent "
    "products and attention; every parameter once",
    "nessi": "torchinfo 1.8.0: convolution (weights + bias) x output positions, every other layer "
    "its parameters once; functional operators 0; tied weights twice (a TFLite file: nessi-tflite)",
    "nessi-tflite": "NeSsi on a TFLite file: convolutions, pooling windows, MEAN inputs, ADD "
    "outputs, the last input axis of fully connected layers; size: bytes of all stored operands",
    "keras-2020": "DCASE 2020 Task 1B: non-zero parameters without BatchNorm layers; no MACs",
    "keras-2021": "DCASE 2021 Task 1A: non-zero parameters, BatchNorm with its moving statistics; "
    "no MACs",
}


@dataclass(frozen=True, slots=True)
class SizeCount:
    """Parameters, those not zero, and the bytes of those not zero, as one convention counts.

    `nessi-tflite` counts every stored operand of every operator, shapes and zeros included, and a
    tensor once for each operator that reads it.
    """

    params: int
    nonzero: int
    nonzero_bytes: int


def is_batchnorm(kind: str) -> bool:
    """Tells whether a class name is a batch normalisation."""
    return "BatchNorm" in kind


def _is_mel(kind: str) -> bool:
    """Tells whether a class name is a mel front-end built into the network (kapre)."""
    return "melspectrogram" in kind.lower()


_STATISTICS = (".running_mean", ".running_var", ".moving_mean", ".moving_variance")


def sizes(inventory: Inventory) -> dict[str, SizeCount]:
    """Counts the parameters under every convention (nessi-tflite: as strict on other formats)."""
    kinds = inventory.kinds
    parameters = inventory.parameters
    statistics = [t for t in inventory.buffers if t.name.endswith(_STATISTICS)]
    normalised = {t.module for t in statistics}
    excluded = {
        path for path, kind in kinds.items() if is_batchnorm(kind) or _is_mel(kind)
    } | normalised
    strict = _size(parameters)
    nessi = nessi_params(inventory)
    return {
        "strict": strict,
        "nessi": SizeCount(nessi, strict.nonzero, strict.nonzero_bytes),
        "nessi-tflite": _stored_operands(inventory) if inventory.format == "tflite" else strict,
        "keras-2020": _size([t for t in parameters if t.module not in excluded]),
        "keras-2021": _size([*parameters, *statistics]),
    }


def _stored_operands(inventory: Inventory) -> SizeCount:
    """Operands that no operator writes and that are no input, of the first subgraph."""
    graph = inventory.graph
    if graph is None:
        return SizeCount(0, 0, 0)
    written = {index for op in graph.ops for index in op.outputs}
    stored = {t.name: t for t in inventory.tensors}
    read = [
        stored[home]
        for op in graph.ops
        if op.attrs.get("subgraph") == 0
        for index in op.inputs
        if index not in written and isinstance(home := graph.values[index].home, str)
    ]
    return SizeCount(
        params=sum(t.numel for t in read),
        nonzero=sum(t.nonzero for t in read),
        nonzero_bytes=sum(t.nbytes for t in read),
    )


def _size(tensors: list[StoredTensor] | tuple[StoredTensor, ...]) -> SizeCount:
    return SizeCount(
        params=sum(t.numel for t in tensors),
        nonzero=sum(t.effective_nonzero for t in tensors),
        nonzero_bytes=sum(t.effective_nonzero * t.nbytes // t.numel for t in tensors if t.numel),
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


def official_macs(inventory: Inventory) -> dict[str, dict[int, int]]:
    """Counts MACs under every official convention that is defined for the format.

    Returns:
        Convention -> MACs by module index. NeSsi has a mode for each framework: on a TFLite file
        `nessi` is what its TFLite mode reads.
    """
    if inventory.format == "tflite":
        counted = nessi_tflite_macs(inventory)
        return {"nessi": counted, "nessi-tflite": counted}
    if inventory.format == "keras":
        return {"nessi": _nessi_of_keras(inventory)}
    return {"nessi": nessi_macs(inventory)}


def _nessi_of_keras(inventory: Inventory) -> dict[int, int]:
    """Applies the rules of `nessi_macs` to Keras layers, whose channels come last.

    Convolutions: parameters x output positions. Recurrent layers: parameters x steps of all
    sequences. Every other layer: parameters x batch.
    """
    graph = inventory.graph
    if graph is None:
        return {}
    numel = {t.name: t.numel for t in inventory.parameters}
    macs: dict[int, int] = {}
    for op in graph.ops:
        module, out = graph.modules[op.module], graph.values[op.outputs[0]].shape
        size = sum(numel.get(name, 0) for name in {graph.tied.get(n, n) for n in module.parameters})
        given = graph.values[op.inputs[0]].shape if op.inputs else ()
        if "Conv" in module.type and out:
            channel = 1 if op.attrs.get("channels_first") else len(out) - 1
            size *= prod(out[:channel] + out[channel + 1 :])
        elif op.name in {"keras.LSTM", "keras.GRU", "keras.SimpleRNN"}:
            size *= prod(given[:2])
        else:
            size *= _first(out)
        if size:
            macs[op.module] = macs.get(op.module, 0) + size
    return macs


def nessi_tflite_macs(inventory: Inventory) -> dict[int, int]:
    """Counts MACs as NeSsi's TFLite mode (tflite-tools) does, by module index.

    Only the first subgraph, and only these: CONV_2D and DEPTHWISE_CONV_2D (weights x output
    positions), pooling (window x outputs), MEAN (inputs), ADD (outputs), FULLY_CONNECTED (outputs x
    *last* axis of the input: where the input is not flat before, that is too few).
    """
    graph = inventory.graph
    macs: dict[int, int] = {}
    for op in graph.ops if graph is not None else ():
        if graph is None or op.attrs.get("subgraph") != 0 or not op.outputs or not op.inputs:
            continue
        inputs, out = graph.shapes(op.inputs), graph.values[op.outputs[0]].shape
        name = op.name.removeprefix("tflite.")
        count = 0
        if name in {"CONV_2D", "DEPTHWISE_CONV_2D"}:
            count = prod(out[:-1]) * prod(inputs[1])
        elif name in {"AVERAGE_POOL_2D", "MAX_POOL_2D"}:
            count = prod(out) * prod(op.attrs.get("filter", ()))
        elif name == "MEAN":
            count = prod(inputs[0])
        elif name == "ADD":
            count = prod(out)
        elif name == "FULLY_CONNECTED":
            count = prod(out) * prod(inputs[0][-1:])
        if count:
            macs[op.module] = macs.get(op.module, 0) + count
    return macs


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
