"""A data set of a few short clips: tones of three pitches in noise, one folder a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000


def write_tiny(root: Path, clips: int = 12, seconds: float = 0.4) -> Path:
    """Write `clips` clips for each of three labels, a third of them for the test part."""
    rng = np.random.default_rng(5)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    for label, pitch_hz in {"low": 300.0, "middle": 1200.0, "high": 4000.0}.items():
        for i in range(clips):
            folder = root / ("test" if i % 3 == 0 else "train") / label
            folder.mkdir(parents=True, exist_ok=True)
            tone = 0.3 * np.sin(2 * np.pi * pitch_hz * time + rng.uniform(0, 6))
            sound = tone + 0.05 * rng.standard_normal(len(time))
            soundfile.write(folder / f"{label}{i:02d}.wav", sound, RATE_HZ)
    return root
