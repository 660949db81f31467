"""A user's own network: found by name, run only for those who name it, and its mistakes named."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import zoo
from compressor import artifact, audit
from compressor.cli.main import app
from compressor.errors import ArtifactError, ShapeError, UnknownNameError, UsageError
from zoo import own, registry

CODE = '''
from torch import nn
from zoo import network

print_when_imported = []

def build(num_classes, in_channels=1, width=4):
    """A small one."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )

@network(front_end="scut2023:n_mels=64", layout="CTF", ignored_layers=["0"])
def other(num_classes, frames=44):
    return build(num_classes, in_channels=2)

def no_classes(width=4):
    return build(10)

def fails(num_classes):
    raise ValueError("no such width")

def no_module(num_classes):
    return 3

def wrong_output(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes + 1))

not_callable = 3
'''


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module `mine_nets`; nothing of it stays."""
    (tmp_path / "mine_nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry, "OWN", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("mine_nets", None)


def stored(path: Path, name: str = "mine_nets:build") -> Path:
    """A model file of a network of one's own."""
    zoo.allow(name)
    artifact.save(
        artifact.from_model(
            zoo.build(name, 3).eval(),
            arch=name,
            arch_args={},
            num_classes=3,
            classes=(),
            input_shape=(1, 8, 8),
            layout="CFT",
            front_end={},
            standardizer={},
        ),
        path,
    )
    registry.OWN.clear()
    sys.modules.pop("mine_nets", None)
    return path


def test_built_with_what_it_takes() -> None:
    assert zoo.allow("mine_nets:build") == "mine_nets:build"
    entry = zoo.entry("mine_nets:build")
    assert (entry.front_end, entry.layout, entry.title) == ("speakin2021", "CFT", "A small one.")
    assert entry.front_end == zoo.entry("seresnet18").front_end
    model = zoo.build("mine_nets:build", 5, in_channels=2, width=6)
    # 2 * 6 * 9 weights, 6 + 6 of BatchNorm, 6 * 5 + 5 of the last layer
    assert sum(p.numel() for p in model.parameters()) == 108 + 12 + 35
    assert "mine_nets:build" not in zoo.list_models()
    assert zoo.allow("seresnet18") == "seresnet18"


def test_what_the_decorator_says() -> None:
    entry = zoo.entry(zoo.allow("mine_nets:other"))
    assert entry.front_end == "scut2023:n_mels=64"
    assert (entry.layout, entry.ignored_layers) == ("CTF", ("0",))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine_nets:biuld", "did you mean build"),
        ("mine_netss:build", "there is no module 'mine_netss'"),
        ("mine_nets:no_classes", "it must take num_classes"),
        ("mine_nets:not_callable", "is a int"),
        ("mine nets:build", "write package.module:function"),
        (":build", "write package.module:function"),
        ("mine_nets:", "write package.module:function"),
    ],
)
def test_names_that_cannot_be(name: str, said: str) -> None:
    with pytest.raises((UsageError, UnknownNameError), match=said):
        zoo.allow(name)


def test_mistakes_in_its_code_are_the_users(nets: Path) -> None:
    with pytest.raises(UsageError, match=r"ValueError: no such width \(.*mine_nets.py, line 22\)"):
        zoo.build(zoo.allow("mine_nets:fails"), 3)
    with pytest.raises(UsageError, match="returned a int; it must return a torch module"):
        zoo.build(zoo.allow("mine_nets:no_module"), 3)
    with pytest.raises(UnknownNameError, match="did you mean width"):
        zoo.build(zoo.allow("mine_nets:build"), 3, widht=3)
    (nets / "broken_nets.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(UsageError, match="No module named 'nowhere_to_be_found'"):
        zoo.allow("broken_nets:build")


def test_its_output_is_tried_before_training() -> None:
    model = zoo.build(zoo.allow("mine_nets:build"), 3)
    own.check_output("mine_nets:build", model, (1, 8, 8), 3)
    assert model.training
    with pytest.raises(ShapeError, match=r"gives \(2, 3\) for two clips, expected \(2, 4\)"):
        own.check_output("mine_nets:build", model, (1, 8, 8), 4)
    with pytest.raises(ShapeError, match=r"running it on an input of \(2, 3, 8, 8\) failed"):
        own.check_output("mine_nets:build", model, (3, 8, 8), 3)


def test_a_file_alone_runs_nothing(nets: Path) -> None:
    path = stored(nets / "m.pt")
    loaded = artifact.load(path)
    with pytest.raises(ArtifactError, match="give --model mine_nets:build"):
        loaded.build()
    assert audit(path).params == 4 * 9 + 8 + 4 * 3 + 3
    assert "mine_nets" not in sys.modules
    zoo.allow("mine_nets:build")
    assert isinstance(loaded.build(), nn.Module)


def test_a_hostile_name_in_a_file_is_not_imported(nets: Path) -> None:
    path = stored(nets / "m.pt")
    content = torch.load(path, weights_only=True)
    assert "mine_nets:build" in str(content)
    (nets / "evil.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(UsageError, match="runs only for those who name it"):
        zoo.build("evil:build", 3)
    with pytest.raises(UsageError, match="runs only for those who name it"):
        zoo.entry("os:system")


def test_commands(nets: Path) -> None:
    path = stored(nets / "m.pt")
    runner = CliRunner()
    refused = runner.invoke(app, ["cast", str(path), "--out", "half.pt"])
    assert "--model mine_nets:build" in str(refused.exception)
    assert not (nets / "half.pt").exists()
    done = runner.invoke(app, ["cast", str(path), "--out", "half.pt", "--model", "mine_nets:build"])
    assert done.exit_code == 0, done.output
    assert audit(nets / "half.pt").param_bytes == 2 * (4 * 9 + 8 + 4 * 3 + 3)
    assert done.stdout.startswith(("PASS", "DEPENDS", "FAIL"))  # the verdict first
    live = ["audit", "--model", "mine_nets:build", "--input-shape", "1,1,8,8", "--format", "json"]
    record = json.loads(runner.invoke(app, live).stdout)["files"][0]
    assert record["file"] == "mine_nets:build"
    # a 3x3 convolution to four planes of 8x8, then four numbers to ten classes
    assert record["audit"]["macs"] == 9 * 4 * 64 + 4 * 10
    assert record["audit"]["params"] == 4 * 9 + 8 + 4 * 10 + 10


def test_another_code_is_another_run(nets: Path) -> None:
    zoo.allow("mine_nets:build")
    before = own.code_digest("mine_nets:build")
    assert len(before) == 16
    (nets / "mine_nets.py").write_text(CODE + "\n# changed\n")
    assert own.code_digest("mine_nets:build") != before
