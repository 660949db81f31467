"""Makes sweep records for the tests. TEST-ONLY numbers: made up by a formula, measured nowhere."""

from __future__ import annotations

import math
import random
from typing import Any

SCENES = (
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
)
LIMIT_BYTES, LIMIT_MACS = 128_000, 30_000_000
RATIOS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)


def evaluation(accuracy: float, rng: random.Random, classes: Any, devices: Any) -> dict[str, Any]:
    """An evaluation whose class and device accuracies scatter around `accuracy`."""

    def near() -> float:
        return min(1.0, max(0.0, accuracy + rng.gauss(0, 0.08)))

    by_class = {name: near() for name in classes}
    return {
        "n": 400,
        "accuracy": accuracy,
        "macro_accuracy": sum(by_class.values()) / len(by_class),
        "log_loss": -math.log(max(accuracy, 0.05)) + 0.35,
        "class_accuracy": by_class,
        "device_accuracy": {name: near() for name in devices},
        "device_log_loss": dict.fromkeys(devices, 1.0),
        "confusion": _confusion(list(by_class.values())),
    }


def _confusion(shares: list[float], clips: int = 40) -> list[list[int]]:
    """Right answers by class share, the wrong ones with the two classes after it."""
    n = len(shares)
    counts = [[0] * n for _ in shares]
    for i, share in enumerate(shares):
        right = round(clips * share)
        counts[i][i] += right
        counts[i][(i + 1) % n] += (clips - right + 1) // 2
        counts[i][(i + 2) % n] += (clips - right) // 2
    return counts


def sizes(ratio: float, jitter: int = 0) -> dict[str, int]:
    """Sizes that fall with the ratio."""
    params = round(107_170 * (1 - ratio) ** 0.9) + jitter
    macs = round(88_000_000 * (1 - ratio) ** 1.1) + 40 * jitter
    return {
        "params": params,
        "nonzero_params": params - jitter % 7,
        "bytes_float32": 4 * params,
        "bytes_float16": 2 * params,
        "bytes_int8": params + 3 * 2_400,
        "macs": macs,
        "macs_official": macs + 12_345,
        "peak_activation_bytes": 2_048_000,
    }


def layer_costs(size: dict[str, int], layers: list[str]) -> dict[str, list[int]]:
    """Parameters and MACs of each layer: parameters sit late, MACs early."""
    total = sum(range(1, len(layers) + 1))
    return {
        name: [size["params"] * (i + 1) // total, size["macs"] * (len(layers) - i) // total]
        for i, name in enumerate(layers)
    }


def verdict(year: int, size: dict[str, int]) -> dict[str, Any]:
    """A verdict as the audit writes it."""
    checks = []
    for name, limit, key, unit in (
        ("model size", LIMIT_BYTES, "bytes_float16", "B"),
        ("MACs", LIMIT_MACS, "macs_official", "MACs"),
    ):
        checks.append(
            {
                "name": name,
                "limit": limit,
                "value": size[key],
                "margin": limit - size[key],
                "unit": unit,
                "status": "pass" if size[key] <= limit else "fail",
                "evidence": "V" if unit == "B" else "S",
                "note": "",
            }
        )
    status = "pass" if all(check["status"] == "pass" for check in checks) else "fail"
    return {"year": year, "task": f"DCASE {year} Task 1", "status": status, "checks": checks}


def accuracy_at(ratio: float) -> float:
    """A curve with a knee near 0.65."""
    return 0.742 - 0.006 * ratio - 0.45 / (1 + math.exp(-28 * (ratio - 0.74)))


def make_sweep(
    *,
    ratios: tuple[float, ...] = RATIOS,
    folds: tuple[int, ...] = (1,),
    seeds: tuple[int, ...] = (0, 1, 2),
    classes: tuple[str, ...] = SCENES,
    seen: tuple[str, ...] = ("a", "b", "c", "s1", "s2", "s3"),
    unseen: tuple[str, ...] = ("s4", "s5", "s6"),
    synthetic: bool = True,
    title: str = "embedded synthetic scenes",
    methods: tuple[str, ...] = ("slimming",),
    fail: tuple[str, ...] = (),
    verdicts: bool = True,
    budget: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A whole `results.json` as the sweep writes it."""
    rng = random.Random(7)
    devices = (*seen, *unseen)
    points = []
    layers = [f"layers.{block}.{i}.conv{c}" for block in range(4) for i in range(2) for c in (1, 2)]
    for fold in folds:
        for seed in seeds:
            shift = rng.gauss(0, 0.008)
            dense = evaluation(0.742 + shift, rng, classes, devices)
            base = {
                "schema": 1,
                "error": None,
                "model": "seresnet18",
                "model_args": {},
                "prune_by": "channels",
                "fold": fold,
                "seed": seed,
                "params_dense": sizes(0.0)["params"],
                "macs_dense": sizes(0.0)["macs"],
                "train_settings": {"epochs": 40, "lr": 0.005},
                "finetune_settings": {"epochs": 10, "lr": 0.005},
                "history": [{"epoch": 0.0, "loss": 1.0}] * 10,
                "started": "2023-05-01T12:00:00+00:00",
                "seconds": 31.5,
                "cpu_seconds": 30.25,
                "provenance": {
                    "command": ["compressor", "sweep", "--prune", "0.5:0.8"],
                    "versions": {"compressor": "0.1.0", "torch": "2.13.0"},
                    "seed": seed,
                    "data_hash": "0123abcd",
                    "platform": "Linux x86_64",
                    "commit": "abc123",
                },
            }
            points.append(
                {
                    **base,
                    **sizes(0.0),
                    "id": f"f{fold}-s{seed}-dense",
                    "status": "ok",
                    "method": "dense",
                    "prune_ratio": 0.0,
                    "before_finetune": None,
                    "after_finetune": dense,
                    "dense": None,
                    "verdicts": [verdict(2023, sizes(0.0))] if verdicts else [],
                    "layers": layer_costs(sizes(0.0), layers),
                    "audit_status": "exact",
                    "uncounted": [],
                    "model_file": f"models/f{fold}-s{seed}-dense.pt",
                }
            )
            for method_index, method in enumerate(methods):
                for ratio in ratios:
                    name = f"f{fold}-s{seed}-{method}-{ratio:.2f}"
                    if name in fail:
                        points.append(
                            {
                                **base,
                                "id": name,
                                "status": "failed",
                                "error": "Traceback (most recent call last):\n  ...\n"
                                "MemoryError: worker 3 was killed after 3 tries",
                                "method": method,
                                "prune_ratio": ratio,
                            }
                        )
                        continue
                    size = sizes(ratio, rng.randrange(0, 300))
                    after = accuracy_at(ratio) + shift + rng.gauss(0, 0.006) - 0.03 * method_index
                    before = max(0.1, after - 0.12 - 0.9 * max(0.0, ratio - 0.45))
                    points.append(
                        {
                            **base,
                            **size,
                            "id": name,
                            "status": "ok",
                            "method": method,
                            "prune_ratio": ratio,
                            "threshold": 0.1 * ratio,
                            "channels_under_threshold": round(1000 * ratio),
                            "channels_total": 1000,
                            "kept_channels": {
                                layer: [max(2, round(w * (1 - ratio) * rng.uniform(0.7, 1.3))), w]
                                for layer, w in zip(layers, [16, 32, 64, 128] * 4, strict=True)
                            },
                            "before_finetune": evaluation(before, rng, classes, devices),
                            "after_finetune": evaluation(after, rng, classes, devices),
                            "dense": dense,
                            "verdicts": [verdict(2023, size)] if verdicts else [],
                            "layers": layer_costs(size, layers),
                            "audit_status": "exact",
                            "uncounted": [],
                            "model_file": f"models/{name}.pt",
                        }
                    )
    return {
        "schema": 1,
        "run": {
            "name": "synthetic-scenes" if synthetic else title,
            "title": title,
            "split": "official fold 1",
            "synthetic": synthetic,
            "classes": list(classes),
            "n_train": 1100,
            "n_test": 400,
            "devices": list(devices),
            "seen_devices": list(seen),
            "unseen_devices": list(unseen),
            "front_end": "speakin2021",
            "sample_rate_hz": 16000,
            "clip_s": 1.0,
            "budget": budget
            if budget is not None
            else {"bytes": LIMIT_BYTES, "macs": LIMIT_MACS, "year": 2023},
            "command": ["compressor", "sweep", "--prune", "0.5:0.8"],
            "versions": {"compressor": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
            "started": "2023-05-01T12:00:00+00:00",
        },
        "points": points,
    }
