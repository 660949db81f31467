"""Broken and hostile `.pt2` archives: one clear line, nothing executed, bounded time."""

from __future__ import annotations

import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exported_helpers import export, rewritten
from torch import nn

import compressor
from compressor.audit.readers.exported_sizes import Sizes
from compressor.errors import ModelFileError

Change = Callable[[dict[str, Any]], None]


def refused(path: Path, match: str) -> None:
    start = time.process_time()
    with pytest.raises(ModelFileError, match=match) as caught:
        compressor.audit(path)
    assert time.process_time() - start < 5
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 600
    assert caught.value.exit_code == 3


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "good.pt2"
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    batch = torch.export.Dim("batch", min=1, max=8)
    return export(model, path, torch.randn(2, 2, 5, 5), dynamic=({0: batch},))


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_the_good_file(good: Path) -> None:
    assert compressor.audit(good).macs == 9 * 72 + 180


def test_a_weight_in_a_pickle_is_refused_and_not_opened(good: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    def pickled(table: dict[str, Any]) -> None:
        table["config"]["0.weight"]["use_pickle"] = True

    def poison(name: str, data: bytes) -> bytes:
        dangerous = name.endswith(("weight_0", "model.pt"))
        return pickle.dumps(Canary(canary)) if dangerous else data

    path = rewritten(good, tmp_path / "p.pt2", weights=pickled, member=poison)
    refused(path, r"0\.weight is stored as a pickle, which is never opened")
    assert not canary.exists()


def objects(tree: dict[str, Any]) -> None:
    tree["graph_module"]["signature"]["input_specs"].append(
        {"custom_obj": {"arg": {"name": "o", "class_fqn": "x"}, "custom_obj_name": "packed"}}
    )


def newer(tree: dict[str, Any]) -> None:
    tree["schema_version"]["major"] = 9


def shrink_a_map(tree: dict[str, Any]) -> None:
    conv = tree["graph_module"]["graph"]["nodes"][0]["outputs"][0]["as_tensor"]["name"]
    sizes = tree["graph_module"]["graph"]["tensor_values"][conv]["sizes"]
    sizes[2:] = [{"as_int": 1}, {"as_int": 1}]


def unknown_input(tree: dict[str, Any]) -> None:
    argument = tree["graph_module"]["graph"]["nodes"][1]["inputs"][0]
    argument["arg"] = {"as_tensor": {"name": "nowhere"}}


def lost_meta(tree: dict[str, Any]) -> None:
    tree["graph_module"]["graph"]["tensor_values"].popitem()


def foreign_weight(tree: dict[str, Any]) -> None:
    tree["graph_module"]["signature"]["input_specs"][0]["parameter"]["parameter_name"] = "x.y"


def huge(tree: dict[str, Any]) -> None:
    for meta in tree["graph_module"]["graph"]["tensor_values"].values():
        meta["sizes"] = [{"as_int": 1 << 61}] * 30


def hostile_name(tree: dict[str, Any]) -> None:
    specs = tree["graph_module"]["signature"]["input_specs"]
    specs[0]["parameter"]["parameter_name"] = "a\x1b[2J\n::error::"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (objects, "an object of its own .packed., which only code could read"),
        (newer, "schema 9, this program reads 8"),
        (shrink_a_map, r"0 \(aten\.convolution\) cannot make \(1, 4, 1, 1\)"),
        (unknown_input, "not a program as torch.export.save writes it"),
        (lost_meta, "not a program as torch.export.save writes it"),
        (foreign_weight, r"x\.y of the graph is not stored"),
        (huge, "graph|program"),
        (hostile_name, "is not stored"),
        (lambda tree: tree.clear(), "not a program"),
        (lambda tree: tree.update(graph_module=[]), "not a program"),
        (lambda tree: tree.update(graph_module={"graph": 7}), "not a program"),
    ],
)
def test_programs_that_lie(change: Change, match: str, good: Path, tmp_path: Path) -> None:
    refused(rewritten(good, tmp_path / "l.pt2", model=change), match)


def meta_of(table: dict[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = table["config"]["0.weight"]["tensor_meta"]
    return meta


def other_shape(table: dict[str, Any]) -> None:
    meta_of(table)["sizes"][0] = {"as_int": 2}


def too_large(table: dict[str, Any]) -> None:
    meta_of(table)["sizes"][0] = {"as_int": 40}


def shifted(table: dict[str, Any]) -> None:
    meta_of(table)["storage_offset"] = {"as_int": 1}


def wider(table: dict[str, Any]) -> None:
    meta_of(table)["dtype"] = 99


def sparse(table: dict[str, Any]) -> None:
    meta_of(table)["layout"] = 2


def elsewhere(table: dict[str, Any]) -> None:
    table["config"]["0.weight"]["path_name"] = "../../etc/passwd"


def missing(table: dict[str, Any]) -> None:
    table["config"]["0.weight"]["path_name"] = "weight_99"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (other_shape, r"0\.weight is stored as \(2, 2, 3, 3\) float32, the graph says \(4,"),
        (too_large, r"0\.weight is stored as \(40, "),
        (shifted, "reaches beyond its storage"),
        (wider, "unknown number type 99"),
        (sparse, "no dense tensor"),
        (elsewhere, "no dense tensor of its own"),
        (missing, r"0\.weight: is not stored"),
        (lambda table: table["config"].clear(), "of the graph is not stored"),
        (lambda table: table.update(config=7), "not a program"),
    ],
)
def test_tables_that_lie(change: Change, match: str, good: Path, tmp_path: Path) -> None:
    refused(rewritten(good, tmp_path / "t.pt2", weights=change), match)


def test_bytes_that_belong_to_nothing_are_named(good: Path, tmp_path: Path) -> None:
    def longer(name: str, data: bytes) -> bytes:
        return data + bytes(400) if name.endswith("weights/weight_0") else data

    result = compressor.audit(rewritten(good, tmp_path / "e.pt2", member=longer))
    assert result.statuses["param_bytes"] == "partial"
    assert any("400 B of weights/weight_0 belong to no tensor" in n for n in result.notes)


def test_members_that_lie(good: Path, tmp_path: Path) -> None:
    def cut(name: str, data: bytes) -> bytes:
        return data[:-2] if name.endswith("weights/weight_0") else data

    refused(rewritten(good, tmp_path / "c.pt2", member=cut), "lies about its storage")

    def lost(name: str, data: bytes) -> bytes | None:
        return None if name.endswith("weights/weight_0") else data

    refused(rewritten(good, tmp_path / "m.pt2", member=lost), r"0\.weight: is not stored")

    def nested(name: str, data: bytes) -> bytes:
        return b'{"a":' * 100_000 if name.endswith("model.json") else data

    refused(rewritten(good, tmp_path / "n.pt2", member=nested), "is no JSON")

    def bomb(name: str, data: bytes) -> bytes:
        return b"[" + b"[]," * (9 << 20) if name.endswith("model.json") else data

    refused(rewritten(good, tmp_path / "b.pt2", member=bomb), "at most 25,165,824 allowed")


def test_other_layouts_are_named(good: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.pt2"
    with zipfile.ZipFile(older, "w") as archive:
        archive.writestr("version", "1")
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", "")
    refused(older, "an exported program of an older torch, whose weights are pickles")
    compiled = rewritten(good, tmp_path / "aoti.pt2")
    with zipfile.ZipFile(compiled, "a") as archive:
        archive.writestr("good/data/aotinductor/model/x.so", b"\x7fELF")
    refused(compiled, "compiled package .*machine code")
    two = rewritten(good, tmp_path / "two.pt2")
    with zipfile.ZipFile(two, "a") as archive:
        archive.writestr("good/models/other.json", "{}")
    refused(two, "2 models in an exported archive")
    none = rewritten(good, tmp_path / "none.pt2", member=lambda n, d: None if "models/" in n else d)
    refused(none, "0 models in an exported archive")


def test_mutated_programs_never_give_a_traceback(good: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(good) as archive:
        name = next(n for n in archive.namelist() if n.endswith("models/model.json"))
        tree = json.loads(archive.read(name))

    paths: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            paths.append((node, key))
            if isinstance(value, (dict, list)):
                collect(value)

    collect(tree)
    target = tmp_path / "x.pt2"
    members = {}
    with zipfile.ZipFile(good) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for place, (node, key) in enumerate(paths):
        if place % 5:
            continue
        before = node[key]
        node[key] = [None, -1, "x", {}, [], 1 << 70, 1.5][place // 5 % 7]
        members[name] = json.dumps(tree).encode()
        node[key] = before
        with zipfile.ZipFile(target, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        try:
            compressor.audit(target)
        except ModelFileError as error:
            assert str(error).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch CANARY')",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "Mul(" + ", ".join(["Integer(999999)"] * 30) + ")",
        "Symbol('s0').__class__",
        "Integer(1) if True else Integer(2)",
        "(" * 500,
        "-" * 5000 + "1",
        "Mod(Integer(1), Integer(0))",
        "Rational(1, 2)",
        "Integer(-3)",
        "lambda: 1",
        "Foo(Integer(1))",
        "1" * 3000,
    ],
)
def test_sizes_are_never_executed(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Sizes().of({"as_expr": {"expr_str": text, "hint": None}})
    assert not Path("CANARY").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Integer(7)", 7),
        ("Mul(Integer(2), Symbol('s0', positive=True, integer=True))", 10),
        ("Add(Symbol('s0', integer=True), Integer(-2))", 3),
        ("Pow(Symbol('s0', integer=True), Integer(2))", 25),
        ("Add(Integer(1), FloorDiv(Add(Symbol('s0'), Integer(-2)), Integer(2)))", 2),
        ("Max(Integer(3), Mod(Symbol('s0'), Integer(4)))", 3),
        ("floor(Mul(Rational(1, 2), Symbol('s0')))", 2),
        ("ceiling(Mul(Rational(1, 2), Symbol('s0')))", 3),
    ],
)
def test_sizes_by_hand(text: str, value: int) -> None:
    sizes = Sizes()
    sizes.bind("s0", 5)
    assert sizes.of({"as_expr": {"expr_str": text, "hint": None}}) == value
