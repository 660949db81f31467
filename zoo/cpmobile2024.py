"""The DCASE 2024 and 2025 baseline: CP-Mobile, simplified.

F. Schmid et al., "Data-efficient low-complexity acoustic scene classification in the DCASE 2024
challenge", 2024; the network is that of F. Schmid, T. Morocutti, S. Masoudian, K. Koutini,
G. Widmer, "CP-JKU submission to DCASE23: efficient acoustic scene classification with CP-Mobile",
2023, without its response normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.fx
from torch import Tensor, nn

from compressor.errors import ShapeError
from zoo.layers import check_input, check_size
from zoo.registry import Reported, register_model

__all__ = ["CPMobile", "dcase2024_baseline"]

torch.fx.wrap("check_input")


def divisible(value: float, divisor: int = 8) -> int:
    """`value` rounded to a multiple of `divisor`, never more than 10 % below `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _conv_norm(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: tuple[int, int] = (1, 1),
    groups: int = 1,
    *,
    activate: bool = True,
) -> nn.Sequential:
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    norm = nn.BatchNorm2d(outputs)
    return nn.Sequential(conv, norm, nn.ReLU()) if activate else nn.Sequential(conv, norm)


class InvertedBlock(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1, shortcut if the width stays, ReLU.

    (N, I, M, T) -> (N, O, M/s0, T/s1), rounded up. A strided shortcut is an average pooling.
    """

    def __init__(
        self, inputs: int, outputs: int, expansion: float, stride: tuple[int, int]
    ) -> None:
        super().__init__()
        wide = divisible(inputs * expansion)
        self.block = nn.Sequential(
            _conv_norm(inputs, wide, 1),
            _conv_norm(wide, wide, 3, stride, groups=wide),
            _conv_norm(wide, outputs, 1, activate=False),
        )
        self.residual = inputs == outputs
        self.shortcut = (
            nn.AvgPool2d(3, stride=stride, padding=1)
            if self.residual and stride != (1, 1)
            else nn.Identity()
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Bottleneck, with the shortcut where there is one."""
        y = self.block(x)
        out: Tensor = self.relu(y + self.shortcut(x) if self.residual else y)
        return out


class CPMobile(nn.Module):
    """Two strided 3x3 convolutions, three stages of inverted blocks, 1x1 classifier, average.

    Input (N, C, M, T) of any size; output logits (N, num_classes).
    """

    def __init__(
        self,
        num_classes: int,
        mels: int,
        in_channels: int,
        *,
        base_channels: int,
        channels_multiplier: float,
        expansion: float,
        blocks: Sequence[int],
    ) -> None:
        super().__init__()
        check_size("num_classes", num_classes)
        check_size("base_channels", base_channels)
        self.in_channels = check_size("in_channels", in_channels)
        self.mels = check_size("mels", mels)
        if min(channels_multiplier, expansion) <= 0:
            raise ShapeError(
                f"channels_multiplier {channels_multiplier} and expansion {expansion} must be "
                "above 0"
            )
        base = divisible(base_channels)
        widths = [base] + [
            divisible(base * channels_multiplier**stage) for stage in range(len(blocks))
        ]
        self.stem = nn.Sequential(
            _conv_norm(in_channels, base // 4, 3, (2, 2)), _conv_norm(base // 4, base, 3, (2, 2))
        )
        # blocks 2, 3 and 4 of the whole network carry the strides (mel, time) of the baseline
        strides = {2: (1, 2), 3: (2, 1)}
        stages: list[nn.Module] = []
        for stage, depth in enumerate(blocks):
            check_size("each of blocks", depth)
            for index in range(depth):
                inputs = widths[stage] if index == 0 else widths[stage + 1]
                stride = strides.get(len(stages), (1, 1))
                stages.append(InvertedBlock(inputs, widths[stage + 1], expansion, stride))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.Conv2d(widths[-1], num_classes, 1, bias=False), nn.BatchNorm2d(num_classes)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of features (N, C, M, T)."""
        x = check_input(x, self.in_channels, self.mels, (1, None))
        logits: Tensor = self.pool(self.head(self.stages(self.stem(x)))).flatten(1)
        return logits


@register_model(
    title="DCASE 2024 and 2025 baseline, CP-Mobile",
    family="cp_mobile",
    year=2024,
    task="DCASE 2024 Task 1",
    paper=(
        "F. Schmid, P. Primus, T. Heittola, A. Mesaros, I. Martín-Morató, K. Koutini, G. Widmer, "
        "Data-efficient low-complexity acoustic scene classification in the DCASE 2024 Challenge, "
        "2024"
    ),
    input_shape=(1, 256, 65),
    num_classes=10,
    segment_s=1.0,
    front_end="dcase2024_baseline",
    status="certain",
    contradictions=(
        "29,419,156 MACs are the official count; multiply-accumulates proper are 29,416,448, the "
        "rest are BatchNorm parameters.",
    ),
    reported=(
        Reported("parameters", 61148, "", "Baseline repository"),
        Reported("size, float16", 122.296, "kB", "Baseline repository"),
        Reported("MACs", 29.419156, "MMACs", "Baseline repository"),
        Reported("accuracy, 100 % split", 56.99, "%", "Baseline repository"),
        Reported("accuracy, 50 % split", 53.19, "%", "Baseline repository"),
        Reported("accuracy, 25 % split", 50.29, "%", "Baseline repository"),
        Reported("accuracy, 10 % split", 45.29, "%", "Baseline repository"),
        Reported("accuracy, 5 % split", 42.40, "%", "Baseline repository"),
        Reported("accuracy, 2025, one model", 50.72, "%", "2025 baseline repository"),
        Reported("accuracy, 2025, model per device", 51.89, "%", "2025 baseline repository"),
    ),
    ignored_layers=("head.0", "head.1"),
)
def dcase2024_baseline(
    num_classes: int = 10,
    *,
    frames: int = 65,
    mels: int = 256,
    in_channels: int = 1,
    base_channels: int = 32,
    channels_multiplier: float = 1.8,
    expansion: float = 2.1,
    blocks: Sequence[int] = (3, 2, 1),
) -> nn.Module:
    """CP-Mobile of 61,148 parameters.

    Args:
        num_classes: outputs of the classifier.
        frames: segment length; any from 1, the pooling is global.
        mels: mel bands.
        in_channels: input planes.
        base_channels: channels after the stem, rounded to a multiple of 8.
        channels_multiplier: growth of the width from stage to stage.
        expansion: width inside a block over its input width.
        blocks: blocks of each stage.
    """
    check_size("frames", frames)
    return CPMobile(
        num_classes,
        mels,
        in_channels,
        base_channels=base_channels,
        channels_multiplier=channels_multiplier,
        expansion=expansion,
        blocks=blocks,
    )
