"""A training recipe: frozen records that are checked when they are made. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compressor.errors import ConfigError, UnknownNameError
from compressor.recipe import Quantize, Recipe, Step, step_from_dict
from compressor.reproduce.tables import Table, merge
from compressor.training.settings import TrainSettings

__all__ = [
    "DENSE",
    "EVALUATION_ONLY",
    "PLAIN",
    "VERSION",
    "Ablation",
    "PaperGroup",
    "PaperRow",
    "TrainingRecipe",
    "from_tables",
]

VERSION = 1
DENSE = "dense"  # the stage before any compression
SECTIONS = (
    "version",
    "extends",
    "recipe",
    "data",
    "model",
    "features",
    "training",
    "compression",
    "ablation",
    "paper",
    "variants",
)

# What a recipe does not name is not done: `TrainSettings` has the project's own augmentation as
# its defaults, which no paper asked for.
PLAIN: Mapping[str, Any] = {
    "label_smoothing": 0.0,
    "mixup_alpha": 0.0,
    "freq_masks": 0,
    "time_masks": 0,
    "time_roll": False,
    "ema_decay": 0.0,
    "gamma_l1": 0.0,
}

# Settings that change what is measured and not the weights: such an ablation needs no training.
EVALUATION_ONLY = ("tta_copies", "group_logit_share")


@dataclass(frozen=True)
class PaperRow:
    """One line of a published table.

    Attributes:
        name: of the system, as printed.
        source: table, figure or section.
        of: what of ours stands beside it: "dense", a compression chain, "ablation NAME", or "" for
            a line that is only shown (another team's baseline).
        variant: the variant it belongs to; "" for all.
        params, size, macs: as printed, "" where the paper has none.
        accuracy: %.
        log_loss: nats.
    """

    name: str
    source: str
    of: str = ""
    variant: str = ""
    params: str = ""
    size: str = ""
    macs: str = ""
    accuracy: float | None = None
    log_loss: float | None = None


@dataclass(frozen=True)
class PaperGroup:
    """Published figures by device or by class.

    Attributes:
        group: "device" or "class".
        figure: "accuracy" (%) or "log_loss" (nats).
        of: as in `PaperRow`, never "".
        variant: as in `PaperRow`.
        source: table or figure.
        values: by name of the device or class.
    """

    group: str
    figure: str
    of: str
    source: str
    values: Mapping[str, float]
    variant: str = ""


@dataclass(frozen=True)
class Ablation:
    """One idea of the paper taken away (or put in another's place).

    Attributes:
        name: of the line.
        about: what is different, in a sentence.
        changes: tables that are laid over the recipe's.
        compare: stages at which it is compared with the recipe, "dense" or chains.
    """

    name: str
    about: str
    changes: Mapping[str, Any]
    compare: tuple[str, ...] = (DENSE,)


@dataclass(frozen=True)
class TrainingRecipe:
    """A paper's system.

    Attributes:
        name: file name without ".toml"; variant: "" or one of `variants`.
        title: one line; paper: citation; task: of the challenge; year: of the limits that judge it.
        notes: where the paper contradicts itself or leaves open what had to be chosen.
        data: title of the data set of the paper's figures.
        labels: "scenes" (the set's own classes) or "groups": the ten TAU scenes as indoor, outdoor
            and transportation.
        segment_s: seconds of a clip of that data set.
        model: name in the zoo; model_args: arguments of its builder.
        front_end: log-mel preset, with or without changes.
        crop_s: seconds of random crop in training, None for whole clips.
        training: settings of the training, without the crop, which follows from the clips.
        chains: compression chains by name, each run on the trained network.
        rows, groups: published figures.
        ablations: by name.
        variants: what each variant is, by name.
        tables: what the recipe was read from, with variant and changes laid over it.
    """

    name: str
    variant: str
    title: str
    paper: str
    task: str
    year: int
    notes: tuple[str, ...]
    data: str
    labels: str
    segment_s: float
    model: str
    model_args: Mapping[str, Any]
    front_end: str
    crop_s: float | None
    training: TrainSettings
    chains: Mapping[str, Recipe]
    rows: tuple[PaperRow, ...]
    groups: tuple[PaperGroup, ...]
    ablations: Mapping[str, Ablation]
    variants: Mapping[str, str]
    tables: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """Name and variant as a command takes them: scut2023:model2."""
        return f"{self.name}:{self.variant}" if self.variant else self.name

    def changed(self, changes: Mapping[str, Any]) -> TrainingRecipe:
        """The recipe with tables laid over its own; checked anew.

        Raises:
            ConfigError, UnknownNameError: a key that no recipe has, or a bad value.
        """
        return from_tables(merge(self.tables, changes), self.name, self.variant)

    def ablated(self, name: str) -> TrainingRecipe:
        """The recipe of an ablation line.

        Raises:
            UnknownNameError: no ablation of that name.
        """
        if name not in self.ablations:
            raise UnknownNameError(f"ablation of {self.name}", name, self.ablations)
        return self.changed(self.ablations[name].changes)

    def with_budget(self, epochs: int) -> TrainingRecipe:
        """The recipe in `epochs` epochs; those of its chains' steps shrink by the same share.

        With fewer epochs than the recipe's own nothing is stopped early.

        Raises:
            ConfigError: not between 1 and the recipe's own number.
        """
        own = self.training.epochs
        if not 1 <= epochs <= own:
            raise ConfigError(
                f"a budget of {epochs} epochs; {self.id} has {own}, so give 1 to {own} (for more, "
                "change training.epochs)"
            )
        if epochs == own:
            return self
        # in a short run the patience of a long one would never run out, or at once
        training = dataclasses.replace(self.training, epochs=epochs, early_stop_epochs=0)
        share = epochs / own
        chains = {
            name: Recipe(tuple(_shrunk(step, share) for step in chain.steps), chain.seed)
            for name, chain in self.chains.items()
        }
        return dataclasses.replace(self, training=training, chains=chains)

    def plain(self) -> dict[str, Any]:
        """Everything that decides a run, as plain data: for records and for telling runs apart."""
        return {
            "name": self.name,
            "variant": self.variant,
            "labels": self.labels,
            "segment_s": self.segment_s,
            "model": self.model,
            "model_args": dict(self.model_args),
            "front_end": self.front_end,
            "crop_s": self.crop_s,
            "training": self.training.to_dict(),
            "chains": {name: chain.to_dict() for name, chain in self.chains.items()},
        }


def from_tables(tables: Mapping[str, Any], name: str, variant: str = "") -> TrainingRecipe:
    """A recipe from the tables of a TOML file.

    Args:
        tables: of the file, what it extends and the variant already laid in.
        name: of the recipe.
        variant: that was chosen.

    Raises:
        UnknownNameError: a section or key that no recipe has, with close ones.
        ConfigError: a bad value, or one that is missing.
    """
    top = Table(tables, "the recipe")
    for key in tables:
        if key not in SECTIONS:
            raise UnknownNameError("section of a training recipe", str(key), SECTIONS)
    version = top.take("version", int, VERSION)
    if version != VERSION:
        raise ConfigError(f"the recipe has version {version}; this compressor reads {VERSION}")
    about = Table(top.take("recipe", dict), "[recipe]")
    data = Table(top.take("data", dict), "[data]")
    model = Table(top.take("model", dict), "[model]")
    features = Table(top.take("features", dict), "[features]")
    paper = Table(top.take("paper", dict, {}), "[paper]")
    about.take("variant", str, "")
    chains = {
        str(chain): _chain(values, f"[compression.{chain}]")
        for chain, values in top.take("compression", dict, {}).items()
    }
    ablations = {
        str(line): _ablation(values, str(line), chains)
        for line, values in top.take("ablation", dict, {}).items()
    }
    stages = (DENSE, *chains, *(f"ablation {line}" for line in ablations))
    variants = {
        str(one): Table(values, f"[variants.{one}]").take("about", str, "")
        for one, values in top.take("variants", dict, {}).items()
    }
    crop_s = features.take("crop_s", float, None)
    recipe = TrainingRecipe(
        name=name,
        variant=variant,
        title=about.take("title", str),
        paper=about.take("paper", str),
        task=about.take("task", str),
        year=_year(about.take("year", int)),
        notes=about.texts("notes"),
        data=data.take("title", str),
        labels=data.choice("labels", ("scenes", "groups"), "scenes"),
        segment_s=_above_zero("[data] segment_s", data.take("segment_s", float)),
        model=model.take("name", str),
        model_args=model.take("args", dict, {}),
        front_end=features.take("preset", str),
        crop_s=None if crop_s is None else _above_zero("[features] crop_s", crop_s),
        training=_training(top.take("training", dict)),
        chains=chains,
        rows=tuple(_row(values, stages, variants) for values in paper.tables("rows")),
        groups=tuple(_group(values, stages, variants) for values in paper.tables("by")),
        ablations=ablations,
        variants=variants,
        tables=tables,
    )
    for table in (about, data, model, features, paper):
        table.done()
    return recipe


def _shrunk(step: Step, share: float) -> Step:
    """A step with that share of its epochs, at least one; a step that trains nothing as it is."""
    if isinstance(step, Quantize) and not step.trains:
        return step
    plain = step.to_dict()
    if "epochs" in plain:
        plain["epochs"] = max(1, round(share * plain["epochs"]))
    return step_from_dict(plain)


def _training(values: Mapping[str, Any]) -> TrainSettings:
    if "crop_frames" in values:
        raise ConfigError("[training] crop_frames follows from the clips; give [features] crop_s")
    return TrainSettings.from_dict({**PLAIN, **values})


def _chain(values: Any, place: str) -> Recipe:
    table = Table(values, place)
    steps = table.tables("step")
    seed = table.take("seed", int, 0)
    table.done()
    try:
        return Recipe.from_dict({"step": steps, "seed": seed})
    except UnknownNameError:
        raise
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def _ablation(values: Any, name: str, chains: Mapping[str, Recipe]) -> Ablation:
    table = Table(values, f"[ablation.{name}]")
    compare = table.texts("compare") or (DENSE,)
    for stage in compare:
        if stage not in (DENSE, *chains):
            raise UnknownNameError(f"stage in [ablation.{name}] compare", stage, (DENSE, *chains))
    found = Ablation(name, table.take("about", str), table.take("set", dict), compare)
    table.done()
    for section in found.changes:
        if section not in ("model", "features", "training", "compression"):
            raise ConfigError(
                f"[ablation.{name}] sets {section!r}; it may change model, features, training and "
                "compression"
            )
    return found


def _row(values: Any, stages: tuple[str, ...], variants: Mapping[str, str]) -> PaperRow:
    table = Table(values, "[[paper.rows]]")
    row = PaperRow(
        name=table.take("name", str),
        source=table.take("source", str),
        of=_stage(table.take("of", str, ""), stages, "[[paper.rows]]"),
        variant=_variant(table.take("variant", str, ""), variants),
        params=table.take("params", str, ""),
        size=table.take("size", str, ""),
        macs=table.take("macs", str, ""),
        accuracy=table.take("accuracy", float, None),
        log_loss=table.take("log_loss", float, None),
    )
    table.done()
    return row


def _group(values: Any, stages: tuple[str, ...], variants: Mapping[str, str]) -> PaperGroup:
    table = Table(values, "[[paper.by]]")
    found = PaperGroup(
        group=table.choice("group", ("device", "class")),
        figure=table.choice("figure", ("accuracy", "log_loss")),
        of=_stage(table.take("of", str), stages, "[[paper.by]]"),
        source=table.take("source", str),
        values={
            str(name): Table({"value": value}, f"[[paper.by]] {name}").take("value", float)
            for name, value in table.take("values", dict).items()
        },
        variant=_variant(table.take("variant", str, ""), variants),
    )
    table.done()
    return found


def _stage(name: str, stages: tuple[str, ...], place: str) -> str:
    if name and name not in stages:
        raise UnknownNameError(f"of in {place}", name, stages)
    return name


def _variant(name: str, variants: Mapping[str, str]) -> str:
    if name and name not in variants:
        raise UnknownNameError("variant", name, variants)
    return name


def _year(year: int) -> int:
    from compressor.audit.rules import years

    if year not in years():
        raise ConfigError(f"[recipe] year is {year}; known: {', '.join(map(str, years()))}")
    return year


def _above_zero(what: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise ConfigError(f"{what} is {value:g}; give a number above 0")
    return value
