"""Fit a freshly built network to the tensors of a model file: widths, folded layers, integers.

What pruning changed is read off the shapes of the stored tensors. Quantisation leaves further
traces: BatchNorms that were folded are identities, the layers before them have biases, and weights
are integers with scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressor.errors import ArtifactError

__all__ = ["check_names", "check_runs", "dequantized", "fold_layers", "resize"]

# Axes of the tensors of each layer kind that pruning may change: {tensor: axes}.
_PRUNABLE_AXES: tuple[tuple[type[nn.Module], dict[str, tuple[int, ...]]], ...] = (
    (nn.modules.conv._ConvNd, {"weight": (0, 1), "bias": (0,)}),
    (nn.Linear, {"weight": (0, 1), "bias": (0,)}),
    (
        nn.modules.batchnorm._NormBase,
        {"weight": (0,), "bias": (0,), "running_mean": (0,), "running_var": (0,)},
    ),
    (nn.PReLU, {"weight": (0,)}),
)


def _set_widths(layer: nn.Module) -> None:
    """Make the size attributes of a resized layer say what its tensors are."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        rows, columns = layer.weight.shape[:2]
        out_per, in_per = layer.out_channels // layer.groups, layer.in_channels // layer.groups
        # depthwise and its kin lose whole groups, others keep their number of groups
        per_row = in_per if layer.transposed else out_per
        if layer.groups > 1 and 1 in (out_per, in_per):
            layer.groups = rows // per_row
        wide = columns * layer.groups
        layer.out_channels, layer.in_channels = (wide, rows) if layer.transposed else (rows, wide)
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        sized = layer.weight if layer.weight is not None else layer.running_mean
        if sized is not None:
            layer.num_features = sized.numel()
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = layer.weight.numel()


def check_names(arch: str, model: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """Raises ArtifactError where the network and the file do not hold the same tensors."""
    own = model.state_dict().keys()
    for names, problem in (
        ([n for n in stored if n not in own], f"stored, but not in network {arch!r}"),
        ([n for n in own if n not in stored], f"in network {arch!r}, but not stored"),
    ):
        if names:
            raise ArtifactError(
                f"tensor {names[0]!r} and {len(names) - 1} others are {problem}; arch or arch_args "
                "are not those it was made with"
            )


def resize(model: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """Give the layers of `model` the widths of the stored tensors.

    Layers with a `set_kept` method (ECA) take their width over when they are loaded.
    """
    for prefix, layer in model.named_modules():
        allowed = next((axes for kind, axes in _PRUNABLE_AXES if isinstance(layer, kind)), {})
        changed = False
        for name, own in (*layer._parameters.items(), *layer._buffers.items()):
            key = f"{prefix}.{name}" if prefix else name
            tensor = stored.get(key)
            if own is None or tensor is None or own.shape == tensor.shape:
                continue
            if hasattr(layer, "set_kept") and name == "kept":
                continue
            axes = allowed.get(name, ())
            same = own.dim() == tensor.dim() and all(
                tensor.shape[axis] == own.shape[axis] or axis in axes for axis in range(own.dim())
            )
            if not same or tensor.numel() == 0:
                raise ArtifactError(
                    f"tensor {key!r} is stored as {tuple(tensor.shape)}, but the network has "
                    f"{tuple(own.shape)}, which pruning does not explain"
                )
            fresh = torch.empty(tensor.shape, dtype=own.dtype)
            setattr(
                layer,
                name,
                nn.Parameter(fresh, requires_grad=own.requires_grad)
                if isinstance(own, nn.Parameter)
                else fresh,
            )
            changed = True
        if changed:
            _set_widths(layer)


def check_runs(model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Run shapes only (no numbers) through the network: neighbouring layers must fit."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = {name: torch.empty_like(t, device="meta") for name, t in state.items()}
    with torch.no_grad():
        torch.func.functional_call(model, shapes, (torch.empty(1, *input_shape, device="meta"),))


def fold_layers(model: nn.Module, folded: tuple[str, ...], stored: Mapping[str, Tensor]) -> None:
    """Put identities in place of the layers in `folded`, and biases where the file has them.

    Raises:
        ArtifactError: a layer that the network does not have.
    """
    for name in folded:
        parent, _, child = name.rpartition(".")
        try:
            model.get_submodule(name)
        except AttributeError:
            raise ArtifactError(
                f"layer {name!r} is said to be folded, but the network has no such layer"
            ) from None
        setattr(model.get_submodule(parent), child, nn.Identity())
    for name, layer in model.named_modules():
        bias = stored.get(f"{name}.bias")
        takes_one = isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)) and layer.bias is None
        if takes_one and bias is not None:
            layer.bias = nn.Parameter(torch.zeros(bias.shape))


def dequantized(stored: Mapping[str, Tensor], quantization: Mapping[str, Any]) -> dict[str, Tensor]:
    """The stored tensors with integer weights and biases on their grids, in float32.

    Raises:
        ArtifactError: scales that do not fit the integers they belong to.
    """
    floats = dict(stored)
    for table, own in (("weights", "weight"), ("biases", "bias")):
        for layer, entry in quantization.get(table, {}).items():
            name = f"{layer}.{own}"
            integers = stored.get(name)
            scale = torch.tensor(entry["scale"], dtype=torch.float32)
            if integers is None or integers.is_floating_point():
                kind = "not stored" if integers is None else f"stored as {integers.dtype}"
                raise ArtifactError(f"tensor {name!r} has integer scales, but is {kind}")
            if scale.numel() not in (1, integers.shape[0]):
                raise ArtifactError(
                    f"tensor {name!r} has {scale.numel()} scales for {integers.shape[0]} outputs"
                )
            shaped = scale.double().reshape(-1, *[1] * (integers.dim() - 1))
            floats[name] = (integers.double() * shaped).float()
    return floats
