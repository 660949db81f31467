"""Folders of models: told by content, in a fixed order, without links and hidden folders."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from compressor.audit.discover import find_models, looks_like_model
from compressor.cli.audit import audit
from compressor.errors import ModelFileError

app = typer.Typer()
app.command()(audit)


def weights(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(nn.Linear(2, 3).state_dict(), path)
    return path


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


# ir_version 8, producer "x", an empty graph, opset 17: the outer fields of an ONNX model
ONNX = b"\x08\x08" + field(2, b"x") + field(7, b"") + field(8, b"\x10\x11")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    weights(root / "b" / "model.weird")
    weights(root / "b" / "z.pt")
    weights(root / "a.pt")
    weights(root / "c" / "deep" / "er" / "m")
    weights(root / ".hidden" / "h.pt")
    weights(root / ".h.pt")
    (root / "readme.pt").write_text("no model, whatever its name says")
    (root / "empty.onnx").touch()
    (root / "b" / "sound.wav").write_bytes(b"RIFF" + bytes(100))
    np.savez(root / "numbers.npz", a=np.ones(3))
    return root


def test_models_by_content_in_order(tree: Path) -> None:
    found = find_models([tree])
    assert [str(path.relative_to(tree)) for path in found.files] == [
        "a.pt",
        "b/model.weird",
        "b/z.pt",
        "c/deep/er/m",
    ]
    assert (found.skipped, found.links) == (4, 0)  # readme, empty, sound, numbers


def test_named_files_come_as_they_are_and_once(tree: Path) -> None:
    named = [tree / "readme.pt", tree / "b", tree / "a.pt", tree / "a.pt", tree / ".hidden"]
    found = find_models(named)
    assert [path.name for path in found.files] == [
        "readme.pt",
        "model.weird",
        "z.pt",
        "a.pt",
        "h.pt",
    ]
    assert find_models([tree / "b", tree / "b"]).files == find_models([tree / "b"]).files


def test_links_do_not_lead_in_circles_or_out(tree: Path, tmp_path: Path) -> None:
    weights(tmp_path / "outside" / "o.pt")
    (tree / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "out").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tree / "link.pt").symlink_to(tree / "a.pt")  # a link to a file is that file
    (tree / "broken.pt").symlink_to(tree / "nothing")
    os.mkfifo(tree / "pipe")
    found = find_models([tree])
    assert [path.name for path in found.files] == ["a.pt", "link.pt", "model.weird", "z.pt", "m"]
    assert found.links == 2
    assert [path.name for path in find_models([tree / "out"]).files] == ["o.pt"]  # named


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (ONNX, True),
        (ONNX[:-3], True),  # cut off behind the graph
        (b"\x08\x08" + b"\x3a\xff\x7f" + bytes(100), True),  # cut off inside the graph
        (b"\x08\x08" + field(2, b"x"), False),  # no graph
        (field(2, b"x") + ONNX, False),  # no version in front
        (b"\x08\x01\x10\x01\x3a\x01\x05", False),  # a tensor: its second field is a number
        (b"\x08\x08\x79\x00", False),
        (b"(a text in brackets)", False),
        (b"2 lines\n: of text", False),
        (b"\x08" * 40, False),
        (b"\x1c\x00\x00\x00TFL3" + bytes(8), True),
        (b"\x1c\x00\x00\x00TFL2" + bytes(8), False),
        (b"\x89HDF\r\n\x1a\n" + bytes(50) + b"layer_names", True),
        (b"\x89HDF\r\n\x1a\n" + bytes(50) + b"spectrogram", False),
        ((2).to_bytes(8, "little") + b"{}", True),  # safetensors without a tensor
        ((2_000).to_bytes(8, "little") + b"{", True),  # cut off
        (b"        {", False),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", True),  # torch before 1.6: refused when read
        (b"\x80\x04\x95", False),  # any other pickle
        (b"PK\x03\x04" + bytes(22) + b"\x0a\x00\x00\x00m/data.pkl", True),  # cut off
        (b"PK\x03\x04" + bytes(22) + b"\x05\x00\x00\x00a.npy", False),
        (b"PK\x03\x04", False),
    ],
)
def test_what_a_model_begins_with(content: bytes, expected: bool, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    assert looks_like_model(path) is expected


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["m/data.pkl", "m/version"], True),
        (["m/archive_format", "m/models/model.json"], True),
        (["config.json", "model.weights.h5", "metadata.json"], True),
        (["word/document.xml"], False),
        (["config.json"], False),
    ],
)
def test_archives(members: list[str], expected: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "content")
    assert looks_like_model(path) is expected


def test_a_folder_without_models(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>")
    with pytest.raises(ModelFileError, match=r"no model file in this folder \(1 other files\)"):
        find_models([tmp_path])


def test_on_the_command_line(tree: Path) -> None:
    (tree / "broken.pt").write_bytes((tree / "a.pt").read_bytes()[:-40])
    result = CliRunner().invoke(app, [str(tree), "--year", "2020", "--format", "json"])
    assert result.exit_code == 3
    record = json.loads(result.stdout)
    assert [entry["status"] for entry in record["files"]].count("error") == 1
    assert len(record["files"]) == 5
    assert "4 other files in folders skipped" in result.stderr
    assert f"error: {tree / 'broken.pt'}: " in result.stderr
    again = CliRunner().invoke(app, [str(tree), "--year", "2020", "--format", "json"])
    assert again.stdout == result.stdout
    text = CliRunner().invoke(app, [str(tree), "--year", "2020"])
    assert text.stdout.splitlines()[-1] == "5 files: 4 pass, 1 not measured"
