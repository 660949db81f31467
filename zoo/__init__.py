"""Networks of published low-complexity systems for acoustic scene classification.

`list_models()` names them, `build(name, num_classes)` makes one, `entry(name)` tells what is known.
"""

from zoo import (  # each import registers the networks of one paper
    baselines,
    bupt2020,
    cpmobile2024,
    deepsound2021,
    pku2022,
    scut2023,
    speakin2021,
)
from zoo.own import allow, is_own, network
from zoo.registry import ModelEntry, Reported, build, entry, list_models, register_model

__all__ = [
    "ModelEntry",
    "Reported",
    "allow",
    "baselines",
    "build",
    "bupt2020",
    "cpmobile2024",
    "deepsound2021",
    "entry",
    "is_own",
    "list_models",
    "network",
    "pku2022",
    "register_model",
    "scut2023",
    "speakin2021",
]
