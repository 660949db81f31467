"""Share of an epoch spent outside forward, backward and step: the mark is under 10 % on the CPU.

    python tests/benchmarks/input_cpu.py [--clips N] [--epochs N] [--threads N] [--plain] [--json]

Trains `dsmn_seg` with all that SCUT's report asks for (mixup, stripes, spectrum correction, two
tasks with PCGrad) on made-up features of its size, 2 x 256 x 44, from a memory map on disk. What is
"outside": reading and converting clips, every augmentation, the loss, the projection of gradients,
the schedule, the averaging of weights, the record of the epoch. It is a program and no test: the
share depends on the machine and its load. CPU seconds of the process are compared, so that another
process's load changes little. `--plain` trains with the project's default augmentation instead.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SCUT: dict[str, object] = {
    "optimizer": "radam",
    "lr": 1e-3,
    "schedule": "cosine",
    "label_smoothing": 0.0,
    "mixup_alpha": 0.4,
    "freq_masks": 2,
    "freq_mask_share": 2 / 256,
    "time_masks": 2,
    "time_mask_share": 2 / 44,
    "time_roll": False,
    "ema_decay": 0.0,
    "spectrum_correction": True,
    "tasks": "scene+group",
    "pcgrad": True,
}


class Watch:
    """CPU seconds spent inside the parts of a step, each entered and left by hooks."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("forward", "backward", "step"), 0.0)
        self._entered = 0.0

    def enter(self, *_: object) -> None:
        self._entered = time.process_time()

    def leave(self, part: str) -> None:
        self.seconds[part] += time.process_time() - self._entered


def features(folder: Path, clips: int) -> Any:
    """A made-up part: ten scenes, devices a, b and s1, as many locations as sixty clips each."""
    from compressor.data.features import FeatureSet
    from compressor.data.tau import SCENES

    rng = np.random.default_rng(0)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float16, (clips, 2, 256, 44))
    for first in range(0, clips, 64):
        x[first : first + 64] = rng.standard_normal(x[first : first + 64].shape)
    x.flush()
    return FeatureSet(
        x=np.load(folder / "x.npy", mmap_mode="r"),
        index=np.arange(clips),
        y=np.arange(clips) % 10,
        devices=tuple(("a", "a", "b", "s1")[n % 4] for n in range(clips)),
        groups=tuple(f"city-{n // 60}" for n in range(clips)),
        classes=SCENES,
        standardized_per_clip=True,
    )


def measure(folder: Path, clips: int, epochs: int, *, plain: bool) -> dict[str, float]:
    """CPU seconds of the epochs but the first, inside each part and in all."""
    import torch
    from torch.optim import optimizer as optim

    import zoo
    from compressor.data.features import Standardizer
    from compressor.training import TrainSettings, fit

    chosen: dict[str, object] = {} if plain else SCUT
    settings = TrainSettings.from_dict(
        chosen | {"epochs": epochs, "batch_size": 32, "validation_share": 0.0}
    )
    model = zoo.create("dsmn_seg")
    watch, marks = Watch(), [0.0]
    model.register_forward_pre_hook(watch.enter)
    model.register_forward_hook(lambda *_: watch.leave("forward"))
    backward = torch.Tensor.backward

    def timed(tensor: torch.Tensor, *args: Any, **more: Any) -> None:
        watch.enter()
        backward(tensor, *args, **more)
        watch.leave("backward")

    def on_epoch(epoch: int, _: int, record: dict[str, float]) -> None:
        if epoch == 1:  # allocation and first choice of kernels
            watch.seconds = dict.fromkeys(watch.seconds, 0.0)
            marks[0] = time.process_time()

    torch.Tensor.backward = timed  # type: ignore[assignment]
    optim.register_optimizer_step_pre_hook(watch.enter)
    optim.register_optimizer_step_post_hook(lambda *_: watch.leave("step"))
    band = tuple([0.0] * 256 for _ in range(2))
    one = tuple([1.0] * 256 for _ in range(2))
    fit(
        model,
        features(folder, clips),
        settings,
        standardizer=Standardizer(band, one),  # type: ignore[arg-type]
        layout=zoo.entry("dsmn_seg").layout,
        seed=0,
        device="cpu",
        on_epoch=on_epoch,
    )
    return watch.seconds | {"all": time.process_time() - marks[0]}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=960)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="the default augmentation")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs: at least 2, for the first is not counted")
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.clips, options.epochs, plain=options.plain)
    outside = found["all"] - sum(found[part] for part in ("forward", "backward", "step"))
    share = outside / found["all"]
    if options.json:
        print(json.dumps(found | {"outside": outside, "outside_share": share}))
        return
    steps = (options.epochs - 1) * (options.clips // 32)
    print(f"dsmn_seg, {steps} steps of 32 clips, {options.threads} thread(s), CPU ms a step:")
    for part in ("forward", "backward", "step"):
        print(f"  {part:9s} {1e3 * found[part] / steps:8.1f}")
    print(f"  {'outside':9s} {1e3 * outside / steps:8.1f}   {100 * share:.1f} % (mark: under 10 %)")


if __name__ == "__main__":
    main()
