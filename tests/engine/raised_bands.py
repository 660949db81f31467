"""Clips of three classes: a raised block of mel bands in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import zoo
from compressor.audio.logmel import preset
from compressor.data.dataset import Clip, SceneSet
from compressor.data.features import Features, FeatureSet, Standardizer

MELS, FRAMES = 12, 20
CLASSES = ("bus", "park", "tram")
ARGS = {"mels": MELS, "frames": FRAMES, "strides": [1, 2, 2, 2]}


def make_part(n: int, seed: int, shape: tuple[int, int, int] = (1, MELS, FRAMES)) -> FeatureSet:
    """`n` clips of features (C, M, T)."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % len(CLASSES)
    x = rng.normal(size=(n, *shape))
    block = shape[1] // len(CLASSES)
    for row, label in enumerate(y):
        x[row, :, block * label : block * (label + 1)] += 1.5
    return FeatureSet(
        x=(2 * x - 3).astype(np.float16),
        index=np.arange(n),
        y=y.astype(np.int64),
        devices=("",) * n,
        groups=tuple(f"g{i}" for i in range(n)),
        classes=CLASSES,
    )


def make_features(
    model: str, shape: tuple[int, int, int] = (1, MELS, FRAMES), clips: tuple[int, int] = (48, 30)
) -> Features:
    """Both parts for a network of the zoo, with its front-end."""
    train, test = make_part(clips[0], 0, shape), make_part(clips[1], 1, shape)
    x = train.array().astype(np.float64)
    files = tuple(Clip(Path(f"{i}.wav"), int(label)) for i, label in enumerate(train.y))
    return Features(
        train=train,
        test=test,
        standardizer=Standardizer(
            mean=tuple(map(tuple, x.mean(axis=(0, 3)).tolist())),
            std=tuple(map(tuple, x.std(axis=(0, 3)).tolist())),
        ),
        front_end=preset(zoo.entry(model).front_end),
        data_hash="0" * 32,
        dataset=SceneSet(
            name="noise",
            title="raised bands in noise",
            root=Path("noise"),
            classes=CLASSES,
            train=files,
            test=files[: clips[1]],
            split="fixed",
            fold=1,
            folds=(1,),
            synthetic=False,
            clip_s=1.0,
            sample_rate_hz=44100,
        ),
    )
