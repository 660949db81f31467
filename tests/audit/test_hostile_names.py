"""Names out of a nightmare in real files: harmless in every output of the audit and the gate.

What a pull request brings in decides the names of files, tensors, layers and classes; what comes
out is read by terminals, by browsers, and line by line by the runner of a GitHub job.
"""

from __future__ import annotations

import io
import json
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tflite_helpers import G, O, T, model
from torch import nn
from typer.testing import CliRunner

from compressor.audit.trace import graph_of
from compressor.cli.main import app
from compressor.errors import CompressorError

# marks that survive reading, because they are plain characters, and those that steer a terminal
PLAIN = "<script>alert(1)<!-- ::error::x ##[error]y | `c` @team [a](b) &amp; \"'"
LINES = f"{PLAIN}\n::error::z\r::stop-commands::t\x85\u2028"
STEER = f"{LINES}\x1b[31m\x1b]0;t\x07\x9b2J\u202egnp\u2066\u200f\x00"
NAMES = {"plain": PLAIN, "command": "::error::x", "lines": LINES, "steer": STEER}

AUDITS = ("text", "json")
HARMLESS = Path(__file__).resolve().parents[2] / "zoo/weights/seresnet18-synthetic.pt"
GATES = ("text", "json", "markdown", "github", "junit", "html")


def own(name: str) -> bytes:
    """A file of the project: the names of layers, their types, the classes and the network."""
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    graph = graph_of(net, torch.zeros(1, 4))
    for module in graph["modules"][1:]:
        module["type"] = name
        module["path"] = f"{module['path']}{name}"
        module["parameters"] = [renamed(n, name) for n in module["parameters"]]
    graph["parameters"] = {renamed(n, name): s for n, s in dict(graph["parameters"]).items()}
    for value in graph["values"]:
        value[2] = renamed(value[2], name) if isinstance(value[2], str) else value[2]
    return packed(
        {
            "format": "compressor-model",
            "format_version": 1,
            "arch": name,
            "classes": [name, "b", "c"],
            "input_shape": (4,),
            "state_dict": {renamed(n, name): t for n, t in net.state_dict().items()},
            "graph": graph,
        }
    )


def renamed(home: str, name: str) -> str:
    """`0.weight` of a layer `0` that is now called `0<name>`."""
    head, dot, tail = home.partition(".")
    return f"{head}{name}{dot}{tail}" if head.isdigit() else home


def packed(tree: Any) -> bytes:
    data = io.BytesIO()
    torch.save(tree, data)
    return data.getvalue()


def state(name: str) -> bytes:
    return packed({f"{name}.weight": torch.ones(3, 4), name: torch.ones(2)})


def safetensors(name: str) -> bytes:
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    text = json.dumps({f"{name}.weight": entry, "__metadata__": {name: name}}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(24)


def network(name: str) -> bytes:
    """The names of the graph, the operator, its kind, the weight, the input and the output."""
    nodes = [
        helper.make_node("MatMul", [name, f"{name}w"], ["h"], name=name),
        helper.make_node(name, ["h"], [f"{name}y"], name=f"{name}2", domain="own"),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])],
        [helper.make_empty_tensor_value_info(f"{name}y")],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), f"{name}w")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, producer_name=name)
    data: bytes = made.SerializeToString()
    return data


def tflite(name: str) -> bytes:
    """The names of tensors, and of an operator of one's own."""
    tensors = [T(f"{name}x", (1, 6)), T(f"{name}w", (4, 6), data=[1.0] * 24), T(name, (1, 4))]
    tensors.append(T(f"{name}z", (1, 4)))
    ops = [
        O("FULLY_CONNECTED", [f"{name}x", f"{name}w", None], [name]),
        O("CUSTOM", [name], [f"{name}z"], custom=name),
    ]
    return model(G(tensors, ops, [f"{name}x"], [f"{name}z"]))


FILES: dict[str, Callable[[str], bytes]] = {
    "own.pt": own,
    "state.pt": state,
    "a.safetensors": safetensors,
    "a.onnx": network,
    "a.tflite": tflite,
}


@pytest.fixture(params=FILES)
def paths(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Any) -> Iterator[list[Path]]:
    """One format's files under hostile names, inside and outside, sound and broken."""
    (tmp_path / ".git").mkdir()  # no settings from above
    monkeypatch.chdir(tmp_path)
    made = []
    suffix = Path(request.param).suffix
    for kind, name in NAMES.items():
        data = FILES[request.param](name)
        plain = Path(f"{kind}{suffix}")
        plain.write_bytes(data)
        odd = Path(name.replace("/", "_").replace("\x00", "")[:100] + suffix)
        odd.write_bytes(data)
        broken = Path(f"broken{odd}")
        broken.write_bytes(data[: len(data) // 2])
        made += [plain, odd, broken]
    return iter([made])


def said(*args: object) -> tuple[str, str]:
    """What a command wrote to its two streams; errors as the command line shows them."""
    clean = {"GITHUB_ACTIONS": None, "GITHUB_STEP_SUMMARY": None, "COLUMNS": "100"}
    result = CliRunner().invoke(app, [str(arg) for arg in args], env=clean)
    if isinstance(result.exception, CompressorError):
        return result.stdout, f"{result.stderr}error: {result.exception}\n"
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in {0, 1, 3}
    return result.stdout, result.stderr


def harmless(text: str, form: str) -> None:
    """No line steers a terminal, and none is a command to a GitHub runner but those meant so."""
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines), [x for x in lines if not x.isprintable()]
    text.encode()  # raises at a lone surrogate
    assert "##[" not in text  # the runner's older commands, anywhere in a line
    commands = [line for line in lines if line.lstrip().startswith("::")]
    if form == "github":
        assert all(re.match(r"::(error|warning|notice) ", line) for line in commands)
        assert not any("%" in re.sub(r"%(25|0A|0D|3A|2C)", "", line) for line in commands)
    else:
        assert commands == []


@pytest.mark.parametrize("form", AUDITS)
def test_audit(form: str, paths: Iterator[list[Path]]) -> None:
    for path in next(paths):
        out, err = said("audit", f"./{path}", "--format", form, "--layers")
        assert out or err
        harmless(out, form)
        if form == "json":
            assert json.loads(out)["files"][0]["file"] == str(path)
        else:
            harmless(err, form)


class Page(HTMLParser):
    """The tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        assert not any(name.startswith("on") for name, _ in attrs)


@pytest.mark.parametrize("form", GATES)
def test_gate(form: str, paths: Iterator[list[Path]]) -> None:
    files = next(paths)
    text, err = said("gate", *(f"./{path}" for path in files), "--year", 2024, "--format", form)
    harmless(text, form)
    assert err == ""
    if form == "json":
        targets = json.loads(text)["targets"]
        assert [target["path"] for target in targets] == [str(path) for path in files]
    elif form == "junit":
        assert ET.fromstring(text).tag == "testsuites"
    elif form == "html":
        page = Page(text)
        assert not {"img", "iframe", "object", "base", "form"} & page.tags
        # as many scripts as the page of a harmless name has; none was begun or ended by a name
        plain, _ = said("gate", str(HARMLESS), "--year", 2024, "--format", form)
        assert page.scripts == Page(plain).scripts == text.lower().count("<script")
        assert page.scripts == text.lower().count("</script")
    elif form == "markdown":
        cells = re.sub(r"(?m)^\|?[-:| ]+$|^\| | \| | \|$", "", text)
        assert not re.search(r"(?<!\\)[<`|\[]", cells)
        assert "@" not in text
