"""The registry: names, order, facts, and errors that say what to do."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch
from torch import nn

import zoo
from compressor.audio.logmel import PRESETS
from compressor.errors import ConfigError, ShapeError, UnknownNameError, UsageError
from zoo.registry import register_model

MODELS = zoo.list_models()


def test_names_in_order_of_the_papers() -> None:
    assert MODELS == [
        "dcase2020_baseline",
        "cp_resnet",
        "cp_resnet_36",
        "dcase2021_baseline",
        "mbconv_deepsound",
        "seresnet18",
        "resnet18",
        "seresnet_107k",
        "dcase2022_baseline",
        "sepcnn_coordatt",
        "dsmn_seg",
        "dsmn",
        "dsmn_mixed",
        "dsmn_seg_large",
        "dcase2024_baseline",
    ]
    assert [zoo.entry(name).year for name in MODELS] == sorted(
        zoo.entry(name).year for name in MODELS
    )


@pytest.mark.parametrize("name", MODELS)
def test_facts_are_whole(name: str) -> None:
    entry = zoo.entry(name)
    assert entry.name == name == entry.builder.__name__
    assert f"DCASE {entry.year} Task 1" in entry.task
    assert str(entry.year) in entry.paper
    assert entry.title
    assert entry.status in ("certain", "likely", "ambiguous")
    assert entry.contradictions, "say what is open, even where the counts are certain"
    assert len({figure.quantity for figure in entry.reported}) == len(entry.reported)
    assert all(figure.source for figure in entry.reported)
    assert inspect.getdoc(entry.builder)


@pytest.mark.parametrize("name", MODELS)
def test_published_sizes_are_the_builders_defaults(name: str) -> None:
    entry = zoo.entry(name)
    defaults = {k: p.default for k, p in inspect.signature(entry.builder).parameters.items()}
    assert defaults["num_classes"] == entry.num_classes
    sizes = {key: defaults[key] for key in ("frames", "mels", "in_channels")}
    assert entry.shape(**sizes) == entry.input_shape
    assert entry.shape() == entry.input_shape


@pytest.mark.parametrize("name", MODELS)
def test_the_front_end_gives_the_input(name: str) -> None:
    """A front-end has the network's mel bands, and its frames up to the edges of a segment."""
    entry = zoo.entry(name)
    planes, mels, frames = PRESETS[entry.front_end].shape(entry.segment_s)
    assert (planes, mels) == (entry.shape()[0], entry.shape()[1 if entry.layout == "CFT" else 2])
    published = entry.shape()[2 if entry.layout == "CFT" else 1]
    # 2 % more or less: edge frames, and the hop of bupt2020, whose 280 frames no stated hop gives
    assert abs(frames - published) <= max(1, 0.03 * published)


def test_deepsound_has_a_front_end_for_each_published_mel_count() -> None:
    for mels in (160, 128, 64, 32):
        assert PRESETS[f"deepsound2021_{mels}"].n_mels == mels


@pytest.mark.parametrize("name", MODELS)
def test_ignored_layers_are_the_classifier_the_bottlenecks_and_the_mel_norm(name: str) -> None:
    entry = zoo.entry(name)
    network = zoo.build(name)
    modules = dict(network.named_modules())
    assert set(entry.ignored_layers) <= set(modules)
    squeezes = {n for n in modules if n.endswith((".se.fc1", ".ca.c1"))}
    assert squeezes <= set(entry.ignored_layers)
    assert ("bn0" in modules) == ("bn0" in entry.ignored_layers)
    outputs = entry.num_classes + (3 if entry.family == "dsmn" else 0)
    widths = [
        layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        for layer in (modules[n] for n in entry.ignored_layers)
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]
    assert widths.count(outputs) >= 1


def test_entries_are_frozen() -> None:
    entry = zoo.entry("seresnet18")
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.year = 1999  # type: ignore[misc]


@pytest.mark.parametrize(
    ("typo", "close"),
    [
        ("seresnet", "seresnet18"),
        ("dsmnseg", "dsmn_seg"),
        ("dcase2023_baseline", "dcase2022_baseline"),
    ],
)
def test_unknown_network(typo: str, close: str) -> None:
    with pytest.raises(UnknownNameError, match=close):
        zoo.entry(typo)
    with pytest.raises(UnknownNameError, match="unknown network"):
        zoo.build(typo)


def test_unknown_argument_offers_the_close_one() -> None:
    with pytest.raises(UnknownNameError, match="se_reduction") as caught:
        zoo.build("seresnet18", se_reductoin=4)
    assert "seresnet18" in str(caught.value)


def test_argument_of_a_wrong_kind() -> None:
    with pytest.raises(UsageError, match="seresnet18"):
        zoo.build("seresnet18", blocks=3)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("seresnet18", {"num_classes": 0}, "num_classes is 0"),
        ("seresnet18", {"num_classes": 2.5}, "whole number"),
        ("seresnet18", {"mels": True}, "whole number"),
        ("seresnet18", {"frames": -3}, "frames is -3"),
        ("seresnet18", {"in_channels": 0}, "in_channels is 0"),
        ("seresnet18", {"blocks": (2, 2)}, "one number for each stage"),
        ("seresnet18", {"widths": (8, 16, 0, 32)}, "each of widths is 0"),
        ("seresnet18", {"se_reduction": 0}, "se_reduction is 0"),
        ("dsmn_seg", {"mels": 40}, "multiple of 32"),
        ("dsmn_seg", {"mels": 16}, "multiple of 32"),
        ("dsmn", {"mels": 31}, "cannot be cut in halves"),
        ("dsmn", {"frames": 31}, "frames is 31, but must be at least 32"),
        ("dsmn", {"group_classes": -1}, "group_classes is -1"),
        ("cp_resnet", {"mels": 64}, "mels is 64.*65.*pool_after"),
        ("cp_resnet", {"frames": 44}, "frames is 44.*65.*pool_after"),
        ("cp_resnet", {"width": 0}, "width is 0"),
        ("sepcnn_coordatt", {"frames": 15}, "frames is 15, but must be at least 16"),
        ("sepcnn_coordatt", {"mels": 8}, "mels is 8, but must be at least 16"),
        ("dcase2020_baseline", {"mels": 19}, "mels is 19, but must be at least 20"),
        ("dcase2020_baseline", {"frames": 4}, "frames is 4, but must be at least 5"),
        ("dcase2024_baseline", {"expansion": 0}, "must be above 0"),
        ("dcase2024_baseline", {"blocks": (3, 0)}, "each of blocks is 0"),
    ],
)
def test_impossible_sizes(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        zoo.build(name, **arguments)  # type: ignore[arg-type]


def test_cp_resnet_poolings_are_named_by_block() -> None:
    with pytest.raises(ConfigError, match="blocks are 1 to 5"):
        zoo.build("cp_resnet", pool_after=(1, 6))
    # with three poolings fewer, a second of sound is enough
    zoo.build("cp_resnet_36", frames=17, pool_after=(1, 2, 4))


def test_a_name_cannot_be_taken_twice() -> None:
    facts = dataclasses.asdict(zoo.entry("dsmn"))
    for key in ("name", "builder"):
        del facts[key]

    def dsmn() -> nn.Module:
        return nn.Identity()

    with pytest.raises(ValueError, match="registered twice"):
        register_model(**facts)(dsmn)


@pytest.mark.parametrize("name", ["dcase2022_baseline", "dcase2024_baseline", "dsmn_seg"])
def test_outputs_of_a_second_task_are_to_be_had_of_every_network(name: str) -> None:
    x = torch.zeros(2, *zoo.entry(name).input_shape)
    assert zoo.build(name, 10, group_classes=3).eval()(x).shape == (2, 13)
    assert zoo.build(name, group_classes=2).eval()(x).shape == (2, 12)
    assert zoo.build(name, 10, group_classes=0).eval()(x).shape == (2, 10)


def test_a_bad_number_of_such_outputs_is_named() -> None:
    with pytest.raises(ShapeError, match="group_classes is -1, but must be at least 0"):
        zoo.build("dcase2024_baseline", group_classes=-1)
