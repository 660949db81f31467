"""Recipes: to TOML, JSON and back; what a file may say; messages of bad ones. No torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from compressor.errors import CompressorError, ConfigError, UnknownNameError
from compressor.methods import IMPORTANCES
from compressor.methods.magnitude import Magnitude
from compressor.methods.quant import QatInt8, StaticInt8
from compressor.recipe import (
    STEPS,
    Cast,
    Export,
    Finetune,
    Prune,
    Quantize,
    Recipe,
    Reestimate,
    Slim,
    Step,
    read_recipe,
    step_from_dict,
)

share = st.floats(0, 1, exclude_max=True)
count = st.integers(1, 10**9)
names = st.lists(st.text(min_size=1), max_size=3).map(tuple)
training = st.fixed_dictionaries(
    {}, optional={"lr": st.floats(1e-6, 1), "time_roll": st.booleans()}
)
taught: dict[str, Any] = {
    "teacher": st.sampled_from(["", "self", "dense.pt"]),
    "temperature": st.floats(0.1, 100),
    "weight": st.floats(0, 1),
    "settings": training,
}
slims = st.one_of(
    st.builds(
        Slim, ratio=share, by=st.sampled_from(["channels", "params"]), keep=names, min_share=share
    ),
    st.builds(Slim, target_params=count, target_macs=st.none() | count, fit=st.text()),
    st.builds(Slim, target_bytes=count, normalize=st.none() | st.booleans()),
)
prunes = st.one_of(
    st.builds(Prune, sparsity=share, scope=st.sampled_from(["global", "layer"]), keep=names),
    st.builds(Prune, pattern=st.sampled_from(["2:4", "1:8"])),
    st.builds(Prune, schedule=st.just("gradual"), epochs=count, settings=training),
)
floats = st.one_of(
    slims,
    prunes,
    st.builds(Reestimate, clips=count),
    st.builds(Finetune, epochs=count, **taught),
    st.builds(Export, to=st.sampled_from(["onnx", "pt2"]), path=st.text()),
)
ends = st.one_of(
    st.builds(Cast, dtype=st.sampled_from(["float16", "bfloat16"])),
    st.builds(
        Quantize,
        weight_bits=st.integers(2, 8),
        mixed=st.dictionaries(st.text(), st.integers(2, 8), max_size=3),
        keep_float=names,
        equalize=st.booleans(),
    ),
    st.builds(Quantize, scheme=st.just("int8-qat"), epochs=count, keep_float=names, **taught),
)
recipes = st.builds(
    lambda steps, end, seed: Recipe((*steps, *end), seed),
    st.lists(floats, min_size=1, max_size=4),
    st.lists(ends, max_size=1),
    st.integers(0, 2**31),
)


@settings(deadline=None, max_examples=60)
@given(recipe=recipes)
def test_recipes_come_back_equal(recipe: Recipe) -> None:
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_file_may_leave_out_what_is_default(tmp_path: Path) -> None:
    path = tmp_path / "steps.toml"
    path.write_text(
        """
        [[step]]
        kind = "slim"
        ratio = 0.65

        [[step]]
        kind = "finetune"
        epochs = 20
        teacher = "self"
        settings = { lr = 1 }

        [[step]]
        kind = "quantize"
        scheme = "int8-qat"
        mixed = { "layers.0.conv1" = 4 }
        """
    )
    assert read_recipe(path) == Recipe(
        (
            Slim(ratio=0.65),
            Finetune(epochs=20, teacher="self", settings={"lr": 1}),
            Quantize(scheme="int8-qat", mixed={"layers.0.conv1": 4}),
        )
    )
    other = tmp_path / "steps.json"
    other.write_text(read_recipe(path).to_json())
    assert read_recipe(other) == read_recipe(path)
    written = tomllib.loads(read_recipe(path).to_toml())
    assert written["version"] == 1
    assert [step["kind"] for step in written["step"]] == ["slim", "finetune", "quantize"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"step": []}, "the recipe has no step"),
        ({"steps": []}, r"unknown key of a recipe 'steps'; did you mean step\?"),
        ({"version": 2, "step": [{"kind": "cast"}]}, "version 2; this compressor reads version 1"),
        ({"step": {"kind": "cast"}}, r"written as \[\[step\]\] tables"),
        ({"step": [{"ratio": 0.5}]}, "a step has no kind"),
        ({"step": [{"kind": "slimm"}]}, "unknown kind of step 'slimm'; did you mean slim"),
        ({"step": [{"kind": "slim", "ration": 1}]}, "unknown setting of step slim 'ration'"),
        ({"seed": -1, "step": [{"kind": "cast"}]}, "seed is -1"),
        ({"seed": True, "step": [{"kind": "cast"}]}, "seed is True"),
        (
            {"step": [{"kind": "cast"}, {"kind": "finetune"}]},
            "step 1 .cast. .* put cast last",
        ),
        ({"step": [{"kind": "quantize"}, {"kind": "cast"}]}, "step 1 .quantize. fixes"),
    ],
)
def test_bad_recipes(record: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        Recipe.from_dict(record)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("slim", {}, "needs either a ratio or some of target_params.*found none"),
        ("slim", {"ratio": 0.5, "fit": "dcase2023"}, "found ratio and fit"),
        ("slim", {"ratio": 1}, "ratio is 1.0, but must be at least 0 and below 1"),
        ("slim", {"ratio": float("nan")}, "ratio is nan"),
        ("slim", {"ratio": "half"}, "ratio is 'half'; give a number"),
        ("slim", {"ratio": True}, "ratio is True; give a number"),
        ("slim", {"target_params": 0.5}, "target_params is 0.5; give a whole number"),
        ("slim", {"target_macs": 0}, "target_macs is 0, but must be at least 1"),
        ("slim", {"target_macs": -5}, "target_macs is -5, but must be at least 1"),
        ("slim", {"ratio": 0.5, "importance": "L1"}, "unknown importance of step slim 'L1'"),
        ("slim", {"ratio": 0.5, "keep": "fc"}, "keep is 'fc'; give a list of layer names"),
        ("slim", {"ratio": 0.5, "min_channels": 0}, "min_channels is 0"),
        ("prune", {"sparsity": 1.0}, "sparsity is 1.0"),
        ("prune", {"pattern": "4:2"}, "pattern is '4:2'; write N:M"),
        ("prune", {"pattern": "2:4", "schedule": "gradual"}, "cannot be reached gradually"),
        ("prune", {"ramp_share": 0}, "ramp_share is 0.0, but must be above 0"),
        ("reestimate", {"clips": 0}, "clips is 0"),
        ("finetune", {"epochs": 0}, "epochs is 0"),
        ("finetune", {"temperature": 0}, "temperature is 0.0"),
        ("finetune", {"weight": 2}, "weight is 2.0"),
        ("finetune", {"settings": {"lrr": 1}}, "unknown training setting 'lrr'; did you mean lr"),
        ("finetune", {"settings": {"lr": -1}}, "training setting lr is -1"),
        ("finetune", {"settings": {"epochs": 3}}, "epochs is a setting of the step"),
        ("finetune", {"settings": 3}, "settings is 3; give a table"),
        ("cast", {"dtype": "float8"}, "unknown dtype of step cast 'float8'; did you mean float16"),
        ("quantize", {"scheme": "int4"}, "unknown scheme of step quantize 'int4'"),
        ("quantize", {"weight_bits": 9}, "weight_bits is 9"),
        ("quantize", {"teacher": "self"}, "teacher = 'self' is of int8-qat and does nothing in"),
        ("quantize", {"epochs": 20}, "leave it out, or use scheme = 'int8-qat'"),
        ("quantize", {"settings": {"lr": 1e-3}}, "settings = {'lr': 0.001} is of int8-qat"),
        ("quantize", {"scheme": "int8-qat", "equalize": True}, "equalize = True is of int8-ptq"),
        ("quantize", {"mixed": {"fc": 1}}, "mixed fc = 1; give 2 to 8 bits"),
        ("export", {"to": "tf"}, "unknown to of step export 'tf'"),
    ],
)
def test_bad_steps(kind: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        step_from_dict({"kind": kind, **values})


def test_unreadable_files(tmp_path: Path) -> None:
    def refusal(name: str, content: bytes | None) -> str:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CompressorError) as error:
            read_recipe(path)
        assert error.value.exit_code == 2
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "gone.toml cannot be read: No such file" in refusal("gone.toml", None)
    assert "bad.toml: the recipe is not TOML" in refusal("bad.toml", b"step = [")
    assert "bad.json: the recipe is not JSON" in refusal("bad.json", b"{")
    assert "a recipe is a JSON object, found list" in refusal("list.json", b"[]")
    assert "not UTF-8" in refusal("latin.toml", b"\xff\xfe")
    (tmp_path / "folder.toml").mkdir()
    assert "cannot be read" in refusal("folder.toml", None)


def test_steps_that_need_clips() -> None:
    recipe = Recipe((Slim(ratio=0.5), Prune(), Cast()))
    assert recipe.needs_data == ()
    recipe = Recipe(
        (Slim(ratio=0.5, importance="taylor"), Prune(schedule="gradual"), Finetune(), Quantize())
    )
    assert recipe.needs_data == ("slim", "prune", "finetune", "quantize")


def test_recipe_and_engine_know_the_same() -> None:
    """Names the recipe repeats, so that it needs no torch, are those of what runs it."""
    import compressor.export as export
    from compressor.engine import steps
    from compressor.recipe_steps import _EXPORTS, _IMPORTANCES

    assert set(STEPS) == set(steps._RUN)
    assert _IMPORTANCES == IMPORTANCES
    assert set(_EXPORTS) == set(export.TARGETS)
    assert Prune().sparsity == Magnitude().sparsity
    with pytest.raises(ConfigError, match="a recipe holds steps"):
        Recipe((Step(),))


def test_calibration_follows_the_scheme_and_is_always_named() -> None:
    assert Quantize().to_dict()["calibration"] == "percentile"
    assert Quantize(scheme="int8-qat").to_dict()["calibration"] == "minmax"
    assert Quantize(calibration="minmax").calibration == "minmax"
    assert StaticInt8().calibration == "percentile" and QatInt8().calibration == "minmax"


def test_reading_a_recipe_loads_no_torch() -> None:
    code = (
        "import sys; from compressor.recipe import Recipe, Slim; "
        "Recipe((Slim(ratio=0.5),)).to_toml(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
