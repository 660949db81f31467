"""The whole command on a few clips: real features, training, pruning, records, table, report."""

from __future__ import annotations

import csv
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import in_process
import pytest
import torch
import typer
from tiny_data import write_tiny
from typer.testing import Result

from compressor import artifact
from compressor.audit import audit, verdicts
from compressor.cli.audit_text import headline
from compressor.cli.sweep import model_args, read_settings, sweep
from compressor.cli.train import train
from compressor.errors import CompressorError, ConfigError, UsageError
from compressor.sweep import checkpoint
from compressor.sweep.execute import blank_record
from compressor.sweep.experiment import Experiment, load_features
from compressor.sweep.plan import Grid, build_plan
from compressor.sweep.store import RunFolder
from compressor.training import Evaluation, TrainSettings, evaluate

app = typer.Typer()
app.command("sweep")(sweep)
app.command("train")(train)

QUICK = ["--epochs", "1", "--finetune-epochs", "1", "--batch-size", "8", "--workers", "0"]
invoke = partial(in_process.invoke, app)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and cache of a few clips."""
    root = tmp_path_factory.mktemp("tiny")
    write_tiny(root / "data")
    return root


def sweep_tiny(root: Path, *more: object) -> Result:
    """`compressor sweep` on the tiny data."""
    return invoke("sweep", "--data", root / "data", "--cache", root / "cache", *QUICK, *more)


@pytest.fixture(scope="module")
def run(tiny: Path) -> tuple[Path, Result]:
    """A finished sweep of two ratios: its folder and what the command printed."""
    out = tiny / "run"
    return out, sweep_tiny(tiny, "--prune", "0.4,0.6", "--out", out)


def table_ratios(result: Result) -> list[str]:
    """First column of the table that was printed."""
    lines = [line.strip() for line in result.stdout.splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith("ratio "))
    rows = lines[start + 2 : lines.index("", start)]  # below the heading and its rule
    return [row.split("  ")[0] for row in rows]


def test_output(run: tuple[Path, Result]) -> None:
    out, result = run
    assert result.exit_code == 0, result.output
    lines = result.stdout.strip().splitlines()
    assert lines[-1] == str(out / "report.html")
    assert (out / "report.html").read_text().lower().startswith("<!doctype html>")
    assert lines[0].split(" ")[0] in ("PASS", "FAIL")  # the verdict, then what was run
    assert "networks fit" in lines[0]
    assert "1 seed, no spread" in lines[1]
    assert table_ratios(result) == ["dense", "0.40", "0.60"]
    assert "f1-s0-slimming-0.60: accuracy" in result.stderr


def test_records(run: tuple[Path, Result]) -> None:
    out, _ = run
    folder = RunFolder(out)
    ids = ["f1-s0-dense", "f1-s0-slimming-0.40", "f1-s0-slimming-0.60"]
    records = folder.records()
    assert [record["id"] for record in records] == ids
    keys = blank_record(build_plan(Grid((1,), (0,), (0.4,)), dense={}, point={})[0], {}).keys()
    dense = records[0]
    for record in records:
        assert keys <= record.keys()
        assert record["status"] == "ok"
        assert record["bytes_float16"] == 2 * record["params"]
        assert record["bytes_float32"] == 4 * record["params"]
        assert record["params_dense"] == dense["params"]
        assert record["macs_dense"] == dense["macs"]
        # the rows of the layers add up to the totals
        assert sum(params for params, _ in record["layers"].values()) == record["params"]
        assert sum(macs for _, macs in record["layers"].values()) == record["macs"]
        assert (record["audit_status"], record["uncounted"]) == ("exact", [])
        assert Evaluation.from_dict(record["after_finetune"]).n == 12
        assert {verdict["year"] for verdict in record["verdicts"]} >= {2020, 2021, 2022, 2023}
        assert record["provenance"]["seed"] == 0
        assert record["provenance"]["data_hash"]
        assert record["seconds"] > 0
        assert (out / record["model_file"]).is_file()
    assert (dense["before_finetune"], dense["dense"]) == (None, None)
    assert dense["prune_ratio"] == 0
    for point in records[1:]:
        assert point["dense"] == dense["after_finetune"]
        assert point["before_finetune"]["n"] == 12
        assert point["finetune_settings"] == {**point["train_settings"], "gamma_l1": 0.0}
        # the share that was asked for, up to scales that are tied together
        share = point["channels_under_threshold"] / point["channels_total"]
        assert share == pytest.approx(point["prune_ratio"], abs=0.02)
        assert all(0 < kept <= total for kept, total in point["kept_channels"].values())
        assert len(point["history"]) == 1
    assert dense["params"] > records[1]["params"] > records[2]["params"]


def test_the_files_are_the_networks_of_the_records(run: tuple[Path, Result], tiny: Path) -> None:
    out, _ = run
    for record in RunFolder(out).records():
        model_file = artifact.load(out / record["model_file"])
        model = model_file.build()
        assert sum(p.numel() for p in model.parameters()) == record["params"]
        assert audit(model, input_shape=(1, *model_file.input_shape)).macs == record["macs"]
        assert model_file.metrics["test"]["accuracy"] == record["after_finetune"]["accuracy"]
        steps = [step["step"] for step in model_file.history]
        dense = record["method"] == "dense"
        assert steps == (["train"] if dense else ["train", "slimming", "reestimate", "finetune"])


def test_verdicts_are_of_float16(run: tuple[Path, Result]) -> None:
    """2023 allows 128,000 B of parameters: four bytes each would be too many."""
    out, _ = run
    dense = RunFolder(out).records()[0]
    assert dense["verdict_number_type"] == "float16"
    rules = next(verdict for verdict in dense["verdicts"] if verdict["year"] == 2023)
    size = next(check for check in rules["checks"] if check["unit"] == "B")
    assert (size["limit"], size["value"]) == (128_000, 2 * dense["params"])
    assert size["status"] == "pass"
    assert 4 * dense["params"] > 128_000


def test_csv_and_json_agree(run: tuple[Path, Result]) -> None:
    out, _ = run
    results = json.loads((out / "results.json").read_text())
    assert results.keys() == {"schema", "run", "points", "summary"}
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results["points"]) == 3
    for line, record in zip(rows, results["points"], strict=True):
        for key in ("params", "macs", "bytes_int8", "prune_ratio", "cpu_seconds"):
            assert float(line[key]) == record[key]
        for part, key in (("before", "before_finetune"), ("after", "after_finetune")):
            for score in ("accuracy", "macro_accuracy", "log_loss"):
                text = line[f"{score}_{part}"]
                assert (float(text) == record[key][score]) if record[key] else text == ""
        assert line["verdict"] == next(
            verdict["status"] for verdict in record["verdicts"] if verdict["year"] == 2023
        )


def test_run_file(run: tuple[Path, Result]) -> None:
    out, _ = run
    facts = json.loads((out / "run.json").read_text())
    assert facts["budget"] == {
        "year": 2023,
        "bytes": 128_000,
        "macs": 30_000_000,
        "segment_s": 1.0,
    }
    assert (facts["n_train"], facts["n_test"], facts["clip_s"]) == (24, 12, 0.4)
    assert sorted(facts["classes"]) == ["high", "low", "middle"]
    assert facts["synthetic"] is False
    assert facts["grid"]["ratios"] == [0.4, 0.6]


def test_second_start_repeats_nothing_and_adds_a_ratio(
    run: tuple[Path, Result], tiny: Path
) -> None:
    out = tiny / "grown"
    shutil.copytree(run[0], out)
    files = {path: path.stat().st_mtime_ns for path in (out / "points").iterdir()}
    again = sweep_tiny(tiny, "--prune", "0.4,0.6", "--out", out)
    assert again.exit_code == 0
    assert "3 of 3 jobs are finished" in again.stderr
    assert table_ratios(again) == ["dense", "0.40", "0.60"]
    more = sweep_tiny(tiny, "--prune", "0.5", "--out", out)
    assert more.exit_code == 0, more.output
    assert [r["prune_ratio"] for r in RunFolder(out).records()] == [0.0, 0.4, 0.5, 0.6]
    assert table_ratios(more) == ["dense", "0.40", "0.50", "0.60"]
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_other_settings_need_another_folder(run: tuple[Path, Result], tiny: Path) -> None:
    out, _ = run
    before = (out / "run.json").read_text()
    result = sweep_tiny(tiny, "--prune", "0.4", "--lr", "0.01", "--out", out)
    assert isinstance(result.exception, UsageError)
    assert "train.lr: 0.005 in the folder, 0.01 asked" in str(result.exception)
    assert (out / "run.json").read_text() == before


def test_a_broken_report_loses_nothing(
    run: tuple[Path, Result], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reports import sweep_page

    def broken(*_: object) -> None:
        raise RuntimeError("no fonts")

    monkeypatch.setattr(sweep_page, "write", broken)
    out = tiny / "no-report"
    shutil.copytree(run[0], out)
    (out / "results.json").unlink()
    result = sweep_tiny(tiny, "--prune", "0.4,0.6", "--out", out)
    assert result.exit_code == 0
    assert "RuntimeError: no fonts" in result.stderr
    assert result.stdout.strip().splitlines()[-1] == str(out / "results.json")
    assert len(json.loads((out / "results.json").read_text())["points"]) == 3


def test_failed_points_exit_3_and_keep_the_rest(tiny: Path) -> None:
    # At 0.999 of the parameters no network with two channels in every layer is left.
    out = tiny / "failed"
    options = ("--prune", "0.3,0.999", "--prune-by", "params", "--out", out)
    result = sweep_tiny(tiny, *options)
    assert result.exit_code == 3
    assert "failed: f1-s0-slimming-p0.999: " in result.stderr
    assert "cannot be removed" in result.stderr
    records = {record["id"]: record for record in RunFolder(out).records()}
    assert records["f1-s0-slimming-p0.30"]["status"] == "ok"
    assert records["f1-s0-slimming-p0.999"]["status"] == "failed"
    assert "PruneError" in (out / "logs" / "f1-s0-slimming-p0.999.txt").read_text()
    assert (out / "report.html").is_file()


def test_target_params(tiny: Path) -> None:
    out = tiny / "target"
    result = sweep_tiny(tiny, "--target-params", "20000", "--out", out)
    assert result.exit_code == 0, result.output
    point = RunFolder(out).records()[1]
    assert (point["prune_ratio"], point["prune_by"]) == (None, "target")
    assert 0.9 * 20_000 < point["params"] <= 20_000
    assert table_ratios(result) == ["dense", "to 20,000"]


def test_another_front_end_decides_the_network_and_is_in_the_file(tiny: Path) -> None:
    out = tiny / "other.pt"
    result = invoke(
        *("train", out, "--data", tiny / "data", "--cache", tiny / "cache", "--epochs", "1"),
        *("--batch-size", "8", "--front-end", "speakin2021:n_mels=24"),
    )
    assert result.exit_code == 0, result.output
    first = result.stdout.splitlines()[0]  # without a recipe: every year's limits
    assert first.startswith("accuracy ")
    assert first.endswith(f"; {headline(verdicts(audit(out)))}")
    stored = artifact.load(out)
    assert stored.input_shape[1] == stored.front_end["n_mels"] == 24
    assert stored.front_end["name"].startswith("speakin2021:n_mels=24")


def test_dry_run_touches_nothing(tiny: Path) -> None:
    out = tiny / "dry"
    result = invoke(
        *("sweep", "--data", tiny / "data", "--prune", "0.5,0.7", "--seeds", "0:1"),
        *("--epochs", "6", "--finetune-epochs", "2", "--dry-run", "--out", out),
        *("--cache", tiny / "dry-cache"),
    )
    assert result.exit_code == 0, result.output
    assert "6 jobs, 0 finished, 20 epochs to train" in result.stdout
    assert "f1-s1-slimming-0.70" in result.stdout
    assert "about" in result.stdout
    assert not out.exists()
    assert not (tiny / "dry-cache" / "features").exists()


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_file_is_no_run_folder(tiny: Path, more: list[str]) -> None:
    file = tiny / "file.txt"
    file.write_text("kept")
    result = sweep_tiny(tiny, "--prune", "0.5", "--out", file, *more)
    assert isinstance(result.exception, UsageError)
    assert "file.txt is a file; name a folder" in str(result.exception)
    assert file.read_text() == "kept"


def test_dry_run_of_the_embedded_set_knows_its_fold(tmp_path: Path) -> None:
    result = invoke("sweep", "--folds", "9", "--dry-run", "--out", tmp_path / "run")
    assert isinstance(result.exception, UsageError)
    assert "synthetic-scenes has no fold 9; it has 1" in str(result.exception)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "seresnet19"], "did you mean seresnet18"),
        (["--front-end", "scut2032"], "did you mean scut2023"),
        (["--front-end", "scut2023:n_mels=no"], "must be a whole number"),
        (["--data", "/nowhere/at/all"], "no data set"),
        (["--folds", "7"], "no fold 7"),
        (["--prune", "1.5"], "outside 0 < ratio < 1"),
        (["--seeds", "x"], "--seeds"),
        (["--year", "1999"], "1999"),
        (["--epochs", "0"], "epochs is 0"),
        (["--lr", "-1"], "lr is -1"),
        (["--timeout", "0"], "--timeout is 0 s"),
        (["--crop-s", "-1"], "--crop-s is -1 s"),
        (["--crop-s", "3"], "--crop-s of at most 0.4"),
        (["--crop-s", "3", "--dry-run"], "--crop-s of at most 0.4"),
        (["--folds", "7", "--dry-run"], "no fold 7"),
        (["--model-arg", "strides"], "write key=value"),
        (["--model-arg", "frames=9"], "follows from the data"),
        (["--model-arg", "colour=red"], "colour"),
        (["--settings", "/nowhere.toml"], "cannot be read"),
        (["--model", "dsmn_seg"], "frames"),
    ],
)
def test_bad_usage(tiny: Path, options: list[str], words: str) -> None:
    out = tiny / "bad"
    defaults = ["--data", tiny / "data"] if "--data" not in options else []
    result = invoke("sweep", *defaults, "--cache", tiny / "cache", *QUICK, "--out", out, *options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, CompressorError), result.exception
        assert result.exception.exit_code == 2
        assert words in str(result.exception)
    else:
        assert result.exit_code == 2
        assert words in result.output
    assert not (out / "run.json").exists()


def test_model_args() -> None:
    given = ["strides=1,2,2,2", "se_bias=false", "se_reduction=8", "scale=0.5", "name=abc"]
    assert model_args(given) == {
        "strides": [1, 2, 2, 2],
        "se_bias": False,
        "se_reduction": 8,
        "scale": 0.5,
        "name": "abc",
    }
    with pytest.raises(UsageError, match="given twice"):
        model_args(["a=1", "a=2"])


def test_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('optimizer = "sgd"\nlr = 1\n')
    assert read_settings(path) == {"optimizer": "sgd", "lr": 1}
    path.write_text("optimizer = ")
    with pytest.raises(ConfigError, match="is not TOML"):
        read_settings(path)


def test_train_writes_what_the_sweep_would_train(run: tuple[Path, Result], tiny: Path) -> None:
    file = tiny / "trained" / "dense.pt"
    result = invoke(
        *("train", file, "--data", tiny / "data", "--cache", tiny / "cache"),
        *("--epochs", "1", "--batch-size", "8", "--threads", "1"),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.strip().splitlines()[-1] == str(file)
    own, swept = artifact.load(file), artifact.load(run[0] / "models" / "f1-s0-dense.pt")
    assert own.state_dict.keys() == swept.state_dict.keys()
    assert own.history[0]["settings"] == swept.history[0]["settings"]
    for name, tensor in own.state_dict.items():
        # bit-equal on one thread; the suite may run on more, so as close as float32 sums are
        torch.testing.assert_close(tensor, swept.state_dict[name], rtol=1e-2, atol=1e-3)


def test_train_stores_float16(tiny: Path) -> None:
    file = tiny / "trained" / "half.pt"
    result = invoke(
        *("train", file, "--data", tiny / "data", "--cache", tiny / "cache"),
        *("--epochs", "1", "--batch-size", "8", "--threads", "1", "--store", "float16"),
    )
    assert result.exit_code == 0, result.output
    stored = artifact.load(file)
    assert stored.dtype == "float16"
    assert 2 * 54_301 < file.stat().st_size < 4 * 54_301
    experiment = Experiment.make(
        model="seresnet18",
        model_args={},
        data=str(tiny / "data"),
        cache=tiny / "cache",
        train=TrainSettings.from_dict(stored.history[0]["settings"]),
        finetune_epochs=1,
    )
    features = load_features(experiment, 1)
    scores = evaluate(stored.build(), features.test, standardizer=features.standardizer)
    assert scores.log_loss == pytest.approx(stored.metrics["test"]["log_loss"], rel=1e-5)


def test_checkpoint_only_where_it_is_the_same(run: tuple[Path, Result], tiny: Path) -> None:
    trained = artifact.load(run[0] / "models" / "f1-s0-dense.pt")
    settings = TrainSettings.from_dict(trained.history[0]["settings"])

    def differs(seed: int = 0, **changes: Any) -> str:
        experiment = Experiment.make(
            model=changes.pop("model", "seresnet18"),
            model_args=changes.pop("model_args", {}),
            data=str(tiny / "data"),
            cache=tiny / "cache",
            train=TrainSettings.from_dict({**settings.to_dict(), **changes}),
            finetune_epochs=3,
        )
        features = load_features(experiment, 1)
        # recordings never have one, however well it fits
        assert checkpoint.find_checkpoint(experiment, features, seed) is None
        return checkpoint.mismatch(trained, experiment, features, seed)

    assert differs() == ""
    assert differs(seed=1) == "seed: 0 in the file, 1 asked"
    assert differs(lr=0.5) == "training settings: lr is 0.005 in the file, 0.5 asked"
    assert differs(model="resnet18").startswith("network: 'seresnet18' in the file")
    assert "strides" in differs(model_args={"strides": [1, 2, 2, 2]})
    pruned = artifact.load(run[0] / "models" / "f1-s0-slimming-0.40.pt")
    experiment = Experiment.make(
        model="seresnet18",
        model_args={},
        data=str(tiny / "data"),
        cache=tiny / "cache",
        train=settings,
        finetune_epochs=1,
    )
    assert "not a dense network" in checkpoint.mismatch(
        pruned, experiment, load_features(experiment, 1), 0
    )
