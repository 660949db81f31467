"""`compressor audit` and `compressor rank`: verdict first, exit codes, formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner, Result

import zoo
from compressor.audit.trace import graph_of
from compressor.cli.audit import audit
from compressor.cli.rank import rank
from compressor.errors import UnknownNameError, UsageError

app = typer.Typer()
app.command("audit")(audit)
app.command("rank")(rank)


def run(*args: object, fails: type[Exception] | None = None) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if fails is None:
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
    else:
        assert isinstance(result.exception, fails), result.exception
    return result


def write(path: Path, model: nn.Module, shape: tuple[int, ...], **more: Any) -> Path:
    dtype = next(model.parameters()).dtype
    tree = {
        "format": "compressor-model",
        "format_version": 1,
        "arch": "dcase2024_baseline",
        "input_shape": shape[1:],
        "state_dict": dict(model.state_dict()),
        "graph": graph_of(model, torch.zeros(shape, dtype=dtype)),
        **more,
    }
    torch.save(tree, path)
    return path


@pytest.fixture
def half(tmp_path: Path) -> Path:
    model = zoo.build("dcase2024_baseline").half()
    return write(tmp_path / "half.pt", model, (1, 1, 256, 65))


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return write(tmp_path / "full.pt", zoo.build("dcase2024_baseline"), (1, 1, 256, 65))


def test_pass_with_the_margin_first(half: Path) -> None:
    result = run("audit", half, "--year", 2024)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == (
        "half.pt (dcase2024_baseline, compressor-model): PASS DCASE 2024 Task 1: "
        "MACs 29,419,156 MACs of 30,000,000, 580,844 to spare"
    )
    assert "122,296" in result.stdout
    assert "29,416,448" in result.stdout


def test_fail_with_what_would_make_it_pass(full: Path) -> None:
    result = run("audit", full, "--year", "2023")
    assert result.exit_code == 1
    first = result.stdout.splitlines()[0]
    assert "FAIL DCASE 2023 Task 1: memory 244,592 B of 128,000, 116,592 over" in first
    assert "to pass 2023: float16 → 122,296 B, fits" in result.stdout


def test_all_years_inform_only(full: Path, half: Path) -> None:
    result = run("audit", full, half)
    assert result.exit_code == 0
    assert "full.pt (dcase2024_baseline, compressor-model): PASS 2020; FAIL 2021, " in result.stdout
    assert "half.pt (dcase2024_baseline, compressor-model): PASS 2020, 2021, 2023" in result.stdout
    assert run("audit", full, half, "--year", 2025).exit_code == 1


def test_in_doubt_is_not_a_pass(half: Path) -> None:
    result = run("audit", half, "--year", 2022)  # float16, the rule fixes int8
    assert result.exit_code == 1
    assert "DEPENDS DCASE 2022 Task 1: number type" in result.stdout


def test_layer_table_in_both_conventions(half: Path) -> None:
    strict = run("audit", half, "--layers").stdout
    official = run("audit", half, "--layers", "--convention", "nessi").stdout
    stem = next(line for line in strict.splitlines() if line.startswith("stem.0.0"))
    assert stem.split() == [
        "stem.0.0",
        "Conv2d",
        "72",
        "72",
        "144",
        "304,128",
        "1x8x128x33",
        "float16",
    ]
    norm = next(line for line in official.splitlines() if line.startswith("stem.0.1"))
    assert norm.split()[5] == "16"


def test_json(full: Path, half: Path) -> None:
    result = run("audit", full, half, "--year", 2024, "--format", "json")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert record["schema"] == 1
    first, second = record["files"]
    assert [f["verdicts"][0]["status"] for f in record["files"]] == ["fail", "pass"]
    assert second["audit"]["param_bytes"] == 122_296
    assert len(first["sha256"]) == 64
    again = run("audit", full, half, "--year", 2024, "--format", "json")
    assert again.stdout == result.stdout


def test_a_broken_file_among_good_ones(half: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_text("no model")
    result = run("audit", broken, half, "--year", 2024)
    assert result.exit_code == 3
    assert "error: broken.pt: a text file" in result.stderr
    assert "half.pt" in result.stdout  # the others are measured all the same
    record = json.loads(run("audit", broken, "--format", "json").stdout)
    assert record["files"][0]["status"] == "error"


def test_state_dict_is_not_measurable_for_a_year_with_macs(tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    torch.save(nn.Linear(4, 4).state_dict(), path)
    assert run("audit", path).exit_code == 0
    assert run("audit", path, "--year", 2020).exit_code == 0
    result = run("audit", path, "--year", 2024)
    assert result.exit_code == 3
    assert "UNKNOWN" in result.stdout


def test_another_input_shape(tmp_path: Path) -> None:
    from compressor import artifact

    entry = zoo.entry("dcase2022_baseline")
    made = artifact.from_model(
        zoo.build("dcase2022_baseline"),
        arch="dcase2022_baseline",
        arch_args={},
        num_classes=10,
        classes=(),
        input_shape=entry.input_shape,
        layout=entry.layout,
        front_end={},
        standardizer={},
    )
    path = tmp_path / "m.pt"
    artifact.save(made, path)
    same = run("audit", path, "--input-shape", "1,1,40,51", "--format", "json")
    assert json.loads(same.stdout)["files"][0]["audit"]["macs"] == 29_203_560
    batch = run("audit", path, "--input-shape", "2x1x40x51", "--format", "json")
    assert json.loads(batch.stdout)["files"][0]["audit"]["macs"] == 2 * 29_203_560
    plain = tmp_path / "s.pt"
    torch.save(nn.Linear(4, 4).state_dict(), plain)
    run("audit", plain, "--input-shape", "1,4", fails=UsageError)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("--year", "2019"), UnknownNameError),
        (("--year", "alle"), UnknownNameError),
        (("--format", "jso"), UnknownNameError),
        (("--convention", "nesi"), UnknownNameError),
        (("--input-shape", "1,x"), UsageError),
        (("--input-shape", "1,0"), UsageError),
    ],
)
def test_wrong_options(args: tuple[str, str], error: type[Exception], half: Path) -> None:
    result = run("audit", half, *args, fails=error)
    assert "Traceback" not in result.output


def test_escapes_in_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    path = write(tmp_path / "x.pt", model, (1, 2), arch="a\x1b[31mb\nc", classes=["\u202e"])
    for form in ("text", "json"):
        out = run("audit", path, "--format", form).stdout
        assert "\x1b" not in out
        assert "\u202e" not in out


def test_rank(tmp_path: Path) -> None:
    table = tmp_path / "systems.csv"
    table.write_text("name,accuracy,bytes,macs\na,0.6,100,30\nb,0.6,80,40\nc,0.55,80,10\n")
    text = run("rank", table).stdout.splitlines()
    assert text[0].split() == [
        "place",
        "name",
        "score",
        "accuracy",
        *["rank", "bytes"],
        "rank",
        "macs",
        "rank",
    ]
    assert text[1].split()[:3] == ["1", "a", "1.5"]  # all three have 1.5
    record = json.loads(run("rank", table, "--format", "json", "--ties", "min").stdout)
    assert record["ties"] == "min"
    assert [s["name"] for s in record["systems"]] == ["b", "a", "c"]
    rows = run("rank", table, "--format", "csv").stdout.splitlines()
    assert rows[0] == "place,name,score,accuracy,rank_accuracy,bytes,rank_bytes,macs,rank_macs"
    assert rows[1] == "1,a,1.5,0.6,1,100,2,30,2"
    run("rank", table, "--format", "xml", fails=UnknownNameError)
    run("rank", table, "--ties", "maximum", fails=UnknownNameError)
