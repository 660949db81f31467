"""A training recipe of a small network, for the clips of `tiny_data`."""

from __future__ import annotations

TINY = """
version = 1

[recipe]
title = "a small network"
paper = "Nobody, Nothing, 2024"
task = "none"
year = 2023
notes = ["nothing is open"]

[data]
title = "another set"
segment_s = 0.8

[model]
name = "seresnet18"
args = { blocks = [1, 1, 1, 1], widths = [4, 4, 4, 4] }

[features]
preset = "speakin2021:n_mels=12"
crop_s = 0.6

[training]
epochs = 2
batch_size = 8
optimizer = "adamw"
lr = 5e-3
weight_decay = 0.0
schedule = "constant"
mixup_alpha = 0.2
time_masks = 1
time_shift_frames = 4.0
tta_copies = 2
validation_share = 0.0

[[compression.half.step]]
kind = "cast"

[ablation.no-mixup]
about = "no mixup"
set.training.mixup_alpha = 0.0

[ablation.no-copies]
about = "no copies at test time"
set.training.tta_copies = 0

[[paper.rows]]
name = "theirs"
source = "Table 9"
of = "half"
params = "1k"
accuracy = 77.7

[[paper.rows]]
name = "without mixup"
source = "Table 9"
of = "ablation no-mixup"
accuracy = 70.1

[[paper.by]]
group = "class"
figure = "accuracy"
of = "half"
source = "Table 10"
values = { low = 12.5, high = 99.0 }
"""
