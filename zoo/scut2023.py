"""SCUT 2023: DSMN, deep separable multi-scale networks (DCASE 2023 Task 1).

K. Wang, Y. Wu, Y. Li, "Low-complexity acoustic scene classification using deep space separable
distillation and multi-task learning", DCASE 2023 technical report. Layers: sections 3.1 to 3.3,
figures 1 to 3, read together with the code that the authors published.

Two changes that leave the function as it is. The authors swap the axes to (time, mel) on entry;
here the input stays (N, C, mel, time) and the kernels have their axes swapped. Their grouped 1x1
convolution from 2h to h channels (groups h: output j mixes inputs 2j and 2j+1) is written as two
depthwise ones added together (output j mixes inputs j and j+h), which is the same up to the order
of the channels and, unlike the grouped form, can be pruned.

Outputs 0 to 9 are the scenes in alphabetical order, 10 to 12 indoor, outdoor and transport. The
published code never combines the two; the code that it descends from takes, at inference,
0.8 of a scene's logit and 0.2 of the logit of its group.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.fx
from torch import Tensor, nn

from compressor.errors import ConfigError, ShapeError
from zoo.layers import ECA, check_input, check_size
from zoo.registry import Reported, register_model

__all__ = ["DSMN", "dsmn", "dsmn_mixed", "dsmn_seg", "dsmn_seg_large"]

torch.fx.wrap("check_input")

PAPER = (
    "K. Wang, Y. Wu, Y. Li, Low-complexity acoustic scene classification using deep space "
    "separable distillation and multi-task learning, DCASE 2023 Challenge technical report (SCUT), "
    "2023"
)
TASK = "DCASE 2023 Task 1"
STEM_WIDTH = 16
WIDTHS = (24, 32, 64, 64, 64)
SWAPPED = (
    "Rows 2 and 3 of Table 3 have their parameters and MACs swapped against Table 2; which of the "
    "two their accuracies and log losses belong to is open."
)
CONTRADICTIONS = (
    "'Overlap 25 %' is a hop of 25 % (1024 of 4096 samples): only that gives 44 frames.",
    "Section 4 says SGD and mixup 0.4; the published code has RAdam and 0.2.",
    "Table 1 lists eleven names: 'Street, Pedestrian' is one scene.",
    "The 1x1 stem convolution and the head (100 hidden units, dropout 0.3) are in the code only.",
    "The published code holds a sixth block that is never used; it is left out here.",
)


class DSSC(nn.Module):
    """Deep space separable convolution (figure 3): (N, I, M, T) -> (N, O, M, T), O = I or I/2.

    A 1x1 convolution with O groups, then depthwise kernels of 3 along time and along mel, both
    dilated by 2, on the same tensor and added; BatchNorm; ReLU. Parameters: I + 8 O.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.halving = inputs != outputs
        self.pw = nn.Conv2d(outputs, outputs, 1, groups=outputs, bias=False)
        if self.halving:
            self.pw2 = nn.Conv2d(outputs, outputs, 1, groups=outputs, bias=False)
        self.dw_t = nn.Conv2d(
            outputs, outputs, (1, 3), padding=(0, 2), dilation=(1, 2), groups=outputs, bias=False
        )
        self.dw_f = nn.Conv2d(
            outputs, outputs, (3, 1), padding=(2, 0), dilation=(2, 1), groups=outputs, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Mix channels, then space."""
        if self.halving:
            first, second = torch.chunk(x, 2, dim=1)
            x = self.pw(first) + self.pw2(second)
        else:
            x = self.pw(x)
        out: Tensor = self.relu(self.bn(self.dw_t(x) + self.dw_f(x)))
        return out


class Block(nn.Module):
    """Distillation block: DSSDB, or DSSDB_SEG when `segment` (figure 2).

    DSSDB: [d1(x), d2(c1(x)), c3(c2(c1(x)))] stacked, ECA, 1x1 convolution, BatchNorm, ReLU,
    average pooling 2x2. DSSDB_SEG cuts the mel axis in halves, low and high:
    d1(low) + d2(high) + c3(c2(c1(low))) instead, and then pools time only.
    Both: (N, I, M, T) -> (N, O, M/2, T/2), rounded down.
    """

    def __init__(self, inputs: int, outputs: int, *, segment: bool) -> None:
        super().__init__()
        half = inputs // 2
        self.segment = segment
        self.c1 = DSSC(inputs, inputs)
        self.c2 = DSSC(inputs, inputs)
        self.c3 = DSSC(inputs, half)
        self.d1 = nn.Conv2d(inputs, half, 1)
        self.d2 = nn.Conv2d(inputs, half, 1)
        mixed = half if segment else 3 * half
        self.eca = ECA(mixed)
        self.out = nn.Conv2d(mixed, outputs, 1)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d((1, 2) if segment else (2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Distil in three steps, weigh the channels, mix and shrink."""
        if self.segment:
            low, high = torch.chunk(x, 2, dim=2)
            y = self.d1(low) + self.d2(high) + self.c3(self.c2(self.c1(low)))
        else:
            x1 = self.c1(x)
            # d2 sees the first step's output and not the second's, as in the published code
            y = torch.cat([self.d1(x), self.d2(x1), self.c3(self.c2(x1))], dim=1)
        y = self.relu(self.bn(self.out(self.eca(y))))
        out: Tensor = self.pool(y)
        return out


class DSMN(nn.Module):
    """Stem, five blocks, means of the last four blocks' outputs, two linear layers (figure 1).

    Input (N, C, M, T) with M cut in halves by the blocks; output logits
    (N, num_classes + group_classes).
    """

    def __init__(
        self,
        kinds: str,
        widths: Sequence[int],
        num_classes: int,
        *,
        frames: int,
        mels: int,
        in_channels: int,
        hidden: int,
        group_classes: int,
    ) -> None:
        super().__init__()
        check_size("num_classes", num_classes)
        check_size("group_classes", group_classes, minimum=0)
        check_size("hidden", hidden)
        self.in_channels = check_size("in_channels", in_channels)
        self.mels = check_size("mels", mels)
        if len(kinds) != len(widths) or not kinds or set(kinds) - set("SD"):
            raise ConfigError(
                f"blocks {kinds!r} must be one letter, S (DSSDB_SEG) or D (DSSDB), for each of the "
                f"widths {tuple(widths)}"
            )
        bands = mels
        for index, kind in enumerate(kinds):
            if bands < 2 or (kind == "S" and bands % 2):
                raise ShapeError(
                    f"{mels} mel bands leave {bands} for block {index + 1}, which cannot be cut in "
                    f"halves; take a multiple of {2 ** len(kinds)}"
                )
            bands //= 2
        # each block halves the frames, at least one must remain
        self.min_frames = 2 ** len(kinds)
        check_size("frames", frames, self.min_frames, "each of the blocks halves the frames")
        for width in (STEM_WIDTH, *widths[:-1]):
            if check_size("each of widths", width) % 2:
                raise ShapeError(f"widths {tuple(widths)} must be even: each block halves them")
        self.stem = nn.Conv2d(in_channels, STEM_WIDTH, 1)  # no BatchNorm and no ReLU, as published
        inputs = (STEM_WIDTH, *widths[:-1])
        self.blocks = nn.ModuleList(
            Block(i, o, segment=kind == "S")
            for kind, i, o in zip(kinds, inputs, widths, strict=True)
        )
        self.l1 = nn.Linear(sum(widths[1:]), hidden)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.3)
        self.l2 = nn.Linear(hidden, num_classes + group_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes + group_classes) of features (N, C, M, T)."""
        x = check_input(x, self.in_channels, self.mels, (self.min_frames, None))
        x = self.stem(x)
        means = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index > 0:  # the first block's scale is not part of the embedding
                means.append(x.mean((2, 3)))
        x = self.drop(self.relu(self.l1(torch.cat(means, dim=1))))
        logits: Tensor = self.l2(x)
        return logits


def _log_losses(model: int, values: Sequence[float]) -> tuple[Reported, ...]:
    devices = ("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6")
    return tuple(
        Reported(f"log loss, device {device}", value, "nats", f"Table 4, Model{model}")
        for device, value in zip(devices, values, strict=True)
    )


def _table_3(
    row: int, params: str, macs: float, accuracy: float, int8: float
) -> tuple[Reported, ...]:
    source = f"Table 3, Model{row}"
    return (
        Reported("parameters", params, "", source),
        Reported("MACs", macs, "MMACs", source),
        Reported("accuracy, float32", accuracy, "%", source),
        Reported("accuracy, int8", int8, "%", source),
    )


@register_model(
    title="DSMN Model1, five DSSDB_SEG blocks",
    family="dsmn",
    year=2023,
    task=TASK,
    paper=PAPER,
    input_shape=(2, 256, 44),
    num_classes=10,
    segment_s=1.0,
    front_end="scut2023",
    status="certain",
    contradictions=CONTRADICTIONS,
    reported=(
        *_table_3(1, "45.1k", 8.64, 53.4, 53.3),
        Reported("size, int8", 45.16, "kB", "Abstract"),
        Reported("log loss", 1.287, "nats", "Section 6"),
        *_log_losses(1, (1.060, 1.400, 1.257, 1.299, 1.247, 1.253, 1.373, 1.326, 1.368)),
    ),
    ignored_layers=("l2",),
)
def dsmn_seg(
    num_classes: int = 10,
    *,
    frames: int = 44,
    mels: int = 256,
    in_channels: int = 2,
    hidden: int = 100,
    group_classes: int = 3,
) -> nn.Module:
    """Model1 of Table 2: 45,164 parameters.

    Args:
        num_classes: scenes.
        frames: segment length, at least 32.
        mels: mel bands, a multiple of 32.
        in_channels: input planes; as published log-mel and its delta.
        hidden: units of the first linear layer.
        group_classes: further outputs of the second task; 0 for a network of one task.
    """
    return DSMN(
        "SSSSS",
        WIDTHS,
        num_classes,
        frames=frames,
        mels=mels,
        in_channels=in_channels,
        hidden=hidden,
        group_classes=group_classes,
    )


@register_model(
    title="DSMN Model2, five DSSDB blocks",
    family="dsmn",
    year=2023,
    task=TASK,
    paper=PAPER,
    input_shape=(2, 256, 44),
    num_classes=10,
    segment_s=1.0,
    front_end="scut2023",
    status="certain",
    contradictions=(SWAPPED, *CONTRADICTIONS),
    reported=(
        *_table_3(2, "56.1k", 16.74, 59.2, 56.4),
        *_log_losses(2, (0.974, 1.283, 1.135, 1.166, 1.104, 1.053, 1.327, 1.292, 1.389)),
    ),
    ignored_layers=("l2",),
)
def dsmn(
    num_classes: int = 10,
    *,
    frames: int = 44,
    mels: int = 256,
    in_channels: int = 2,
    hidden: int = 100,
    group_classes: int = 3,
) -> nn.Module:
    """Model2 of Table 2: 56,556 parameters (row Model3 of Table 3); arguments as `dsmn_seg`."""
    return DSMN(
        "DDDDD",
        WIDTHS,
        num_classes,
        frames=frames,
        mels=mels,
        in_channels=in_channels,
        hidden=hidden,
        group_classes=group_classes,
    )


@register_model(
    title="DSMN Model3, one DSSDB_SEG and four DSSDB blocks",
    family="dsmn",
    year=2023,
    task=TASK,
    paper=PAPER,
    input_shape=(2, 256, 44),
    num_classes=10,
    segment_s=1.0,
    front_end="scut2023",
    status="certain",
    contradictions=(SWAPPED, *CONTRADICTIONS),
    reported=(
        *_table_3(3, "56.5k", 25.44, 53.4, 50.8),
        *_log_losses(3, (1.022, 1.354, 1.234, 1.487, 1.310, 1.349, 1.865, 1.894, 1.776)),
    ),
    ignored_layers=("l2",),
)
def dsmn_mixed(
    num_classes: int = 10,
    *,
    frames: int = 44,
    mels: int = 256,
    in_channels: int = 2,
    hidden: int = 100,
    group_classes: int = 3,
) -> nn.Module:
    """Model3 of Table 2: 56,172 parameters (row Model2 of Table 3); arguments as `dsmn_seg`."""
    return DSMN(
        "SDDDD",
        WIDTHS,
        num_classes,
        frames=frames,
        mels=mels,
        in_channels=in_channels,
        hidden=hidden,
        group_classes=group_classes,
    )


@register_model(
    title="DSMN Model4, five wider DSSDB_SEG blocks",
    family="dsmn",
    year=2023,
    task=TASK,
    paper=PAPER,
    input_shape=(2, 256, 44),
    num_classes=10,
    segment_s=1.0,
    front_end="scut2023",
    status="ambiguous",
    contradictions=(
        "Model4 does not run as published: its channel list is one entry short and its head takes "
        "224 inputs where 512 arrive.",
        "Table 3's 121.8k parameters fit a head of 64 hidden units (taken here), its 20.92 MMACs "
        "one of 100 units; no one network has both. With 100 units: 140,748 parameters, over the "
        "limit of 128 kB.",
        *CONTRADICTIONS,
    ),
    reported=(
        *_table_3(4, "121.8k", 20.92, 54.7, 52.4),
        *_log_losses(4, (1.100, 1.449, 1.365, 1.383, 1.317, 1.344, 1.476, 1.403, 1.474)),
    ),
    ignored_layers=("l2",),
)
def dsmn_seg_large(
    num_classes: int = 10,
    *,
    frames: int = 44,
    mels: int = 256,
    in_channels: int = 2,
    hidden: int = 64,
    group_classes: int = 3,
) -> nn.Module:
    """Model4 of Table 2: 121,812 parameters; arguments as for `dsmn_seg`."""
    widths = (24, 128, 128, 128, 128)
    return DSMN(
        "SSSSS",
        widths,
        num_classes,
        frames=frames,
        mels=mels,
        in_channels=in_channels,
        hidden=hidden,
        group_classes=group_classes,
    )
