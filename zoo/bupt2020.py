"""BUPT 2020: CP-ResNet, slimmed and quantised (DCASE 2020 Task 1B, three classes).

J. Zhang, C. Ren, S. Li, "BUPT submissions to DCASE 2020: low-complexity acoustic scene
classification with post training static quantization and prune", DCASE 2020 technical report.
Layers: figure 1. The report builds on the receptive-field-limited ResNet of Koutini et al. (2019),
whose published form settles what figure 1 leaves out: the padding of the stem, where BatchNorm
stands, the 1x1 convolution and BatchNorm before the global average.

The 83,974 parameters of figure 3 follow from no uniform width of this network: they are the outcome
of channel pruning on data. `cp_resnet` is the network to prune from, `cp_resnet_36` its nearest
uniform relative that trains directly.
"""

from __future__ import annotations

from collections.abc import Collection

import torch.fx
from torch import Tensor, nn

from compressor.errors import ConfigError, ShapeError
from zoo.layers import check_input, check_size
from zoo.registry import Reported, register_model

__all__ = ["CPResNet", "cp_resnet", "cp_resnet_36"]

torch.fx.wrap("check_input")

# figure 1: kernel sizes of the two convolutions of each residual block
KERNELS = ((3, 1), (3, 3), (3, 3), (3, 1), (1, 1))
PAPER = (
    "J. Zhang, C. Ren, S. Li, BUPT submissions to DCASE 2020: low-complexity acoustic scene "
    "classification with post training static quantization and prune, DCASE 2020 Challenge "
    "technical report, 2020"
)
REPORTED = (
    Reported("parameters, pruned", 83974, "", "Figure 3"),
    Reported("size, pruned, float32", 331, "KB", "Figure 3"),
    Reported("size, pruned, int8", 83.46, "KB", "Section 3.2"),
    Reported("accuracy", 93.5, "%", "Figure 4 (mean of the three classes)"),
    Reported("accuracy, as in the text", 92.9, "%", "Abstract and section 4.3.2"),
    Reported("accuracy, indoor", 89.2, "%", "Figure 4"),
    Reported("accuracy, outdoor", 94.6, "%", "Figure 4"),
    Reported("accuracy, transportation", 96.8, "%", "Figure 4"),
)
CONTRADICTIONS = (
    "83,974 parameters cannot be derived from figure 1; width 128 has 1,059,590, width 36 86,046.",
    "83,974 float32 parameters are 328.0 KiB and not 331 KB, in int8 82.0 KiB and not 83.46 KB.",
    "92.9 % in the text, 93.5 % in figure 4 (whose classes average to 93.53 %).",
    "'2018 sample windows' are 2048; a hop of 1536 at 44.1 kHz gives 286 to 288 frames, not 280.",
    "9,185 + 4,185 clips are 13,370 and not 14,400.",
    "'BatchNorm before the convolution' describes other networks: this one has it after.",
)


class ResidualBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus shortcut, then ReLU: (N, I, H, W) -> (N, O, H, W)."""

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, int]) -> None:
        super().__init__()
        first, second = kernels
        self.a = nn.Sequential(
            nn.Conv2d(inputs, outputs, first, padding=first // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.relu1 = nn.ReLU()
        self.b = nn.Sequential(
            nn.Conv2d(outputs, outputs, second, padding=second // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.s = (
            nn.Identity()
            if inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Residual sum, activated."""
        out: Tensor = self.relu2(self.b(self.relu1(self.a(x))) + self.s(x))
        return out


class CPResNet(nn.Module):
    """Strided 5x5 stem, five residual blocks with max pooling, 1x1 classifier, global average.

    Input (N, C, M, T); output logits (N, num_classes). With W = width and K classes it has
    64 W^2 + 86 W + 6 parameters for K = 3 and C = 2.
    """

    def __init__(
        self, num_classes: int, mels: int, in_channels: int, width: int, pool_after: Collection[int]
    ) -> None:
        super().__init__()
        check_size("num_classes", num_classes)
        check_size("width", width)
        self.in_channels = check_size("in_channels", in_channels)
        for index in pool_after:
            if index not in range(1, len(KERNELS) + 1):
                raise ConfigError(
                    f"pool_after {tuple(pool_after)} names block {index!r}; blocks are 1 to 5"
                )
        self.min_size = smallest_side(len(set(pool_after)))
        if check_size("mels", mels) < self.min_size:
            raise ShapeError(_too_small("mels", mels, self.min_size))
        self.mels = mels
        self.stem = nn.Sequential(
            # padding 1 and not 2, as in the network that the report builds on
            nn.Conv2d(in_channels, width, 5, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        body: list[nn.Module] = []
        inputs = width
        for index, kernels in enumerate(KERNELS, start=1):
            outputs = 2 * width if index == len(KERNELS) else width
            body.append(ResidualBlock(inputs, outputs, kernels))
            if index in pool_after:
                body.append(nn.MaxPool2d(2))
            inputs = outputs
        self.body = nn.Sequential(*body)
        self.head = nn.Sequential(
            nn.Conv2d(inputs, num_classes, 1, bias=False), nn.BatchNorm2d(num_classes)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of features (N, C, M, T)."""
        x = check_input(x, self.in_channels, self.mels, (self.min_size, None))
        logits: Tensor = self.pool(self.head(self.body(self.stem(x)))).flatten(1)
        return logits


def smallest_side(pools: int) -> int:
    """Smallest input side that leaves one position after the stem and `pools` halvings.

    The stem maps a side n to floor((n - 3) / 2) + 1, so 2^p positions need n = 2^(p+1) + 1.
    """
    side: int = 2 ** (pools + 1) + 1
    return side


def _too_small(name: str, value: int, minimum: int) -> str:
    return (
        f"{name} is {value}, but the stem and the poolings leave nothing below {minimum}; take a "
        "longer segment, more mel bands, or fewer poolings with pool_after="
    )


def _build(
    num_classes: int,
    frames: int,
    mels: int,
    *,
    in_channels: int,
    width: int,
    pool_after: Collection[int],
) -> nn.Module:
    network = CPResNet(num_classes, mels, in_channels, width, pool_after)
    if check_size("frames", frames) < network.min_size:
        raise ShapeError(_too_small("frames", frames, network.min_size))
    return network


@register_model(
    title="CP-ResNet as in figure 1, before pruning",
    family="cp_resnet",
    year=2020,
    task="DCASE 2020 Task 1B",
    paper=PAPER,
    input_shape=(2, 256, 280),
    num_classes=3,
    segment_s=10.0,
    front_end="bupt2020",
    status="ambiguous",
    contradictions=CONTRADICTIONS,
    reported=REPORTED,
    ignored_layers=("head.0", "head.1"),
)
def cp_resnet(
    num_classes: int = 3,
    *,
    frames: int = 280,
    mels: int = 256,
    in_channels: int = 2,
    width: int = 128,
    pool_after: Collection[int] = (1, 2, 3, 4, 5),
) -> nn.Module:
    """CP-ResNet of width 128 (256 in the last block): 1,059,590 parameters.

    Args:
        num_classes: outputs of the classifier.
        frames: segment length, at least 65 with all five poolings.
        mels: mel bands, at least 65 with all five poolings.
        in_channels: input planes; as published the left and the right channel.
        width: channels of blocks 1 to 4; block 5 has twice as many.
        pool_after: blocks followed by 2x2 max pooling.
    """
    return _build(
        num_classes, frames, mels, in_channels=in_channels, width=width, pool_after=pool_after
    )


@register_model(
    title="CP-ResNet of width 36, close to the pruned size",
    family="cp_resnet",
    year=2020,
    task="DCASE 2020 Task 1B",
    paper=PAPER,
    input_shape=(2, 256, 280),
    num_classes=3,
    segment_s=10.0,
    front_end="bupt2020",
    status="ambiguous",
    contradictions=(
        "Not in the report: the uniform width nearest to its 83,974 parameters (2.5 % above).",
        *CONTRADICTIONS,
    ),
    reported=REPORTED,
    ignored_layers=("head.0", "head.1"),
)
def cp_resnet_36(
    num_classes: int = 3,
    *,
    frames: int = 280,
    mels: int = 256,
    in_channels: int = 2,
    width: int = 36,
    pool_after: Collection[int] = (1, 2, 3, 4, 5),
) -> nn.Module:
    """CP-ResNet of width 36: 86,046 parameters; arguments as for `cp_resnet`."""
    return _build(
        num_classes, frames, mels, in_channels=in_channels, width=width, pool_after=pool_after
    )
