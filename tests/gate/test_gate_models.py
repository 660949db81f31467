"""Model files: limits of the years, own limits, levels, accuracy floor, base model, waivers."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from packages import errors, write_model
from torch import nn

from compressor.errors import ConfigError, UnknownNameError, UsageError
from compressor.gate.checks import CHECKS
from compressor.gate.config import GateConfig, find_config, load_config
from compressor.gate.run import gate

# the network of `packages.Figures`: 90 parameters, 89 not zero, 360 B, 2,344 MACs (official 2,610)


def settings(folder: Path, text: str, name: str = "compressor.toml") -> GateConfig:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_a_small_model_passes_every_year_but_the_fixed_type(models: dict[int, Path]) -> None:
    record = gate([models[10]], GateConfig(years=(2020, 2021, 2022, 2023, 2024, 2025)))
    # 2022 fixes int8: a float32 file is in doubt, and doubt is no pass
    assert [f[0] for f in errors(record)] == ["limit-depends"]
    assert record["exit_code"] == 1
    values = {(c["name"], c["value"]) for c in record["checks"] if c["id"].startswith("limit-")}
    assert ("DCASE 2024 Task 1: memory", 360) in values
    assert ("DCASE 2024 Task 1: MACs", 2610) in values
    assert ("DCASE 2022 Task 1: parameters", 90) in values


def test_a_model_over_the_limit_fails_with_the_fix(tmp_path: Path) -> None:
    # Conv2d(1, 20000) and Linear(20000, 10): 9 * 20000 + 20000 + 10 * 20000 + 10 = 400,010
    # parameters, 1,600,040 B; official MACs 10 * 20000 * 64 + 200010 = 13,000,010
    path = write_model(tmp_path / "wide.pt", wide=20_000)
    record = gate([path], GateConfig(years=(2024,)))
    (found,) = errors(record)
    assert found[0] == "limit-bytes"
    assert "memory is 1,600,040 B, allowed 128,000 (1,472,040 over)" in found[3]
    assert "int8" in record["findings"][0]["fix"]
    assert record["exit_code"] == 1


@pytest.mark.parametrize(
    ("key", "at", "figure"),
    [
        ("max_bytes", 360, "parameter bytes 360, own limit 359 (1 over)"),
        ("max_params", 90, "parameters 90, own limit 89 (1 over)"),
        ("max_nonzero_params", 89, "non-zero parameters 89, own limit 88 (1 over)"),
        ("max_macs", 2344, "MACs 2,344, own limit 2,343 (1 over)"),
    ],
)
def test_own_limits(
    key: str, at: int, figure: str, models: dict[int, Path], tmp_path: Path
) -> None:
    config = settings(tmp_path, f"[gate.limits]\n{key} = {at}\n")
    assert gate([models[10]], config)["exit_code"] == 0
    config = settings(tmp_path, f"[gate.limits]\n{key} = {at - 1}\n")
    record = gate([models[10]], config)
    assert record["exit_code"] == 1
    assert errors(record) == [("own-limit", "tiny10.pt", None, figure)]
    assert record["findings"][0]["fix"].startswith("make the network smaller, or raise " + key)


def test_own_limits_follow_the_convention(models: dict[int, Path], tmp_path: Path) -> None:
    config = settings(tmp_path, '[gate]\nconvention = "nessi"\n[gate.limits]\nmax_macs = 2609\n')
    assert "MACs 2,610, own limit 2,609" in errors(gate([models[10]], config))[0][3]


def test_levels(models: dict[int, Path], tmp_path: Path) -> None:
    base = "[gate.limits]\nmax_params = 1\n[gate.levels]\nown-limit = "
    warned = gate([models[10]], settings(tmp_path, base + '"warn"'))
    assert (warned["exit_code"], warned["counts"]["warnings"]) == (0, 1)
    off = gate([models[10]], settings(tmp_path, base + '"off"'))
    assert (off["exit_code"], off["findings"]) == (0, [])
    assert [c["status"] for c in off["checks"] if c["id"] == "own-limit"] == ["skip"]


@pytest.fixture
def weights_only(tmp_path: Path) -> Path:
    path = tmp_path / "state.pt"
    torch.save(nn.Linear(4, 4).state_dict(), path)
    return path


def test_what_could_not_be_measured_is_no_pass(weights_only: Path, tmp_path: Path) -> None:
    record = gate([weights_only], GateConfig(years=(2024,)))  # a state dict has no graph: no MACs
    assert record["exit_code"] == 3 and record["status"] == "unmeasured"
    assert [f[0] for f in errors(record)] == ["measurement"]
    # nothing at all is known of its MACs: allowing partial figures does not help
    record = gate([weights_only], GateConfig(years=(2024,), allow_partial=True))
    assert record["exit_code"] == 3
    own = settings(tmp_path, "[gate.limits]\nmax_macs = 10\n")
    assert gate([weights_only], own)["exit_code"] == 3
    # 4 * 4 + 4 = 20 parameters: that much is certain
    assert (
        gate([weights_only], settings(tmp_path, "[gate.limits]\nmax_params = 20\n"))["exit_code"]
        == 0
    )


class _Odd(nn.Module):
    """An FFT has no counting rule: the figure is partial."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.fft.fft(x).real)


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    from compressor.audit.trace import graph_of

    model = _Odd().eval()
    tree = {
        "format": "compressor-model",
        "format_version": 1,
        "arch": "odd",
        "input_shape": (8,),
        "state_dict": dict(model.state_dict()),
        "graph": graph_of(model, torch.zeros(1, 8)),
    }
    path = tmp_path / "odd.pt"
    torch.save(tree, path)
    return path


def test_a_partial_measurement_fails_unless_allowed(partial: Path, tmp_path: Path) -> None:
    record = gate([partial], GateConfig(years=(2024,)))
    assert record["exit_code"] == 3
    assert [f[0] for f in errors(record)] == ["measurement"]
    record = gate([partial], GateConfig(years=(2024,), allow_partial=True))
    assert record["exit_code"] == 0
    assert [f["status"] for f in record["findings"]] == ["warn"]
    own = settings(tmp_path, "[gate]\nallow_partial = true\n[gate.limits]\nmax_macs = 31\n")
    # Linear(8, 4): 32 MACs are certain already, 31 were allowed
    assert gate([partial], own)["exit_code"] == 1


def test_an_unreadable_file_is_not_measured(tmp_path: Path, models: dict[int, Path]) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_text("no model")
    record = gate([broken, models[10]], GateConfig(years=(2024,)))
    assert record["exit_code"] == 3
    assert errors(record)[0][0] == "model-file"
    assert len(record["models"]) == 1  # the other is measured all the same
    assert gate([tmp_path / "none.pt"], GateConfig(years=(2024,)))["exit_code"] == 3


def test_a_failure_decides_over_what_is_not_measured(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_text("no model")
    wide = write_model(tmp_path / "wide.pt", wide=20_000)
    assert gate([broken, wide], GateConfig(years=(2024,)))["exit_code"] == 1


def test_a_folder_of_models(tmp_path: Path, models: dict[int, Path]) -> None:
    for name in ("b.pt", "a.pt"):
        (tmp_path / name).write_bytes(models[10].read_bytes())
    (tmp_path / "readme.txt").write_text("no model")
    record = gate([tmp_path], GateConfig(years=(2024,)))
    assert [Path(t["path"]).name for t in record["targets"]] == ["a.pt", "b.pt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="no model file"):
        gate([empty], GateConfig(years=(2024,)))


def test_paths_of_the_settings(tmp_path: Path, models: dict[int, Path]) -> None:
    (tmp_path / "a.pt").write_bytes(models[10].read_bytes())
    config = settings(tmp_path, '[gate]\nyear = 2024\npaths = ["*.pt"]\n')
    assert [Path(t["path"]).name for t in gate([], config)["targets"]] == ["a.pt"]
    config = settings(tmp_path, '[gate]\nyear = 2024\npaths = ["*.onnx"]\n')
    with pytest.raises(UsageError, match=r"paths '\*.onnx' finds no file"):
        gate([], config)
    with pytest.raises(UsageError, match="nothing to look at"):
        gate([], GateConfig(years=(2024,)))
    with pytest.raises(UsageError, match="no limit to hold the model against"):
        gate([models[10]], GateConfig())


RULES = """
title = "our device"
segment_s = 1.0
[[limit]]
name = "flash"
metric = "param_bytes"
max = 300
"""


def test_own_rule_files(tmp_path: Path, models: dict[int, Path]) -> None:
    (tmp_path / "device.toml").write_text(RULES)
    record = gate([models[10]], settings(tmp_path, '[gate]\nrules = ["device.toml"]\n'))
    (found,) = errors(record)
    assert found[0] == "limit-bytes"
    assert "our device: flash is 360 B, allowed 300 (60 over)" in found[3]
    with pytest.raises(ConfigError):
        gate([models[10]], settings(tmp_path, '[gate]\nrules = ["none.toml"]\n'))


# -- accuracy floor -------------------------------------------------------------------------------

SWEEP = {
    "schema": 1,
    "run": {},
    "points": [
        {"id": "f1-dense", "model_file": "models/x.pt", "after_finetune": {"accuracy": 0.8}},
        {"id": "f1-050", "model_file": "models/tiny10.pt", "after_finetune": {"accuracy": 0.61}},
    ],
}


@pytest.mark.parametrize(
    ("name", "content", "more"),
    [
        ("results.json", json.dumps(SWEEP), ""),
        ("results.json", json.dumps(SWEEP), 'row = "f1-050"'),
        ("results.csv", "id,accuracy_after,model_file\na,0.8,x.pt\nb,0.61,models/tiny10.pt\n", ""),
        ("table.csv", "name,score\ntiny10,0.61\nother,0.7\n", 'column = "score"'),
        ("table.tsv", "name\taccuracy\ntiny10\t0.61\nother\t0.7\n", ""),
        ("one.json", '{"accuracy": 0.61}', ""),
        ("by_name.json", '{"tiny10": {"accuracy": 0.61}, "x": {"accuracy": 1}}', ""),
        ("list.json", '[{"name": "tiny10", "test": {"acc": 0.61}}]', 'column = "test.acc"'),
    ],
)
def test_accuracy_floor(
    name: str, content: str, more: str, tmp_path: Path, models: dict[int, Path]
) -> None:
    (tmp_path / name).write_text(content)
    text = f'[gate.accuracy]\nfile = "{name}"\n{more}\nfloor = '
    assert gate([models[10]], settings(tmp_path, text + "0.61"))["exit_code"] == 0
    record = gate([models[10]], settings(tmp_path, text + "0.62"))
    assert record["exit_code"] == 1
    assert errors(record)[0][3] == f"accuracy 0.61 in '{name}' is below the floor 0.62"
    assert [f["role"] for f in record["files"]].count("results") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("", "holds no results"),
        ("name,accuracy\nx,0.5\ny,0.6\n", "none of its 2 rows names 'tiny10.pt' or 'tiny10'"),
        ("name,accuracy\ntiny10,0.5\ntiny10.pt,0.6\n", "2 rows name"),
        ("name,accuracy\ntiny10,good\n", "accuracy is 'good', expected a number"),
        ("name,accuracy\ntiny10,nan\n", "accuracy is 'nan', expected a number"),
        ("{not json", "is not JSON"),
        ("\ufeff[" * 100_000, "is not JSON"),
    ],
)
def test_an_accuracy_that_cannot_be_read_is_not_measured(
    content: str | None, message: str, tmp_path: Path, models: dict[int, Path]
) -> None:
    if content is not None:
        (tmp_path / "r.csv").write_text(content)
    config = settings(tmp_path, '[gate.accuracy]\nfile = "r.csv"\nfloor = 0.5\n')
    record = gate([models[10]], config)
    assert record["exit_code"] == 3
    assert message in errors(record)[0][3]


def test_a_column_that_is_not_there(tmp_path: Path, models: dict[int, Path]) -> None:
    (tmp_path / "r.csv").write_text("name,accuracy\ntiny10,0.5\n")
    text = '[gate.accuracy]\nfile = "r.csv"\nfloor = 0.5\ncolumn = "acuracy"\n'
    with pytest.raises(UnknownNameError, match="did you mean accuracy"):
        gate([models[10]], settings(tmp_path, text))


# -- base model -----------------------------------------------------------------------------------


def grown(tmp_path: Path, models: dict[int, Path], limits: str) -> dict[str, Any]:
    """A network of five channels against the one of four.

    Parameters 5*9 + 5 + 50 + 10 = 110 against 90; bytes 440 against 360; MACs 45*64 + 50 = 2,930
    against 2,344.
    """
    (tmp_path / "base.pt").write_bytes(models[10].read_bytes())
    new = write_model(tmp_path / "new.pt", wide=5)
    return gate([new], settings(tmp_path, f'[gate.base]\nfile = "base.pt"\n{limits}\n'))


@pytest.mark.parametrize(
    ("limit", "passes"),
    [
        ("max_growth_bytes = 80", True),
        ("max_growth_bytes = 79", False),
        ('max_growth_params = "22.3 %"', True),  # 20 / 90 = 22.22 %
        ('max_growth_params = "22.2%"', False),
        ("max_growth_macs = 586", True),  # 2,930 - 2,344
        ("max_growth_macs = 585", False),
        ('max_growth_macs = "0 %"', False),
    ],
)
def test_growth(limit: str, passes: bool, tmp_path: Path, models: dict[int, Path]) -> None:
    record = grown(tmp_path, models, limit)
    assert record["exit_code"] == (0 if passes else 1)
    assert [f[0] for f in errors(record)] == ([] if passes else ["growth"])


def test_growth_says_from_and_to(tmp_path: Path, models: dict[int, Path]) -> None:
    (found,) = errors(grown(tmp_path, models, 'max_growth_macs = "2 %"'))
    assert found[3] == "MACs 2,930, the base has 2,344 (+586, +25.00 %), allowed growth 2 %"


def test_a_base_that_cannot_be_read(tmp_path: Path, models: dict[int, Path]) -> None:
    config = settings(tmp_path, '[gate.base]\nfile = "none.pt"\nmax_growth_macs = 0\n')
    record = gate([models[10]], config)
    assert record["exit_code"] == 3
    assert "the base model: none.pt" in errors(record)[0][3]


# -- waivers --------------------------------------------------------------------------------------

WAIVED = """
[gate.limits]
max_params = 1
[[gate.waivers]]
id = "own-limit"
reason = "smaller one is in training"
expires = 2026-01-31
"""


@pytest.mark.parametrize(
    ("today", "code"), [("2026-01-30", 0), ("2026-01-31", 0), ("2026-02-01", 1)]
)
def test_a_waiver_ends(today: str, code: int, tmp_path: Path, models: dict[int, Path]) -> None:
    config = settings(tmp_path, WAIVED)
    record = gate([models[10]], config, today=date.fromisoformat(today))
    assert record["exit_code"] == code
    (finding,) = record["findings"]
    assert finding["waiver"]["reason"] == "smaller one is in training"
    assert finding["status"] == ("waived" if code == 0 else "fail")
    assert ("expired after 2026-01-31" in finding["message"]) is (code == 1)


def test_waivers_are_for_one_file_and_one_check(tmp_path: Path, models: dict[int, Path]) -> None:
    day = date(2026, 1, 1)
    config = settings(tmp_path, WAIVED + 'file = "tiny*.pt"\n')
    assert gate([models[10]], config, today=day)["exit_code"] == 0
    config = settings(tmp_path, WAIVED + 'file = "other.pt"\n')
    record = gate([models[10]], config, today=day)
    assert record["exit_code"] == 1
    assert [f["id"] for f in record["findings"]] == ["own-limit", "waiver-unused"]
    assert record["findings"][1]["status"] == "warn"


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[gate]\nyaer = 2024",
            r"^unknown key of gate in \S*compressor.toml: 'yaer'; did you mean year",
        ),
        ("[gate]\nyear = 2019", "gate.year = 2019, allowed: 2020, 2021"),
        ('[gate]\nyear = "2024"', "gate.year = '2024', allowed"),
        ("[gate]\nyear = true", "gate.year = True, allowed"),
        ('[gate]\nconvention = "nesi"', "gate.convention = 'nesi', allowed: strict, nessi"),
        ("[gate]\nallow_partial = 1", "allow_partial = 1, allowed: true or false"),
        ("[gate]\nrows = 0", "gate.rows = 0, allowed: a whole number of 1 or more"),
        ("[gate]\ntolerance = 2.0", "gate.tolerance = 2.0, allowed: a number of 0 to 0.5"),
        ("[gate]\ninput_shape = [1, 0]", r"gate.input_shape = \[1, 0\], allowed: a list of pos"),
        ("[gate]\nlimits = 5", "gate.limits = 5, allowed: a table"),
        ("[gate.limits]\nmax_byte = 5", "'max_byte'; did you mean max_bytes"),
        ("[gate.limits]\nmax_macs = 1.5", "gate.limits.max_macs = 1.5, allowed: a whole number"),
        ("[gate.levels]\nlimit-mac = 'warn'", "'limit-mac'; did you mean limit-macs"),
        ("[gate.levels]\nlimit-macs = 'warning'", "= 'warning', allowed: off, warn, error"),
        ("[gate.accuracy]\nfloor = 0.5", "gate.accuracy.file is missing"),
        ("[gate.accuracy]\nfile = 'x'\nfloor = 'high'", "accuracy.floor = 'high', allowed"),
        ("[gate.base]\nfile = 'x'", "gate.base allows any growth; add one of max_growth_bytes"),
        ("[gate.base]\nfile = 'x'\nmax_growth_macs = '2'", "max_growth_macs = '2', allowed"),
        ("[gate.base]\nfile = 'x'\nmax_growth_macs = '-2 %'", "max_growth_macs = '-2 %', allowed"),
        ("[[gate.waivers]]\nid = 'label'\nreason = 'x'", r"waivers\[0\].expires is missing"),
        ("[[gate.waivers]]\nid = 'lable'\nreason='x'\nexpires=2026-01-01", "did you mean label"),
        (
            "[[gate.waivers]]\nid = 'label'\nreason='x'\nexpires='soon'",
            r"waivers\[0\].expires = 'soon', allowed: a day, as 2026-01-31",
        ),
        ("[gate.waivers]\nid = 'label'", r"gate.waivers = .*, allowed: tables \[\[gate.waivers"),
        ("[gat]\nyear = 2024", r"there is no \[gate\] table"),
        ("year = = 2024", "cannot be read as TOML"),
    ],
)
def test_settings_that_are_wrong(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message) as caught:
        settings(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_settings_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\nname = 'x'\n")
    assert find_config(tmp_path / "sub") is None
    project.write_text("[tool.compressor.gate]\nyear = [2023, 2024]\n")
    assert find_config(tmp_path / "sub") == project
    assert load_config(project).years == (2023, 2024)
    own = tmp_path / "compressor.toml"
    own.write_text("[gate]\nyear = 'all'\n")
    assert find_config(tmp_path / "sub") == own
    assert load_config(own).years == (2020, 2021, 2022, 2023, 2024, 2025)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml")


def test_every_check_is_documented() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    for check in CHECKS:
        assert f"`{check}`" in docs, check
