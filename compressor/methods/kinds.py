"""How the tensors of each layer kind depend on its channels: the only file that knows shapes.

A layer has an "out" and an "in" axis of channels; layers that hand every channel through (norms,
PReLU, the index-preserving ECA) have one axis for both, called "both". Everything the surgery does
to a layer goes through three functions: `slice_layer`, `zero_outputs` and `count_params`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from compressor.errors import PruneError

__all__ = [
    "IndexPreserving",
    "Side",
    "Widths",
    "count_params",
    "filters",
    "is_batchnorm",
    "is_index_preserving",
    "is_supported",
    "passes_through",
    "slice_layer",
    "widths",
    "zero_outputs",
]

Side = Literal["out", "in", "both"]


@runtime_checkable
class IndexPreserving(Protocol):
    """A channel attention that remembers the places its channels had before pruning (ECA).

    Attributes:
        channels: width now.
        full_channels: width before any pruning.
        kept: (channels,) int64, the place of each present channel in the full width.
    """

    channels: int
    full_channels: int
    kept: Tensor

    def set_kept(self, kept: Tensor) -> None:
        """Keep only these places of the full width (1-D int64, ascending), in place."""


@dataclass(frozen=True)
class Widths:
    """Channels of a layer: `out` and `in_`, in `groups` convolution groups."""

    out: int
    in_: int
    groups: int = 1

    @property
    def out_per_group(self) -> int:
        """Output channels of one convolution group."""
        return self.out // self.groups

    @property
    def in_per_group(self) -> int:
        """Input channels of one convolution group."""
        return self.in_ // self.groups

    @property
    def loses_whole_groups(self) -> bool:
        """True where channels leave with their whole convolution group (depthwise and its kin)."""
        return self.groups > 1 and 1 in (self.out_per_group, self.in_per_group)


def is_batchnorm(layer: object) -> TypeGuard[_BatchNorm]:
    """True for BatchNorm layers that have a scale."""
    return isinstance(layer, _BatchNorm) and layer.weight is not None


def is_index_preserving(layer: object) -> TypeGuard[IndexPreserving]:
    """True for modules that follow the `IndexPreserving` protocol (zoo.layers.ECA)."""
    return isinstance(layer, nn.Module) and isinstance(layer, IndexPreserving)


def passes_through(layer: nn.Module) -> bool:
    """True where output channel i is made of input channel i alone, so that both are one axis."""
    return isinstance(layer, (_NormBase, nn.PReLU)) or is_index_preserving(layer)


def is_supported(layer: object) -> bool:
    """True for layer kinds that `slice_layer` can cut."""
    return isinstance(layer, (_ConvNd, nn.Linear, _NormBase, nn.PReLU)) or is_index_preserving(
        layer
    )


def widths(layer: nn.Module) -> Widths:
    """Channels of `layer`; raises PruneError for kinds that cannot be cut."""
    if isinstance(layer, _ConvNd):
        return Widths(layer.out_channels, layer.in_channels, layer.groups)
    if isinstance(layer, nn.Linear):
        return Widths(layer.out_features, layer.in_features)
    if isinstance(layer, _NormBase):
        return Widths(layer.num_features, layer.num_features)
    if isinstance(layer, nn.PReLU):
        return Widths(layer.num_parameters, layer.num_parameters)
    if is_index_preserving(layer):
        return Widths(layer.channels, layer.channels)
    raise PruneError(f"a {type(layer).__name__} has no channels that can be cut")


def count_params(layer: nn.Module, out: int, in_: int) -> int:
    """Parameters `layer` would have with `out` and `in_` channels left."""
    if isinstance(layer, _ConvNd):
        now = widths(layer)
        kernel = layer.weight.numel() * now.groups // (now.out * now.in_)
        per_group = now.in_per_group if now.loses_whole_groups else in_ // now.groups
        return out * per_group * kernel + (0 if layer.bias is None else out)
    if isinstance(layer, nn.Linear):
        return out * in_ + (0 if layer.bias is None else out)
    if isinstance(layer, (_NormBase, nn.PReLU)):
        return out * sum(1 for _ in layer.parameters(recurse=False))
    if isinstance(layer, nn.Module):  # ECA: its kernel does not depend on the width
        return sum(p.numel() for p in layer.parameters())
    raise PruneError(f"a {type(layer).__name__} has no channels that can be cut")


def filters(layer: nn.Module, weight: Tensor | None = None) -> Tensor:
    """Weights of a convolution or linear layer, one row for each output channel, in double.

    Args:
        layer: the layer.
        weight: a tensor shaped as its weight (its gradient, ...); None takes the weight itself.

    Returns:
        (out, numbers a filter) float64, without a graph.
    """
    if not isinstance(layer, (_ConvNd, nn.Linear)):
        raise PruneError(f"a {type(layer).__name__} has no filters")
    rows = (layer.weight if weight is None else weight).detach().double()
    if isinstance(layer, _ConvNd) and layer.transposed:  # (in, out / groups, ...)
        now = widths(layer)
        split = rows.reshape(now.groups, now.in_per_group, now.out_per_group, -1)
        return split.transpose(1, 2).reshape(now.out, -1)
    return rows.reshape(rows.shape[0], -1)


def _take(tensor: Tensor, dim: int, keep: Sequence[int]) -> Tensor:
    index = torch.tensor(list(keep), dtype=torch.int64, device=tensor.device)
    return tensor.detach().index_select(dim, index).contiguous()


def _set_parameter(layer: nn.Module, name: str, value: Tensor) -> None:
    old = layer.get_parameter(name)
    setattr(layer, name, nn.Parameter(value, requires_grad=old.requires_grad))


def _slice_conv(layer: _ConvNd, out: Sequence[int], in_: Sequence[int]) -> None:
    now = widths(layer)
    blocks: list[Tensor] = []
    sizes: set[tuple[int, int]] = set()
    # A transposed convolution stores (in, out / groups); work on (out, in / groups) throughout.
    for g in range(now.groups):
        rows = [o for o in out if o // now.out_per_group == g]
        columns = [i % now.in_per_group for i in in_ if i // now.in_per_group == g]
        if not rows and not columns:
            continue
        sizes.add((len(rows), len(columns)))
        if layer.transposed:
            outs = [o % now.out_per_group for o in rows]
            ins = [g * now.in_per_group + i for i in columns]
            blocks.append(_take(_take(layer.weight, 0, ins), 1, outs))
        else:
            blocks.append(_take(_take(layer.weight, 0, rows), 1, columns))
    if len(sizes) != 1 or 0 in next(iter(sizes)):
        raise PruneError(
            f"a convolution with {now.groups} groups would be left with groups of unequal size "
            f"{sorted(sizes)} (outputs, inputs); the same number must leave every group"
        )
    _set_parameter(layer, "weight", torch.cat(blocks, dim=0))
    if layer.bias is not None:
        _set_parameter(layer, "bias", _take(layer.bias, 0, out))
    layer.out_channels, layer.in_channels, layer.groups = len(out), len(in_), len(blocks)


def slice_layer(layer: nn.Module, out: Sequence[int], in_: Sequence[int]) -> None:
    """Cut `layer` in place to the output channels `out` and input channels `in_` (sorted indices).

    Layers that hand channels through use `out` and ignore `in_`. Raises PruneError where the cut
    would leave convolution groups of unequal size.
    """
    if isinstance(layer, _ConvNd):
        _slice_conv(layer, out, in_)
    elif isinstance(layer, nn.Linear):
        _set_parameter(layer, "weight", _take(_take(layer.weight, 0, out), 1, in_))
        if layer.bias is not None:
            _set_parameter(layer, "bias", _take(layer.bias, 0, out))
        layer.out_features, layer.in_features = len(out), len(in_)
    elif isinstance(layer, _NormBase):
        for name in ("weight", "bias"):
            if getattr(layer, name) is not None:
                _set_parameter(layer, name, _take(getattr(layer, name), 0, out))
        for name in ("running_mean", "running_var"):
            if getattr(layer, name) is not None:
                setattr(layer, name, _take(getattr(layer, name), 0, out))
        layer.num_features = len(out)
    elif isinstance(layer, nn.PReLU):
        _set_parameter(layer, "weight", _take(layer.weight, 0, out))
        layer.num_parameters = len(out)
    elif is_index_preserving(layer):
        layer.set_kept(_take(layer.kept, 0, out))
    else:
        raise PruneError(f"a {type(layer).__name__} has no channels that can be cut")


def zero_outputs(layer: nn.Module, removed: Sequence[int]) -> None:
    """Silence the output channels `removed` of `layer` in place: weights, scale and bias zero.

    PReLU and ECA map zero to zero and are left alone; so is a norm without a scale, whose output
    for a silent input is its affair (the surgery's comparison finds out).
    """
    index = list(removed)
    with torch.no_grad():
        if isinstance(layer, _ConvNd) and layer.transposed:
            per_group = widths(layer).out_per_group
            per_in = widths(layer).in_per_group
            for o in index:
                g = o // per_group
                layer.weight[g * per_in : (g + 1) * per_in, o % per_group] = 0
        elif isinstance(layer, (_ConvNd, nn.Linear)) or (
            isinstance(layer, _NormBase) and layer.weight is not None
        ):
            layer.weight[index] = 0
        if isinstance(layer, (_ConvNd, nn.Linear, _NormBase)) and layer.bias is not None:
            layer.bias[index] = 0
