"""Data sets and their cached features.

`open_dataset` reads what is on disk (or makes the embedded synthetic set), `features.extract` turns
it into cached float16 log-mel features.
"""

from compressor.data.dataset import Clip, SceneSet, cache_dir, open_dataset
from compressor.data.scene_groups import scene_groups

__all__ = ["Clip", "SceneSet", "cache_dir", "open_dataset", "scene_groups"]
