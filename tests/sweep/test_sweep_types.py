"""Methods and number types in one sweep: what is shared, what is counted, what is shown."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import in_process
import pytest
import torch
import typer
from tiny_data import write_tiny
from typer.testing import Result

from compressor import artifact
from compressor.audit import audit
from compressor.cli.sweep import sweep
from compressor.errors import UnknownNameError, UsageError
from compressor.sweep.plan import METHODS, QUANTIZERS, Grid, build_plan, parse_names
from compressor.sweep.preview import step_cost

app = typer.Typer()
app.command("sweep")(sweep)

QUICK = ["--epochs", "1", "--finetune-epochs", "2", "--batch-size", "8", "--workers", "0"]
METHOD = ["--method", "slimming,l1,unstructured", "--prune", "0.5", "--teacher", "self"]
invoke = partial(in_process.invoke, app)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("types")
    write_tiny(root / "data")
    return root


def start(tiny: Path, *more: object) -> Result:
    data = ["--data", tiny / "data", "--cache", tiny / "cache", "--out", tiny / "run"]
    return invoke(*data, *QUICK, *METHOD, *more)


@pytest.fixture(scope="module")
def run(tiny: Path) -> tuple[Path, Result]:
    """Three methods at one ratio, each as float32 and float16."""
    return tiny / "run", start(tiny, "--quantize", "none,fp16")


def record(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "points" / f"{name}.json").read_text())
    return found


def test_every_method_in_every_type(run: tuple[Path, Result]) -> None:
    folder, result = run
    assert result.exit_code == 0, result.output
    floats = ["dense", "slimming-0.50", "l1-0.50", "unstructured-0.50"]
    wanted = {f"f1-s0-{name}{end}" for name in floats for end in ("", "-fp16")}
    assert {path.stem for path in (folder / "points").glob("*.json")} == wanted


def test_the_float_network_of_a_ratio_is_made_once(run: tuple[Path, Result]) -> None:
    folder, _ = run
    for name in ("dense", "slimming-0.50", "l1-0.50", "unstructured-0.50"):
        single = artifact.load(folder / "models" / f"f1-s0-{name}.pt").state_dict
        half = artifact.load(folder / "models" / f"f1-s0-{name}-fp16.pt").state_dict
        assert single.keys() == half.keys()
        for key, tensor in single.items():
            kind = torch.float16 if tensor.is_floating_point() else tensor.dtype
            assert torch.equal(tensor.to(kind), half[key])


def test_bytes_are_those_of_the_written_file(run: tuple[Path, Result]) -> None:
    folder, _ = run
    for path in (folder / "models").glob("*.pt"):
        found, counted = record(folder, path.stem), audit(path)
        half = path.stem.endswith("-fp16")
        assert found["bytes_stored"] == counted.param_bytes == counted.params * (2 if half else 4)
        assert found["stored_type"] == ("float16" if half else "float32")
        assert (found["params"], found["nonzero_params"]) == (
            counted.params,
            counted.nonzero_params,
        )


def test_unstructured_zeros_stay_through_fine_tuning_and_cast(run: tuple[Path, Result]) -> None:
    """Half of the weights of convolutions and linear layers are zero; nothing is removed."""
    folder, _ = run
    dense = record(folder, "f1-s0-dense")
    for name in ("f1-s0-unstructured-0.50", "f1-s0-unstructured-0.50-fp16"):
        found = record(folder, name)
        assert found["params"] == dense["params"]
        tensors = artifact.load(folder / "models" / f"{name}.pt").state_dict
        weights = [t for n, t in tensors.items() if n.endswith("weight") and t.dim() > 1]
        zeros = sum(int((t == 0).sum()) for t in weights)
        assert zeros / sum(t.numel() for t in weights) == pytest.approx(0.5, abs=0.01)
        assert found["prune_by"] == "weights"


def test_methods_remove_different_channels(run: tuple[Path, Result]) -> None:
    folder, _ = run
    gamma, l1 = (record(folder, f"f1-s0-{m}-0.50") for m in ("slimming", "l1"))
    assert gamma["kept_channels"] != l1["kept_channels"]
    assert gamma["kept_channels"].keys() == l1["kept_channels"].keys()


def test_the_teacher_is_in_the_history(run: tuple[Path, Result]) -> None:
    folder, _ = run
    steps = artifact.load(folder / "models" / "f1-s0-l1-0.50.pt").history
    assert [step["step"] for step in steps] == ["train", "l1", "reestimate", "finetune"]
    assert steps[-1]["teacher"] == "dense"


def test_results_compare_a_type_with_its_own_float(run: tuple[Path, Result]) -> None:
    folder, result = run
    half = record(folder, "f1-s0-l1-0.50-fp16")
    single = record(folder, "f1-s0-l1-0.50")
    assert half["float"] == single["after_finetune"]
    assert half["measured_in"] == "torch"
    groups = json.loads((folder / "results.json").read_text())["summary"]["groups"]
    group = next(g for g in groups if (g["method"], g["quantize"]) == ("l1", "fp16"))
    change = half["after_finetune"]["accuracy"] - single["after_finetune"]["accuracy"]
    assert group["accuracy_change_to_float"]["mean"] == pytest.approx(change)
    assert "fp16 against float32 of the same network" in result.stdout
    assert [
        c["method"] for c in json.loads((folder / "results.json").read_text())["summary"]["curves"]
    ] == ["l1", "slimming", "unstructured"]


def test_second_start_adds_a_method_and_repeats_nothing(
    run: tuple[Path, Result], tiny: Path
) -> None:
    folder, _ = run
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "points").glob("*.json")}
    result = start(tiny, "--quantize", "fp16", "--method", "slimming,random")
    assert result.exit_code == 0, result.output
    after = {p.name: p.stat().st_mtime_ns for p in (folder / "points").glob("*.json")}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {
        "f1-s0-random-0.50.json",
        "f1-s0-random-0.50-fp16.json",
    }


def test_int8_from_the_networks_that_are_there(run: tuple[Path, Result], tiny: Path) -> None:
    """Two more types of two networks: nothing float is made again, integers are what is counted."""
    folder, _ = run
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "points").glob("*.json")}
    types = ["--quantize", "int8-ptq,int8-qat", "--qat-epochs", "1"]
    result = start(tiny, *types, "--method", "slimming")
    assert result.exit_code == 0, result.output
    after = {p.name: p.stat().st_mtime_ns for p in (folder / "points").glob("*.json")}
    assert {name: after[name] for name in before} == before
    for name in ("dense", "slimming-0.50"):
        single = record(folder, f"f1-s0-{name}")
        for kind in ("int8-ptq", "int8-qat"):
            found = record(folder, f"f1-s0-{name}-{kind}")
            assert (found["stored_type"], found["measured_in"]) == ("int8", "onnxruntime")
            assert found["float"] == single["after_finetune"]
            stored = artifact.load(folder / "models" / f"f1-s0-{name}-{kind}.pt")
            weights = [t for t in stored.state_dict.values() if t.dtype == torch.int8]
            biases = [t for t in stored.state_dict.values() if t.dtype == torch.int32]
            counted = sum(t.numel() for t in weights) + 4 * sum(t.numel() for t in biases)
            assert found["bytes_stored"] == found["bytes_int8"] == counted
            # BatchNorm is folded: one bias an output channel for its scale and shift
            assert found["params"] < single["params"]
            assert found["sqnr_db"]
    assert record(folder, "f1-s0-dense-int8-qat")["finetune_settings"]["epochs"] == 1
    assert "int8-qat against float32 of the same network" in result.stdout
    assert "Every method and number type" in (folder / "report.html").read_text()


def test_dry_run_names_every_job(tiny: Path) -> None:
    types = ["--quantize", "fp16,int8-qat", "--qat-epochs", "3", "--dry-run"]
    data = ["--data", tiny / "data", "--cache", tiny / "cache", "--out", tiny / "none"]
    result = invoke(*data, *QUICK, "--method", "l2", "--prune", "0.5", *types)
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in result.stdout.splitlines()}
    assert lines["f1-s0-dense"] == "1 epochs"
    assert lines["f1-s0-l2-0.50"] == "2 epochs"
    assert lines["f1-s0-l2-0.50-fp16"] == lines["f1-s0-dense-fp16"] == "no training"
    assert lines["f1-s0-l2-0.50-int8-qat"] == "3 epochs"
    assert "6 jobs, 0 finished, 9 epochs to train" in result.stdout  # 1 + 2 + 3 + 3


def test_cost_of_a_step_by_hand() -> None:
    plan = {job.id: job for job in jobs(methods=("l1", "unstructured"), quantize=("int8-qat",))}
    dense, l1, zeros = (plan[f"f1-s0-{name}"] for name in ("dense", "l1-0.60", "unstructured-0.60"))
    qat = plan["f1-s0-l1-0.60-int8-qat"]
    assert [step_cost(job, "") for job in (dense, l1, zeros, qat)] == pytest.approx(
        [1, 0.4, 1, 0.4 * 1.25]  # zeros save no time
    )
    # the teacher is the dense network: a forward pass is a third of its step
    assert [step_cost(job, "self") for job in (dense, l1, qat)] == pytest.approx(
        [1, 0.4 + 1 / 3, 0.5 + 1 / 3]
    )


def jobs(**grid: Any) -> tuple[Any, ...]:
    whole = Grid((1,), (0,), (0.5, 0.6), **grid)
    return build_plan(whole, dense={"a": 1}, point={"b": 2}, quantize={"int8-qat": {"epochs": 3}})


def test_plan_shares_floats() -> None:
    """One dense, two methods at two ratios; two types of each of the five: 1 + 4 + 10 jobs."""
    plan = jobs(methods=("slimming", "l1"), quantize=("none", "fp16", "int8-qat"))
    assert len(plan) == 15
    ids = [job.id for job in plan]
    for job in plan:
        assert all(ids.index(need) < ids.index(job.id) for need in job.needs)
        if job.kind == "quantized":
            assert job.needs == (job.id.removesuffix(f"-{job.quantize}"),)


def test_plan_without_types_is_as_it_was() -> None:
    """Hashes and ids of runs made before there were methods and types."""
    plan = jobs()
    assert [job.id for job in plan] == ["f1-s0-dense", "f1-s0-slimming-0.50", "f1-s0-slimming-0.60"]
    assert jobs(quantize=("none",)) == plan
    typed = jobs(quantize=("fp16", "int8-ptq"))
    assert [job for job in typed if job.kind != "quantized"] == list(plan)


def test_a_type_is_decided_by_its_float_and_its_settings() -> None:
    def hashes(**changes: Any) -> dict[str, str]:
        given = {"dense": {"a": 1}, "point": {"b": 2}, "quantize": {"int8-qat": {"epochs": 3}}}
        grid = Grid((1,), (0,), (0.5,), quantize=("fp16", "int8-qat"))
        return {job.id: job.settings_hash for job in build_plan(grid, **{**given, **changes})}

    base = hashes()
    other = hashes(quantize={"int8-qat": {"epochs": 4}})
    assert {name for name in base if base[name] != other[name]} == {
        "f1-s0-dense-int8-qat",
        "f1-s0-slimming-0.50-int8-qat",
    }
    assert not set(base.values()) & set(hashes(dense={"a": 2}).values())


def test_unstructured_has_no_target() -> None:
    with pytest.raises(UsageError, match="--target-params removes channels"):
        jobs(methods=("unstructured",), target_params=100)


def test_names() -> None:
    assert parse_names("l1, slimming", "--method", METHODS) == ("slimming", "l1")
    assert parse_names("int8-qat,none", "--quantize", QUANTIZERS) == ("none", "int8-qat")
    with pytest.raises(UnknownNameError, match=r"--quantize.*int8-qta.*int8-qat"):
        parse_names("int8-qta", "--quantize", QUANTIZERS)
    with pytest.raises(UsageError, match="twice"):
        parse_names("l1,l1", "--method", METHODS)
