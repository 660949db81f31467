"""The DCASE low-complexity baselines of 2020 to 2023: two or three 7x7 convolutions.

2020 Task 1B: T. Heittola, A. Mesaros, T. Virtanen, "Acoustic scene classification in DCASE 2020
challenge: generalization across devices and low complexity solutions", 2020. 2021 Task 1A:
I. Martín-Morató et al., "Low-complexity acoustic scene classification for multi-device audio:
analysis of DCASE 2021 challenge systems", 2021. 2022 (and 2023) Task 1: I. Martín-Morató et al.,
"Low-complexity acoustic scene classification in DCASE 2022 challenge", 2022.

The organisers' networks are written in Keras; these have the same layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.fx
from torch import Tensor, nn

from zoo.layers import check_input, check_size
from zoo.registry import Reported, register_model

__all__ = ["BaselineCNN", "dcase2020_baseline", "dcase2021_baseline", "dcase2022_baseline"]

torch.fx.wrap("check_input")

POOL = 5  # first pooling, both axes
MEL_POOL = 4  # second pooling, mel axis; its time side covers the whole segment
DROPOUT = 0.3


class BaselineCNN(nn.Module):
    """7x7 convolutions with BatchNorm and ReLU, two max poolings, two dense layers.

    The last pooling spans the whole segment, and dense layers follow: the segment length is fixed
    when the network is built. Input (N, C, M, T); output logits (N, num_classes).
    """

    def __init__(
        self, stages: Sequence[Sequence[int]], num_classes: int, frames: int, mels: int, planes: int
    ) -> None:
        super().__init__()
        check_size("num_classes", num_classes)
        self.in_channels = check_size("in_channels", planes)
        self.mels = check_size("mels", mels, POOL * MEL_POOL, "the poolings divide it by 5 and 4")
        check_size("frames", frames, POOL, "the first pooling divides it by 5")
        time_pool = frames // POOL
        # lengths for which the last pooling gives exactly one position
        self.frames = (POOL * time_pool, 2 * POOL * time_pool - 1)
        layers: list[nn.Module] = []
        inputs = planes
        for widths, pool in zip(stages, ((POOL, POOL), (MEL_POOL, time_pool)), strict=True):
            for width in widths:
                layers += [
                    nn.Conv2d(inputs, width, 7, padding=3),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                inputs = width
            layers += [nn.MaxPool2d(pool), nn.Dropout(DROPOUT)]
        self.features = nn.Sequential(*layers)
        rows = mels // POOL // MEL_POOL
        self.dense1 = nn.Linear(inputs * rows, 100)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(DROPOUT)
        self.dense2 = nn.Linear(100, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of features (N, C, M, T)."""
        x = check_input(x, self.in_channels, self.mels, self.frames)
        x = self.dense1(self.features(x).flatten(1))
        logits: Tensor = self.dense2(self.drop(self.relu(x)))
        return logits


@register_model(
    title="DCASE 2020 baseline, two 7x7 convolutions",
    family="dcase_baseline",
    year=2020,
    task="DCASE 2020 Task 1B",
    paper=(
        "T. Heittola, A. Mesaros, T. Virtanen, Acoustic scene classification in DCASE 2020 "
        "challenge: generalization across devices and low complexity solutions, DCASE Workshop, "
        "2020"
    ),
    input_shape=(1, 40, 500),
    num_classes=3,
    segment_s=10.0,
    front_end="dcase2020_baseline",
    status="certain",
    contradictions=(
        "115,219 leaves BatchNorm out, as that year's rule does; with its scales and shifts there "
        "are 115,411. The 116,118 of the baseline's page is a network of ten classes.",
    ),
    reported=(
        Reported("parameters, without BatchNorm", 115219, "", "Challenge page, baseline"),
        Reported("size, float32", 450.1, "KB", "Challenge page, baseline"),
        Reported("accuracy", 87.3, "%", "Challenge page, baseline"),
        Reported("log loss", 0.437, "nats", "Challenge page, baseline"),
    ),
    ignored_layers=("dense2",),
)
def dcase2020_baseline(
    num_classes: int = 3, *, frames: int = 500, mels: int = 40, in_channels: int = 1
) -> nn.Module:
    """Baseline of 2020 Task 1B: 115,219 parameters without BatchNorm, 115,411 with it.

    Args:
        num_classes: outputs of the classifier.
        frames: segment length, at least 5; the last pooling is made to span it.
        mels: mel bands, at least 20.
        in_channels: input planes.
    """
    return BaselineCNN(((32,), (64,)), num_classes, frames, mels, in_channels)


@register_model(
    title="DCASE 2021 baseline, three 7x7 convolutions",
    family="dcase_baseline",
    year=2021,
    task="DCASE 2021 Task 1A",
    paper=(
        "I. Martín-Morató, T. Heittola, A. Mesaros, T. Virtanen, Low-complexity acoustic scene "
        "classification for multi-device audio: analysis of DCASE 2021 Challenge systems, DCASE "
        "Workshop, 2021"
    ),
    input_shape=(1, 40, 500),
    num_classes=10,
    segment_s=10.0,
    front_end="dcase2021_baseline",
    status="certain",
    contradictions=(
        "46,246 counts BatchNorm's 128 moving statistics; without them there are 46,118.",
        "90.3 KB has all at two bytes; the baseline's own table keeps BatchNorm in float32: 90.82.",
    ),
    reported=(
        Reported("parameters, with moving statistics", 46246, "", "Baseline repository"),
        Reported("size, float16", 90.3, "KB", "Challenge page, baseline"),
        Reported("accuracy", 47.7, "%", "Challenge page, baseline"),
        Reported("log loss", 1.473, "nats", "Challenge page, baseline"),
    ),
    ignored_layers=("dense2",),
)
def dcase2021_baseline(
    num_classes: int = 10, *, frames: int = 500, mels: int = 40, in_channels: int = 1
) -> nn.Module:
    """Baseline of 2021 Task 1A: 46,118 parameters; arguments as for `dcase2020_baseline`."""
    return BaselineCNN(((16, 16), (32,)), num_classes, frames, mels, in_channels)


@register_model(
    title="DCASE 2022 and 2023 baseline, three 7x7 convolutions on 1 s",
    family="dcase_baseline",
    year=2022,
    task="DCASE 2022 Task 1",
    paper=(
        "I. Martín-Morató, F. Paissan, A. Ancilotto, T. Heittola, A. Mesaros, E. Farella, "
        "A. Brutti, T. Virtanen, Low-complexity acoustic scene classification in DCASE 2022 "
        "Challenge, DCASE Workshop, 2022"
    ),
    input_shape=(1, 40, 51),
    num_classes=10,
    segment_s=1.0,
    front_end="dcase2022_baseline",
    status="certain",
    contradictions=(
        "The published figures are of the int8 file with BatchNorm folded: 45,816 int8 weights and "
        "174 int32 biases are 46,512 bytes.",
        "29,234,920 MACs are counted on that file; the counter for torch gives 29,271,638 here.",
    ),
    reported=(
        Reported("size, int8", 46.512, "kB", "Challenge page, baseline"),
        Reported("MACs, int8 file", 29.23492, "MMACs", "Challenge page, baseline"),
        Reported("accuracy", 42.9, "%", "Challenge page, baseline"),
        Reported("log loss", 1.575, "nats", "Challenge page, baseline"),
    ),
    ignored_layers=("dense2",),
)
def dcase2022_baseline(
    num_classes: int = 10, *, frames: int = 51, mels: int = 40, in_channels: int = 1
) -> nn.Module:
    """Baseline of 2022 and 2023: 46,118 parameters; arguments as for `dcase2020_baseline`."""
    return BaselineCNN(((16, 16), (32,)), num_classes, frames, mels, in_channels)
