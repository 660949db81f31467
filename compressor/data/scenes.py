"""The embedded default: a deterministic synthetic set of acoustic scenes in the official layout.

The ten scene names, the folder layout and the devices are those of TAU Urban Acoustic Scenes 2022
Mobile; every sound is made here from noise, pulses and sines. The set exists so that a sweep runs
within minutes on a machine without any recordings. It is synthetic: accuracies on it say how a
network bears compression, nothing about real places.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from compressor.data.scenes_mix import DEVICES
from compressor.data.scenes_signal import CLIP_S, SAMPLE_RATE_HZ
from compressor.data.scenes_workers import SCENES, SceneClip, write_clips
from compressor.errors import ConfigError, DataError
from compressor.runtime import cores

__all__ = ["SPEC", "VERSION", "SceneClip", "generate", "plan"]

VERSION: Final = "synthetic-scenes-3"
"""Changes with every change of the sounds or the lists, and with it the folder in the cache."""

# Nine cities in both parts; the tenth is heard in the evaluation part only.
CITIES: Final = (
    *("barcelona", "helsinki", "lisbon", "london", "lyon"),
    *("milan", "paris", "prague", "stockholm", "vienna"),
)
TRAIN_LOCATIONS: Final = 21  # a scene
EVALUATE_LOCATIONS: Final = 9  # a scene
EVALUATE_SHARE: Final = 0.3
# Two thirds of the training part come from device a (TAU: 73 %), the rest from five others.
TRAIN_DEVICES: Final = (
    "a",
    "a",
    "b",
    "a",
    "a",
    "c",
    "a",
    "a",
    "s1",
    "a",
    "a",
    "s2",
    "a",
    "a",
    "s3",
)
_LEAST_CLIPS: Final = 2 * len(SCENES)  # one a scene and part
_STALE_S: Final = 3600.0  # an unfinished folder untouched for an hour belongs to a dead process
_FACTS_FILE: Final = "synthetic.json"

SPEC: Final[Mapping[str, object]] = MappingProxyType(
    {
        "version": VERSION,
        "synthetic": True,
        "classes": SCENES,
        "cities": CITIES,
        "devices": tuple(DEVICES),
        "devices_train": tuple(dict.fromkeys(TRAIN_DEVICES)),
        "locations_train": TRAIN_LOCATIONS * len(SCENES),
        "locations_evaluate": EVALUATE_LOCATIONS * len(SCENES),
        "clip_s": CLIP_S,
        "sample_rate_hz": SAMPLE_RATE_HZ,
    }
)
"""Facts of the set in plain values, for reports and tests."""


def plan(clips: int = 1500) -> tuple[SceneClip, ...]:
    """List the clips of a set of ``clips``: 70 % for training, 30 % for evaluation, balanced.

    Raises:
        ConfigError: fewer clips than one a scene and part.
    """
    if clips < _LEAST_CLIPS:
        raise ConfigError(
            f"clips={clips} is too few for the synthetic scenes; allowed: {_LEAST_CLIPS} or more "
            "(one a scene and part), 1500 is the default"
        )
    listed: list[SceneClip] = []
    for number, scene in enumerate(SCENES):
        here = clips // len(SCENES) + (number < clips % len(SCENES))
        evaluate = max(1, round(here * EVALUATE_SHARE))
        for train, count in ((True, here - evaluate), (False, evaluate)):
            for index in range(count):
                if train:
                    local = index * TRAIN_LOCATIONS // count
                    device = TRAIN_DEVICES[(index + number) % len(TRAIN_DEVICES)]
                    city = CITIES[local % (len(CITIES) - 1)]
                else:
                    local = TRAIN_LOCATIONS + index * EVALUATE_LOCATIONS // count
                    device = tuple(DEVICES)[(index + number) % len(DEVICES)]
                    city = CITIES[(local + number) % len(CITIES)]
                location = number * (TRAIN_LOCATIONS + EVALUATE_LOCATIONS) + local
                clip = SceneClip(scene, city, location, len(listed), device, train, index)
                listed.append(clip)
    return tuple(listed)


def generate(
    root: Path,
    *,
    clips: int = 1500,
    seed: int = 2021,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the synthetic set to ``root`` in the official TAU 2022 Mobile layout.

    The folder appears whole or not at all: it is made under another name beside ``root`` and
    renamed. Two processes may do so at once; the second keeps what the first has put there. A
    finished set with the same version, seed and number of clips is left as it is. The samples do
    not depend on ``workers``.

    Args:
        root: folder to make; its parents are made too.
        clips: clips of both parts together, at least 20.
        seed: seed of everything; another seed is another set.
        workers: processes; None is one a usable core, 1 works in this process.
        on_progress: called with (clips done, clips in all), from one thread at a time.

    Returns:
        ``root``.

    Raises:
        ConfigError: a number of clips, a seed or a number of workers that cannot be.
        DataError: ``root`` holds something else, or cannot be written.
        MeasureError: a worker process died.
    """
    listed = plan(clips)
    if seed < 0:
        raise ConfigError(f"seed={seed} is negative; allowed: 0 or more")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}; allowed: 1 or more, or none for all cores")
    facts = {"version": VERSION, "synthetic": True, "seed": seed, "clips": clips}
    if _is_made(root, facts):
        return root
    temporary = root.with_name(f".{root.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        _remove_stale(root)
        (temporary / "audio").mkdir(parents=True)
        write_clips(temporary, listed, seed, workers or cores(), on_progress)
        _write_lists(temporary, listed)
        (temporary / _FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        try:
            temporary.rename(root)
        except OSError:  # another process was first, or something else has come in between
            if not _is_made(root, facts):
                raise
    except OSError as error:
        raise DataError(
            f"the synthetic scenes cannot be written to {root}: {error}; free some space or name "
            "another cache folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _is_made(root: Path, facts: Mapping[str, object]) -> bool:
    """Whether ``root`` holds this very set; an error where it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found: object = json.loads((root / _FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = "no synthetic scenes"
    if found != facts:
        raise DataError(
            f"{root} is not empty and holds {found}; wanted: {dict(facts)}; remove the folder or "
            "name another one"
        )
    return True


def _remove_stale(root: Path) -> None:
    """Remove what killed processes left beside ``root``."""
    for left in root.parent.glob(f".{root.name}.*.tmp"):
        try:
            stale = time.time() - (left / "audio").stat().st_mtime > _STALE_S
        except OSError:  # its owner is just making or removing it
            continue
        if stale:
            shutil.rmtree(left, ignore_errors=True)


def _write_lists(root: Path, listed: Sequence[SceneClip]) -> None:
    """Write meta.csv and the fold-1 lists; tab separated, the evaluate list with CRLF as in TAU."""
    meta = ["filename\tscene_label\tidentifier\tsource_label"]
    meta += [f"{c.filename}\t{c.scene}\t{c.identifier}\t{c.device}" for c in listed]
    labelled = {
        part: [f"{c.filename}\t{c.scene}" for c in listed if c.train is part]
        for part in (True, False)
    }
    train = ["filename\tscene_label", *labelled[True]]
    evaluate = ["filename\tscene_label", *labelled[False]]
    test = ["filename", *(c.filename for c in listed if not c.train)]
    setup = root / "evaluation_setup"
    setup.mkdir()
    for path, lines, end in (
        (root / "meta.csv", meta, "\n"),
        (setup / "fold1_train.csv", train, "\n"),
        (setup / "fold1_test.csv", test, "\n"),
        (setup / "fold1_evaluate.csv", evaluate, "\r\n"),
    ):
        path.write_bytes(end.join([*lines, ""]).encode("utf-8"))
