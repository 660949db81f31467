"""What stands in ci/: pins that agree, scripts that parse, inputs that are never script text."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from compressor.audit.submission.package import MODEL_SUFFIXES

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "ci"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pins(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in found}


def test_light_pins_are_those_of_the_project() -> None:
    light, every = pins(CI / "requirements-gate.txt"), pins(ROOT / "constraints.txt")
    assert {"typer", "pyyaml", "numpy", "jinja2"} <= light.keys()
    assert not {"torch", "pandas", "onnxruntime", "brevitas"} & light.keys()
    assert {name: every.get(name) for name in light} == light


def scripts() -> list[tuple[str, str]]:
    action = read(CI / "action" / "action.yml")
    found = [(f"action, {step['name']}", step["run"]) for step in action["runs"]["steps"]]
    job = read(CI / "gitlab" / "gate.gitlab-ci.yml")["compressor-gate"]
    found.append(("gitlab", "\n".join([*job["before_script"], *job["script"]])))
    files = [CI / "minimal-install", CI / "pre-commit" / "gate", ROOT / ".ci" / "run"]
    return [*found, *((file.name, file.read_text(encoding="utf-8")) for file in files)]


@pytest.mark.parametrize(("name", "script"), scripts(), ids=lambda value: value[:20])
def test_scripts_parse(name: str, script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{name}: {done.stderr}"


def test_the_action_is_composite_and_takes_no_input_as_script() -> None:
    action = read(CI / "action" / "action.yml")
    assert action["runs"]["using"] == "composite"
    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "uses" not in step  # nothing foreign runs, nothing is uploaded
        assert "${{" not in step["run"]
    named = {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]}
    used = {value for step in action["runs"]["steps"] for value in step["env"].values()}
    assert used == named
    assert all("description" in entry for entry in action["inputs"].values())


def test_hooks_name_what_the_gate_reads() -> None:
    hooks = read(ROOT / ".pre-commit-hooks.yaml")
    assert [hook["id"] for hook in hooks] == ["compressor-gate", "compressor-gate-settings"]
    pattern = re.compile(hooks[0]["files"])
    for suffix in MODEL_SUFFIXES - {".ckpt"}:
        assert pattern.search(f"models/a{suffix}"), suffix
    assert not pattern.search("models/a.pt.txt")
    for hook in hooks:
        entry = ROOT / hook["entry"]
        assert entry.is_file() and entry.stat().st_mode & 0o100


def test_docs_show_the_examples_that_are_tested() -> None:
    docs = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    job = (CI / "gitlab" / "gate.gitlab-ci.yml").read_text(encoding="utf-8")
    assert job.partition("\n")[2].strip() in docs
    blocks = re.findall(r"```yaml\n(.*?)```", docs, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        assert yaml.safe_load(block)
