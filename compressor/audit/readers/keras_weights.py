"""Which stored numbers of a Keras file belong to which layer, under which name.

Three layouts: `.h5` of Keras 1 and 2 (and of Keras 3 for compatibility), where attributes list the
layers and the names of their weights; `.weights.h5` of Keras 3 (also inside `.keras`), where the
weights of a layer are numbered; and any other HDF5 file, whose datasets go by their paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compressor.audit.readers.keras_hdf5 import Dataset, Hdf5, Node
from compressor.errors import ModelFileError

__all__ = ["BUFFERS", "Weight", "read_weights"]

# Numbers that training updates otherwise than by gradients, or that only steer randomness.
BUFFERS = frozenset(
    {"moving_mean", "moving_variance", "seed_generator_state", "mean", "variance", "count"}
)
# Groups of what training keeps beside the network.
_TRAINING = frozenset(
    {"optimizer_weights", "optimizer", "metrics", "_metrics", "loss_tracker", "compile_metrics"}
)


@dataclass(frozen=True, slots=True)
class Weight:
    """One stored weight.

    Attributes:
        path: layer, and what stands inside it ("bidirectional", "forward_lstm", "lstm_cell"); empty
            where the file numbers its layers and does not name them.
        group: the same as the file's own groups have it (without "layers").
        name: "kernel"; dataset: its numbers; address: its identity in the file.
        training: whether it belongs to the optimizer or a metric, not to the network.
    """

    path: tuple[str, ...]
    group: tuple[str, ...]
    name: str
    dataset: Dataset
    address: int
    training: bool = False


def read_weights(source: Hdf5, name: str) -> list[Weight]:
    """Finds all weights.

    Args:
        source: the opened file.
        name: what messages call it.

    Raises:
        ModelFileError: no weights, or an attribute that names a weight which is not there.
    """
    root = source.root
    holder = source.child(root, "model_weights") or root
    if "layer_names" in _texts(holder):
        found = list(_legacy(source, holder, name))
    elif any(path[-1] == "vars" for path, _ in source.walk(root)):
        found = list(_numbered(source))
    else:
        found = list(_plain(source))
    optimizer = source.child(root, "optimizer_weights")
    if optimizer is not None:
        found += [
            Weight(path[:-1], path[:-1], path[-1], node.dataset, node.address, True)
            for path, node in source.walk(optimizer, ("optimizer_weights",))
            if node.dataset is not None
        ]
    if not any(not weight.training for weight in found):
        raise ModelFileError(f"{name}: an HDF5 file without the weights of a Keras model")
    return found


def _texts(node: Node) -> dict[str, list[str]]:
    """Lists among the attributes; a long list is cut into name0, name1, ..."""
    lists = {key: value for key, value in node.attributes.items() if isinstance(value, list)}
    for base in ("layer_names", "weight_names"):
        if base not in lists and f"{base}0" in lists:
            merged: list[str] = []
            part = 0
            while f"{base}{part}" in lists:
                merged += lists[f"{base}{part}"]
                part += 1
            lists[base] = merged
    return lists


def _legacy(source: Hdf5, holder: Node, name: str) -> Iterator[Weight]:
    layers = [*_texts(holder)["layer_names"], "top_level_model_weights"]
    for layer in dict.fromkeys(layers):
        group = source.child(holder, layer)
        if group is None:
            if layer == "top_level_model_weights":
                continue
            raise ModelFileError(f"{name}: the layer {layer[:80]!r} is listed but not stored")
        for full in dict.fromkeys(_texts(group).get("weight_names", [])):
            node = source.child(group, *full.split("/"))
            if node is None or node.dataset is None:
                raise ModelFileError(
                    f"{name}: the weight {full[:80]!r} of layer {layer[:80]!r} is listed but not "
                    "stored"
                )
            *before, last = full.split("/")
            last = last.partition(":")[0]  # "kernel:0": the number of the tensor's output
            inside = before[before.index(layer) + 1 :] if layer in before else before
            path = (layer, *inside)
            yield Weight(path, path, last, node.dataset, node.address)


def _numbered(source: Hdf5) -> Iterator[Weight]:
    """Groups called "vars" hold a layer's weights by number; their name is the layer's, if given.

    The same objects may be linked a second time under "_layer_checkpoint_dependencies".
    """
    named: dict[tuple[str, ...], str] = {}
    groups: list[tuple[tuple[str, ...], Node]] = []
    for path, node in source.walk(source.root):
        if path[-1] == "vars" and node.dataset is None:
            label = node.attributes.get("name")
            if isinstance(label, str) and label.isprintable() and 0 < len(label) <= 512:
                named[path[:-1]] = label
            if "_layer_checkpoint_dependencies" not in path:
                groups.append((path[:-1], node))
    for path, node in groups:
        members = {
            key: child
            for key, address in node.links.items()
            if (child := source.node(address)).dataset is not None
        }
        keys = sorted(members, key=lambda key: (len(key), key))
        datasets = [d for key in keys if (d := members[key].dataset) is not None]
        shown = tuple(
            named.get(path[: i + 1], step) for i, step in enumerate(path) if step != "layers"
        )
        group = tuple(step for step in path if step != "layers")
        names = _names(path[-1] if path else "", datasets)
        for key, label, dataset in zip(keys, names, datasets, strict=True):
            # numbers are what Keras writes; a name stands for itself
            local = label if key.isdigit() else key
            training = bool(group) and group[0] in _TRAINING
            path_named = shown if named else ()
            yield Weight(path_named, group, local, dataset, members[key].address, training)


def _plain(source: Hdf5) -> Iterator[Weight]:
    for path, node in source.walk(source.root):
        if node.dataset is not None:
            training = path[0] in _TRAINING
            local = path[-1].partition(":")[0]
            yield Weight(path[:-1], path[:-1], local, node.dataset, node.address, training)


def _names(group: str, datasets: Sequence[Dataset]) -> list[str]:
    """Names numbered weights by what kind of layer the group is called after ("conv2d_3")."""
    count = len(datasets)
    kind = group.rstrip("0123456789").rstrip("_") if "_" in group else group
    if kind.startswith("batch_normalization") and count >= 2:
        affine = {2: [], 3: ["beta"], 4: ["gamma", "beta"]}.get(count, _numbers(count - 2))
        return [*affine, "moving_mean", "moving_variance"]
    if kind.startswith("seed_generator"):
        return ["seed_generator_state"] * count
    if kind == "normalization":
        return ["mean", "variance", "count"][:count] if count <= 3 else _numbers(count)
    if kind.startswith(("layer_normalization", "group_normalization")):
        return ["gamma", "beta"][:count] if count <= 2 else _numbers(count)
    if kind.startswith("separable_conv") and count >= 2:
        return ["depthwise_kernel", "pointwise_kernel", "bias"][:count]
    if kind.startswith("embedding") and count == 1:
        return ["embeddings"]
    if kind.startswith("p_re_lu") and count == 1:
        return ["alpha"]
    if count >= 2 and kind in {"cell", "lstm", "gru", "simple_rnn"}:
        return ["kernel", "recurrent_kernel", "bias"][:count]
    if count <= 2 and datasets and len(datasets[0].shape) >= 2:
        return ["kernel", "bias"][:count]
    return _numbers(count)


def _numbers(count: int) -> list[str]:
    return [f"weight{i}" for i in range(count)]
