"""Compression methods: a network in, a smaller network out; no data loading and no printing."""

from compressor.methods.batchnorm import reestimate
from compressor.methods.budget import Budget, NumberType, Sizes
from compressor.methods.importance import IMPORTANCES
from compressor.methods.magnitude import Magnitude, MagnitudeResult, prune_weights
from compressor.methods.slimming import Slimming, SlimResult, add_gamma_l1, slim
from compressor.methods.surgery import (
    ChannelGroup,
    Channels,
    PrunePlan,
    channel_groups,
    mask_channels,
    slice_channels,
)

__all__ = [
    "IMPORTANCES",
    "Budget",
    "ChannelGroup",
    "Channels",
    "Magnitude",
    "MagnitudeResult",
    "NumberType",
    "PrunePlan",
    "Sizes",
    "SlimResult",
    "Slimming",
    "add_gamma_l1",
    "channel_groups",
    "mask_channels",
    "prune_weights",
    "reestimate",
    "slice_channels",
    "slim",
]
