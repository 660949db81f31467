"""The log-mel front-end: one frozen dataclass that turns a waveform into features (numpy only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from compressor.audio.spectrum import FloatArray, deltas, mel_filter_bank, spectrogram
from compressor.errors import ConfigError, ShapeError, UnknownNameError

__all__ = ["LogMel", "in_words_of", "same_features"]

MelScale = Literal["htk", "slaney"]
MelNorm = Literal["none", "slaney"]
Log = Literal["ln", "log10", "db"]
Window = Literal["hann", "hamming"]
Standardize = Literal["none", "clip"]

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "mel_scale": get_args(MelScale),
    "mel_norm": get_args(MelNorm),
    "log": get_args(Log),
    "window": get_args(Window),
    "standardize": get_args(Standardize),
}


def same_features(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two front-ends as plain data give the same features.

    Their `source` may differ: it says where the settings come from and changes none of them.
    """
    return {**one, "source": ""} == {**other, "source": ""}


def in_words_of(found: object, asked: dict[str, Any]) -> dict[str, Any]:
    """`asked`, as `found` has it where only the words on its source differ.

    Args:
        found: a stored front-end as plain data, or anything else.
        asked: the front-end wanted, as plain data.
    """
    return dict(found) if isinstance(found, Mapping) and same_features(found, asked) else asked


@dataclass(frozen=True)
class LogMel:
    """A log-mel front-end; calling it turns a waveform into features.

    Lengths are in samples at `sample_rate_hz`. The logarithm is taken of (mel power + log_floor);
    "db" is 10 * log10. `deltas` stacks the slope of every channel behind the channels.
    `standardize` "clip" brings each channel of each clip to mean 0 and standard deviation 1.
    `energy` makes the log of the frame's energy (the sum of its spectrum) the first of the `n_mels`
    dimensions, and n_mels - 1 mel bands the others.

    Raises:
        ConfigError: a setting that cannot work (names the field, the value and what is allowed).
    """

    name: str
    source: str
    sample_rate_hz: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    f_min_hz: float
    f_max_hz: float
    mel_scale: MelScale
    mel_norm: MelNorm
    power: float
    log: Log
    log_floor: float
    center: bool
    window: Window
    audio_channels: int = 1
    deltas: bool = False
    delta_window: int = 5
    standardize: Standardize = "none"
    energy: bool = False

    def __post_init__(self) -> None:
        """Checks every setting once, where it is set."""
        for key in ("sample_rate_hz", "n_fft", "win_length", "hop_length", "n_mels"):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(
                    f"front-end {self.name!r}: {key} is {value!r}; allowed: 1 or more"
                )
        if self.energy and self.n_mels < 2:
            raise ConfigError(
                f"front-end {self.name!r}: n_mels is {self.n_mels} with energy; allowed: 2 or "
                "more, for the energy takes the place of one band"
            )
        if self.win_length > self.n_fft:
            raise ConfigError(
                f"front-end {self.name!r}: win_length {self.win_length} is longer than n_fft "
                f"{self.n_fft}; allowed: at most n_fft"
            )
        if not 0.0 <= self.f_min_hz < self.f_max_hz <= self.sample_rate_hz / 2.0:
            raise ConfigError(
                f"front-end {self.name!r}: mel range {self.f_min_hz:g} to {self.f_max_hz:g} Hz; "
                f"allowed: 0 <= f_min_hz < f_max_hz <= {self.sample_rate_hz / 2.0:g} Hz"
            )
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(
                    f"front-end {self.name!r}: {key} is {getattr(self, key)!r}; "
                    f"allowed: {', '.join(allowed)}"
                )
        if self.audio_channels not in (1, 2):
            raise ConfigError(
                f"front-end {self.name!r}: audio_channels is {self.audio_channels}; allowed: 1, 2"
            )
        # The floor is added in float32: one that vanishes there would give log(0).
        if self.power <= 0.0 or not np.float32(self.log_floor) > 0.0:
            raise ConfigError(
                f"front-end {self.name!r}: power is {self.power:g}, log_floor {self.log_floor:g}; "
                "both must be above 0 in float32"
            )
        if self.deltas and (self.delta_window < 3 or self.delta_window % 2 == 0):
            raise ConfigError(
                f"front-end {self.name!r}: delta_window is {self.delta_window}; "
                "allowed: an odd number of frames, 3 or more"
            )

    def changed(self, changes: str) -> LogMel:
        """The same front-end with other settings, "n_mels=64,hop_length=512".

        Lengths are in samples at this front-end's rate. The name gets the changes as a suffix.

        Raises:
            UnknownNameError: no such setting; offers close names.
            ConfigError: a value of the wrong type, or one that cannot work.
        """
        types = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        for fixed in ("name", "source", "sample_rate_hz"):
            del types[fixed]
        values: dict[str, Any] = {}
        for part in changes.split(","):
            key, separator, text = (piece.strip() for piece in part.partition("="))
            if not separator:
                raise ConfigError(f"front-end setting {part!r}: write key=value, as n_mels=64")
            if key not in types:
                raise UnknownNameError("front-end setting", key, types)
            values[key] = _typed(key, text, types[key])
        return replace(self, name=f"{self.name}:{changes}", **values)

    def frames(self, duration_s: float) -> int:
        """Number of frames of a clip of `duration_s` seconds.

        Raises:
            ShapeError: the clip is too short for one frame.
        """
        return self._frames_of(round(duration_s * self.sample_rate_hz))

    def shape(self, duration_s: float) -> tuple[int, int, int]:
        """(C, M, T) of a clip of `duration_s` seconds."""
        return self.channels, self.n_mels, self.frames(duration_s)

    @property
    def channels(self) -> int:
        """Feature channels C: audio channels, doubled by deltas."""
        return self.audio_channels * (2 if self.deltas else 1)

    @property
    def log_unit(self) -> float:
        """By how much a log-mel rises when the sound's power is multiplied by e.

        1 for the natural logarithm of power, 1 / ln 10 for log10, 10 / ln 10 for decibels, and half
        of it for magnitudes (`power` 1). Holds above `log_floor`, and before standardisation.
        """
        per_base = {"ln": 1.0, "log10": 1.0 / np.log(10.0), "db": 10.0 / np.log(10.0)}
        return float(per_base[self.log] * self.power / 2.0)

    def at_rate(self, sample_rate_hz: int) -> LogMel:
        """The same front-end for audio at another rate: equal milliseconds, equal mel bands.

        `f_max_hz` comes down to the new Nyquist frequency where it must; `n_fft` becomes the next
        power of two that holds the window. The name gets the suffix "@<rate>".

        Raises:
            ConfigError: the rate leaves no room above `f_min_hz`.
        """
        if sample_rate_hz == self.sample_rate_hz:
            return self
        ratio = sample_rate_hz / self.sample_rate_hz
        win_length = max(1, round(self.win_length * ratio))
        return replace(
            self,
            name=f"{self.name.split('@')[0]}@{sample_rate_hz}",
            sample_rate_hz=sample_rate_hz,
            n_fft=1 << (win_length - 1).bit_length(),
            win_length=win_length,
            hop_length=max(1, round(self.hop_length * ratio)),
            f_max_hz=min(self.f_max_hz, sample_rate_hz / 2.0),
        )

    def __call__(self, waveform: FloatArray) -> FloatArray:
        """Features of one clip at `sample_rate_hz`: float32 (C, M, T).

        Args:
            waveform: (samples,) or (audio channels, samples), full scale +-1. A one-channel
                front-end averages two channels; a two-channel one repeats a single channel.

        Raises:
            ShapeError: too few samples, or more than two channels.
        """
        audio = self._with_channels(np.atleast_2d(np.asarray(waveform, dtype=np.float32)))
        self._frames_of(audio.shape[-1])
        power = spectrogram(
            audio,
            n_fft=self.n_fft,
            win_length=self.win_length,
            hop_length=self.hop_length,
            window=self.window,
            center=self.center,
            power=self.power,
        )
        features = self._log(self.mel_filters() @ power)
        if self.deltas:
            features = np.concatenate([features, deltas(features, self.delta_window)])
        if self.standardize == "clip":
            mean = features.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
            std = features.std(axis=(1, 2), keepdims=True, dtype=np.float64)
            # A silent clip has no spread: it becomes all zeros instead of dividing by zero.
            features = ((features - mean) / np.where(std > 1e-8, std, 1.0)).astype(np.float32)
        return np.ascontiguousarray(features)

    def mel_filters(self) -> FloatArray:
        """The filter bank, float32 (n_mels, n_fft // 2 + 1); with `energy` its first row is 1."""
        bank = mel_filter_bank(
            sample_rate_hz=self.sample_rate_hz,
            n_fft=self.n_fft,
            n_mels=self.n_mels - int(self.energy),
            f_min_hz=self.f_min_hz,
            f_max_hz=self.f_max_hz,
            scale=self.mel_scale,
            norm=self.mel_norm,
        )
        if not self.energy:
            return bank
        return np.concatenate([np.ones((1, bank.shape[1]), dtype=np.float32), bank])

    def to_dict(self) -> dict[str, object]:
        """All settings as plain Python, for JSON.

        `energy` is left out where it is off: records and cache keys of before it came stay valid.
        """
        settings = asdict(self)
        if not self.energy:
            del settings["energy"]
        return settings

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> LogMel:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: a key that is unknown or missing, or a value that is not allowed.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise ConfigError(
                f"front-end: unknown key(s) {', '.join(unknown)}; "
                f"allowed: {', '.join(sorted(known))}"
            )
        try:
            return cls(**settings)
        except TypeError as error:
            raise ConfigError(f"front-end settings do not fit: {error}") from error

    def _frames_of(self, samples: int) -> int:
        """Frames of `samples` samples; raises ShapeError when there is not one whole frame."""
        needed = self.n_fft // 2 + 1 if self.center else self.n_fft
        if samples < needed:
            raise ShapeError(
                f"front-end {self.name!r}: a clip of {samples} samples at {self.sample_rate_hz} Hz "
                f"is too short; needed: at least {needed} samples "
                f"({needed / self.sample_rate_hz:.3f} s)"
            )
        return 1 + (samples if self.center else samples - self.n_fft) // self.hop_length

    def _with_channels(self, audio: FloatArray) -> FloatArray:
        """Brings (channels, samples) to the channels this front-end reads."""
        if audio.ndim != 2 or audio.shape[0] > 2:
            raise ShapeError(
                f"front-end {self.name!r}: audio of shape {audio.shape}; "
                "allowed: (samples,), (1, samples) or (2, samples)"
            )
        if audio.shape[0] == self.audio_channels:
            return audio
        if self.audio_channels == 1:
            mono: FloatArray = audio.mean(axis=0, keepdims=True)
            return mono
        return np.concatenate([audio, audio])

    def _log(self, mel: FloatArray) -> FloatArray:
        mel = mel + np.float32(self.log_floor)
        if self.log == "ln":
            return np.log(mel)
        log10: FloatArray = np.log10(mel)
        return log10 if self.log == "log10" else np.float32(10.0) * log10


def _typed(key: str, text: str, kind: type) -> Any:
    """A setting's value from text."""
    if kind is bool:
        if text not in ("true", "false"):
            raise ConfigError(f"front-end setting {key} is {text!r}; allowed: true, false")
        return text == "true"
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigError(f"front-end setting {key} is {text!r}; it must be {wanted}") from None
