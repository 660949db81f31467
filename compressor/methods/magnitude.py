"""Unstructured pruning: single weights go by their magnitude, the network keeps its shape.

S. Han et al., "Learning both weights and connections for efficient neural networks", NeurIPS 2015;
gradually as in M. Zhu and S. Gupta, "To prune, or not to prune", 2017; N:M as in A. Mishra et al.,
"Accelerating sparse deep neural networks", 2021. Only weights of convolutions and linear layers go,
never biases or BatchNorm. A zero costs no byte under the rules of DCASE 2020 and 2021, which count
non-zero parameters; from 2022 all parameters count, and no zero makes a network faster here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from compressor.errors import ConfigError, PruneError, UnknownNameError
from compressor.methods.grouping import COMPUTED, bare_copy
from compressor.methods.surgery import check_finite

__all__ = [
    "Magnitude",
    "MagnitudeResult",
    "Masks",
    "Sparsity",
    "apply_masks",
    "count_sparsity",
    "cubic_sparsity",
    "make_masks",
    "masks_of_zeros",
    "parse_pattern",
    "prune_weights",
]

Masks = dict[str, Tensor]
"""Name of a weight -> which of its numbers stay (bool, of its shape)."""


def parse_pattern(text: str) -> tuple[int, int]:
    """Reads "2:4" as (2, 4): of every 4 weights in a row of inputs 2 stay.

    Raises:
        ConfigError: not N:M with 0 < N < M.
    """
    found = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text)
    keep, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < keep < of:
        raise ConfigError(f"pattern is {text!r}; write N:M with 0 < N < M, such as 2:4")
    return keep, of


@dataclass(frozen=True)
class Magnitude:
    """Which weights become zero.

    Attributes:
        sparsity: share of all prunable weights that is zero in the end, 0 to below 1; weights that
            are zero already count as such. Not used with a pattern.
        scope: "global" compares all weights, "layer" takes the share from each layer.
        pattern: "N:M" keeps the N largest of every M weights of consecutive inputs; "" is off.
        keep: layers (or blocks of layers) whose weights all stay.
    """

    sparsity: float = 0.5
    scope: Literal["global", "layer"] = "global"
    pattern: str = ""
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        if not 0 <= self.sparsity < 1:
            raise ConfigError(f"sparsity is {self.sparsity}, but must be at least 0 and below 1")
        if self.scope not in ("global", "layer"):
            raise ConfigError(f"scope is {self.scope!r}, but must be 'global' or 'layer'")
        if self.pattern:
            parse_pattern(self.pattern)


@dataclass(frozen=True)
class Sparsity:
    """Zeros counted in the weights themselves.

    Attributes:
        zeros: weights that are zero, of `total` prunable ones.
        layers: layer -> (zeros, weights).
    """

    zeros: int
    total: int
    layers: Mapping[str, tuple[int, int]]

    @property
    def share(self) -> float:
        """Zeros over weights, 0 to 1."""
        return self.zeros / self.total if self.total else 0.0


@dataclass(frozen=True)
class MagnitudeResult:
    """A network with zeros baked into its weights.

    Attributes:
        model: the network; no hooks, masks or parametrisations are left on it.
        masks: which weights stayed; for fine-tuning that keeps the others at zero.
        sparsity: counted in `model`.
        dense_layers: layers whose weights a pattern does not divide and that were left dense.
    """

    model: nn.Module
    masks: Masks
    sparsity: Sparsity
    dense_layers: tuple[str, ...] = ()


def _weights(model: nn.Module, keep: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """Layer -> weight of every convolution and linear layer not under `keep`; tied ones once."""
    names = [name for name, _ in model.named_modules() if name]
    for name in keep:
        if name not in names:
            raise UnknownNameError("layer to keep dense", name, names)
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for name, layer in model.named_modules():
        if not isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
            continue
        if any(name == k or name.startswith(f"{k}.") for k in keep):
            continue
        weight = layer._parameters.get("weight")
        if weight is None:
            raise PruneError(COMPUTED.format(key="weight", name=name))
        if id(weight) not in seen:
            seen.add(id(weight))
            found[name] = weight
    if not found:
        raise PruneError("the network has no weight of a convolution or linear layer to prune")
    return found


def _smallest(values: Tensor, count: int) -> Tensor:
    """True for all but the `count` smallest of a flat tensor; of equal ones the first go first."""
    mask = torch.ones(values.numel(), dtype=torch.bool)
    mask[torch.argsort(values, stable=True)[:count]] = False
    return mask


def _count(total: int, sparsity: float) -> int:
    return int(total * sparsity + 1e-9)  # 0.29 * 100 is 28.999999999999996 in floating point


def _by_pattern(weight: Tensor, inputs: int, keep: int, of: int) -> Tensor | None:
    """The mask of one weight whose axis `inputs` runs over inputs; None where M does not divide it.

    M consecutive inputs of one filter at one place of its kernel make a block, as kernels for
    sparse matrix products read them.
    """
    rows = weight.detach().movedim(inputs, -1)
    if rows.shape[-1] % of:
        return None
    blocks = rows.reshape(-1, of).abs()
    # stable: of equal weights the first stay
    order = torch.argsort(blocks, dim=1, descending=True, stable=True)
    mask = torch.zeros_like(blocks, dtype=torch.bool).scatter_(1, order[:, :keep], True)
    return mask.reshape(rows.shape).movedim(-1, inputs).contiguous()


def make_masks(
    model: nn.Module, config: Magnitude, *, sparsity: float | None = None
) -> tuple[Masks, tuple[str, ...]]:
    """Which weights stay, and the layers that a pattern leaves dense.

    Args:
        model: network; left as it is.
        config: which weights.
        sparsity: in place of the config's, for a schedule.

    Raises:
        PruneError: a layer would lose all its weights, or nothing can be pruned.
        UnknownNameError: a name in `keep` that is no layer.
    """
    weights = _weights(model, config.keep)
    share = config.sparsity if sparsity is None else sparsity
    masks: Masks = {}
    dense: list[str] = []
    if config.pattern:
        keep, of = parse_pattern(config.pattern)
        for name, weight in weights.items():
            transposed = getattr(model.get_submodule(name), "transposed", False)
            mask = _by_pattern(weight, 0 if transposed else 1, keep, of)
            if mask is None:
                dense.append(name)
            else:
                masks[f"{name}.weight"] = mask
        if not masks:
            raise PruneError(
                f"no layer has a number of inputs that {of} divides, as pattern {config.pattern} "
                "needs; use another pattern or a sparsity"
            )
        return masks, tuple(dense)
    sizes = {name: weight.detach().abs().flatten().cpu() for name, weight in weights.items()}
    if config.scope == "layer":
        flat = {name: _smallest(size, _count(len(size), share)) for name, size in sizes.items()}
    else:
        together = torch.cat(list(sizes.values()))
        mask = _smallest(together, _count(len(together), share))
        parts = torch.split(mask, [len(size) for size in sizes.values()])
        flat = dict(zip(sizes, parts, strict=True))
    for name, part in flat.items():
        if not bool(part.any()):
            raise PruneError(
                f"layer {name!r} would lose all its {part.numel():,} weights at sparsity "
                f"{share:g} ({config.scope}); lower it, use scope 'layer' or keep=[{name!r}]"
            )
        weight = weights[name]
        masks[f"{name}.weight"] = part.reshape(weight.shape).to(weight.device)
    return masks, ()


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set the weights that do not stay to zero, in place.

    Raises:
        PruneError: a mask that does not belong to this network.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        weight = parameters.get(name)
        if weight is None or weight.shape != mask.shape:
            found = "none" if weight is None else str(tuple(weight.shape))
            raise PruneError(
                f"the mask of {name!r} has shape {tuple(mask.shape)}, the network's is {found}; "
                "prune this network anew"
            )
        weight.mul_(mask.to(weight.device))


def count_sparsity(model: nn.Module) -> Sparsity:
    """Zeros of all convolution and linear weights, by counting."""
    layers = {
        name: (int((weight == 0).sum()), weight.numel()) for name, weight in _weights(model).items()
    }
    return Sparsity(
        sum(zeros for zeros, _ in layers.values()),
        sum(total for _, total in layers.values()),
        layers,
    )


def masks_of_zeros(model: nn.Module) -> Masks:
    """Masks that keep the zeros a network has: for fine-tuning one whose masks were baked in."""
    return {f"{name}.weight": weight.detach() != 0 for name, weight in _weights(model).items()}


def prune_weights(model: nn.Module, config: Magnitude) -> MagnitudeResult:
    """Make the smallest weights zero, at once.

    Args:
        model: trained network; left as it is.
        config: which weights.

    Returns:
        A network of the same shape with the zeros baked in, and their count.

    Raises:
        PruneError: weights that are not finite, or a layer that would lose all its weights.
        UnknownNameError: a name in `keep` that is no layer.
    """
    check_finite(model)
    sparse = bare_copy(model)
    masks, dense = make_masks(sparse, config)
    apply_masks(sparse, masks)
    return MagnitudeResult(sparse, masks, count_sparsity(sparse), dense)


def cubic_sparsity(
    progress: float, final: float, *, start: float = 0.0, ramp_share: float = 1.0
) -> float:
    """Sparsity after a share of the training: s_f + (s_i - s_f) (1 - t)^3, flat after the ramp.

    Zhu and Gupta 2017, equation 1: fast while there is much to spare, slow towards the end.

    Args:
        progress: share of all steps done, 0 to 1.
        final: sparsity at the end of the ramp.
        start: sparsity before it.
        ramp_share: share of all steps over which it rises; the rest heals.
    """
    t = min(1.0, progress / ramp_share)
    return final + (start - final) * (1.0 - t) ** 3
