"""`compressor export`: what it prints, what it leaves, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from compressor.artifact import Artifact, save
from compressor.cli.export import export as export_command
from compressor.errors import ArtifactError, UnknownNameError, UsageError
from compressor.export.safetensors import read

app = typer.Typer()
app.command()(export_command)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(artifact: Artifact, tmp_path: Path) -> Path:
    path = tmp_path / "network.pt"
    save(artifact, path)
    return path


def test_the_file_stands_beside_the_model_file(model: Path, artifact: Artifact) -> None:
    before = model.read_bytes()
    result = invoke(model, "--to", "safetensors", "--dtype", "float16")
    assert result.exit_code == 0, result.output
    target = model.with_suffix(".safetensors")
    assert result.stdout.splitlines()[-1] == str(target)
    assert f"float16 weights, a file of {target.stat().st_size:,} B" in result.stdout
    assert read(target)[0].keys() == artifact.state_dict.keys()
    assert model.read_bytes() == before


def test_json_carries_the_differences_found(model: Path) -> None:
    result = invoke(model, "--to", "pt2", "--format", "json", "--out", model.parent / "n.pt2")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)["export"]
    assert record["path"] == str(model.parent / "n.pt2")
    assert 0.0 <= record["comparison"]["difference"] <= 1e-5
    assert record["comparison"]["inputs"] == 16


def test_bad_requests(model: Path) -> None:
    for arguments, error in (
        (["--to", "onxx"], UnknownNameError),
        (["--to", "safetensors", "--data", "synthetic"], UsageError),
        (["--to", "safetensors", "--out", model], UsageError),
        (["--dtype", "int8"], UsageError),
    ):
        result = invoke(model, *arguments)
        assert isinstance(result.exception, error), arguments
        assert result.exception.exit_code == 2
    missing = invoke(model.parent / "no.pt")
    assert isinstance(missing.exception, ArtifactError)
    assert missing.exception.exit_code == 3
    assert sorted(path.name for path in model.parent.iterdir()) == ["network.pt"]
