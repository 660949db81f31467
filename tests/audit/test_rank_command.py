"""`compressor rank`: years, systems that are added, tie rules, what-if, formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from compressor.cli.rank import rank
from compressor.errors import ConfigError, DataError, UnknownNameError, UsageError

app = typer.Typer()
app.command()(rank)

# dense: accuracy a1 b1 c2 d3, memory b1 c1 a2 d3, MACs c1 d2 a3 b4: c 1.5, a 1.75, b 1.75, d 2.75
SYSTEMS = "name,accuracy,bytes,macs\na,0.6,100,30\nb,0.6,80,40\nc,0.55,80,10\nd,0.5,120,20\n"


def run(*args: object) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exception is None, result.exception
    return result


def fails(error: type[Exception], *args: object) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert isinstance(result.exception, error), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture
def systems(tmp_path: Path) -> Path:
    path = tmp_path / "systems.csv"
    path.write_text(SYSTEMS)
    return path


def test_which_systems_change_places_with_the_tie_rule(systems: Path) -> None:
    lines = run(systems).stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("the order depends"))
    # min: b 1.75, a 2, c 2, d 3.5; average: c 2.125, b 2.125, a 2.25, d 3.5
    assert lines[start + 1 : start + 4] == ["  c: 1, 2, 1", "  b: 2, 1, 1", "  a: 2, 2, 3"]
    record = json.loads(run(systems, "--format", "json").stdout)
    assert record["order_depends_on_ties"] is True
    assert record["changed_by_ties"] == [
        {"name": "c", "dense": 1, "min": 2, "average": 1},
        {"name": "b", "dense": 2, "min": 1, "average": 1},
        {"name": "a", "dense": 2, "min": 2, "average": 3},
    ]
    assert "ranked by 0.5 x rank of accuracy" in lines[-1]


def test_the_order_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("name,accuracy,bytes,macs\na,0.6,1,3\nb,0.5,2,4\n")
    assert "the order is the same under every tie rule" in run(path).stdout
    assert json.loads(run(path, "--format", "json").stdout)["changed_by_ties"] == []


def test_the_verdict_comes_first(systems: Path, tmp_path: Path) -> None:
    first = [
        run(systems).stdout.splitlines()[0],
        run(systems, "--what-if", "d").stdout.splitlines()[0],
        # accuracy d 4, e 3; memory d 4, e 3; MACs d 2, e 5: a 1.75, b 1.75, c 1.5, d 3.5, e 3.5
        run(systems, "--add", "e,0.52,110,50").stdout.splitlines()[0],
        run(systems, "--year", 2025).stdout.splitlines()[0],
    ]
    assert first == [
        "PLACE 1 of 4: c, score 1.5, 0.25 ahead of place 2 (a)",
        "PLACE 4 of 4: d, score 2.75, 1 behind place 2 (b)",
        "PLACE 4 of 5: e (shared by 2), score 3.5, 1.75 behind place 2 (b)",
        "PLACE 1 of 4: a (shared by 2), accuracy 0.6, 0.05 ahead of place 3 (c)",
    ]


def test_add(systems: Path) -> None:
    # e: accuracy 1, memory 1, MACs 1: .5 + .25 + .25
    record = json.loads(run(systems, "--add", "e,0.7,10,5", "--format", "json").stdout)
    first = record["systems"][0]
    assert (first["name"], first["score"], first["place"]) == ("e", 1, 1)
    more = run(systems, "--add", "e,0.7,10,5", "--add", "f,0.1,999,999").stdout.splitlines()
    assert more[0] == "PLACE 1 of 6: e, score 1, 1.5 ahead of place 2 (c)"
    assert more[3].split()[:3] == ["1", "e", "1"]
    assert more[8].split()[:2] == ["6", "f"]
    for wrong in ("e,0.7,10", "e,0.7,10,5,6", ",0.7,10,5", "e,x,10,5", "e,0.7,-1,5"):
        assert "--add" in fails(UsageError, systems, "--add", wrong)


def test_what_if(systems: Path) -> None:
    lines = run(systems, "--what-if", "b").stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("b: place"))
    assert lines[start] == "b: place 2 of 4, score 1.75 (ties: dense; min 1, average 1)"
    assert lines[start + 2].split() == ["place", "accuracy", "bytes", "macs"]
    assert lines[start + 3].split() == ["1", "over", "0.6", "(+0)", "79", "(-1)", "30", "(-10)"]
    record = json.loads(run(systems, "--what-if", "b", "--format", "json").stdout)["what_if"]
    assert (record["place"], record["of"], record["places_by_ties"]["min"]) == (2, 4, 1)
    assert record["what_if"]["bytes"] == [{"place": 1, "value": 79, "beyond": False, "change": -1}]
    first = run(systems, "--what-if", "c").stdout
    assert "c: place 1 of 4" in first
    assert "what one figure alone" not in first
    assert "did you mean" in fails(UsageError, systems, "--what-if", "bb")
    assert "2 systems are called 'b'" in fails(
        UsageError, systems, "--add", "b,0.5,1,1", "--what-if", "b"
    )


def test_other_years(systems: Path, tmp_path: Path) -> None:
    # by accuracy alone: a and b share the first place
    lines = run(systems, "--year", 2025).stdout.splitlines()[2:]
    assert [line.split() for line in lines[:4]] == [
        ["place", "name", "accuracy"],
        ["1", "a", "0.6"],
        ["1", "b", "0.6"],
        ["3", "c", "0.55"],
    ]
    assert "column 'log_loss' is missing" in fails(DataError, systems, "--year", 2022)
    losses = tmp_path / "losses.csv"
    losses.write_text("name,log_loss\na,1.4\nb,1.2\n")
    shown = run(losses, "--year", 2022).stdout
    assert shown.splitlines()[3].split() == ["1", "b", "1.2"]
    assert "source: I, inferred or recomputed" in shown
    assert "source:" not in run(losses, "--year", 2021).stdout
    assert "2019" in fails(UnknownNameError, systems, "--year", 2019)


def test_the_mean_of_five_splits(tmp_path: Path) -> None:
    """a (40+42+46+50+52)/5 = 46, b (45+45+45+45+45)/5 = 45."""
    path = tmp_path / "splits.csv"
    header = "name,accuracy_5,accuracy_10,accuracy_25,accuracy_50,accuracy_100"
    path.write_text(f"{header}\nb,45,45,45,45,45\na,40,42,46,50,52\n")
    record = json.loads(run(path, "--year", 2024, "--format", "json").stdout)
    assert [(s["name"], s["accuracy"]) for s in record["systems"]] == [("a", 46), ("b", 45)]
    path.write_text(f"{header}\nb,45,45,x,45,45\n")
    assert "line 2, column accuracy_25: 'x'" in fails(DataError, path, "--year", 2024)


def test_rules_of_ones_own(systems: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    limit = '[[limit]]\nname = "memory"\nmetric = "param_bytes"\nmax = 1\n'
    path.write_text(f'title = "T"\n{limit}[[ranking]]\ncolumn = "macs"\nbest = "lowest"\n')
    rows = run(systems, "--rules", path).stdout.splitlines()[2:]
    assert [row.split()[1] for row in rows[1:5]] == ["c", "d", "a", "b"]
    path.write_text(f'title = "T"\n{limit}')
    assert "does not say how to rank" in fails(UsageError, systems, "--rules", path)
    path.write_text("x")
    fails(ConfigError, systems, "--rules", path)


def test_nothing_to_rank(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("name,accuracy,bytes,macs\n")
    assert json.loads(run(path, "--format", "json").stdout)["systems"] == []
    assert run(path, "--format", "csv").stdout == (
        "place,name,score,accuracy,rank_accuracy,bytes,rank_bytes,macs,rank_macs\n"
    )
    lines = run(path).stdout.splitlines()
    assert lines[0] == "NO SYSTEM to rank"
    assert lines[2].split()[:2] == ["place", "name"]


def test_mixed_units_are_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("name,accuracy,bytes,macs\na,0.6,1,3\nb,55,2,4\n")
    assert "accuracy mixes fractions and percent" in run(path).stderr
    path.write_text("name,accuracy,bytes,macs\na,60,1,3\nb,55,2,4\n")
    assert run(path).stderr == ""


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_names_cannot_steer_the_terminal(form: str, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    name = "\x1b[31m\u202eb\x9b"
    path.write_text(f'name,accuracy,bytes,macs\n"{name}\n::error::",1,1,1\n', encoding="utf-8")
    out = run(path, "--format", form, "--what-if", f"{name}\n::error::").stdout
    assert not set(out) & {"\x1b", "\u202e", "\x9b"}
    assert not any(line.startswith("::") for line in out.splitlines())
    again = run(path, "--format", form, "--what-if", f"{name}\n::error::").stdout
    assert again == out
