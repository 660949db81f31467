"""PKU / Xiaomi 2022: separable CNN6 with coordinate attention (DCASE 2022 Task 1).

Y. Xin, Y. Zou, F. Cui, Y. Wang, "Low-complexity acoustic scene classification with
mismatch-devices using separable convolutions and coordinate attention", DCASE 2022 technical
report. Layers: equation 2, section 2.3, figure 1; coordinate attention as published by Hou et al.
(2021): reduction 32, but at least 8 channels.

Time comes first: the input is (N, 1, frames, mel bands). The 75.562 KB of Table 1 are these 75,562
parameters at one byte, KB = 1000, with BatchNorm not merged.
"""

from __future__ import annotations

import torch
import torch.fx
from torch import Tensor, nn

from zoo.layers import check_input, check_size
from zoo.registry import Reported, register_model

__all__ = ["SepCNN", "sepcnn_coordatt"]

torch.fx.wrap("check_input")

WIDTHS = (64, 128, 128, 128)


class CoordinateAttention(nn.Module):
    """Gates along time and along mel from the two marginal means: (N, C, T, M), same out.

    With squeeze s = max(8, C // 32), at the default input width: 3 s C + 3 s + 2 C parameters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeeze = max(8, channels // 32)
        self.c1 = nn.Conv2d(channels, squeeze, 1)
        self.bn = nn.BatchNorm2d(squeeze)
        self.act = nn.Hardswish()
        self.cw = nn.Conv2d(squeeze, channels, 1)
        self.ch = nn.Conv2d(squeeze, channels, 1)
        self.gate_w = nn.Sigmoid()
        self.gate_h = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Both means share one squeeze, stacked along the third axis, and part again after it."""
        height, width = x.shape[2], x.shape[3]
        along_h = x.mean(3, keepdim=True)  # (N, C, T, 1)
        along_w = x.mean(2, keepdim=True).transpose(2, 3)  # (N, C, M, 1)
        y = self.act(self.bn(self.c1(torch.cat([along_h, along_w], dim=2))))
        y_h, y_w = torch.split(y, [height, width], dim=2)
        gate_w: Tensor = self.gate_w(self.cw(y_w.transpose(2, 3)))
        gate_h: Tensor = self.gate_h(self.ch(y_h))
        return x * gate_w * gate_h


class SeparableBlock(nn.Module):
    """1x1, then dilated depthwise 3x1 and 1x3 added (equation 2), ReLU, attention, pooling.

    (N, I, T, M) -> (N, O, T/2, M/2), rounded down.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.dt = nn.Conv2d(
            outputs, outputs, (3, 1), padding=(2, 0), dilation=(2, 1), groups=outputs, bias=False
        )
        self.df = nn.Conv2d(
            outputs, outputs, (1, 3), padding=(0, 2), dilation=(1, 2), groups=outputs, bias=False
        )
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.ca = CoordinateAttention(outputs)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """One layer of the network."""
        x = self.bn1(self.pw(x))
        x = self.relu(self.bn2(self.dt(x) + self.df(x)))
        out: Tensor = self.pool(self.ca(x))
        return out


class SepCNN(nn.Module):
    """BatchNorm over mel, four separable blocks, pooling, two linear layers (section 2.3).

    Input (N, C, T, M) with at least 16 frames and 16 mel bands; output logits (N, num_classes).
    """

    def __init__(self, num_classes: int, mels: int, in_channels: int) -> None:
        super().__init__()
        check_size("num_classes", num_classes)
        self.in_channels = check_size("in_channels", in_channels)
        self.min_frames = 2 ** len(WIDTHS)
        self.mels = check_size("mels", mels, self.min_frames, "four poolings halve the mel axis")
        self.bn0 = nn.BatchNorm2d(mels)
        inputs = (in_channels, *WIDTHS[:-1])
        self.body = nn.Sequential(
            *(SeparableBlock(i, o) for i, o in zip(inputs, WIDTHS, strict=True))
        )
        self.drop1 = nn.Dropout(0.1)
        self.fc1 = nn.Linear(WIDTHS[-1], WIDTHS[-1])
        self.relu = nn.ReLU()
        self.drop2 = nn.Dropout(0.1)
        self.fc2 = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of features (N, C, T, M)."""
        x = check_input(x, self.in_channels, self.mels, (self.min_frames, None), "CTF")
        x = self.bn0(x.transpose(1, 3)).transpose(1, 3)  # mel bands as channels, and back
        x = self.body(x).mean(3)  # (N, C, T): mean over mel, then mean plus maximum over time
        x = x.mean(2) + torch.max(x, dim=2)[0]
        logits: Tensor = self.fc2(self.drop2(self.relu(self.fc1(self.drop1(x)))))
        return logits


@register_model(
    title="Separable CNN6 with coordinate attention",
    family="sepcnn",
    year=2022,
    task="DCASE 2022 Task 1",
    paper=(
        "Y. Xin, Y. Zou, F. Cui, Y. Wang, Low-complexity acoustic scene classification with "
        "mismatch-devices using separable convolutions and coordinate attention, DCASE 2022 "
        "Challenge technical report (PKU/Xiaomi), 2022"
    ),
    input_shape=(1, 44, 256),
    layout="CTF",
    num_classes=10,
    segment_s=1.0,
    front_end="pku2022",
    status="certain",
    contradictions=(
        "No front-end is given. With the usual one of this network (256 mel bands, 44 frames a "
        "second) it needs 46.0 MMACs, over the limit of 30; with 28 frames it needs 29.5.",
        "Not said: where the two BatchNorms of a layer stand (after the 1x1 and after the sum "
        "here; other places have the same count).",
    ),
    reported=(
        Reported("size, int8", 75.562, "kB", "Table 1"),
        Reported("accuracy, 30 test-time augmentations", 60.3, "%", "Table 1"),
        Reported("log loss, 30 test-time augmentations", 1.295, "nats", "Table 1"),
    ),
    ignored_layers=("bn0", *(f"body.{i}.ca.c1" for i in range(len(WIDTHS))), "fc2"),
)
def sepcnn_coordatt(
    num_classes: int = 10, *, frames: int = 44, mels: int = 256, in_channels: int = 1
) -> nn.Module:
    """Network of figure 1: 75,562 parameters.

    Args:
        num_classes: outputs of the classifier.
        frames: segment length, at least 16 (28 keep within 30 MMACs).
        mels: mel bands, at least 16.
        in_channels: input planes; more than 1 share the statistics of a mel band.
    """
    check_size("frames", frames, 2 ** len(WIDTHS), "four poolings halve the frames")
    return SepCNN(num_classes, mels, in_channels)
