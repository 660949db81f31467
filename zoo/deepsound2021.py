"""Deepsound 2021: Fused-MBConv and MBConv network in float16 (DCASE 2021 Task 1A).

S. Verbitskiy, V. Vyshegorodtsev, "Low-complexity acoustic scene classification using mobile
inverted bottleneck blocks", DCASE 2021 technical report. Layers: Tables 1, 5 and 6, figures 1
and 2. Every row of Table 6 is met exactly.

Time comes first: the input is (N, 1, frames, mel bands).
"""

from __future__ import annotations

import torch.fx
from torch import Tensor, nn

from zoo.layers import SE, check_input, check_size, global_max, subsample
from zoo.registry import Reported, register_model

__all__ = ["MBConvNet", "mbconv_deepsound"]

torch.fx.wrap("check_input")

EXPANSION = 4  # MBConv4
# Table 1: (fused, inputs, outputs, stride of (time, mel)) of each block
BLOCKS = (
    (True, 6, 12, (2, 2)),
    (True, 12, 12, (1, 1)),
    (False, 12, 18, (2, 1)),
    (False, 18, 18, (1, 1)),
    (False, 18, 18, (1, 1)),
    (False, 18, 24, (2, 2)),
    (False, 24, 24, (1, 1)),
    (False, 24, 24, (1, 1)),
    (False, 24, 30, (2, 2)),
    (False, 30, 30, (1, 1)),
)


class MBConv4(nn.Module):
    """Mobile inverted bottleneck: (N, I, T, M) -> (N, O, T/s0, M/s1), rounded up (figure 1).

    Expand by 4 (1x1, or 3x3 with the stride when `fused`), depthwise 3x3 with the stride (not when
    fused), SE, project without activation, add the shortcut: the input itself, or a 1x1 convolution
    without bias and BatchNorm where the width changes. Parameters: Table 5.
    """

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int], *, fused: bool) -> None:
        super().__init__()
        wide = EXPANSION * inputs
        if fused:
            expand = nn.Conv2d(inputs, wide, 3, stride=stride, padding=1, bias=False)
            spatial: list[nn.Module] = []
        else:
            expand = nn.Conv2d(inputs, wide, 1, bias=False)
            spatial = [
                nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False),
                nn.BatchNorm2d(wide),
                nn.SiLU(),
            ]
        self.x = nn.Sequential(expand, nn.BatchNorm2d(wide), nn.SiLU(), *spatial)
        # Table 5: the squeeze is a quarter of the block's input width and not of the expanded one
        self.se = SE(wide, int(0.25 * inputs), activation=nn.SiLU())
        self.r = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.stride = stride
        self.s = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Bottleneck plus shortcut."""
        out: Tensor = self.r(self.se(self.x(x))) + self.s(subsample(x, self.stride))
        return out


class MBConvNet(nn.Module):
    """BatchNorm over mel, 5x3 stem, ten blocks, 1x1 to 100, average plus maximum, classifier.

    Input (N, C, T, M) of any length; output logits (N, num_classes).
    """

    def __init__(self, num_classes: int, mels: int, in_channels: int) -> None:
        super().__init__()
        check_size("num_classes", num_classes)
        self.in_channels = check_size("in_channels", in_channels)
        self.mels = check_size("mels", mels)
        self.bn0 = nn.BatchNorm2d(mels)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 6, (5, 3), padding=(2, 1)), nn.BatchNorm2d(6), nn.SiLU()
        )
        self.body = nn.Sequential(
            *(MBConv4(i, o, stride, fused=fused) for fused, i, o, stride in BLOCKS)
        )
        self.top = nn.Sequential(nn.Conv2d(30, 100, 1), nn.BatchNorm2d(100), nn.SiLU())
        self.fc = nn.Linear(100, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of features (N, C, T, M)."""
        x = check_input(x, self.in_channels, self.mels, (1, None), "CTF")
        x = self.bn0(x.transpose(1, 3)).transpose(1, 3)  # mel bands as channels, and back
        x = self.top(self.body(self.stem(x)))
        logits: Tensor = self.fc(x.mean((2, 3)) + global_max(x))
        return logits


@register_model(
    title="Fused-MBConv and MBConv network",
    family="mbconv_deepsound",
    year=2021,
    task="DCASE 2021 Task 1A",
    paper=(
        "S. Verbitskiy, V. Vyshegorodtsev, Low-complexity acoustic scene classification using "
        "mobile inverted bottleneck blocks, DCASE 2021 Challenge technical report (Deepsound), 2021"
    ),
    input_shape=(1, 640, 160),
    layout="CTF",
    num_classes=10,
    segment_s=10.0,
    front_end="deepsound2021_160",
    status="certain",
    contradictions=(
        "Equations 2 and 3 print '+ 2 I' where Table 5 and Table 6 have 2 O: 2 O is right.",
        "Not said: which axis the 5 of the 5x3 kernel and the 2 of the 2x1 stride belong to (time "
        "here, as the input is 640 x M).",
        "Not said: how average and maximum pooling combine; 1,010 classifier parameters exclude "
        "stacking them; the sum is taken here.",
    ),
    reported=(
        Reported("parameters, 160 mel bands", 62346, "", "Table 6"),
        Reported("size, float16, 160 mel bands", 121.8, "KB", "Table 7"),
        Reported("size, float16, 128 mel bands", 121.6, "KB", "Table 7"),
        Reported("size, float16, 64 mel bands", 121.4, "KB", "Table 7"),
        Reported("size, float16, 32 mel bands", 121.3, "KB", "Table 7"),
        Reported("accuracy, 160 mel bands", 70.5, "%", "Table 2"),
        Reported("accuracy, 128 mel bands", 70.9, "%", "Table 2"),
        Reported("accuracy, 64 mel bands", 68.8, "%", "Table 2"),
        Reported("accuracy, 32 mel bands", 64.4, "%", "Table 2"),
        Reported("log loss, 160 mel bands", 0.848, "nats", "Table 2"),
        Reported("log loss, 128 mel bands", 0.859, "nats", "Table 2"),
        Reported("log loss, 64 mel bands", 0.932, "nats", "Table 2"),
        Reported("log loss, 32 mel bands", 1.042, "nats", "Table 2"),
    ),
    ignored_layers=("bn0", *(f"body.{i}.se.fc1" for i in range(len(BLOCKS))), "fc"),
)
def mbconv_deepsound(
    num_classes: int = 10, *, frames: int = 640, mels: int = 160, in_channels: int = 1
) -> nn.Module:
    """Network of Table 1: 62,346 / 62,282 / 62,154 / 62,090 parameters at 160 / 128 / 64 / 32 mels.

    Args:
        num_classes: outputs of the classifier.
        frames: segment length; any from 1, the pooling is global.
        mels: mel bands; published with 160, 128, 64 and 32 (front-ends deepsound2021_{mels}).
        in_channels: input planes; more than 1 share the statistics of a mel band.
    """
    check_size("frames", frames)
    return MBConvNet(num_classes, mels, in_channels)
