"""Compression methods: a network in, a smaller network out; no data loading and no printing."""

from compressor.methods.batchnorm import reestimate
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
    "ChannelGroup",
    "Channels",
    "PrunePlan",
    "SlimResult",
    "Slimming",
    "add_gamma_l1",
    "channel_groups",
    "mask_channels",
    "reestimate",
    "slice_channels",
    "slim",
]
