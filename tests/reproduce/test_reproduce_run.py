"""A small recipe from end to end on a few clips: stages, resuming, tables, commands."""

from __future__ import annotations

import csv
import io
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import in_process
import pytest
import typer
from small_recipe import TINY
from tiny_data import write_tiny

from compressor.artifact import load
from compressor.cli import recipe as recipe_command
from compressor.cli.reproduce import reproduce as reproduce_command
from compressor.cli.reproduce_text import laid_out, reproduction_lines
from compressor.cli.train import train
from compressor.data import open_dataset
from compressor.errors import CompressorError, MeasureError, UsageError
from compressor.reproduce import load_recipe
from compressor.reproduce.prepare import prepare
from compressor.reproduce.run import Reproduction, reproduce
from compressor.training import evaluate
from reports.reproduce_page import render
from reports.reproduction import tables
from reports.reproduction_files import csv_text, markdown
from reports.tables import Table

app = typer.Typer()
app.command("train")(train)
app.command("reproduce")(reproduce_command)
app.add_typer(recipe_command.app, name="recipe")
invoke = partial(in_process.invoke, app)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, cache and the small recipe."""
    root = tmp_path_factory.mktemp("reproduce")
    write_tiny(root / "data")
    (root / "tiny.toml").write_text(TINY)
    return root


def plan_of(home: Path, **more: Any) -> Reproduction:
    given = {
        "recipe": load_recipe(str(home / "tiny.toml")),
        "out": home / "run",
        "data": str(home / "data"),
        "cache": home / "cache",
        "seeds": (0, 1),
        "ablations": ("no-mixup", "no-copies"),
        "command": ("compressor", "reproduce"),
        **more,
    }
    return Reproduction(**given)


@pytest.fixture(scope="module")
def record(home: Path) -> dict[str, Any]:
    return reproduce(plan_of(home))


def stage(record: dict[str, Any], line: str, name: str, seed: int) -> dict[str, Any]:
    runs = record["lines"][line]["stages"][name]
    found: dict[str, Any] = next(run for run in runs if run["seed"] == seed)
    return found


def test_every_line_stage_and_seed_is_measured(record: dict[str, Any], home: Path) -> None:
    assert {name: list(line["stages"]) for name, line in record["lines"].items()} == {
        "recipe": ["dense", "half"],
        "no-mixup": ["dense"],
        "no-copies": ["dense"],
    }
    for seed in (0, 1):
        dense, half = (stage(record, "recipe", name, seed) for name in ("dense", "half"))
        assert half["param_bytes"] * 2 == dense["param_bytes"] == 4 * dense["params"]
        assert dense["epochs"] == 2
        assert dense["evaluation"]["n"] == 12  # a third of 36 clips
    assert json.loads((home / "run" / "results.json").read_text()) == record


def test_figures_are_those_of_the_stored_network(record: dict[str, Any], home: Path) -> None:
    """Evaluated again from the file, the recipe's way: with its two copies."""
    prepared = prepare(
        load_recipe(str(home / "tiny.toml")), str(home / "data"), cache=home / "cache"
    )
    artifact = load(home / "run" / "recipe-seed1" / "dense.pt")
    again = evaluate(
        artifact.build(), prepared.features.test, standardizer=prepared.features.standardizer,
        layout=artifact.layout, settings=prepared.experiment.train, seed=1,
    )  # fmt: skip
    assert stage(record, "recipe", "dense", 1)["evaluation"]["log_loss"] == pytest.approx(
        again.log_loss, rel=1e-6
    )
    assert artifact.provenance["recipe"]["name"] == "tiny"


def test_a_line_that_only_evaluates_otherwise_trains_nothing(
    record: dict[str, Any], home: Path
) -> None:
    assert not (home / "run" / "no-copies-seed0" / "dense.pt").exists()
    assert (home / "run" / "no-mixup-seed0" / "dense.pt").exists()
    with_copies = stage(record, "recipe", "dense", 0)["evaluation"]["log_loss"]
    without = stage(record, "no-copies", "dense", 0)["evaluation"]["log_loss"]
    assert with_copies != without


def test_a_second_start_measures_nothing(
    record: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compressor.reproduce import run

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(run, "train_recipe", forbidden)
    again = reproduce(plan_of(home))
    assert again["lines"] == record["lines"]


def test_other_settings_train_again(home: Path, record: dict[str, Any]) -> None:
    changed = load_recipe(str(home / "tiny.toml"), ["training.lr=1e-3"])
    out = home / "changed"
    first = reproduce(plan_of(home, out=out, seeds=(0,), ablations=()))
    second = reproduce(plan_of(home, out=out, seeds=(0,), ablations=(), recipe=changed))
    keys = [stage(one, "recipe", "dense", 0)["key"] for one in (first, second)]
    assert keys[0] != keys[1]
    assert (
        stage(first, "recipe", "dense", 0)["evaluation"]
        == (stage(record, "recipe", "dense", 0)["evaluation"])
    )


def test_an_interrupted_training_goes_on(home: Path, record: dict[str, Any]) -> None:
    """Stopped after the first epoch and started again: the same network to the bit."""
    from compressor.sweep.execute import Silent

    class Stop(Silent):
        def progress(self, description: str, total: int) -> Any:
            counter = super().progress(description, total)

            class Once:
                def __enter__(self) -> Any:
                    counter.__enter__()
                    return self

                def __exit__(self, *_: object) -> None:
                    return None

                def advance(self, text: str = "", step: int = 1) -> None:
                    raise KeyboardInterrupt

            return Once()

    plan = plan_of(home, out=home / "stopped", seeds=(0,), ablations=())
    with pytest.raises(KeyboardInterrupt):
        reproduce(plan, Stop())
    assert (home / "stopped" / "recipe-seed0" / "checkpoint.pt").is_file()
    resumed = reproduce(plan)
    assert (
        stage(resumed, "recipe", "dense", 0)["evaluation"]
        == (stage(record, "recipe", "dense", 0)["evaluation"])
    )
    assert not (home / "stopped" / "recipe-seed0" / "checkpoint.pt").exists()


def test_the_paper_stands_beside_ours(record: dict[str, Any]) -> None:
    table = tables(record)["paper"]
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == ["theirs", "without mixup", "dense"]
    assert rows["theirs"]["accuracy %, paper"] == "77.7"
    accuracies = [
        stage(record, "recipe", "half", s)["evaluation"]["macro_accuracy"] for s in (0, 1)
    ]
    mean = sum(accuracies) / 2
    spread = abs(accuracies[0] - accuracies[1]) / 2**0.5  # sample deviation of two values
    assert rows["theirs"]["accuracy %"] == f"{100 * mean:.1f} ± {100 * spread:.1f}"
    assert rows["theirs"]["bytes"] == f"{stage(record, 'recipe', 'half', 0)['param_bytes']:,}"
    for word in ("another set", "2 seeds"):
        assert word in table.caption
    by_class = tables(record)["class"]
    assert by_class.columns[1] == "accuracy %, paper (Table 10)"
    assert {row[0]: row[1] for row in by_class.rows} == {"low": "12.5", "middle": "–", "high": "99"}


def test_differences_are_paired_by_seed(record: dict[str, Any]) -> None:
    table = tables(record)["ablation"]
    row = next(row for row in table.rows if row[0] == "no-mixup")
    differences = [
        stage(record, "no-mixup", "dense", s)["evaluation"]["macro_accuracy"]
        - stage(record, "recipe", "dense", s)["evaluation"]["macro_accuracy"]
        for s in (0, 1)
    ]
    mean = 100 * sum(differences) / 2
    error = 100 * abs(differences[0] - differences[1]) / 2  # deviation / sqrt(2) of two values
    shown = row[table.columns.index("difference, points")]
    assert shown.replace("−", "-").lstrip("+") == f"{mean:.1f} ± {error:.1f}".replace("-0.0", "0.0")
    assert row[-1] == f"{sum(d < 0 for d in differences)} of 2"


def test_the_confusion_adds_up(record: dict[str, Any]) -> None:
    table = tables(record)["confusion"]
    # 4 test clips of each of three labels, two seeds
    assert [row[1] for row in table.rows] == ["8", "8", "8"]


def test_all_formats_show_the_same_figures(record: dict[str, Any]) -> None:
    text, html = markdown(record), render(record)
    for table in tables(record).values():
        for row in table.rows:
            assert row[0] in html
            assert row[0].replace("-", "\\-") in text or row[0] in text
    assert "Open in the paper" in text
    rows = list(csv.DictReader(io.StringIO(csv_text(record))))
    assert len(rows) == 2 * (2 + 1 + 1)
    first = stage(record, "recipe", "dense", 0)["evaluation"]["accuracy"]
    assert float(rows[0]["accuracy"]) == first


def test_text_begins_with_how_far_ours_are_and_fits_a_terminal(record: dict[str, Any]) -> None:
    whole = list(reproduction_lines(record, None))
    assert whole[0].startswith("tiny on data: ") and "Not the paper's conditions" in whole[0]
    found = tables(record)
    assert all(table.caption in whole for table in found.values())
    lines = list(reproduction_lines(record, 80))
    assert max(map(len, lines)) <= 80
    first = {line.split(" ")[0] for line in lines}
    assert "theirs" in first and "half" not in first
    (ours,) = (line for line in lines if line.startswith("  ours: half"))
    row = next(row for row in found["paper"].rows if row[0] == "theirs")
    cells = dict(zip(found["paper"].columns, row, strict=True))
    assert all(text in ours for text in (cells["accuracy %"], cells["log loss"]))
    assert f"{cells['bytes']} B" in ours
    assert "no-mixup: no mixup" in lines, "what has no room in the table stands below it"


def test_a_confusion_of_many_classes_is_numbered() -> None:
    names = tuple(f"a_class_called_{letter}" for letter in "abcdefghijk")
    rows = tuple((name, "2", *("7",) * 11) for name in names)
    table = Table("c", ("class", "clips", *names), rows)
    lines = list(laid_out("confusion", table, 80))
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["class", "clips", *map(str, range(1, 12))]
    assert lines[1].split()[:2] == ["1", "a_class_called_a"] and lines[11].startswith("11 a_class")
    assert next(laid_out("confusion", table, None)).split() == ["class", "clips", *names]


def test_a_record_of_something_else_is_refused() -> None:
    with pytest.raises(UsageError, match="no record of `compressor reproduce`"):
        tables({"schema": 1})


def test_reproduce_command_with_a_budget(home: Path) -> None:
    result = invoke(
        "reproduce", home / "tiny.toml", "--data", home / "data", "--cache", home / "cache",
        "--budget-epochs", 1, "--line", "no-copies", "--out", home / "budget",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "1 of 2 epochs" in result.stdout
    assert "one seed, no spread" in result.stdout
    names = {path.name for path in (home / "budget").iterdir() if path.is_file()}
    assert names == {"results.json", "results.csv", "table.md", "report.html"}
    assert result.stdout.strip().endswith("report.html")


def test_train_by_a_recipe_writes_a_run_folder_that_resumes(home: Path) -> None:
    out = home / "trained"
    common = ("--recipe", home / "tiny.toml", "--data", home / "data", "--cache", home / "cache")
    result = invoke("train", *common, "--out", out, "--set", "training.epochs=1")
    assert result.exit_code == 0, result.output
    stored = json.loads((out / "results.json").read_text())
    assert stored["recipe"]["training"]["epochs"] == 1
    first, second, *_, before, last = result.stdout.splitlines()
    test = stored["test"]
    share = test["accuracy"]
    error = math.sqrt(share * (1 - share) / 12)
    figures = f"accuracy {100 * share:.1f} % ± {100 * error:.1f} (chance 33.3)"  # three classes
    assert first.startswith(f"{figures}; PASS DCASE 2023 Task 1: ")
    (verdict,) = stored["verdicts"]
    assert verdict["year"] == 2023 and verdict["status"] == "pass"
    assert first.endswith(" to spare)")
    assert second.startswith(f"log loss {test['log_loss']:.3f}; 12 test clips of ")
    assert before.startswith("before compression (half), which `compressor reproduce tiny`")
    assert last == str(out / "model.pt")
    assert load(out / "model.pt").history[0]["settings"]["epochs"] == 1
    assert not (out / "checkpoint.pt").exists()
    # an option wins over the recipe
    other = invoke("train", home / "m.pt", *common, "--epochs", 1, "--batch-size", 6, "--resume")
    assert other.exit_code == 0, other.output
    assert load(home / "m.pt").history[0]["settings"]["batch_size"] == 6


def test_a_network_that_cannot_be_counted_is_trained_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MeasureError("no counting rule")

    monkeypatch.setattr("compressor.audit.audit", broken)
    result = invoke(
        "train", home / "odd.pt", "--recipe", home / "tiny.toml", "--data", home / "data",
        "--cache", home / "cache", "--epochs", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].endswith("; limits UNKNOWN: no counting rule")
    assert (home / "odd.pt").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "found neither"),
        (("train", "m.pt", "--out", "runs/x"), "found both"),
        (("train", "m.pt", "--set", "training.epochs=1"), "there is no --recipe"),
        (("train", "m.pt", "--recipe", "pku22"), "did you mean pku2022"),
        (("reproduce", "pku2022", "--line", "no-tt"), "did you mean no-tta"),
        (("reproduce", "pku2022", "--budget-epochs", "0"), "give 1 to 150"),
        (("recipe", "show", "pku2022:frames"), "did you mean frames44"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert isinstance(result.exception, CompressorError)
    assert message in str(result.exception)
    assert result.exception.exit_code == 2


def test_recipe_commands(tmp_path: Path) -> None:
    listed = invoke("recipe", "list")
    assert listed.exit_code == 0 and "deepsound2021" in listed.stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        for arguments in (("list",), ("show", "pku2022:frames44"), ("check", "pku2022:frames44")):
            narrow = invoke("recipe", *arguments).stdout.splitlines()
            assert len(narrow) > 5 and max(map(len, narrow)) <= 80
    assert "# section 2.2" in invoke("recipe", "show", "speakin2021").stdout
    shown = invoke("recipe", "show", "scut2023:model2", "--set", "training.epochs=3").stdout
    assert "training.epochs" in shown and " 3\n" in shown
    as_json = json.loads(invoke("recipe", "show", "scut2023:model2", "--format", "json").stdout)
    assert as_json["model"] == "dsmn"
    copy = tmp_path / "mine.toml"
    assert invoke("recipe", "copy", "scut2023", copy).exit_code == 0
    assert load_recipe(f"{copy}:model4").model == "dsmn_seg_large"
    refused = invoke("recipe", "copy", "scut2023", copy)
    assert "is there already" in str(refused.exception)
    short = tmp_path / "short.toml"
    assert invoke("recipe", "copy", "scut2023:model3", short, "--extend").exit_code == 0
    assert load_recipe(str(short)).model == "dsmn_mixed"


def test_the_data_set_of_the_tests_is_what_it_says(home: Path) -> None:
    dataset = open_dataset(str(home / "data"))
    assert (len(dataset.train), len(dataset.test)) == (24, 12)
