from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys

import pytest

from compressor.errors import ConfigError, UnknownNameError
from compressor.training import TrainSettings


def test_settings_survive_json() -> None:
    settings = TrainSettings(epochs=3, crop_frames=25, schedule="cosine", gamma_l1=1e-4)
    assert TrainSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_left_out_keys_keep_their_default() -> None:
    assert TrainSettings.from_dict({"epochs": 7}) == TrainSettings(epochs=7)


def test_a_whole_number_in_a_file_becomes_a_float() -> None:
    settings = TrainSettings.from_dict({"lr": 1, "weight_decay": 0})
    assert isinstance(settings.lr, float)
    assert settings == TrainSettings(lr=1.0, weight_decay=0.0)


def test_unknown_key_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"label_smooth'.*label_smoothing"):
        TrainSettings.from_dict({"label_smooth": 0.1})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs is 0; it must be at least 1"),
        ("epochs", 2.5, "give a whole number"),
        ("epochs", True, "give a whole number"),
        ("batch_size", 1, "at least 2"),
        ("lr", 0.0, "more than 0"),
        ("lr", math.nan, "give a finite number"),
        ("lr", math.inf, "give a finite number"),
        ("lr", "0.1", "give a number"),
        ("momentum", 1.0, "at least 0 and less than 1"),
        ("label_smoothing", 1.0, "less than 1"),
        ("freq_mask_share", 1.1, "at most 1"),
        ("crop_frames", 0, "at least 1"),
        ("validation_share", 0.6, "at most 0.5"),
        ("optimizer", "adamax", "allowed: adamw, sgd, adam, radam"),
        ("schedule", None, "allowed: onecycle, cosine, constant"),
        ("precision", "float16", "allowed: float32, bfloat16"),
        ("time_roll", 1, "give true or false"),
        ("loss", "focal", "allowed: cross_entropy, cm_softmax"),
        ("tasks", "group", "allowed: scene, scene+group"),
        ("cm_scale", 0.0, "more than 0"),
        ("cm_angular_margin", 1.6, "less than 1.5708"),
        ("mixup_until", 1.5, "at most 1"),
        ("hidden_mask_layers", "body.0", "give a list of layer names"),
        ("hidden_mask_layers", ["body.0", 3], "give a list of layer names"),
        ("speeds", 1.0, "give a list of numbers"),
        ("speeds", [], "give a list of numbers"),
        ("speeds", [1.0, 0.1], "at least 0.5 and at most 2"),
        ("speeds", [1.0, "fast"], "give a number"),
        ("speeds", [1, 1.0], "give each number once"),
        ("speeds", [0.9, 1.1], "1.0 must be among them"),
    ],
)
def test_bad_values_say_what_is_allowed(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=name) as error:
        TrainSettings.from_dict({name: value})
    assert message in str(error.value)


def test_every_setting_is_checked() -> None:
    """A new field without a rule would raise KeyError here, or pass a value of no type."""
    for name in (field.name for field in dataclasses.fields(TrainSettings)):
        with pytest.raises(ConfigError, match=name):
            TrainSettings.from_dict({name: object()})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mix_masks": "input+hidden"}, "hidden_mask_layers is empty"),
        ({"early_stop_epochs": 5, "validation_share": 0.0}, "early_stop_epochs is 5"),
        ({"mixup_from": 0.6, "mixup_until": 0.5}, "mixup must begin before it ends"),
        ({"schedule": "cosine", "lr": 0.01, "lr_final": 0.1}, "lr_final is 0.1, but lr is 0.01"),
    ],
)
def test_settings_that_contradict_each_other(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainSettings.from_dict(values)


# What `to_dict` wrote before there were any others: stored runs and hashes hold just these.
FIRST = [
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "weight_decay",
    "momentum",
    "schedule",
    "warmup_share",
    "label_smoothing",
    "mixup_alpha",
    "freq_masks",
    "freq_mask_share",
    "time_masks",
    "time_mask_share",
    "time_roll",
    "crop_frames",
    "ema_decay",
    "gamma_l1",
    "validation_share",
    "precision",
    "channels_last",
    "grad_clip",
]


def test_later_settings_are_written_only_where_they_matter() -> None:
    assert list(TrainSettings().to_dict()) == FIRST
    changed = TrainSettings(loss="cm_softmax", speeds=(0.9, 1.0, 1.1), epochs=40)
    data = changed.to_dict()
    assert list(data) == [*FIRST, "loss", "speeds"]
    assert data == json.loads(json.dumps(data)), "plain data: lists, no tuples"
    assert TrainSettings.from_dict(data) == changed


def test_settings_do_not_load_torch() -> None:
    code = (
        "import sys, compressor.training as t; t.TrainSettings(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
