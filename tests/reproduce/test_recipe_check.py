"""Every recipe is tried: shapes, one batch with all its augmentation, limits."""

from __future__ import annotations

import json

import pytest
import torch

from compressor.data.scenes import generate
from compressor.reproduce import list_recipes, load_recipe
from compressor.reproduce.check import CheckReport, check_recipe
from compressor.reproduce.run import Reproduction, reproduce


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def checked(name: str) -> CheckReport:
    report = check_recipe(load_recipe(name))
    assert report.passed, [check for check in report.checks if check.status == "fail"]
    assert json.loads(json.dumps(report.to_dict()))["recipe"].startswith(name)
    return report


@pytest.mark.parametrize("name", list_recipes())
def test_recipe_can_be_run(name: str) -> None:
    names = [check.name for check in checked(name).checks]
    assert names[:3] == ["features", "network", "one batch"]


def test_sizes_are_those_of_the_papers() -> None:
    sizes = checked("dcase2022").sizes["int8"]
    assert (sizes["params"], sizes["param_bytes"]) == (45_990, 46_512)  # zoo facts, section 0
    sizes = checked("dcase2024").sizes["float16"]
    assert (sizes["param_bytes"], sizes["macs_official"]) == (122_296, 29_419_156)


def test_a_limit_that_does_not_hold_fails() -> None:
    """44 frames a second: 46.0 million multiply-accumulates, 30 allowed."""
    report = check_recipe(load_recipe("pku2022:frames44"))
    assert not report.passed
    failed = [check for check in report.checks if check.status == "fail"]
    assert [check.name for check in failed] == ["limits of 2022, int8"]
    assert "over 30,000,000" in failed[0].text


# Those of the papers' networks that no recipe trains this way.
PARTS = {
    "margins": ("training.loss=cm_softmax",),
    "two tasks": ("training.tasks=scene+group", "training.pcgrad=true"),
    "both": ("training.loss=cm_softmax", "training.tasks=scene+group", "training.pcgrad=true"),
    "batches": (
        "training.spectrum_correction=true",
        "training.mixup_kind=level",
        "training.mixup_alpha=0.6",
        "training.time_warp_frames=5",
        "training.cutout_masks=2",
        "training.time_shift_frames=10",
        "training.mix_masks=input",
        "training.time_masks=1",
        "training.tta_copies=2",
        "training.ema_decay=0.999",
        "training.gamma_l1=1e-4",
    ),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "name", ["speakin2021:strided", "pku2022", "deepsound2021:32", "dcase2024"]
)
def test_parts_of_other_papers_fit_any_recipe(name: str, part: str) -> None:
    report = check_recipe(load_recipe(name, PARTS[part]))
    named = {check.name: check for check in report.checks}
    assert named["one batch"].status == "pass"
    assert "left away" not in named


def test_what_a_recipes_data_cannot_is_said() -> None:
    """The three classes of BUPT are groups themselves."""
    report = check_recipe(load_recipe("dcase2020", ("training.tasks=scene+group",)))
    (left,) = (check for check in report.checks if check.name == "left away")
    assert left.status == "open"
    assert "3Class, development has no groups of scenes" in left.text


@pytest.fixture(scope="module")
def few_scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty embedded scenes of 1 s in the layout of TAU 2022."""
    return str(generate(tmp_path_factory.mktemp("scenes") / "set", clips=60, workers=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_recipes())
def test_recipe_runs_end_to_end_on_embedded_scenes(
    name: str, few_scenes: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # five poolings need 65 frames; the paper's front-end gives 28 in 1 s
    spec = "bupt2020:one-second" if name == "bupt2020" else name
    recipe = load_recipe(spec)
    out = tmp_path_factory.mktemp(name)
    first = next(iter(recipe.ablations), None)
    record = reproduce(
        Reproduction(
            recipe=recipe,
            out=out / "run",
            data=few_scenes,
            budget_epochs=1,
            ablations=() if first is None else (first,),
            cache=out / "cache",
        )
    )
    stages = record["lines"]["recipe"]["stages"]
    assert list(stages) == ["dense", *recipe.chains]
    for runs in stages.values():
        assert 0 <= runs[0]["evaluation"]["accuracy"] <= 1
        assert runs[0]["params"] > 0
    assert record["epochs"] == {"trained": 1, "paper": recipe.training.epochs}
