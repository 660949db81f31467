from __future__ import annotations

from pathlib import Path

import pytest

from compressor.errors import ConfigError, UnknownNameError, UsageError
from compressor.recipe import Finetune, read_recipe
from compressor.reproduce import list_recipes, load_recipe
from compressor.reproduce.load import parse_changes
from compressor.reproduce.tables import merge


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("training.epoch=3", UnknownNameError, "did you mean epochs"),
        ("trainig.epochs=3", UnknownNameError, "did you mean training"),
        ("training.epochs=many", ConfigError, "epochs is 'many'; give a whole number"),
        ("training.lr=-1", ConfigError, "must be more than 0"),
        ("model.nam=dsmn", UnknownNameError, "did you mean name"),
        ("features.crop_s=0", ConfigError, "crop_s is 0; give a number above 0"),
        ("features.crop_s=true", ConfigError, "crop_s is True; give a number"),
        ("data.labels=group", UnknownNameError, "did you mean groups"),
        ("training.crop_frames=8", ConfigError, r"give \[features\] crop_s"),
        ("recipe.year=1999", ConfigError, "year is 1999; known: 2020"),
        ("epochs=3", UsageError, "write section.key=value"),
        ("training.epochs", UsageError, "write section.key=value"),
        ("training.optimizer=adamx", ConfigError, "did you mean adam.* allowed: adamw, sgd, adam,"),
        ("training.optimizer=lion", ConfigError, "'lion'; allowed: adamw, sgd, adam, radam"),
        ("training.lr=inf", ConfigError, "give a finite number"),
        # of what would change nothing
        ("recipe.variant=frames44", UsageError, "a variant is named with the recipe"),
        ("variants.frames44.model.name=dsmn", UsageError, "a variant is named with the recipe"),
        ("extends.name=scut2023", UsageError, "extends belongs to a recipe's file"),
        ("version.a=1", UsageError, "version belongs to a recipe's file"),
    ],
)
def test_bad_changes_say_what_is_allowed(change: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_recipe("pku2022", [change])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("scut", "did you mean scut2023"),
        ("scut2023:modle2", "did you mean model2"),
        ("dcase2021:x", "has no variants"),
        ("nowhere/mine.toml", "there is no recipe file"),
    ],
)
def test_bad_names_offer_close_ones(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe(spec)


def test_values_of_changes_are_toml_and_text_needs_no_quotes() -> None:
    given = ["training.epochs=20", "training.loss=cm_softmax", 'model.name="dsmn"',
             "training.speeds=[0.9, 1.0]", "training.pcgrad=true"]  # fmt: skip
    assert parse_changes(given) == {
        "training": {
            "epochs": 20, "loss": "cm_softmax", "speeds": [0.9, 1.0], "pcgrad": True,
        },
        "model": {"name": "dsmn"},
    }  # fmt: skip
    with pytest.raises(UsageError, match="twice"):
        parse_changes(["training.epochs=1", "training.epochs=2"])


def test_changes_win_over_the_variant_and_the_variant_over_the_recipe() -> None:
    assert load_recipe("scut2023").training.optimizer == "radam"
    assert load_recipe("scut2023:report").training.optimizer == "sgd"
    changed = load_recipe("scut2023:report", ["training.optimizer=adamw"])
    assert (changed.training.optimizer, changed.training.mixup_alpha) == ("adamw", 0.4)


def test_merge_goes_into_tables_and_replaces_the_rest() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 3}
    assert merge(base, {"a": {"y": [9]}, "c": {"z": 0}}) == {
        "a": {"x": 1, "y": [9]}, "b": 3, "c": {"z": 0},
    }  # fmt: skip
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 3}


def test_extends_a_recipe_a_variant_and_a_file_beside_it(tmp_path: Path) -> None:
    first = tmp_path / "first.toml"
    first.write_text('extends = "scut2023:model3"\n[training]\nepochs = 7\n')
    second = tmp_path / "second.toml"
    second.write_text('extends = "first.toml"\n[features]\npreset = "scut2023:n_mels=64"\n')
    recipe = load_recipe(str(second))
    assert (recipe.name, recipe.model, recipe.training.epochs) == ("second", "dsmn_mixed", 7)
    assert recipe.front_end == "scut2023:n_mels=64"
    assert recipe.variant == "model3"  # its rows of the paper's tables stand beside ours


def test_what_extends_a_variant_wins_over_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "scut2023:report"\n[training]\noptimizer = "adamw"\n')
    training = load_recipe(str(path)).training
    assert (training.optimizer, training.mixup_alpha) == ("adamw", 0.4)


def test_a_circle_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extends = "b.toml"\n')
    (tmp_path / "b.toml").write_text('extends = "a.toml"\n')
    with pytest.raises(ConfigError, match="circle: a -> b -> a"):
        load_recipe(str(tmp_path / "a.toml"))


def test_a_compression_recipe_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "steps.toml"
    path.write_text('[[step]]\nkind = "cast"\n')
    with pytest.raises(ConfigError, match="it is a compression recipe"):
        load_recipe(str(path))


def test_the_compression_side_recognises_a_training_recipe() -> None:
    from compressor.reproduce.load import recipes_folder

    with pytest.raises(ConfigError, match="it is a training recipe"):
        read_recipe(recipes_folder() / "pku2022.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("year = 2023", "year = 2023\nyaer = 1", "did you mean year"),
        ('kind = "cast"', 'kind = "cas"', "did you mean cast"),
        ('of = "half"', 'of = "halve"', "did you mean half"),
        ("set.training.mixup_alpha", "set.training.mixup_alfa", "did you mean mixup_alpha"),
        ("set.training.mixup_alpha", "set.paper.mixup_alpha", "it may change model, features"),
        ("segment_s = 0.8", "", "has no segment_s; add segment_s = a number"),
        ("version = 1", "version = 2", "has version 2; this compressor reads 1"),
        ("[recipe]", "[recipe", "is not TOML"),
        ("low = 12.5", 'low = "12.5"', "give a number"),
    ],
)
def test_bad_files_say_where(tiny_recipe: Path, old: str, new: str, message: str) -> None:
    text = tiny_recipe.read_text()
    assert old in text
    tiny_recipe.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        load_recipe(str(tiny_recipe))


def test_what_a_recipe_does_not_name_is_off() -> None:
    """The project's own augmentation must not slip into a paper's training."""
    baseline = load_recipe("dcase2022").training
    assert baseline.mixup_alpha == baseline.ema_decay == baseline.label_smoothing == 0.0
    assert (baseline.freq_masks, baseline.time_masks, baseline.time_roll) == (0, 0, False)


def test_a_budget_shrinks_the_chains_alike(tiny_recipe: Path) -> None:
    recipe = load_recipe("scut2023")  # 100 epochs, then 20 of int8
    small = recipe.with_budget(30)
    assert small.training.epochs == 30
    assert small.chains["int8"].steps[0].to_dict()["epochs"] == 6  # 20 x 30 / 100
    assert load_recipe("deepsound2021").with_budget(5).training.early_stop_epochs == 0
    assert recipe.with_budget(100) == recipe
    with pytest.raises(ConfigError, match="give 1 to 100"):
        recipe.with_budget(101)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_takes_the_smallest_budget(name: str) -> None:
    """Steps that train nothing have no epochs to shrink: static int8 refuses the setting."""
    recipe = load_recipe(name)
    small = recipe.with_budget(1)
    assert small.training.epochs == 1 and small.chains.keys() == recipe.chains.keys()
    for chain in small.chains.values():
        for step in chain.steps:
            if isinstance(step, Finetune):
                assert step.epochs == 1


def test_an_ablation_changes_what_it_says_and_nothing_else() -> None:
    recipe = load_recipe("scut2023:model2")
    line = recipe.ablated("no-pcgrad")
    ours, theirs = recipe.plain(), line.plain()
    assert ours["training"].pop("pcgrad") is True
    theirs["training"].pop("pcgrad", None)
    assert ours == theirs
    with pytest.raises(UnknownNameError, match="did you mean no-pcgrad"):
        recipe.ablated("no-pcgrd")
