"""Removing channels: a plan, the sliced network, the masked network, and proof that they agree.

A plan lists, for every layer that changes, which input and output channels stay. `slice_channels`
cuts the layers; `mask_channels` keeps the size and silences the channels instead. The two must give
equal outputs, and `slice_channels` checks that before it returns: a network where channel removal
is not exact (an activation that is not zero at zero, channels addressed by constant numbers, a
reshape over channels) is refused with the name of the layer, never cut wrongly.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressor.errors import PruneError
from compressor.methods.batchnorm import reestimate
from compressor.methods.grouping import ChannelGroup, Span, bare_copy, channel_groups
from compressor.methods.kinds import count_params, is_batchnorm, slice_layer, widths, zero_outputs

__all__ = [
    "ChannelGroup",
    "Channels",
    "PrunePlan",
    "Span",
    "channel_groups",
    "check_finite",
    "count_planned",
    "cut",
    "mask_channels",
    "plan_removal",
    "slice_channels",
]

# Largest difference allowed between sliced and masked, relative to the largest output, by dtype of
# the comparison: far above rounding (about 1e-14 and 1e-6), far below what a wrong channel makes.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@dataclass(frozen=True)
class Channels:
    """Channels of one axis of a layer: `kept` of `total`, ascending."""

    layer: str
    kept: tuple[int, ...]
    total: int

    @property
    def removed(self) -> tuple[int, ...]:
        """The channels that are not kept."""
        kept = set(self.kept)
        return tuple(i for i in range(self.total) if i not in kept)


@dataclass(frozen=True)
class PrunePlan:
    """What is kept of every layer that changes.

    Attributes:
        outputs: output channels of convolutions and linear layers, channels of norms, PReLU, ECA.
        inputs: input channels of convolutions and linear layers.
        groups: for each group that changes, its first layer and (units kept, units before).
    """

    outputs: tuple[Channels, ...] = ()
    inputs: tuple[Channels, ...] = ()
    groups: tuple[tuple[str, int, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain Python, for JSON."""

        def axis(channels: tuple[Channels, ...]) -> dict[str, dict[str, Any]]:
            return {c.layer: {"kept": list(c.kept), "total": c.total} for c in channels}

        return {
            "outputs": axis(self.outputs),
            "inputs": axis(self.inputs),
            "groups": [list(g) for g in self.groups],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> PrunePlan:
        """The inverse of `to_dict`."""

        def axis(channels: Mapping[str, Mapping[str, Any]]) -> tuple[Channels, ...]:
            return tuple(
                Channels(layer, tuple(c["kept"]), c["total"]) for layer, c in channels.items()
            )

        return cls(
            axis(record["outputs"]),
            axis(record["inputs"]),
            tuple((str(n), int(k), int(t)) for n, k, t in record["groups"]),
        )


def plan_removal(
    model: nn.Module, groups: Sequence[ChannelGroup], removed: Mapping[int, Sequence[int]]
) -> PrunePlan:
    """The plan that takes the units `removed` (group index -> unit numbers) out of `model`.

    Raises:
        PruneError: a unit that does not exist, or a layer that would be left without channels.
    """
    gone: dict[tuple[str, str], set[int]] = defaultdict(set)
    by_index = {group.index: group for group in groups}
    changed: list[tuple[str, int, int]] = []
    for index, units in removed.items():
        group = by_index.get(index)
        if group is None or not all(0 <= u < group.size for u in units):
            raise PruneError(f"group {index} has no units {sorted(units)}; there are {len(groups)}")
        if units:
            changed.append((group.name, group.size - len(set(units)), group.size))
        for span in group.layers:
            for unit in units:
                gone[span.layer, span.side].update(span.positions[unit])
    axes: dict[str, list[Channels]] = {"out": [], "in": []}
    for name, layer in model.named_modules():
        for side in ("out", "in", "both"):
            if not gone.get((name, side)):
                continue
            total = widths(layer).in_ if side == "in" else widths(layer).out
            kept = tuple(i for i in range(total) if i not in gone[name, side])
            if not kept:
                raise PruneError(f"all {total} channels of layer {name!r} would be removed")
            axes["in" if side == "in" else "out"].append(Channels(name, kept, total))
    return PrunePlan(tuple(axes["out"]), tuple(axes["in"]), tuple(changed))


def _targets(model: nn.Module, plan: PrunePlan) -> list[tuple[str, nn.Module, Any, Any]]:
    """Every layer of the plan with the output and input channels that it keeps."""
    outputs = {c.layer: c for c in plan.outputs}
    inputs = {c.layer: c for c in plan.inputs}
    found = []
    for name in dict.fromkeys([*outputs, *inputs]):
        try:
            layer = model.get_submodule(name)
        except AttributeError as error:
            raise PruneError(f"the plan names layer {name!r}, which the network lacks") from error
        now = widths(layer)
        for channels, width in ((outputs.get(name), now.out), (inputs.get(name), now.in_)):
            if channels is not None and channels.total != width:
                raise PruneError(
                    f"the plan was made for {channels.total} channels of layer {name!r}, found "
                    f"{width}; make a new plan for this network"
                )
        out = outputs[name].kept if name in outputs else tuple(range(now.out))
        in_ = inputs[name].kept if name in inputs else tuple(range(now.in_))
        found.append((name, layer, out, in_))
    return found


def count_planned(model: nn.Module, plan: PrunePlan) -> int:
    """Parameters that `model` has after `plan`, without making it."""
    total = sum(p.numel() for p in model.parameters())
    for _, layer, out, in_ in _targets(model, plan):
        total -= sum(p.numel() for p in layer.parameters())
        total += count_params(layer, len(out), len(in_))
    return total


def cut(model: nn.Module, plan: PrunePlan) -> nn.Module:
    """The sliced network without any proof that it is the same: for counting; see `slice_channels`.

    Raises:
        PruneError: the plan does not fit the network.
    """
    small = bare_copy(model)
    for name, layer, out, in_ in _targets(small, plan):
        try:
            slice_layer(layer, out, in_)
        except PruneError as error:
            raise PruneError(f"layer {name!r}: {error}") from error
    return small


def mask_channels(model: nn.Module, example: Tensor, plan: PrunePlan) -> nn.Module:
    """A copy of `model` of the same size in which the channels that `plan` removes are silent.

    Scales, shifts, biases and weight rows that make removed channels are zero. `example` is not
    used; it is an argument so that masking and slicing are called alike.
    """
    del example
    masked = bare_copy(model)
    for channels in plan.outputs:
        zero_outputs(masked.get_submodule(channels.layer), channels.removed)
    return masked


def _stirred(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy in which hardly any channel is silent, so that a wrong one shows in the output.

    BatchNorm statistics are those of random inputs, scales and shifts are random.
    """
    twin = bare_copy(model).eval()
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn((2, *example.shape[1:]), generator=generator).to(example)
    with contextlib.suppress(PruneError):  # one value a channel has no variance: keep the old ones
        reestimate(twin, [probe])
    with torch.no_grad():
        for layer in twin.modules():
            if is_batchnorm(layer):
                size = layer.weight.shape
                layer.weight.copy_(torch.rand(size, generator=generator) + 0.5)
                layer.bias.copy_(torch.randn(size, generator=generator) * 0.5)
    return twin


def _difference(model: nn.Module, plan: PrunePlan, example: Tensor) -> float:
    """Largest output difference between masked and sliced, relative to the largest output.

    Raises whatever the sliced network raises when it does not run.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((1, *example.shape[1:]), generator=generator, dtype=torch.float64)
    x = x.to(device=example.device, dtype=example.dtype)
    with torch.no_grad():
        expected = mask_channels(model, x, plan)(x)
        found = cut(model, plan)(x)
    if found.shape != expected.shape:
        raise PruneError(f"output {tuple(found.shape)} instead of {tuple(expected.shape)}")
    scale = expected.abs().max().item()
    error = float((found - expected).abs().max().item() / (scale or 1.0))
    return float("inf") if math.isnan(error) else error


def _agrees(model: nn.Module, plan: PrunePlan, example: Tensor) -> str:
    """Empty if sliced equals masked, otherwise what is wrong."""
    twin = _stirred(model, example)
    wrong = ""
    # Double precision leaves nothing to rounding. Networks that make float32 constants of their
    # own, and devices without doubles, fail in it and are compared in their own precision.
    for dtype in (torch.float64, example.dtype):
        try:
            error = _difference(bare_copy(twin).to(dtype), plan, example.to(dtype))
        except Exception as problem:
            wrong = f"the sliced network does not run ({type(problem).__name__}: {problem})"
            continue
        if error <= TOLERANCE.get(dtype, 1e-2):
            return ""
        return f"sliced and masked outputs differ by {error:.2g} (relative)"
    return wrong


def _guilty(
    model: nn.Module, example: Tensor, groups: Sequence[ChannelGroup], plan: PrunePlan
) -> str:
    """Name of the first group that cannot lose even one unit exactly."""
    names = {name for name, _, _ in plan.groups}
    for group in groups:
        if group.name not in names or group.size < 2:
            continue
        for unit in (0, group.size - 1):
            if _agrees(model, plan_removal(model, groups, {group.index: [unit]}), example):
                return group.name
    return ", ".join(sorted(names)[:3])


def check_finite(model: nn.Module) -> None:
    """Refuse a network with NaN or infinite weights; the message names the tensor.

    Raises:
        PruneError: a parameter or buffer is not finite.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise PruneError(f"{name!r} holds values that are not finite; train the network again")


def slice_channels(
    model: nn.Module,
    example: Tensor,
    plan: PrunePlan,
    *,
    groups: Sequence[ChannelGroup] = (),
) -> nn.Module:
    """A new, smaller network without the channels that `plan` removes.

    Args:
        model: network; left as it is.
        example: an input (N, ...) that it takes, used for the check on random numbers.
        plan: what stays.
        groups: the groups that the plan was made from; only to name the guilty layer.

    Returns:
        A network of the same class and training mode, without gradients and hooks.

    Raises:
        PruneError: the plan does not fit, or the cut would change the function of the network.
    """
    check_finite(model)
    small = cut(model, plan)
    wrong = _agrees(model, plan, example)
    if wrong:
        layer = _guilty(model, example, groups, plan)
        raise PruneError(
            f"channels of layer {layer!r} cannot be removed exactly: {wrong}; leave the layer "
            f"alone with ignored=[{layer!r}]"
        )
    return small
