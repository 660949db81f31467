"""Data sets and their cached features.

`open_dataset` reads what is on disk (or makes the embedded synthetic set), `features.extract` turns
it into cached float16 log-mel features.
"""

from compressor.data.dataset import Clip, SceneSet, cache_dir, open_dataset

__all__ = ["Clip", "SceneSet", "cache_dir", "open_dataset"]
