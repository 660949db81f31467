"""Parts that several networks share, written so that pruning and every exporter can follow them.

Rules that all networks of the zoo keep, each for a tool that breaks otherwise: activations are
modules (functional silu and hardswish do not convert to int8), global maxima use `torch.max`,
strided 1x1 projections slice first and convolve at stride 1 (a strided 1x1 with fewer than 16
inputs crashes oneDNN in channels_last), and input checks go through `check_input` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.errors import ShapeError

__all__ = ["ECA", "SE", "check_input", "check_size", "global_max", "subsample"]


def check_size(name: str, value: int, minimum: int = 1, why: str = "") -> int:
    """Return `value` if it is a whole number of at least `minimum`.

    Raises:
        ShapeError: otherwise; the message names the size, the value and the minimum.
    """
    reason = f" ({why})" if why else ""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ShapeError(f"{name} must be a whole number of at least {minimum}, found {value!r}")
    if value < minimum:
        raise ShapeError(f"{name} is {value}, but must be at least {minimum}{reason}")
    return value


@torch.fx.wrap  # a leaf of FX graphs: the comparisons below are not traceable
def check_input(
    x: Tensor, channels: int, mels: int, frames: tuple[int, int | None], layout: str = "CFT"
) -> Tensor:
    """Return `x` unchanged if a network can take it.

    A file that uses this also calls `torch.fx.wrap("check_input")`, because FX patches the name in
    the globals of the calling module only.

    Args:
        x: features (N, C, M, T), or (N, C, T, M) when `layout` is "CTF".
        channels: planes that the network was built for.
        mels: mel bands that the network was built for.
        frames: smallest and largest segment length in frames (None: no upper limit).
        layout: order of the last two axes.

    Raises:
        ShapeError: the shape does not fit; the message says what does.
    """
    low, high = frames
    span = f"{low} or more" if high is None else f"{low} to {high}"
    axes = "(N, C, mel bands, frames)" if layout == "CFT" else "(N, C, frames, mel bands)"
    if x.dim() != 4:
        raise ShapeError(f"input has {x.dim()} axes {tuple(x.shape)}, expected 4: {axes}")
    band_axis, frame_axis = (2, 3) if layout == "CFT" else (3, 2)
    if x.shape[1] != channels or x.shape[band_axis] != mels:
        raise ShapeError(
            f"input {tuple(x.shape)} has {x.shape[1]} channels and {x.shape[band_axis]} mel bands, "
            f"but the network takes {axes} with {channels} channels and {mels} mel bands; build it "
            "with in_channels= and mels=, or transpose the last two axes"
        )
    if x.shape[frame_axis] < low or (high is not None and x.shape[frame_axis] > high):
        raise ShapeError(
            f"input {tuple(x.shape)} has {x.shape[frame_axis]} frames, but the network takes "
            f"{axes} with {span} frames; build it with frames= or use another segment length"
        )
    return x


def subsample(x: Tensor, stride: tuple[int, int]) -> Tensor:
    """Every stride-th row and column: (N, C, H, W) -> (N, C, ceil(H/s0), ceil(W/s1)).

    Followed by a 1x1 convolution at stride 1 it equals the strided 1x1 convolution exactly.
    """
    return x if stride == (1, 1) else x[:, :, :: stride[0], :: stride[1]]


def global_max(x: Tensor) -> Tensor:
    """Maximum over both spatial axes: (N, C, H, W) -> (N, C).

    One axis at a time: `amax` has no int8 kernel, and flattening confuses channel pruning.
    """
    return torch.max(torch.max(x, dim=3)[0], dim=2)[0]


class SE(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018) with 1x1 convolutions: (N, C, H, W), same out.

    Parameters: 2 C h, plus h + C with bias, for a squeeze of h channels.
    """

    def __init__(
        self, channels: int, squeeze: int, *, bias: bool = True, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1, bias=bias)
        self.act = nn.ReLU() if activation is None else activation
        self.fc2 = nn.Conv2d(squeeze, channels, 1, bias=bias)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel by a gate in (0, 1) computed from all channel means."""
        scale: Tensor = self.gate(self.fc2(self.act(self.fc1(self.pool(x)))))
        return x * scale


class ECA(nn.Module):
    """Efficient channel attention (Wang et al. 2020), kernel 3: (N, C, H, W), same out.

    A gate depends on the means of a channel and of its two neighbours. Removing a channel must not
    make strangers neighbours, so this layer keeps the original order: the means are put back into
    `full_channels` places, removed channels count as 0, which is what masking them gives.

    Attributes:
        channels: current width.
        full_channels: width before any pruning.
        kept: int64 (channels,), original index of each current channel.
    """

    kept: Tensor
    places: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.full_channels = channels
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.gate = nn.Sigmoid()
        self.register_buffer("kept", torch.arange(channels))
        # derived from `kept`: for each original channel its current one, or `channels` if removed
        self.register_buffer("places", torch.arange(channels), persistent=False)

    def set_kept(self, kept: Tensor) -> None:
        """Set which original channels are left: int64 indices into the original width, ascending.

        Raises:
            ShapeError: no index, or indices out of order or out of range.
        """
        kept = kept.to(device=self.kept.device, dtype=torch.int64).flatten().clone()
        ascending = bool((kept.diff() > 0).all())
        if not (len(kept) and ascending and kept[0] >= 0 and kept[-1] < self.full_channels):
            raise ShapeError(
                f"kept channels of an ECA layer are {kept.tolist()}, but must be ascending indices "
                f"between 0 and {self.full_channels - 1}"
            )
        self.channels = len(kept)
        self.kept = kept
        self.places = torch.full_like(kept[:1], self.channels).repeat(self.full_channels)
        self.places[kept] = torch.arange(self.channels, device=kept.device)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take over the stored channels first, so that a pruned state dict fits."""
        stored = state_dict.get(f"{prefix}kept")
        if isinstance(stored, Tensor):
            self.set_kept(stored)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel by a gate in (0, 1)."""
        means = x.mean((2, 3))
        pruned = self.channels != self.full_channels
        if pruned:
            means = F.pad(means, (0, 1)).index_select(1, self.places)
        scale = self.gate(self.conv(means.unsqueeze(1))).squeeze(1)
        if pruned:
            scale = scale.index_select(1, self.kept)
        out: Tensor = x * scale.unsqueeze(2).unsqueeze(3)
        return out
