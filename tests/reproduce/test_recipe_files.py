"""The project's own recipes: each value with its source, figures as the zoo quotes them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import zoo
from compressor.reproduce import list_recipes, load_recipe
from compressor.reproduce.load import recipes_folder
from compressor.reproduce.recipe import TrainingRecipe

PAPERS = ("speakin2021", "scut2023", "bupt2020", "deepsound2021", "pku2022")
BASELINES = ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024")
# What makes two trainings different even where a paper is silent: it must be written, not assumed.
MUST_SAY = ("epochs", "batch_size", "optimizer", "lr", "weight_decay", "schedule",
            "validation_share")  # fmt: skip


def every() -> Iterator[str]:
    for name in list_recipes():
        yield name
        yield from (f"{name}:{variant}" for variant in load_recipe(name).variants)


def test_all_papers_and_baselines_are_there() -> None:
    assert set(list_recipes()) == {*PAPERS, *BASELINES}
    assert set(load_recipe("scut2023").variants) >= {"model1", "model2", "model3", "model4"}
    assert set(load_recipe("deepsound2021").variants) == {"32", "64", "128", "160"}


@pytest.mark.parametrize("spec", list(every()))
def test_it_loads_and_names_networks_and_front_ends_that_exist(spec: str) -> None:
    from compressor.audio.logmel import preset

    recipe = load_recipe(spec)
    entry = zoo.entry(recipe.model)
    shape = preset(recipe.front_end).shape(recipe.segment_s)
    arguments = {} if recipe.labels == "scenes" else {"num_classes": 3}
    zoo.build(
        recipe.model,
        in_channels=shape[0], mels=shape[1], frames=shape[2],
        **arguments, **recipe.model_args,
    )  # fmt: skip
    assert recipe.year in (entry.year, entry.year + 1)  # 2023 keeps the baseline of 2022


@pytest.mark.parametrize("name", list_recipes())
def test_every_value_carries_its_source(name: str) -> None:
    text = (recipes_folder() / f"{name}.toml").read_text(encoding="utf-8")
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        heading = re.match(r"\[+([a-z]+)", line)
        section = heading[1] if heading else section
        value = re.match(r"(?!kind|about|compare|name = \"(?!\w+\"  #))[\w.]+ = ", line)
        if section in ("data", "features", "training", "compression", "ablation") and value:
            assert re.search(r"  # \S", line), f"{name}.toml, line {number} has no source: {line}"


@pytest.mark.parametrize("name", list_recipes())
def test_nothing_that_decides_a_training_is_left_to_defaults(name: str) -> None:
    written = load_recipe(name).tables["training"]
    assert set(MUST_SAY) <= set(written)


@pytest.mark.parametrize("spec", list(every()))
def test_published_accuracies_are_those_the_zoo_quotes(spec: str) -> None:
    """Two copies, made apart, of what the papers print."""
    recipe = load_recipe(spec)
    reported = {figure.value for figure in zoo.entry(recipe.model).reported}
    shown = [r for r in recipe.rows if r.of and r.variant in ("", recipe.variant)]
    for row in shown:
        for value in (row.accuracy, row.log_loss):
            assert value is None or value in reported, f"{spec}: {row.name}: {value}"
    for group in recipe.groups:
        if group.variant in ("", recipe.variant) and group.group == "device" and shown:
            names = {f"device {device}" for device in group.values}
            quoted = [f for f in zoo.entry(recipe.model).reported if "device" in f.quantity]
            found = {f.value for f in quoted if any(n in f.quantity.lower() for n in names)}
            assert not found or set(group.values.values()) <= {f.value for f in quoted}


def test_variants_of_scut_are_the_networks_of_table_2() -> None:
    counts = {}
    for number in (1, 2, 3, 4):
        recipe = load_recipe(f"scut2023:model{number}")
        network = zoo.build(recipe.model)
        counts[number] = sum(p.numel() for p in network.parameters())
    assert counts == {1: 45_164, 2: 56_556, 3: 56_172, 4: 121_812}


def test_the_papers_own_figures_are_in_the_settings() -> None:
    """Read off the papers once more, apart from the recipes."""

    def of(spec: str) -> TrainingRecipe:
        return load_recipe(spec)

    speakin = of("speakin2021").training
    assert (speakin.cm_scale, speakin.cm_angular_margin, speakin.cm_additive_margin) == (
        30, 0.2, 0.1,
    )  # fmt: skip
    assert speakin.speeds == (0.9, 1.0, 1.1)
    assert [c.steps[0].to_dict()["ratio"] for c in of("speakin2021").chains.values()] == [
        0.6, 0.65, 0.7,
    ]  # fmt: skip
    scut = of("scut2023").training
    assert (scut.epochs, scut.batch_size, scut.lr, scut.pcgrad) == (100, 32, 1e-3, True)
    assert int(scut.freq_mask_share * 256) == int(scut.time_mask_share * 44) == 2
    assert of("scut2023:report").training.mixup_alpha == 0.4
    deepsound = of("deepsound2021").training
    assert (deepsound.epochs, deepsound.batch_size, deepsound.lr) == (500, 64, 0.01)
    assert (deepsound.ema_decay, deepsound.mixup_alpha) == (0.999, 0.6)
    assert of("deepsound2021").crop_s == 8.0
    pku = of("pku2022").training
    assert (pku.epochs, pku.batch_size, pku.lr, pku.lr_final) == (150, 32, 1e-3, 1e-5)
    assert (pku.weight_decay, pku.tta_copies, pku.time_shift_frames) == (1e-5, 30, 10)
    bupt = of("bupt2020")
    assert bupt.labels == "groups"
    assert bupt.chains["int8"].steps[0].to_dict()["target_params"] == 83_974
    # 2,000 warm-up steps of 150 epochs of ceil(clips / 256) steps (DCASE 2024 lists)
    clips = {"split5": 6_980, "split10": 13_960, "split25": 34_900, "split50": 69_800,
             "split100": 139_620}  # fmt: skip
    for variant, number in clips.items():
        steps = 150 * -(-number // 256)
        assert of(f"dcase2024:{variant}").training.warmup_share == pytest.approx(
            2000 / steps, rel=2e-3
        )
