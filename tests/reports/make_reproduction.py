"""Makes reproduction records for the tests. TEST-ONLY numbers: made up, measured nowhere."""

from __future__ import annotations

from typing import Any

CLASSES = ("airport", "bus", "park")


def run(line: str, stage: str, seed: int, share: float, clips: int = 100) -> dict[str, Any]:
    """One run: `share` of each class right, the rest taken for the next class."""
    right = round(clips * share)
    wrong = clips - right
    n = len(CLASSES)
    confusion = [[0] * n for _ in CLASSES]
    for i in range(n):
        confusion[i][i], confusion[i][(i + 1) % n] = right, wrong
    by_class = dict.fromkeys(CLASSES, right / clips)
    return {
        "line": line,
        "stage": stage,
        "seed": seed,
        "epochs": 2,
        "params": 54_532,
        "nonzero_params": 54_532,
        "param_bytes": 218_128 if stage == "dense" else 109_064,
        "macs": 29_000_000,
        "macs_official": 29_012_345,
        "measured_in": "torch",
        "epoch_s": 1.5,
        "evaluation": {
            "n": n * clips,
            "accuracy": right / clips,
            "macro_accuracy": right / clips,
            "log_loss": 1.5 - share,
            "class_accuracy": by_class,
            "class_log_loss": dict.fromkeys(CLASSES, 1.5 - share),
            "device_accuracy": {"a": share, "s4": share - 0.1},
            "device_log_loss": {"a": 1.0, "s4": 1.2},
            "confusion": confusion,
        },
    }


def make_reproduction(*, title: str = "another set", name: str = "theirs") -> dict[str, Any]:
    """A whole `results.json` as `compressor reproduce` writes it."""
    seeds = (0, 1, 2)
    shares = {"dense": (0.60, 0.62, 0.64), "half": (0.59, 0.62, 0.62)}
    lines = {
        "recipe": {
            "about": "",
            "compare": [],
            "notes": [],
            "stages": {
                stage: [run("recipe", stage, s, found[s]) for s in seeds]
                for stage, found in shares.items()
            },
        },
        "no-mixup": {
            "about": "no mixup",
            "compare": [],
            "notes": [],
            "stages": {
                "dense": [run("no-mixup", "dense", s, shares["dense"][s] - 0.03) for s in seeds]
            },
        },
    }
    return {
        "schema": 1,
        "kind": "reproduction",
        "recipe": {
            "id": "tiny:a",
            "variant": "a",
            "title": "a small network",
            "about": "",
            "paper": "Nobody, Nothing, 2024",
            "task": "none",
            "year": 2023,
            "data": "the paper's set",
            "notes": ["nothing is open"],
        },
        "data": {
            "title": title,
            "split": "official",
            "fold": 1,
            "synthetic": True,
            "clip_s": 1.0,
            "sample_rate_hz": 16000,
            "classes": list(CLASSES),
            "train_clips": 900,
            "test_clips": 300,
            "unseen_devices": ["s4"],
            "hash": "0123abcd",
        },
        "seeds": list(seeds),
        "epochs": {"trained": 2, "paper": 40},
        "settings": {},
        "notes": [],
        "lines": lines,
        "published": {
            "rows": [
                {
                    "name": name,
                    "source": "Table 9",
                    "of": "half",
                    "variant": "",
                    "params": "54k",
                    "size": "",
                    "macs": "",
                    "accuracy": 66.0,
                    "log_loss": None,
                },
                {
                    "name": "without mixup",
                    "source": "Table 9",
                    "of": "ablation no-mixup",
                    "variant": "",
                    "params": "",
                    "size": "",
                    "macs": "",
                    "accuracy": 60.1,
                    "log_loss": 1.1,
                },
            ],
            "by": [],
        },
        "provenance": {
            "command": ["compressor", "reproduce", "tiny:a"],
            "versions": {"compressor": "0.1.0", "torch": "2.13.0"},
            "commit": "abc123",
            "platform": "Linux x86_64",
        },
        "seconds": 12.0,
    }
