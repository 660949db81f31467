"""Packages of every year: the right one passes, each broken one names file, line and fix."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packages import (
    FORMS,
    ROWS,
    Made,
    Make,
    config,
    errors,
    output_rows,
    output_text,
    run,
    write_model,
)

from compressor.errors import UsageError
from compressor.gate.config import GateConfig
from compressor.gate.run import gate

YEARS = sorted(FORMS)


def zipped(made: Made, to: Path, top: str = "") -> Path:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(made.root.rglob("*")):
            if file.is_file():
                archive.write(file, top + file.relative_to(made.root).as_posix())
    return to


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("layout", ["root", "task1", "label", "zip"])
def test_a_right_package_passes_in_every_layout(
    year: int, layout: str, make: Make, tmp_path: Path
) -> None:
    made = make(year)
    path = {
        "root": made.root,
        "task1": made.root / "task1",
        "label": made.folder,
        "zip": tmp_path / "sent.zip",
    }[layout]
    if layout == "zip":
        zipped(made, path)
    record = run(made, path)
    assert errors(record) == []
    assert record["status"] == "pass" and record["exit_code"] == 0
    assert record["targets"][0]["labels"] == [made.label]
    made_checks = {check["id"] for check in record["checks"]}
    assert {"declared", "declared-limit", "output-argmax", "meta-authors", "label"} <= made_checks


def test_a_zip_gives_the_same_figures_as_the_folder(make: Make, tmp_path: Path) -> None:
    made = make(2023)
    folder = run(made)
    archive = run(made, zipped(made, tmp_path / "sent.zip"))
    assert [f["sha256"] for f in folder["files"]] == [f["sha256"] for f in archive["files"]]
    assert [c["value"] for c in folder["checks"]] == [c["value"] for c in archive["checks"]]
    assert archive["models"][0]["file"].endswith(f"sent.zip/task1/{made.label}/model.pt")


Break = Callable[[Made], "int | None"]


def _without_split(made: Made) -> int:
    lines = made.meta.read_text(encoding="utf-8").splitlines()
    at = lines.index("    split_100:")
    made.meta.write_text("\n".join(lines[:at]) + "\n", encoding="utf-8")
    return made.line("split_5:")


def _list_for_authors(made: Made) -> int:
    lines = made.meta.read_text(encoding="utf-8").splitlines()
    at, end = lines.index("  authors:"), lines.index("system:")
    lines[at:end] = ["  authors: Irene"]
    made.meta.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return at + 1


META: dict[str, tuple[int, Break, str, str]] = {
    # year, what is broken (returns the line), check, a part of the message
    "label": (2023, lambda m: m.edit("label:", "label: Doe_INST_task1_1"), "meta-label",
              "submission.label is 'Doe_INST_task1_1'"),
    "no name": (2023, lambda m: m.edit("name:", None) and 3, "meta-fields",
                "submission.name is missing"),
    "empty name": (2022, lambda m: m.edit("name:", "name: !!null"), "meta-fields",
                   "submission.name: expected a value, found empty"),
    "long abbreviation": (2021, lambda m: m.edit("abbreviation:", "abbreviation: ElevenChars"),
                          "meta-abbreviation", "has 11 characters, at most 10"),
    "no corresponding author": (2024, lambda m: m.edit("corresponding:", None) and 6,
                                "meta-authors", "0 corresponding authors (none)"),
    "two corresponding authors": (
        2024, lambda m: m.edit("email: jane", "email: j@example.org\n      corresponding: yes") + 1,
        "meta-authors", "2 corresponding authors (lines 10, 19)"),
    "corresponding is a word": (2020, lambda m: m.edit("corresponding:", "corresponding: maybe"),
                                "meta-authors", "corresponding is 'maybe', allowed true or false"),
    "address": (2025, lambda m: m.edit("email:", "email: irene at example.org"), "meta-authors",
                "'irene at example.org' is no address"),
    "no first name": (2023, lambda m: m.edit("firstname:", None) and 7, "meta-authors",
                      "submission.authors[0].firstname is missing"),
    "no institute": (2023, lambda m: m.edit("institute:", None) and 12, "meta-authors",
                     "submission.authors[0].affiliation.institute is missing"),
    "no framework": (2023, lambda m: m.edit("framework:", None) and m.line("input_sampling_rate:"),
                     "meta-fields", "system.description.framework is missing"),
    "no split_adaptations": (
        2024, lambda m: m.edit("split_adaptations:", None) and m.line("input_sampling_rate:"),
        "meta-fields", "system.description.split_adaptations is missing"),
    "no memory_use": (2022, lambda m: m.edit("memory_use:", None) and m.line("total_parameters:"),
                      "meta-complexity", "system.complexity.memory_use is missing"),
    "no model_size": (2020, lambda m: m.edit("model_size:", None) and m.line("total_parameters:"),
                      "meta-complexity", "system.complexity.model_size is missing"),
    "no macs": (2025, lambda m: m.edit("macs:", None) and m.line("total_model_size:"),
                "meta-complexity", "system.complexity.macs is missing"),
    "macs in words": (2024, lambda m: m.edit("macs:", "macs: few"), "meta-complexity",
                      "system.complexity.macs: 'few' is not a number"),
    "size with a wrong unit": (
        2024, lambda m: m.edit("total_model_size:", "total_model_size: 360 apples"),
        "meta-complexity", "'360 apples' has the unit 'apples', allowed none or B, kB, KiB"),
    "parameters": (2023, lambda m: m.edit("total_parameters:", "total_parameters: 91"), "declared",
                   "system.complexity.total_parameters is '91', measured 90 parameters"),
    "non-zero": (2023, lambda m: m.edit("total_parameters_non_zero:",
                                        "total_parameters_non_zero: 90"), "declared",
                 "total_parameters_non_zero is '90', measured 89 parameters"),
    "memory": (2022, lambda m: m.edit("memory_use:", "memory_use: 361"), "declared",
               "system.complexity.memory_use is '361', measured 360 B"),
    # float32 would be 360 B; the figure of float16 was declared
    "model size": (2025, lambda m: m.edit("total_model_size:", "total_model_size: 180 B"),
                   "declared", "total_model_size is '180 B', measured 360 B"),
    # 54 non-zero parameters of 4 B: 216 B = 0.2109 KB
    "model size in KB": (2020, lambda m: m.edit("model_size:", "model_size: 0.25"), "declared",
                         "model_size is '0.25', measured 216 B"),
    "macs": (2023, lambda m: m.edit("macs:", "macs: 2600"), "declared",
             "macs is '2600', measured 2,610 MACs or 2,344 MACs"),
    "declared over the limit": (
        2024, lambda m: m.edit("macs:", "macs: 31 M"), "declared-limit",
        "system.complexity.macs declares '31 M', the limit of 2024 is 30,000,000 MACs"),
    "no energy": (2023, lambda m: m.edit("baseline_inference:", None) and m.line("training:"),
                  "meta-energy", "system.energy_consumption.baseline_inference is missing"),
    "energy in words": (2023, lambda m: m.edit("training:", "training: little"), "meta-energy",
                        "system.energy_consumption.training is 'little', expected kWh"),
    "negative energy": (2023, lambda m: m.edit("inference:", "inference: -1"), "meta-energy",
                        "is '-1', expected kWh as a number of 0 or more"),
    "todo": (2023, lambda m: m.edit("name:", "name: TODO"), "meta-todo",
             "submission.name is still to be written (TODO)"),
    "no results of a class": (2023, lambda m: m.edit("bus:", None) and m.line("airport:"),
                              "meta-results", "class_wise.bus is missing"),
    "no results of a split": (2024, _without_split, "meta-results",
                              "results.development_dataset.split_100 is missing"),
    "accuracy over 100": (2021, lambda m: m.edit("accuracy:", "accuracy: 429"), "meta-results",
                          "overall.accuracy is '429', expected 0 to 100"),
    "no source_code": (2025, lambda m: m.edit("source_code:", None) and m.line("description:"),
                       "meta-fields", "system.source_code is missing"),
    "dataset without url": (2023, lambda m: m.edit("url:", None) and m.line("- name: AudioSet"),
                            "meta-fields", "system.external_datasets[0].url is missing"),
    "subsystems": (2023, lambda m: m.edit("ensemble_method_subsystem_count:",
                                          "ensemble_method_subsystem_count: few"), "meta-fields",
                   "ensemble_method_subsystem_count is 'few', expected a whole number"),
    "tab": (2023, lambda m: m.edit("name:", "name:\tx: y"), "meta-yaml", "not valid YAML"),
    "double key": (2023, lambda m: m.edit("name:", "name: a\n  name: b") + 1, "meta-yaml",
                   "the key 'name' stands twice (first in line 4)"),
    "python tag": (2023, lambda m: m.edit("name:", "name: !!python/name:os.system x"),
                   "meta-yaml", "the tag 'tag:yaml.org,2002:python/name:os.system' is not allowed"),
    "no system block": (2023, lambda m: m.edit("system:", "sistem:") and 2, "meta-fields",
                        "system is missing"),
    "a list for a block": (2023, _list_for_authors, "meta-fields",
                           "submission.authors: expected a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", META)
def test_a_broken_meta_yaml_is_named_with_its_line(name: str, make: Make) -> None:
    year, damage, check, message = META[name]
    made = make(year)
    line = damage(made)
    record = run(made)
    found = errors(record)
    assert record["exit_code"] == 1
    mine = [f for f in found if f[0] == check and message in f[3]]
    assert mine, found
    assert mine[0][1] == made.meta.name
    assert mine[0][2] == line, f"line {mine[0][2]}, expected {line}: {mine[0][3]}"
    assert all(f["fix"] for f in record["findings"])


def test_all_problems_in_one_run(make: Make) -> None:
    made = make(2023)
    made.edit("abbreviation:", "abbreviation: ElevenChars")
    made.edit("macs:", "macs: 2600")
    made.edit("training:", "training: little")
    rows = output_rows(made.form)
    rows[6][1] = "beach"
    made.write_output(output_text(made.form, rows))
    found = {f[0] for f in errors(run(made))}
    assert found == {"meta-abbreviation", "declared", "meta-energy", "output-labels"}


@pytest.mark.parametrize("missing", range(5))
def test_2024_asks_for_five_output_files(missing: int, make: Make) -> None:
    made = make(2024)
    assert [path.name.split(".output.")[1] for path in made.outputs] == [
        *("split_5.csv", "split_10.csv", "split_25.csv", "split_50.csv", "split_100.csv")
    ]
    made.outputs[missing].unlink()
    (found,) = errors(run(made))
    assert found[0] == "file-names"
    assert f"{made.label}.{made.form.outputs[missing]}" in found[3]


LABELS = {
    "Martin_INST_task1_5": "the number at its end is '5', allowed 1 to 4",
    "Martin_INST_task1_0": "the number at its end is '0', allowed 1 to 4",
    "Martin_INST_task1a_1": "the third part is 'task1a', 2023 asks for 'task1'",
    "Martín_INST_task1_1": "the last name 'Martín' may hold only the letters",
    "Martin_IN_ST_task1_1": "has 5 parts between underscores, expected 4",
}


@pytest.mark.parametrize("label", LABELS)
def test_labels(label: str, make: Make) -> None:
    found = errors(run(make(2023, label)))
    assert [f[0] for f in found] == ["label"]
    assert LABELS[label] in found[0][3]
    assert found[0][1] == label


def test_each_year_has_its_task_in_the_label(make: Make) -> None:
    assert "2020 asks for 'task1b'" in errors(run(make(2020, "Doe_INST_task1a_1")))[0][3]
    assert "2021 asks for 'task1a'" in errors(run(make(2021, "Doe_INST_task1_1", "b")))[0][3]


def test_four_systems_a_team(make: Make) -> None:
    for index in range(1, 5):
        made = make(2023, f"Doe_INST_task1_{index}")
    make(2023, "Roe_INST_task1_1")
    assert errors(run(made)) == []
    made = make(2023, "Doe_INST_task1_5")
    found = errors(run(made))
    assert [f[0] for f in found] == ["systems-count", "label"]
    assert found[0][3].startswith("5 systems of one team")


def test_file_names(make: Make) -> None:
    made = make(2023)
    made.meta.rename(made.folder / "meta.yaml")
    made.outputs[0].rename(made.folder / "Martin_INST_task1_1.output.txt")
    (made.folder / "second.output.csv").write_text("x")
    found = errors(run(made))
    assert [f[0] for f in found] == ["file-names"] * 3
    assert "meta.yaml is named 'meta.yaml', expected 'Martin_INST_task1_1.meta.yaml'" in found[0][3]
    assert "expected 'Martin_INST_task1_1.output.csv'" in found[1][3]
    assert "'second.output.csv' is one output file too many" in found[2][3]


def test_missing_files(make: Make) -> None:
    made = make(2023)
    made.meta.unlink()
    made.outputs[0].unlink()
    found = errors(run(made))
    assert [f[0] for f in found] == ["file-names", "file-names"]
    assert "the meta.yaml 'Martin_INST_task1_1.meta.yaml' is missing" in found[0][3]


def test_zip_layout(make: Make, tmp_path: Path) -> None:
    made = make(2023)
    flat = tmp_path / "flat.zip"
    with zipfile.ZipFile(flat, "w") as archive:
        for file in made.folder.iterdir():
            archive.write(file, f"{made.label}/{file.name}")
    found = errors(run(made, flat))
    assert [f[0] for f in found] == ["package-layout"]
    assert "the label folder stands in 'the top'" in found[0][3]
    # a folder around task1, and what macOS adds: tolerated with a warning
    record = run(made, zipped(made, tmp_path / "wrapped.zip", "mine/"))
    assert record["exit_code"] == 0
    assert [f["id"] for f in record["findings"]] == ["package-extra"]
    mac = zipped(made, tmp_path / "mac.zip")
    with zipfile.ZipFile(mac, "a") as archive:
        archive.writestr("__MACOSX/task1/._x", "x")
    record = run(made, mac)
    assert record["exit_code"] == 0 and record["counts"]["warnings"] == 1


def test_a_hostile_zip_is_refused(tmp_path: Path, make: Make) -> None:
    made = make(2023)
    path = tmp_path / "sent.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../task1/Doe_INST_task1_1/x.meta.yaml", "x")
    record = run(made, path)
    assert record["exit_code"] == 3
    assert "points outside the archive" in record["findings"][0]["message"]
    path.write_bytes(zipped(made, tmp_path / "whole.zip").read_bytes()[:-30])
    assert run(made, path)["exit_code"] == 3


def test_symbolic_links_are_not_followed(make: Make, tmp_path: Path) -> None:
    made = make(2023)
    secret = tmp_path / "secret.txt"
    secret.write_text("password\n")
    made.outputs[0].unlink()
    made.outputs[0].symlink_to(secret)
    record = run(made)
    assert [f["id"] for f in record["findings"]] == ["package-layout", "file-names"]
    assert "password" not in str(record)


def test_a_package_without_its_model_is_not_measured(make: Make, models: dict[int, Path]) -> None:
    made = make(2023, model=False)
    record = run(made)
    assert record["exit_code"] == 3
    assert [f["id"] for f in record["findings"]] == ["model-missing"]
    # an organiser who has no models lowers the level; declared figures are still held to limits
    assert run(made, levels={"model-missing": "off"})["exit_code"] == 0
    line = made.edit("memory_use:", "memory_use: 129 kB")
    found = errors(run(made, levels={"model-missing": "off"}))
    assert [(f[0], f[2]) for f in found] == [("declared-limit", line)]
    made.edit("memory_use:", "memory_use: 360")
    assert gate([made.root], config(2023), model=models[10])["exit_code"] == 0


def test_the_model_may_stand_beside_the_packages(make: Make, models: dict[int, Path]) -> None:
    made = make(2023, model=False)
    beside = made.root.parent / "weights" / f"{made.label}.pt"
    beside.parent.mkdir()
    shutil.copy(models[10], beside)
    record = run(made, model="weights/{label}.pt", folder=made.root.parent)
    assert errors(record) == []
    assert record["models"][0]["audit"]["params"] == 90


def test_an_ensemble_adds_up(make: Make, models: dict[int, Path]) -> None:
    made = make(2023)
    shutil.copy(models[10], made.folder / "second.pt")
    found = errors(run(made))
    assert {f[0] for f in found} == {"declared"}
    assert any("2 model files, ensemble_method_subsystem_count says nothing" in f[3] for f in found)
    assert any("total_parameters is '90', measured 180 parameters" in f[3] for f in found)
    made.edit("ensemble_method", "ensemble_method_subsystem_count: 2")
    # 2 * 90, 2 * 89, 2 * 360 and 2 * 2,610
    for key, value in (
        ("total_parameters:", 180),
        ("total_parameters_non_zero:", 178),
        ("memory_use:", 720),
        ("total_model_size:", 720),
        ("macs:", 5220),
    ):
        made.edit(key, f"{key} {value}")
    assert errors(run(made)) == []


@pytest.mark.parametrize("year", [2024, 2025])
def test_a_model_a_split_or_device_is_not_added_up(
    year: int, make: Make, models: dict[int, Path]
) -> None:
    made = make(year)
    shutil.copy(models[10], made.folder / "second.pt")
    assert errors(run(made)) == []
    # the largest counts: half the bytes beside it change nothing
    write_model(made.folder / "third.pt", half=True)
    assert errors(run(made)) == []


def test_figures_may_be_rounded_and_carry_units(make: Make) -> None:
    made = make(2023)
    made.edit("memory_use:", "memory_use: 0.36 kB")
    made.edit("total_model_size:", "total_model_size: 0.352 KiB")  # 360 / 1024 = 0.3516
    made.edit("macs:", 'macs: "2.61 k"')
    assert errors(run(made)) == []
    made.edit("memory_use:", "memory_use: 0.38 kB")
    assert [f[0] for f in errors(run(made))] == ["declared"]
    # a tenth: 342 to 396 B
    assert errors(run(made, tolerance=0.1)) == []


def test_the_strict_count_passes_with_a_warning(make: Make) -> None:
    made = make(2023)
    line = made.edit("macs:", "macs: 2344")
    record = run(made)
    assert record["exit_code"] == 0
    (finding,) = record["findings"]
    assert (finding["id"], finding["line"]) == ("declared-reading", line)
    assert finding["fix"] == "write `macs: 2610`"


def test_a_broken_model_in_a_package(make: Make) -> None:
    made = make(2023)
    made.model.write_bytes(b"no model at all, but a text")
    record = run(made)
    assert record["exit_code"] == 3
    (finding,) = record["findings"]
    assert finding["id"] == "model-file" and "a text file" in finding["message"]


def test_the_year_of_a_package(make: Make) -> None:
    made = make(2020)
    # the label of task1b can only be of 2020
    assert gate([made.root], GateConfig(rows=ROWS))["settings"]["years"] == [2020]
    with pytest.raises(UsageError, match="give --year"):
        gate([make(2023, root="b").root], GateConfig(rows=ROWS))
    with pytest.raises(UsageError, match="belongs to one year, found 2022, 2023"):
        gate([made.root], GateConfig(years=(2022, 2023)))


def test_a_folder_that_is_not_named_as_its_label(make: Make, tmp_path: Path) -> None:
    made = make(2023)
    other = tmp_path / "submission"
    shutil.move(made.folder, other)
    record = run(made, other)  # the files tell the label
    assert record["exit_code"] == 0
    assert [f["id"] for f in record["findings"]] == ["package-extra"]
    assert record["targets"][0]["labels"] == [made.label]
    inside = tmp_path / "sent" / "task1"
    inside.mkdir(parents=True)
    shutil.move(other, inside / "submission")
    (found,) = errors(run(made, inside.parent))
    assert found[0] == "package-layout"
    assert "the folder is named 'submission', its files 'Martin_INST_task1_1'" in found[3]


def test_the_form_of_2025_is_marked_as_inferred(make: Make) -> None:
    from reports.gate_formats import render

    assert "Package form: 2025: inferred (I)" in render(run(make(2025)), "text")
    assert "Package form" not in render(run(make(2024, root="b")), "text")


def test_limits_from_third_parties_carry_their_mark(make: Make) -> None:
    record = run(make(2023))  # the MACs limit of 2023 is quoted by third parties
    marks = {check["name"]: check["evidence"] for check in record["checks"] if check["limit"]}
    assert marks["DCASE 2023 Task 1: MACs"] == "S"
    assert marks["DCASE 2023 Task 1: memory"] == "V"
