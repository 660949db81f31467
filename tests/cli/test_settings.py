"""`[tool.compressor]`: who wins, what is refused, and what `compressor config show` says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from compressor.cli.main import app
from compressor.cli.settings import commands_of, default_map, read_settings, root
from compressor.errors import ConfigError, UnknownNameError

FILE = """
[tool.compressor]
cache = "store"
year = 2024

[tool.compressor.sweep]
model = "dsmn_seg"
seeds = [0, 1, 2]
year = 2022
dry-run = true

[tool.compressor.gate]
paths = ["models"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with settings, seen from a folder inside of it."""
    (tmp_path / "pyproject.toml").write_text(FILE)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    return tmp_path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_values_and_their_sources(project: Path) -> None:
    record = json.loads(invoke("config", "show", "sweep", "--format", "json").stdout)
    assert record["file"] == str(project / "pyproject.toml")
    rows = {row["option"]: (row["value"], row["source"]) for row in record["settings"]}
    own, common = "pyproject.toml [tool.compressor.sweep]", "pyproject.toml [tool.compressor]"
    assert rows["model"] == ("dsmn_seg", own)
    assert rows["seeds"] == ("0,1,2", own)
    assert rows["year"] == ("2022", own)  # the command's table wins over what stands above
    assert rows["cache"] == (str(project / "store"), common)  # from the folder of the file
    assert rows["method"] == ("slimming", "default")
    text = invoke("config", "show").stdout
    assert "sweep" in text and "dsmn_seg" in text and "docs/gate.md" in text
    assert "slimming" not in text  # only what is set


def test_what_the_parser_is_given(project: Path) -> None:
    assert default_map(read_settings(), root(), "sweep")["sweep"] == {
        "cache": str(project / "store"),
        "model": "dsmn_seg",
        "seeds": "0,1,2",
        "year": "2022",
        "dry_run": True,
    }


def test_the_command_line_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compressor.sweep import preview, runner

    seen: list[runner.SweepConfig] = []

    def preview_sweep(config: runner.SweepConfig) -> preview.Preview:
        seen.append(config)
        raise ConfigError("far enough")

    monkeypatch.setattr(preview, "preview_sweep", preview_sweep)
    from compressor import runtime

    monkeypatch.setattr(runtime, "tune", lambda threads=None: None)
    invoke("sweep", "--year", "2023", "--model", "seresnet18")
    invoke("sweep")
    assert [config.year for config in seen] == [2023, 2022]
    assert [config.experiment.model for config in seen] == ["seresnet18", "dsmn_seg"]
    assert {config.grid.seeds for config in seen} == {(0, 1, 2)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.compressor.sweep]\nsede = 1", "did you mean seed"),
        ("[tool.compressor.swep]\nseeds = 1", "did you mean sweep"),
        ("[tool.compressor]\nyaer = 2023", "did you mean year"),
        ("[tool.compressor.sweep]\ndry-run = 1", "must be true or false"),
        ("[tool.compressor.sweep]\nyear = true", "not true or false"),
        ("[tool.compressor.sweep]\nyear = {a = 1}", "must be a text, a number or a list"),
        ("[tool.compressor]\nsweep = 3", "key of [tool.compressor] 'sweep'"),
        ("[tool.compressor.audit]\nallow-code = true", "'allow-code'"),
        ("[tool.compressor.audit]\nmodel = 'evil:build'", "'model'"),
        ("[tool.compressor.compress]\nmodel = 'evil:build'", "'model'"),
    ],
)
def test_what_is_refused(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    result = invoke("config", "show")
    assert isinstance(result.exception, (ConfigError, UnknownNameError))
    assert said in str(result.exception)
    assert "pyproject.toml" in str(result.exception)


@pytest.mark.parametrize("text", ["yaer = 2023\n", "[adit]\nyear = 2023\n"])
def test_a_mistyped_name_is_refused_by_every_command(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only by those that show the settings: what nobody reads would be left out in silence."""
    (tmp_path / "compressor.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    error = invoke("rank", "systems.csv").exception
    assert isinstance(error, UnknownNameError)
    assert "compressor.toml" in str(error) and "did you mean" in str(error)
    assert invoke("doctor").exit_code == 2  # it says so, and looks at the rest


def test_no_file_lets_code_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model above all commands is a network to train, never a permission to run its code."""
    (tmp_path / "pyproject.toml").write_text('[tool.compressor]\nmodel = "evil:build"\n')
    monkeypatch.chdir(tmp_path)
    settings = read_settings()
    for path, command in commands_of(root()):
        given = settings.of(path, command)
        assert not given.keys() & {"own_network", "allow_code", "live"}, path
    commands = dict(commands_of(root()))
    for name in ("sweep", "train"):
        assert settings.of((name,), commands[(name,)])["model"].value == "evil:build"
    for name in ("gate", "slim", "audit"):  # a file there, or a permission
        assert settings.of((name,), commands[(name,)]) == {}


def test_nearest_file(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.compressor]\nyear = 2023\n")
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert read_settings(inner).file == tmp_path / "pyproject.toml"
    (tmp_path / "a" / "compressor.toml").write_text("year = 2022\n")
    assert read_settings(inner).file == tmp_path / "a" / "compressor.toml"
    assert read_settings(inner).prefix == ""
    (inner / "pyproject.toml").write_text("not toml [")  # somebody else's
    assert read_settings(inner).file == tmp_path / "a" / "compressor.toml"
    (tmp_path / "a" / "compressor.toml").write_text("not toml [")
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        read_settings(inner)
    (inner / ".git").mkdir()
    assert read_settings(inner).file is None  # another repository begins here


def test_nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "no settings file" in invoke("config", "show").stdout
    result = invoke("config", "show", "swep")
    assert "did you mean sweep" in str(result.exception)
