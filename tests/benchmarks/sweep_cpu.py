"""CPU seconds of a seven-ratio sweep against a plain torch-pruning script of the same epochs.

    python tests/benchmarks/sweep_cpu.py [--finetune-epochs N] [--workers N] [--threads N]

Both start from the same dense network and the same cached features and fine-tune seven ratios for
the same number of epochs at the same batch size. The plain script is what one writes first: a loop
over ratios with torch-pruning's BNScalePruner, a DataLoader, float32, and torch's own choice of
threads. It is a program and no test: the ratio it prints depends on the machine and its load.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATIOS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)


def plain_script(run: Path, cache: Path | None, epochs: int) -> None:
    """Prune and fine-tune at every ratio, as a plain script would; prints JSON."""
    import torch
    import torch_pruning as tp
    from torch.utils.data import DataLoader, TensorDataset

    import zoo
    from compressor import artifact
    from compressor.audio.logmel import LogMel
    from compressor.data import open_dataset
    from compressor.data.features import extract

    dense = artifact.load(run / "models" / "f1-s0-dense.pt")
    features = extract(open_dataset(cache=cache), LogMel.from_dict(dense.front_end), cache=cache)
    settings = dense.history[0]["settings"]

    def part(which, shuffle):  # type: ignore[no-untyped-def]
        x = torch.from_numpy(features.standardizer.apply(which.array()))
        data = TensorDataset(x, torch.from_numpy(which.y.copy()))
        return DataLoader(data, settings["batch_size"], shuffle=shuffle, drop_last=shuffle)

    train, test = part(features.train, True), part(features.test, False)
    base, example = dense.build(), torch.zeros(1, *dense.input_shape)
    found = {}
    for ratio in RATIOS:
        model = copy.deepcopy(base)
        names = dict(model.named_modules())
        pruner = tp.pruner.BNScalePruner(
            model,
            example,
            importance=tp.importance.BNScaleImportance(normalizer=None),
            global_pruning=True,
            pruning_ratio=ratio,
            ignored_layers=[names[name] for name in zoo.entry(dense.arch).ignored_layers],
        )
        pruner.step()
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"])
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings["lr"], total_steps=epochs * len(train)
        )
        model.train()
        for _ in range(epochs):
            for x, y in train:
                loss = torch.nn.functional.cross_entropy(model(x), y, label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in test)
        found[ratio] = (right / len(features.test), sum(p.numel() for p in model.parameters()))
    print(json.dumps(found))


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """CPU seconds of a command with all its processes, wall seconds, and its standard output."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu, wall, done.stdout


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--finetune-epochs", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of the dense network (default: the sweep's)")
    parser.add_argument("--workers", type=int, help="of the sweep (default: one a core)")
    parser.add_argument("--precision", help="of the sweep (default: the sweep's)")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--threads", type=int, help="of the plain script (default: torch's own)")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain is not None:
        plain_script(options.plain, options.cache, options.finetune_epochs)
        return
    # Neither side gets settings from the shell that runs the benchmark.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
    shared = ["--finetune-epochs", str(options.finetune_epochs)]
    shared += [] if options.cache is None else ["--cache", str(options.cache)]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        sweep = [sys.executable, "-m", "compressor", "sweep", "--out", str(run), *shared]
        for name in ("epochs", "workers", "precision"):
            value = getattr(options, name)
            sweep += [] if value is None else [f"--{name}", str(value)]
        # Makes data, features and the dense network, which both sides then find.
        subprocess.run(
            [*sweep, "--prune", "0.3"], env=environment, check=True, stdout=subprocess.DEVNULL
        )
        ours, ours_wall, _ = measured([*sweep, "--prune", "0.5:0.8"], environment)
        results = json.loads((run / "results.json").read_text())
        swept = {
            group["prune_ratio"]: (group["accuracy"]["mean"], group["params"]["mean"])
            for group in results["summary"]["groups"]
        }
        limited = dict(environment)
        if options.threads is not None:
            limited["OMP_NUM_THREADS"] = str(options.threads)
        plain, plain_wall, text = measured(
            [sys.executable, __file__, "--plain", str(run), *shared], limited
        )
    scripted = {float(ratio): found for ratio, found in json.loads(text).items()}
    # The sizes differ: the pruner leaves a group at full width that it would have to empty.
    print("ratio   sweep %  parameters   plain %  parameters")
    for ratio in RATIOS:
        (accuracy, params), (plain_accuracy, plain_params) = swept[ratio], scripted[ratio]
        print(
            f"{ratio:.2f}    {100 * accuracy:7.1f}  {params:10,.0f}   "
            f"{100 * plain_accuracy:7.1f}  {plain_params:10,.0f}"
        )
    print(
        f"sweep {ours:.1f} CPU s in {ours_wall:.1f} s, "
        f"plain {plain:.1f} CPU s in {plain_wall:.1f} s"
    )
    print(f"sweep / plain = {ours / plain:.2f} of the CPU seconds")


if __name__ == "__main__":
    main()
