"""A compression recipe: an ordered list of steps, each a frozen dataclass, in TOML, JSON and code.

    version = 1
    seed = 0

    [[step]]
    kind = "slim"
    ratio = 0.65

    [[step]]
    kind = "finetune"
    epochs = 20

Only what differs from the defaults need be written. Every value is checked when a step is made
(`compressor.recipe_steps`), so that a recipe that can be read can be run. Standard library only.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.errors import ConfigError, UnknownNameError
from compressor.recipe_steps import (
    STEPS,
    Cast,
    Export,
    Finetune,
    Prune,
    Quantize,
    Reestimate,
    Slim,
    Step,
    step_from_dict,
)

__all__ = [
    "STEPS",
    "VERSION",
    "Cast",
    "Export",
    "Finetune",
    "Prune",
    "Quantize",
    "Recipe",
    "Reestimate",
    "Slim",
    "Step",
    "read_recipe",
    "step_from_dict",
]

VERSION = 1

# Steps that fix the stored numbers: what comes after them may only write the result out.
_FINAL = ("cast", "quantize")


@dataclass(frozen=True)
class Recipe:
    """Steps in their order, and the seed of all that is drawn in them.

    Attributes:
        steps: at least one.
        seed: of order, augmentation, calibration clips and random importance.
    """

    steps: tuple[Step, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ConfigError for no step, a bad seed, or an order that cannot work."""
        object.__setattr__(self, "steps", tuple(self.steps))
        known = ", ".join(STEPS)
        if not self.steps:
            raise ConfigError(f"the recipe has no step; add a [[step]] of kind {known}")
        for step in self.steps:
            if type(step) not in STEPS.values():
                raise ConfigError(f"a recipe holds steps ({known}), found {type(step).__name__}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"seed is {self.seed!r}; give a whole number of at least 0")
        for place, step in enumerate(self.steps):
            if step.kind in _FINAL:
                after = [s.kind for s in self.steps[place + 1 :] if s.kind != "export"]
                if after:
                    raise ConfigError(
                        f"step {place + 1} ({step.kind}) fixes the stored numbers, but {after[0]} "
                        f"comes after it; put {step.kind} last (only export may follow)"
                    )

    @property
    def needs_data(self) -> tuple[str, ...]:
        """Kinds of the steps that cannot run without clips, each once."""
        return tuple(dict.fromkeys(step.kind for step in self.steps if _needs_data(step)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON) from which `from_dict` makes an equal recipe."""
        return {
            "version": VERSION,
            "seed": self.seed,
            "step": [step.to_dict() for step in self.steps],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`; what is left out has its default.

        Raises:
            UnknownNameError: an unknown key, kind or setting, with close ones.
            ConfigError: a bad value, a newer version, or an order that cannot work.
        """
        if "training" in record or "extends" in record:
            raise ConfigError(
                "it is a training recipe (how a network is made); give it to `compressor train "
                "--recipe` or `compressor reproduce`. A compression recipe has [[step]] tables"
            )
        known = ("version", "seed", "step")
        for key in record:
            if key not in known:
                raise UnknownNameError("key of a recipe", str(key), known)
        version = record.get("version", VERSION)
        if version != VERSION or isinstance(version, bool):
            raise ConfigError(
                f"the recipe has version {version!r}; this compressor reads version {VERSION}"
            )
        steps = record.get("step", [])
        if not isinstance(steps, Sequence) or not all(isinstance(s, Mapping) for s in steps):
            raise ConfigError("steps of a recipe are written as [[step]] tables")
        return cls(tuple(step_from_dict(step) for step in steps), record.get("seed", 0))

    def to_json(self) -> str:
        """The recipe as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """A recipe from JSON text; raises ConfigError where it is none."""
        try:
            record = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"the recipe is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ConfigError(f"a recipe is a JSON object, found {type(record).__name__}")
        return cls.from_dict(record)

    def to_toml(self) -> str:
        """The recipe as TOML text."""
        lines = [f"version = {VERSION}", f"seed = {self.seed}"]
        for step in self.steps:
            lines += ["", "[[step]]"]
            lines += [
                f"{name} = {_toml(value)}"
                for name, value in step.to_dict().items()
                if value not in ({}, [], "")
            ]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """A recipe from TOML text; raises ConfigError where it is none."""
        try:
            record = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"the recipe is not TOML: {error}") from error
        return cls.from_dict(record)


def read_recipe(path: Path) -> Recipe:
    """A recipe file: JSON where its name ends in .json, otherwise TOML.

    Raises:
        ConfigError, UnknownNameError: not readable, or not a recipe; the message names the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe {path} is not UTF-8 text") from error
    try:
        return Recipe.from_json(text) if path.suffix == ".json" else Recipe.from_toml(text)
    except UnknownNameError:
        raise
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def _needs_data(step: Step) -> bool:
    if isinstance(step, Slim):
        return step.importance == "taylor"
    if isinstance(step, Prune):
        return step.schedule == "gradual"
    return isinstance(step, (Reestimate, Finetune, Quantize))


def _toml(value: Any) -> str:
    """A plain value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(_toml(v) for v in value) + "]"
