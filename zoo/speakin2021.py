"""SpeakIn / AIAL-XJU 2021: ResNet18 and SE-ResNet18 with 8 to 32 channels (DCASE 2021 Task 1A).

Y. Chen, Y. Ma, M. Liu, L. He, Y. Hu, M. Xu, "Low-complexity acoustic scene classification with
multiple devices", DCASE 2021 technical report. Layers: Table 1 and equations 1 and 2.

The report is ambiguous: Table 1 read literally with ResNet18's blocks gives 54,532 parameters, half
of the 107k of Tables 2 and 3. `seresnet_107k` is the plainest reading that does give 107k. How the
prune ratio is counted is not defined either, so the pruned counts of Table 3 are reported figures
and not something that a test can assert.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.fx
from torch import Tensor, nn

from compressor.errors import ShapeError
from zoo.layers import SE, check_input, check_size, subsample
from zoo.registry import Reported, register_model

__all__ = ["SEResNet", "resnet18", "seresnet18", "seresnet_107k"]

torch.fx.wrap("check_input")

WIDTHS = (8, 16, 16, 32)  # Table 1, Res1 to Res4
PAPER = (
    "Y. Chen et al., Low-complexity acoustic scene classification with multiple devices, "
    "DCASE 2021 Challenge technical report (SpeakIn Technology), 2021"
)
REPORTED = (
    Reported("parameters", "107k", "", "Tables 2 and 3"),
    Reported("accuracy", 77.4, "%", "Table 2, seresnet18"),
    Reported("accuracy, SpecAugment", 73.8, "%", "Table 2, specaug_seresnet18"),
    Reported("accuracy, SpecAugment and speed", 75.3, "%", "Table 2, spx3_specaug_seresnet18"),
    Reported("parameters, prune ratio 0.6", "73k", "", "Table 3"),
    Reported("accuracy, prune ratio 0.6", 76.0, "%", "Table 3"),
    Reported("parameters, prune ratio 0.65", "63k", "", "Table 3"),
    Reported("accuracy, prune ratio 0.65", 76.1, "%", "Table 3"),
    Reported("parameters, prune ratio 0.7", "42k", "", "Table 3"),
    Reported("accuracy, prune ratio 0.7", 69.4, "%", "Table 3"),
    Reported("parameters, as submitted", 63244, "", "Section 4"),
    Reported("size, float16, as submitted", 123, "KB", "Section 4"),
)
CONTRADICTIONS = (
    "Table 1 with ResNet18's blocks [2,2,2,2] gives 54,532 parameters; Tables 2 and 3 say 107k.",
    "Residual layers 'as same as the original' against stride 1 everywhere in Table 1: stride 1.",
    "Not said: SE reduction (8 here), the pooling before the classifier (global average here).",
    "The prune ratio is not defined; the counts at 0.6, 0.65 and 0.7 fit no single definition.",
)


class BasicBlock(nn.Module):
    """ResNet basic block, y = ReLU(SE(F(x)) + D(x)) (equation 2): (N, I, H, W) -> (N, O, H/s, W/s).

    D is the identity, or a 1x1 convolution with BatchNorm where width or stride change.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, se_reduction: int | None, se_bias: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.se = (
            nn.Identity()
            if se_reduction is None
            else SE(outputs, max(1, outputs // se_reduction), bias=se_bias)
        )
        self.stride = (stride, stride)
        self.down = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Residual branch with SE after the second BatchNorm and before the sum."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        out: Tensor = self.relu2(y + self.down(subsample(x, self.stride)))
        return out


class SEResNet(nn.Module):
    """Stem, four stages of basic blocks, global average pooling, linear classifier (Table 1).

    Input (N, C, M, T) of any length; output logits (N, num_classes).
    """

    def __init__(
        self,
        num_classes: int,
        mels: int,
        in_channels: int,
        *,
        blocks: Sequence[int],
        widths: Sequence[int],
        strides: Sequence[int],
        se_reduction: int | None,
        se_bias: bool,
    ) -> None:
        super().__init__()
        check_size("num_classes", num_classes)
        if not len(blocks) == len(widths) == len(strides) > 0:
            raise ShapeError(
                f"blocks {tuple(blocks)}, widths {tuple(widths)} and strides {tuple(strides)} must "
                "have one number for each stage"
            )
        for name, numbers in (("blocks", blocks), ("widths", widths), ("strides", strides)):
            for number in numbers:
                check_size(f"each of {name}", number)
        if se_reduction is not None:
            check_size("se_reduction", se_reduction)
        self.in_channels = check_size("in_channels", in_channels)
        self.mels = check_size("mels", mels)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        layers: list[nn.Module] = []
        inputs = widths[0]
        for depth, width, stage_stride in zip(blocks, widths, strides, strict=True):
            for index in range(depth):
                stride = stage_stride if index == 0 else 1
                layers.append(BasicBlock(inputs, width, stride, se_reduction, se_bias))
                inputs = width
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of features (N, C, M, T)."""
        x = check_input(x, self.in_channels, self.mels, (1, None))
        x = self.pool(self.layers(self.stem(x))).flatten(1)
        logits: Tensor = self.fc(x)
        return logits


def _never_pruned(blocks: int, *, se: bool = True) -> tuple[str, ...]:
    """Squeeze convolutions of all blocks (a bottleneck of 1 to 16 channels) and the classifier."""
    return (*(f"layers.{i}.se.fc1" for i in range(blocks) if se), "fc")


@register_model(
    title="SE-ResNet18, Table 1 taken literally",
    family="seresnet",
    year=2021,
    task="DCASE 2021 Task 1A",
    paper=PAPER,
    input_shape=(1, 40, 500),
    num_classes=10,
    segment_s=10.0,
    front_end="speakin2021",
    status="ambiguous",
    contradictions=CONTRADICTIONS,
    reported=REPORTED,
    ignored_layers=_never_pruned(8),
)
def seresnet18(
    num_classes: int = 10,
    *,
    frames: int = 500,
    mels: int = 40,
    in_channels: int = 1,
    blocks: Sequence[int] = (2, 2, 2, 2),
    widths: Sequence[int] = WIDTHS,
    strides: Sequence[int] = (1, 1, 1, 1),
    se_reduction: int | None = 8,
    se_bias: bool = True,
) -> nn.Module:
    """SE-ResNet18: 54,532 parameters; strides (1, 2, 2, 2) give 54,820 and a tenth of the MACs.

    Args:
        num_classes: outputs of the classifier.
        frames: segment length; any from 1, the pooling is global.
        mels: mel bands.
        in_channels: input planes.
        blocks: basic blocks of each stage.
        widths: channels of each stage.
        strides: stride of the first block of each stage.
        se_reduction: width over squeeze (at least 1 channel is kept); None leaves SE out.
        se_bias: whether the SE layers have biases.
    """
    check_size("frames", frames)
    return SEResNet(
        num_classes,
        mels,
        in_channels,
        blocks=blocks,
        widths=widths,
        strides=strides,
        se_reduction=se_reduction,
        se_bias=se_bias,
    )


@register_model(
    title="ResNet18, Table 1 without squeeze-and-excitation",
    family="seresnet",
    year=2021,
    task="DCASE 2021 Task 1A",
    paper=PAPER,
    input_shape=(1, 40, 500),
    num_classes=10,
    segment_s=10.0,
    front_end="speakin2021",
    status="ambiguous",
    contradictions=(
        *CONTRADICTIONS,
        "The report gives no figure for the network without SE.",
    ),
    ignored_layers=_never_pruned(8, se=False),
)
def resnet18(
    num_classes: int = 10,
    *,
    frames: int = 500,
    mels: int = 40,
    in_channels: int = 1,
    blocks: Sequence[int] = (2, 2, 2, 2),
    widths: Sequence[int] = WIDTHS,
    strides: Sequence[int] = (1, 1, 1, 1),
) -> nn.Module:
    """ResNet18 backbone (section 2.1.1); arguments as for `seresnet18`."""
    check_size("frames", frames)
    return SEResNet(
        num_classes,
        mels,
        in_channels,
        blocks=blocks,
        widths=widths,
        strides=strides,
        se_reduction=None,
        se_bias=False,
    )


@register_model(
    title="SE-ResNet with [3,4,6,3] blocks, the plainest reading with 107k parameters",
    family="seresnet",
    year=2021,
    task="DCASE 2021 Task 1A",
    paper=PAPER,
    input_shape=(1, 40, 500),
    num_classes=10,
    segment_s=10.0,
    front_end="speakin2021",
    status="ambiguous",
    contradictions=(
        "Called ResNet18, but only ResNet34's blocks [3,4,6,3] reach 107k with a plain head.",
        "SE reduction 2 without biases is what the count asks for; the report gives neither.",
        *CONTRADICTIONS[1:2],
        *CONTRADICTIONS[3:],
    ),
    reported=REPORTED,
    ignored_layers=_never_pruned(16),
)
def seresnet_107k(
    num_classes: int = 10,
    *,
    frames: int = 500,
    mels: int = 40,
    in_channels: int = 1,
    blocks: Sequence[int] = (3, 4, 6, 3),
    widths: Sequence[int] = WIDTHS,
    strides: Sequence[int] = (1, 1, 1, 1),
    se_reduction: int | None = 2,
    se_bias: bool = False,
) -> nn.Module:
    """SE-ResNet of 107,170 parameters; arguments as for `seresnet18`."""
    check_size("frames", frames)
    return SEResNet(
        num_classes,
        mels,
        in_channels,
        blocks=blocks,
        widths=widths,
        strides=strides,
        se_reduction=se_reduction,
        se_bias=se_bias,
    )
