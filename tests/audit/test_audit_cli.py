"""`compressor audit` and `compressor rank`: verdict first, exit codes, formats."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner, Result

import compressor
import zoo
from compressor.audit.trace import graph_of
from compressor.cli.audit import audit
from compressor.cli.rank import rank
from compressor.errors import ConfigError, DataError, UnknownNameError, UsageError

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
    assert result.stdout.splitlines()[:2] == [
        "PASS DCASE 2024 Task 1: MACs 29,419,156 of 30,000,000 (580,844 to spare)",
        f"{half} (dcase2024_baseline, compressor-model)",
    ]
    assert "122,296" in result.stdout
    assert "29,416,448" in result.stdout


def test_fail_with_what_would_make_it_pass(full: Path) -> None:
    result = run("audit", full, "--year", "2023")
    assert result.exit_code == 1
    first = result.stdout.splitlines()[0]
    assert first == "FAIL DCASE 2023 Task 1: memory 244,592 B of 128,000 (116,592 over)"
    assert "to pass 2023: float16 → 122,296 B, fits" in result.stdout


def test_all_years_inform_only(full: Path, half: Path) -> None:
    result = run("audit", full, half)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    # 2021, float32: 244,592 B or, with the statistics, more; the tightest is memory: -91.1 %
    assert lines[0] == "FAIL 2021, 2023-2025; DEPENDS 2022; PASS 2020; 2023 memory 116,592 B over"
    second = lines.index(f"{half} (dcase2024_baseline, compressor-model)") - 1
    assert lines[second] == "DEPENDS 2022; PASS 2020, 2021, 2023-2025; 2022 MACs 580,844 to spare"
    assert lines[-1] == "2 files: 2 measured"
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
    assert first["sha256"] == hashlib.sha256(full.read_bytes()).hexdigest()
    assert first["file_bytes"] == full.stat().st_size
    assert record["versions"] == {"compressor": compressor.__version__}
    assert (first["convention"], first["input_shape"]) == ("strict", [1, 1, 256, 65])
    again = run("audit", full, half, "--year", 2024, "--format", "json")
    assert again.stdout == result.stdout


def test_a_broken_file_among_good_ones(half: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_text("no model")
    result = run("audit", broken, half, "--year", 2024)
    assert result.exit_code == 3
    assert f"error: {broken}: a text file" in result.stderr
    assert "NOT MEASURED" in result.stdout
    assert result.stdout.splitlines()[-1] == "2 files: 1 pass, 1 not measured"
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


RULES = """
title = "Wrist watch"
[[limit]]
name = "memory"
metric = "param_bytes"
max = 100_000
"""


def test_rules_of_ones_own_decide(half: Path, tmp_path: Path) -> None:
    path = tmp_path / "watch.toml"
    path.write_text(RULES)
    result = run("audit", half, "--rules", path)
    assert result.exit_code == 1
    # 122,296 - 100,000
    assert result.stdout.splitlines()[0] == (
        "FAIL Wrist watch: memory 122,296 B of 100,000 (22,296 over)"
    )
    assert "to pass watch: int8 → 69,272 B, fits" in result.stdout
    assert run("audit", half, "--rules", path, "--year", 2024).exit_code == 1
    both = run("audit", half, "--rules", path, "--year", 2024).stdout.splitlines()[0]
    assert both == "FAIL watch; PASS 2024; watch memory 22,296 B over"
    path.write_text(RULES.replace("100_000", "130_000"))
    # all years are for information: only the user's own rules decide, and these pass
    assert run("audit", half, "--rules", path, "--year", "all").exit_code == 0
    path.write_text("max = 3")
    run("audit", half, "--rules", path, fails=ConfigError)


def test_place_among_systems(half: Path, full: Path, tmp_path: Path) -> None:
    table = tmp_path / "systems.csv"
    table.write_text("name,accuracy,bytes,macs\na,0.60,90000,20000000\nb,0.50,64000,29900000\n")
    args = ("audit", half, "--accuracy", 0.55, "--against", table)
    lines = run(*args).stdout.splitlines()
    # accuracy a1 this2 b3; memory b1 a2 this3; MACs a1 this2 b3:
    # a .5+.5+.25 = 1.25; this 1+.75+.5 = 2.25; b 1.5+.25+.75 = 2.5
    start = lines.index("half.pt: place 2 of 3, score 2.25 (ties: dense)")
    assert lines[start + 3].split() == ["1", "over", "0.6", "(+0.05)", "-", "-"]
    record = json.loads(run(*args, "--format", "json").stdout)["files"][0]["standing"]
    assert (record["place"], record["of"], record["score"]) == (2, 3, 2.25)
    assert record["figures"] == {"accuracy": 0.55, "bytes": 122_296, "macs": 29_419_156}
    assert record["what_if"]["accuracy"][0]["value"] == 0.6
    for wrong in (
        (half, "--accuracy", 0.5),  # without a table
        (half, "--against", table),
        (half, "--accuracy", 55, "--against", table),  # percent among fractions
        (half, "--accuracy", -1, "--against", table),
        (half, full, "--accuracy", 0.5, "--against", table),  # whose accuracy is it?
    ):
        run("audit", *wrong, fails=UsageError)
    run("audit", half, "--accuracy", 0.5, "--against", tmp_path / "no.csv", fails=DataError)
    # that year ranks by log loss, which nobody gave
    losses = tmp_path / "losses.csv"
    losses.write_text("name,log_loss\na,1.4\n")
    run(
        *("audit", half, "--accuracy", 0.5, "--against", losses, "--year", 2022),
        fails=UsageError,
    )


def test_bare_weights_of_a_named_network(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(zoo.build("dcase2021_baseline").state_dict(), path)
    assert "--arch NAME" in run("audit", path).stdout
    own = json.loads(run("audit", path, "--arch", "dcase2021_baseline", "--format", "json").stdout)
    assert own["files"][0]["input_shape"] == [1, 1, 40, 500]  # its own 10 s
    year = ("--year", 2023, "--format", "json")
    record = json.loads(run("audit", path, "--arch", "dcase2021_baseline", *year).stdout)
    # 2023 gives 1 s: 51 frames of its front-end, and then the figures of the 2022 baseline
    assert record["files"][0]["input_shape"] == [1, 1, 40, 51]
    assert record["files"][0]["audit"]["macs_by_convention"]["nessi"] == 29_271_638
    run("audit", path, "--arch", "dcase2021_baselin", "--year", 2023, fails=UnknownNameError)


def test_input_shapes() -> None:
    from compressor.cli.audit_inputs import parse_shapes

    assert parse_shapes([]) is None
    assert parse_shapes(["1,1,40,51"]) == ((1, 1, 40, 51),)
    assert parse_shapes(["1x2;3,4", "5"]) == ((1, 2), (3, 4), (5,))
    for wrong in ("", "1,,2", "1;", "0,1", "1,-2", "a"):
        with pytest.raises(UsageError, match="expected positive sizes"):
            parse_shapes([wrong])


def test_names_of_files_cannot_steer_the_terminal(half: Path, tmp_path: Path) -> None:
    bad = tmp_path / os.fsdecode(b"\x1b[31m\xe2\x80\xae::error::\xff\n.pt")
    bad.write_bytes(half.read_bytes())
    for form in ("text", "json"):
        result = run("audit", bad, "--format", form)
        shown = result.stdout + result.stderr
        assert not set(shown) & {"\x1b", "\u202e", "\udcff"}
        assert shown.encode()
        assert "29,416,448" in shown or json.loads(result.stdout)["files"][0]["file"] == str(bad)
    bad.write_bytes(b"no model")
    result = run("audit", bad, half)
    assert not set(result.stdout + result.stderr) & {"\x1b", "\u202e", "\udcff"}


def test_text_fits_80_columns(full: Path) -> None:
    lines = run("audit", full, "--layers").stdout.splitlines()
    limits = lines[3 : lines.index("", 3)]
    assert len(limits) == 1 + 1 + 1 + 3 + 2 + 2 + 2  # header and the limits of six years
    assert max(map(len, limits)) <= 80
    assert len(lines[0]) <= 80


def test_narrow_terminals(full: Path) -> None:
    from compressor.audit import audit as measure
    from compressor.audit import verdicts
    from compressor.cli.audit_text import audit_lines

    result = measure(full)
    lines = list(audit_lines("full.pt", result, verdicts(result), layers=True, width=80))
    assert max(map(len, lines)) <= 80
    wide = list(audit_lines("full.pt", result, verdicts(result), layers=True, width=None))
    assert max(map(len, wide)) > 80  # in a pipe nothing is broken or left out
    assert sum(layer.params for layer in result.layers) == 61_148
    assert lines[-1].split()[:2] == ["total", "61,148"]


def test_rank(tmp_path: Path) -> None:
    table = tmp_path / "systems.csv"
    table.write_text("name,accuracy,bytes,macs\na,0.6,100,30\nb,0.6,80,40\nc,0.55,80,10\n")
    text = run("rank", table).stdout.splitlines()
    assert text[0] == "PLACE 1 of 3: a (shared by 3), score 1.5"
    assert text[2].split() == [
        "place",
        "name",
        "score",
        "accuracy",
        *["rank", "bytes"],
        "rank",
        "macs",
        "rank",
    ]
    assert text[3].split()[:3] == ["1", "a", "1.5"]  # all three have 1.5
    record = json.loads(run("rank", table, "--format", "json", "--ties", "min").stdout)
    assert record["ties"] == "min"
    assert [s["name"] for s in record["systems"]] == ["b", "a", "c"]
    rows = run("rank", table, "--format", "csv").stdout.splitlines()
    assert rows[0] == "place,name,score,accuracy,rank_accuracy,bytes,rank_bytes,macs,rank_macs"
    assert rows[1] == "1,a,1.5,0.6,1,100,2,30,2"
    run("rank", table, "--format", "xml", fails=UnknownNameError)
    run("rank", table, "--ties", "maximum", fails=UnknownNameError)
