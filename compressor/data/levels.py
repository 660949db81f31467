"""Levels of the recordings of a data set, computed when first asked for and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.data.files import Question, remembered
from compressor.errors import DataError

__all__ = ["LevelReader"]


@dataclass(frozen=True)
class LevelReader:
    """Reads the level of recordings (`audio.level.level_db`), the first `clip_s` seconds of each.

    Features do not hold it (a standardised clip has none), and most runs never need it, so it is
    not part of the feature cache: answers are kept beside the files' hashes.

    Attributes:
        cache: cache folder, see `dataset.cache_dir`.
        clip_s: length clips are brought to, in seconds.
    """

    cache: Path
    clip_s: float

    def __call__(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Levels in dB, (len(paths),).

        Raises:
            DataError: a file that is no readable audio.
        """
        question = Question(f"levels-{self.clip_s:g}s", self._ask, "{:.3f}".format, float)
        return np.array(remembered(paths, self.cache, question), dtype=np.float32)

    def _ask(self, path: Path) -> float:
        import soundfile

        from compressor.audio.level import level_db

        try:
            with soundfile.SoundFile(str(path)) as file:
                rate = int(file.samplerate)
                audio = file.read(round(self.clip_s * rate), dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise DataError(f"{path} cannot be read as audio: {error}") from error
        return level_db(np.ascontiguousarray(audio.T), rate)
