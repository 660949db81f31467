"""Writes Keras files for tests with h5py, in the layouts of Keras 2 and 3; no Keras is needed."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Weights = Mapping[str, Mapping[str, Any]]  # layer -> weight name -> array


def layer(kind: str, name: str, inputs: Sequence[Any] = (), **config: Any) -> dict[str, Any]:
    """One layer of a functional configuration of Keras 2, called once on these layers."""
    refs = [[item, 0, 0, {}] if isinstance(item, str) else item for item in inputs]
    return {
        "class_name": kind,
        "config": {"name": name, **config},
        "name": name,
        "inbound_nodes": [refs] if refs else [],
    }


def functional(
    layers: Sequence[Mapping[str, Any]], inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, Any]:
    return {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": list(layers),
            "input_layers": [[name, 0, 0] for name in inputs],
            "output_layers": [[name, 0, 0] for name in outputs],
        },
    }


def chain(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A functional model of layers behind each other."""
    for before, after in pairwise(layers):
        after["inbound_nodes"] = [[[before["name"], 0, 0, {}]]]
    return functional(layers, [layers[0]["name"]], [layers[-1]["name"]])


def sequential(layers: Sequence[Mapping[str, Any]], **config: Any) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers), **config}}


def save_h5(
    path: Path, weights: Weights, config: Mapping[str, Any] | None = None, optimizer: int = 0
) -> Path:
    """The `.h5` of Keras 2: a whole model with a configuration, otherwise weights alone."""
    with h5py.File(path, "w") as file:
        group = file
        if config is not None:
            file.attrs["keras_version"] = "2.4.0"
            file.attrs["model_config"] = json.dumps(config).encode()
            group = file.create_group("model_weights")
        group.attrs["backend"] = b"tensorflow"
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            own = group.create_group(name)
            full = [f"{name}/{local}:0".encode() for local in arrays]
            own.attrs["weight_names"] = full
            for local, array in arrays.items():
                own.create_dataset(f"{name}/{local}:0", data=array)
        if optimizer:
            state = file.create_group("optimizer_weights")
            state.create_dataset("Adam/m:0", data=np.ones(optimizer, np.float32))
    return path


def numbered(groups: Mapping[str, Sequence[Any]], names: Mapping[str, str] | None = None) -> bytes:
    """The `.weights.h5` of Keras 3: group -> arrays; `names` puts a layer's name at its group."""
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for group, arrays in groups.items():
            own = file.create_group(f"{group}/vars")
            if names is not None and group in names:
                own.attrs["name"] = names[group]
            for i, array in enumerate(arrays):
                own.create_dataset(str(i), data=array)
    return data.getvalue()


def save_keras(path: Path, config: Mapping[str, Any], weights: bytes) -> Path:
    """The `.keras` archive of Keras 3."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.3.3"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    return path


def ones(*shape: int, dtype: str = "float32") -> Any:
    return np.ones(shape, dtype)


def conv_block(
    name: str, channels: tuple[int, int], window: int
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Convolution, BatchNorm and ReLU as the DCASE baselines have them."""
    given, filters = channels
    layers = [
        layer(
            "Conv2D",
            name,
            filters=filters,
            kernel_size=[window, window],
            strides=[1, 1],
            padding="same",
            data_format="channels_last",
        ),
        layer("BatchNormalization", f"bn_{name}", axis=[3], center=True, scale=True),
        layer("Activation", f"act_{name}", activation="relu"),
    ]
    weights = {
        name: {"kernel": ones(window, window, given, filters), "bias": ones(filters)},
        f"bn_{name}": {
            local: ones(filters) for local in ("gamma", "beta", "moving_mean", "moving_variance")
        },
        f"act_{name}": {},
    }
    return layers, weights


def baseline(
    filters: Sequence[int], pools: Sequence[tuple[int, int] | None], dense: Sequence[int], time: int
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A DCASE baseline on 40 x `time`: 7 x 7 convolutions, pools after some, then Dense layers."""
    layers = [layer("InputLayer", "input_1", batch_input_shape=[None, 40, time, 1])]
    weights: dict[str, dict[str, Any]] = {"input_1": {}}
    size, given = [40, time], 1
    for i, (count, window) in enumerate(zip(filters, pools, strict=True)):
        block, stored = conv_block(f"conv2d_{i}", (given, count), 7)
        layers += block
        weights |= stored
        given = count
        if window:
            layers.append(
                layer(
                    "MaxPooling2D",
                    f"pool_{i}",
                    pool_size=list(window),
                    strides=list(window),
                    padding="valid",
                    data_format="channels_last",
                )
            )
            layers.append(layer("Dropout", f"drop_{i}", rate=0.3))
            size = [n // w for n, w in zip(size, window, strict=True)]
    layers.append(layer("Flatten", "flatten"))
    wide = size[0] * size[1] * given
    for i, units in enumerate(dense):
        layers.append(layer("Dense", f"dense_{i}", units=units, activation="relu"))
        weights[f"dense_{i}"] = {"kernel": ones(wide, units), "bias": ones(units)}
        wide = units
    return chain(layers), weights
