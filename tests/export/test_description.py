"""What a file says of itself, and the length of sound that fits an input."""

from __future__ import annotations

import dataclasses

import pytest

from compressor.artifact import Artifact
from compressor.audio.logmel import LogMel
from compressor.errors import ModelFileError
from compressor.export.description import Description, clip_seconds, describe


def front_end(rate_hz: int, hop: int, *, center: bool = True) -> LogMel:
    return LogMel(
        name="test",
        source="test",
        sample_rate_hz=rate_hz,
        n_fft=2048,
        win_length=2048,
        hop_length=hop,
        n_mels=40,
        f_min_hz=0.0,
        f_max_hz=rate_hz / 2,
        mel_scale="htk",
        mel_norm="none",
        power=2.0,
        log="ln",
        log_floor=1e-5,
        center=center,
        window="hann",
    )


@pytest.mark.parametrize(
    ("rate_hz", "hop", "frames", "expected"),
    [
        # centred: frames = 1 + samples // hop
        (44_100, 882, 51, 1.0),  # 44,100 // 882 = 50
        (44_100, 1024, 44, 1.0),  # 44,100 // 1024 = 43, as are 44,032 to 45,055 samples
        (44_100, 882, 501, 10.0),  # 441,000 // 882 = 500
        (32_000, 500, 65, 1.0),  # 32,000 // 500 = 64
        (44_100, 882, 251, 5.0),  # 220,500 // 882 = 250
        (16_000, 320, 21, 0.4),  # 6,400 // 320 = 20
    ],
)
def test_clip_length_from_frames(rate_hz: int, hop: int, frames: int, expected: float) -> None:
    made = front_end(rate_hz, hop)
    assert clip_seconds(made, frames) == expected
    assert made.frames(expected) == frames


def test_clip_length_without_centring() -> None:
    # 1 + (samples - 2048) // 512 = 30 frames from 2048 + 29 * 512 = 16,896 to 17,407 samples:
    # 1.056 to 1.0879 s at 16 kHz; the roundest in it: no whole or half second, no tenth, no
    # twentieth (1.05, 1.10), but 1.06
    made = front_end(16_000, 512, center=False)
    assert clip_seconds(made, 30) == 1.06


def test_clip_length_that_training_noted_wins() -> None:
    made = front_end(44_100, 1024)
    assert clip_seconds(made, 44, ({"step": "train", "clip_s": 1.01},)) == 1.01
    # a note that does not give these frames is of another network: 2 s give 87
    assert clip_seconds(made, 44, ({"step": "train", "clip_s": 2.0},)) == 1.0


def test_round_trip(artifact: Artifact) -> None:
    described = describe(artifact, "float16")
    strings = described.to_strings()
    assert all(key.startswith("compressor.") for key in strings)
    assert Description.from_strings({**strings, "other": "x"}, "f") == described


@pytest.mark.parametrize("key", ["classes", "front_end", "clip_s"])
def test_missing_keys_are_named(artifact: Artifact, key: str) -> None:
    strings = describe(artifact, "float32").to_strings()
    del strings[f"compressor.{key}"]
    with pytest.raises(ModelFileError, match=f"f.onnx does not say 'compressor.{key}'"):
        Description.from_strings(strings, "f.onnx")


def test_damaged_values_are_refused(artifact: Artifact) -> None:
    good = describe(artifact, "float32")
    for strings in (
        {**good.to_strings(), "compressor.clip_s": "{"},
        {**good.to_strings(), "compressor.clip_s": '"long"'},
        dataclasses.replace(good, input_shape=(1, 2)).to_strings(),  # type: ignore[arg-type]
        dataclasses.replace(good, num_classes=0).to_strings(),
    ):
        with pytest.raises(ModelFileError, match=r"f\.onnx"):
            Description.from_strings(strings, "f.onnx")
