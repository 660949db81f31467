"""Code that was permitted to run does so in a child process with limits, and leaves no trace."""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import compressor
from compressor.audit.readers import child, child_process
from compressor.audit.readers.child_process import Limits
from compressor.errors import MeasureError, ModelFileError, UsageError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return out


# a 2 x 6 x 6 input: 16 positions x 4 outputs x 2 inputs x 3 x 3, and 4 x 3
MACS = 16 * 4 * 2 * 9 + 12
PARAMS = 4 * 2 * 9 + 4 + 8 + 12


def script(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: jit is deprecated
        torch.jit.save(torch.jit.script(module.eval()), path)  # type: ignore[no-untyped-call]
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's own module, as the working directory."""
    (tmp_path / "mynets.py").write_text(
        "import os, sys, time, torch\n"
        "from torch import nn\n"
        "def build(width=4, bias=True):\n"
        "    return nn.Sequential(nn.Conv2d(2, width, 3, bias=bias), nn.ReLU())\n"
        "def sleep():\n    time.sleep(600)\n"
        "def spin():\n    while True: pass\n"
        "def crash():\n    os.abort()\n"
        "def leave():\n    os._exit(0)\n"
        "def interrupt():\n    sys.exit(0)\n"
        "def flood():\n"
        "    print('x' * 10_000_000); sys.stderr.write('y' * 10_000_000)\n"
        "    piece = b'[' * 1_000_000\n"
        "    while True: os.write(int(sys.argv[1]), piece)\n"
        "def eat():\n    return torch.zeros(1 << 40)\n"
        "def fork():\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        "def write():\n"
        "    open(os.path.join(os.path.dirname(__file__), 'CANARY'), 'w').write('x')\n"
        "def look():\n"
        "    raise ValueError(os.environ.get('MY_SECRET', 'nothing') + ' in ' + os.getcwd())\n"
        "def call():\n"
        "    import socket; socket.create_connection(('127.0.0.1', 1), 1)\n"
        "def forge():\n"
        '    os.write(int(sys.argv[1]), b\'{"graph": {"version": 1}, "tensors": []}\\n\')\n'
        "    time.sleep(600)\n"
        "def number():\n    return 7\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seen(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_script_is_refused_unless_permitted(tmp_path: Path) -> None:
    path = script(Net(), tmp_path / "net.pt")
    with pytest.raises(ModelFileError, match=r"TorchScript archive.*refused.*run=True"):
        compressor.audit(path)
    with pytest.raises(UsageError, match="give input_shape"):
        compressor.audit(path, run=True)


def test_a_script_that_may_run_is_counted(tmp_path: Path) -> None:
    net = Net()
    with torch.no_grad():
        net.conv.weight[0] = 0  # 2 x 3 x 3 zeros
    path = script(net, tmp_path / "net.pt")
    before = seen(tmp_path), dict(os.environ), Path.cwd(), path.read_bytes()
    result = compressor.audit(path, run=True, input_shape=(1, 2, 6, 6))
    assert (result.macs, result.params, result.status) == (MACS, PARAMS, "exact")
    assert result.nonzero_params == PARAMS - 18 - 4  # a fresh BatchNorm has beta 0
    assert result.bytes_by_dtype == {"float32": 4 * PARAMS}
    assert result.buffer_bytes == 4 * (4 + 4) + 8
    assert result.format == "torchscript"
    assert {layer.name: layer.macs for layer in result.layers if layer.macs} == {
        "conv": MACS - 12,
        "head": 12,
    }
    assert before == (seen(tmp_path), dict(os.environ), Path.cwd(), path.read_bytes())


class Writes(nn.Module):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, self.target)
        out: Tensor = self.layer(x)
        return out


class Spins(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while bool((x == x).all()):
            x = x + 1
        return x


def test_a_script_cannot_write_or_run_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "CANARY"
    evil = script(Writes(str(canary)), tmp_path / "evil.pt")
    assert compressor.audit(evil, run=True, input_shape=(1, 2)).macs == 4
    assert not canary.exists() or canary.stat().st_size == 0  # a kernel without Landlock
    endless = script(Spins(), tmp_path / "endless.pt")
    monkeypatch.setattr(child_process, "LIMITS", Limits(seconds=5))
    with pytest.raises(ModelFileError, match=r"endless\.pt: .*(5 s|over a limit)"):
        compressor.audit(endless, run=True, input_shape=(1, 2))


def test_a_factory(package: Path) -> None:
    with pytest.raises(UsageError, match="run only when asked for"):
        compressor.audit("mynets:build", input_shape=(1, 2, 6, 6))
    with pytest.raises(UsageError, match="give input_shape"):
        compressor.audit("mynets:build", run=True)
    before = seen(package)
    wide = "mynets:build(width=8, bias=False)"
    result = compressor.audit(wide, run=True, input_shape=[(1, 2, 5, 5)])
    assert (result.macs, result.params) == (9 * 144, 144)
    assert seen(package) == before  # no bytecode either


@pytest.mark.parametrize(
    ("factory", "match"),
    [
        # SIGSEGV: what an abort ends in for the first process of a namespace
        ("crash", "SIG(ABRT|SEGV): it crashed or went over a limit"),
        ("flood", "answered with more than 2,000,000 B"),
        ("eat", "memory limit"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)  # a process with torch each
            for case in (
                ("nothing", "AttributeError.*nothing"),
                ("number", "returned a int, expected a torch module"),
                ("leave", "ended without an answer"),
                ("interrupt", "SystemExit"),
                ("forge", "no graph"),
                ("build(width='a')", "TypeError"),
            )
        ),
    ],
)
def test_a_bad_factory_is_one_clear_line(
    factory: str, match: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "LIMITS", Limits(reply_bytes=2_000_000))
    with pytest.raises(MeasureError, match=match) as caught:
        compressor.audit(f"mynets:{factory}", run=True, input_shape=(1, 2, 6, 6))
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert seen(package) == ["mynets.py"]


@pytest.mark.parametrize("factory", ["sleep", pytest.param("spin", marks=pytest.mark.slow)])
def test_a_factory_that_hangs_is_stopped(
    factory: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "LIMITS", Limits(seconds=5))
    with pytest.raises(ModelFileError, match=r"5 s|over a limit"):
        compressor.audit(f"mynets:{factory}", run=True, input_shape=(1, 2, 6, 6))


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces and /proc are Linux")
def test_a_factory_that_forks_leaves_nothing_behind(package: Path) -> None:
    def mine() -> set[str]:
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"compressor.audit.readers.child_main" in line:
                found.add(folder.name)
        return found

    before = mine()
    with pytest.raises(ModelFileError, match="ended without an answer"):
        compressor.audit("mynets:fork", run=True, input_shape=(1, 2, 6, 6))
    deadline = time.monotonic() + 5
    while mine() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not mine() - before


@pytest.mark.slow
def test_a_factory_sees_no_secrets_and_writes_nothing(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2")
    with pytest.raises(MeasureError, match=r"nothing in .*compressor-audit-"):
        compressor.audit("mynets:look", run=True, input_shape=(1, 2, 6, 6))
    with pytest.raises(MeasureError):
        compressor.audit("mynets:write", run=True, input_shape=(1, 2, 6, 6))
    canary = package / "CANARY"
    assert not canary.exists() or canary.stat().st_size == 0  # a kernel without Landlock
    with pytest.raises(MeasureError, match="Error"):
        compressor.audit("mynets:call", run=True, input_shape=(1, 2, 6, 6))


@pytest.mark.parametrize("text", ["mynets:build(3)", "mynets:build(width=open('x'))", "m:b(a=(1)"])
def test_arguments_are_plain_or_refused(text: str, package: Path) -> None:
    with pytest.raises(UsageError, match="plain keyword arguments"):
        compressor.audit(text, run=True, input_shape=(1, 2, 6, 6))


def answer(**changes: Any) -> dict[str, Any]:
    row = ["w", [2, 3], "float32", "parameter", 6, 5, 5, 24, "w"]
    graph = {
        "version": 1,
        "modules": [{"path": "", "type": "X", "leaf": True, "parameters": ["w"]}],
        "calls": [[0, [1, 2]]],
        "parameters": {"w": [[2, 3], "float32"]},
        "buffers": {},
        "constants": {},
        "unsaved": [],
        "frozen": [],
        "storage_bytes": [],
        "values": [],
        "inputs": [],
        "outputs": [],
        "ops": [],
    }
    return {"graph": graph, "tensors": [row], **changes}


def test_an_answer_is_checked_like_a_foreign_file() -> None:
    good = child._inventory(answer(), "x", "torchscript")
    assert good.tensors[0].nonzero == 5
    for row in (
        7,
        ["w", [2, 3], "float32", "parameter", 6, 7, 7, 24, "w"],  # more non-zeros than elements
        ["w", [2, -3], "float32", "parameter", 6, 5, 5, 24, "w"],
        ["w\x1b[2J", [2, 3], "float32", "parameter", 6, 5, 5, 24, "w"],
        ["w", [2, 3], "float32", "secret", 6, 5, 5, 24, "w"],
        ["w", [2, 3], "float32", "parameter", 6, 5, 5, "24", "w"],
    ):
        with pytest.raises(ModelFileError, match="what is no tensor"):
            child._inventory(answer(tensors=[row]), "x", "torchscript")
    for changes in ({"graph": None}, {"graph": {"version": 1}}, {"tensors": None}):
        with pytest.raises(ModelFileError, match="answered with no"):
            child._inventory(answer(**changes), "x", "torchscript")


def test_an_error_of_the_child_is_one_printable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(*_: Any) -> bytes:
        return b'{"error": "bad\\u001b[2J\\n::error::x", "kind": "measure"}\n'

    monkeypatch.setattr(child_process, "_run", reply)
    with pytest.raises(MeasureError) as caught:
        compressor.audit("a:b", run=True, input_shape=(1, 2))
    assert str(caught.value).isprintable()
    for data in (b"", b"[" * 100_000, b"7\n", b"\xff\n"):
        monkeypatch.setattr(child_process, "_run", lambda *_, data=data: data)
        with pytest.raises(ModelFileError, match="no answer that can be read"):
            compressor.audit("a:b", run=True, input_shape=(1, 2))
