"""Reader for Keras files: `.h5` and `.hdf5` (whole models and weights) and `.keras` archives.

No Keras, no TensorFlow and no HDF5 library: keras_hdf5.py reads the numbers, keras_graph.py makes
the operator graph of the layer configurations. A Lambda layer is named and never executed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compressor.audit.graph import Graph
from compressor.audit.inventory import Inventory, Role, StoredTensor
from compressor.audit.readers.archive import open_archive
from compressor.audit.readers.filebytes import file_bytes
from compressor.audit.readers.keras_config import Layer, parse_model
from compressor.audit.readers.keras_graph import build_graph
from compressor.audit.readers.keras_hdf5 import Dataset, Hdf5
from compressor.audit.readers.keras_weights import BUFFERS, Weight, read_weights
from compressor.audit.readers.tflite_weights import count_zeros
from compressor.audit.readers.widths import WIDTHS
from compressor.errors import ModelFileError

__all__ = ["read_keras_archive", "read_keras_h5"]

_MAX_CONFIG = 8 << 20
_MAX_WEIGHTS = 4 << 30


def read_keras_h5(file: Path, name: str, size: int) -> Inventory:
    """Reads an HDF5 file as Keras writes it.

    Args:
        file: the file.
        name: what messages call it.
        size: its bytes.

    Raises:
        ModelFileError: broken, hostile, not of Keras, or contradicting itself.
    """
    source = Hdf5(file_bytes(file, name, size), name)
    config = source.root.attributes.get("model_config")
    return _inventory(source, config if isinstance(config, str) else None, name)


def read_keras_archive(file: Path, name: str, size: int) -> Inventory:
    """Reads a `.keras` archive: config.json and model.weights.h5.

    Args:
        file: the file.
        name: what messages call it.
        size: its bytes.

    Raises:
        ModelFileError: as for `read_keras_h5`, or a damaged or hostile archive.
    """
    with open_archive(file, name, size) as archive:
        config = archive.read("config.json", _MAX_CONFIG).decode("utf-8", "replace")
        weights = archive.read("model.weights.h5", _MAX_WEIGHTS)
    return _inventory(Hdf5(memoryview(weights), name), config, name)


def _inventory(source: Hdf5, config: str | None, name: str) -> Inventory:
    weights = read_weights(source, name)
    model = parse_model(_json(config, name), name) if config else None
    network = [weight for weight in weights if not weight.training]
    layers = model.leaves() if model is not None else []
    tensors, owners = _tensors(network, layers, name)
    notes = []
    if training := [weight for weight in weights if weight.training]:
        total = sum(len(weight.dataset.data) for weight in training)
        notes.append(
            f"left out: what training keeps (optimizer, metrics), {len(training)} tensors, "
            f"{total:,} B"
        )
    graph: Graph | None = None
    doubts: dict[str, tuple[str, ...]] = {}
    if model is not None:
        built = build_graph(model, owners, tensors, name)
        graph = built.graph
        doubts |= built.doubts
        notes += built.notes
    return Inventory(name, "keras", tuple(tensors), graph, doubts=doubts, notes=tuple(notes))


def _json(text: str, name: str) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{name}: the model configuration is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelFileError(f"{name}: the model configuration is not a JSON object")
    return config


def _tensors(
    weights: Sequence[Weight], layers: Sequence[Layer], name: str
) -> tuple[list[StoredTensor], dict[str, dict[str, str]]]:
    """Names the tensors after the layers of the configuration, or after their groups.

    Returns:
        The tensors; and for each layer path, local weight name -> tensor name.
    """
    places = _Places(layers)
    tensors: list[StoredTensor] = []
    owners: dict[str, dict[str, str]] = {}
    firsts: dict[int, str] = {}
    taken: set[str] = set()
    used: Counter[str] = Counter()
    counted: dict[str, StoredTensor] = {}
    for weight in weights:
        path, inside = places.of(weight)
        local = "_".join(step.replace(".", "_") for step in (*inside, weight.name))
        base = full = f"{path}.{local}" if path else local
        while full in taken:
            used[base] += 1
            full = f"{base}_{used[base] + 1}"
        taken.add(full)
        owners.setdefault(path, {}).setdefault(local, full)
        first = firsts.setdefault(weight.address, full)
        if first not in counted:
            counted[first] = _stored(full, weight, first, name)
        tensors.append(replace(counted[first], name=full))
    return tensors, owners


class _Places:
    """Finds the layer of a weight, and what stands between the layer and the weight's name."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._names = {layer.names: layer for layer in layers}
        # Keras 3 numbers the groups of a model by class: conv2d, conv2d_1, ... in its own order
        self._groups = {layer.group: layer for layer in layers}
        self._ends = {(layer.names[0], layer.names[-1]): layer for layer in layers}

    def of(self, weight: Weight) -> tuple[str, tuple[str, ...]]:
        for steps, known in ((weight.path, self._names), (weight.group, self._groups)):
            for end in range(len(steps), 0, -1):
                if steps[:end] in known:
                    return known[steps[:end]].path, steps[end:]
        # Keras 2 names a nested model's weights without the models in between
        for at in range(len(weight.path) - 1, 0, -1):
            layer = self._ends.get((weight.path[0], weight.path[at]))
            if layer is not None:
                return layer.path, weight.path[at + 1 :]
        return "/".join(weight.path or weight.group), ()


def _stored(full: str, weight: Weight, first: str, name: str) -> StoredTensor:
    dataset: Dataset = weight.dataset
    if dataset.dtype not in WIDTHS:
        raise ModelFileError(f"{name}: {full[:120]!r} is of a number type that is not read")
    width = WIDTHS[dataset.dtype]
    count = len(dataset.data) // width
    nonzero = count - count_zeros(dataset.data, dataset.dtype, count, dataset.big)
    inside_seed = any("seed_generator" in step for step in weight.group)
    role: Role = "buffer" if weight.name in BUFFERS or inside_seed else "parameter"
    return StoredTensor(
        name=full,
        shape=dataset.shape,
        dtype=dataset.dtype,
        role=role,
        numel=count,
        nonzero=nonzero,
        effective_nonzero=nonzero,
        nbytes=count * width,
        first=first,
    )
