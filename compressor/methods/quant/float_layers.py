"""Layers that have no integer form but can stand in float32 among integer ones: `keep_float`.

Each is written as the one or two ONNX operators that compute the same. A layer that stands neither
here nor in `onnx_operators` cannot be in a quantised network at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import nn
from torch.fx import Node

if TYPE_CHECKING:
    from compressor.methods.quant.onnx_writer import Writer

__all__ = ["write_float_layer", "written_in_float"]

Handler = Callable[["Writer", Node, Any], str]


def written_in_float(layer: nn.Module) -> bool:
    """Whether a layer without an integer form can be kept in float32."""
    return type(layer) in _LAYERS and _LAYERS[type(layer)][1](layer)


def write_float_layer(writer: Writer, node: Node) -> str:
    """Writes the float32 form of a layer for which `written_in_float` is true."""
    layer = writer.graph.layer(node)
    return _LAYERS[type(layer)][0](writer, node, layer)


def _one(kind: str, attributes: Callable[[Any], dict[str, Any]] = lambda layer: {}) -> Handler:
    """A layer that is one operator with numbers for settings."""

    def handler(writer: Writer, node: Node, layer: Any) -> str:
        name = writer.name(node)
        writer.emit(kind, [writer.source(node.args[0])], [name], **attributes(layer))
        return name

    return handler


def _prelu(writer: Writer, node: Node, layer: nn.PReLU) -> str:
    name = writer.name(node)
    rank = len(writer.graph.shape(node))
    slope = layer.weight.detach().cpu().numpy().reshape(-1, *[1] * (rank - 2))
    stored = writer.store(f"{node.target}.weight", slope)
    writer.emit("PRelu", [writer.source(node.args[0]), stored], [name])
    return name


def _relu6(writer: Writer, node: Node, layer: nn.ReLU6) -> str:
    del layer
    name = writer.name(node)
    ends = [
        writer.store(f"{name}.{end}", np.array(x, dtype=np.float32))
        for end, x in (("low", 0), ("high", 6))
    ]
    writer.emit("Clip", [writer.source(node.args[0]), *ends], [name])
    return name


def _group_norm(writer: Writer, node: Node, layer: nn.GroupNorm) -> str:
    name, channels = writer.name(node), layer.num_channels
    given = {"weight": (layer.weight, np.ones), "bias": (layer.bias, np.zeros)}
    stored = [
        writer.store(
            f"{node.target}.{key}",
            fresh(channels, np.float32) if value is None else value.detach().cpu().numpy(),
        )
        for key, (value, fresh) in given.items()
    ]
    settings = {"num_groups": layer.num_groups, "epsilon": float(layer.eps)}
    inputs = [writer.source(node.args[0]), *stored]
    writer.emit("GroupNormalization", inputs, [name], **settings)
    return name


def _always(layer: Any) -> bool:
    del layer
    return True


_LAYERS: dict[type[nn.Module], tuple[Handler, Callable[[Any], bool]]] = {
    nn.GELU: (_one("Gelu", lambda layer: {"approximate": layer.approximate}), _always),
    nn.Softplus: (
        _one("Softplus"),
        lambda layer: layer.beta == 1 and layer.threshold >= 20,  # beyond it softplus is linear
    ),
    nn.ELU: (_one("Elu", lambda layer: {"alpha": float(layer.alpha)}), _always),
    nn.SELU: (_one("Selu"), _always),
    nn.Mish: (_one("Mish"), _always),
    nn.LeakyReLU: (
        _one("LeakyRelu", lambda layer: {"alpha": float(layer.negative_slope)}),
        _always,
    ),
    nn.PReLU: (cast(Handler, _prelu), _always),
    nn.ReLU6: (cast(Handler, _relu6), _always),
    nn.GroupNorm: (cast(Handler, _group_norm), _always),
}
