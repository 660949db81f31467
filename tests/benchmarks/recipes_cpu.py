"""CPU time of one training clip of each recipe, and what an epoch of its data set costs.

    python tests/benchmarks/recipes_cpu.py [RECIPE ...] [--clips 32]

Made-up clips of the paper's size, with everything the recipe does to a batch. CPU seconds of one
thread, so that other work on the machine matters little; the wall time of an epoch on n free cores
is a little over the n-th part.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys

from compressor.runtime import tune

tune(threads=1)

import torch  # noqa: E402 - after the threads are set

import zoo  # noqa: E402
from compressor.data.features import Standardizer  # noqa: E402
from compressor.reproduce import list_recipes, load_recipe  # noqa: E402
from compressor.reproduce.check import made_up_clips, made_up_set  # noqa: E402
from compressor.reproduce.prepare import fit_settings, make_experiment  # noqa: E402
from compressor.sweep.experiment import build_network, front_end_of  # noqa: E402
from compressor.training import fit  # noqa: E402

# training clips of the official lists; BUPT's report gives its own
TRAINING_CLIPS = {"speakin2021": 13_965, "deepsound2021": 13_965, "dcase2021": 13_965,
                  "bupt2020": 9_185, "dcase2020": 9_185}  # fmt: skip
TAU_2022 = 139_620


def clip_seconds(spec: str, clips: int) -> float:
    """CPU seconds a training clip: the second of two epochs, as the first one warms up."""
    recipe = load_recipe(spec)
    front_end = front_end_of(recipe.model, recipe.front_end)
    dataset = made_up_set(recipe)
    settings, _ = fit_settings(recipe, dataset, front_end)
    shape = front_end.shape(recipe.segment_s)
    model = build_network(make_experiment(recipe, settings), shape, dataset.classes, seed=0)
    part = made_up_clips(shape, dataset, clips)
    channels, mels, _ = shape
    times: list[float] = []
    before = [0.0]

    def on_epoch(*_: object) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        now = used.ru_utime + used.ru_stime
        times.append(now - before[0])
        before[0] = now

    fit(
        model,
        part,
        dataclasses.replace(
            settings,
            epochs=2,
            batch_size=min(clips, settings.batch_size),
            validation_share=0.0,
            early_stop_epochs=0,
        ),
        standardizer=Standardizer(((0.0,) * mels,) * channels, ((1.0,) * mels,) * channels),
        layout=zoo.entry(recipe.model).layout,
        device="cpu",
        on_epoch=on_epoch,
    )
    batch = min(clips, settings.batch_size)
    return times[1] / (clips // batch * batch)


def main() -> None:
    """Print one row a recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--clips", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {given.clips} clips, one thread", file=sys.stderr)
    for spec in given.recipes or list_recipes():
        recipe = load_recipe(spec)
        seconds = clip_seconds(spec, given.clips)
        clips = TRAINING_CLIPS.get(recipe.name, TAU_2022) * len(recipe.training.speeds)
        hours = seconds * clips / 3600
        print(
            f"{recipe.id:<20} {1000 * seconds:8.1f} ms a clip  {clips:>8,} clips  "
            f"{hours:7.2f} CPU hours an epoch",
            flush=True,
        )


if __name__ == "__main__":
    main()
