"""Old, new and change: totals, and layers matched by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import compressor
from compressor.audit import AuditResult
from compressor.audit.compare import Change, compare
from compressor.cli.audit import audit
from compressor.errors import ModelFileError

app = typer.Typer()
app.command()(audit)


def net(width: int, *, extra: bool = False) -> AuditResult:
    layers: dict[str, nn.Module] = {
        "stem": nn.Conv2d(1, width, 3, padding=1),
        "norm": nn.BatchNorm2d(width),
        "head": nn.Conv2d(width, 10, 1),
    }
    if extra:
        layers["late"] = nn.Conv2d(10, 10, 1, bias=False)
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return compressor.audit(model, input_shape=(1, 1, 4, 5))


def test_totals() -> None:
    found = compare(net(8), net(6)).totals
    # stem 10 w, norm 2 w, head 10 w + 10: 22 w + 10
    assert found["parameters"] == Change(22 * 8 + 10, 22 * 6 + 10)
    assert found["parameters"].change == -44
    assert found["parameters"].percent == pytest.approx(-100 * 44 / 186, abs=1e-4)
    assert found["bytes"].change == -4 * 44
    # 20 positions: stem 9 w, head 10 w
    assert found["MACs"] == Change(20 * 19 * 8, 20 * 19 * 6)


def test_layers_by_name() -> None:
    found = compare(net(8), net(6))
    states = {layer.name: layer.state for layer in found.layers}
    assert states == {"stem": "changed", "norm": "changed", "head": "changed"}
    stem = found.layers[0].figures
    assert stem["parameters"] == Change(80, 60)
    assert stem["MACs"] == Change(20 * 72, 20 * 54)


def test_added_and_removed_layers_are_named() -> None:
    grown = compare(net(8), net(8, extra=True))
    assert (grown.names("added"), grown.names("removed")) == (["late"], [])
    assert {layer.state for layer in grown.layers} == {"same", "added"}
    late = grown.layers[-1]
    assert late.figures["parameters"] == Change(0, 100)
    assert late.figures["parameters"].percent is None  # nothing to take a share of
    shrunk = compare(net(8, extra=True), net(8))
    assert (shrunk.names("added"), shrunk.names("removed")) == ([], ["late"])
    assert shrunk.layers[-1].figures["MACs"] == Change(2000, 0)


def test_layers_of_one_name_are_told_apart() -> None:
    one = net(8)
    twice = replace(one, layers=(*one.layers, one.layers[0]))
    assert compare(one, twice).names("added") == ["stem"]
    assert compare(twice, twice).names("same") == ["stem", "norm", "head", "stem"]


def test_unknown_figures_have_no_change() -> None:
    bare = replace(net(8), macs=None, macs_by_convention={"strict": None, "nessi": None})
    change = compare(bare, net(8)).totals["MACs"]
    assert (change.old, change.change, change.percent) == (None, None, None)


def test_deployed_bytes_stand_beside_the_stored() -> None:
    new = replace(net(8), deployed_bytes=200, deployed_bytes_by_dtype={"int8": 200})
    assert compare(net(8), new).totals["bytes as deployed"] == Change(4 * 186, 200)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "old.pt", tmp_path / "new.pt"
    for path, width in zip(paths, (8, 6), strict=True):
        torch.save(nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2)).state_dict(), path)
    return paths


def test_on_the_command_line(files: tuple[Path, Path]) -> None:
    old, new = map(str, files)
    shown = CliRunner().invoke(app, [new, "--compare", old])
    lines = shown.stdout.splitlines()
    start = lines.index(f"compared with {old}")
    # 5 w + 2 w + 2: 58 and 44
    assert lines[start + 2].split() == ["parameters", "58", "44", "-14", "-24.1", "%"]
    # 5 w: 40 and 30, first layer; its bytes below
    first = next(line for line in lines[start + 3 :] if line.startswith("0 "))
    assert first.split() == ["0", "parameters", "40", "30", "-10", "-25.0", "%"]
    assert all(len(line) <= 80 for line in lines[start:] if not line.startswith("compared"))
    plain = CliRunner().invoke(app, [new, "--compare", old, "--format", "json"]).stdout
    record = json.loads(plain)["files"][0]["compare"]
    assert record["base"] == old
    assert len(record["base_sha256"]) == 64
    assert record["totals"]["parameters"] == {
        "old": 58,
        "new": 44,
        "change": -14,
        "percent": pytest.approx(-24.1379),
    }


def test_a_base_that_cannot_be_read(files: tuple[Path, Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(files[0]), "--compare", str(tmp_path / "no.pt")])
    assert isinstance(result.exception, ModelFileError)
    assert "no.pt: cannot be read" in str(result.exception)
