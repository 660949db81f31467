"""Makes submission packages of every year, right in every field, to be broken by the tests.

The network in them is small enough to be counted by hand (`FIGURES`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.audit.submission.forms import FORMS, Form
from compressor.gate.config import GateConfig
from compressor.gate.run import gate

ROWS = 20  # a small evaluation set, set with `rows` in the settings
TASKS = {2020: "task1b", 2021: "task1a", 2022: "task1", 2023: "task1", 2024: "task1", 2025: "task1"}


@dataclass(frozen=True)
class Figures:
    """What `write_model` writes, counted by hand for an input of 1x1x8x8.

    Conv2d(1, 4, 3, padding=1): 4*1*3*3 = 36 weights and 4 biases at 8*8 = 64 positions.
    Linear(4, classes): 4*classes weights and `classes` biases.
    """

    classes: int

    @property
    def params(self) -> int:
        return 36 + 4 + 4 * self.classes + self.classes  # 90 for ten classes, 55 for three

    @property
    def nonzero(self) -> int:
        return self.params - 1  # one weight is zero

    @property
    def bytes(self) -> int:
        return 4 * self.params  # float32: 360 for ten classes

    @property
    def macs(self) -> int:
        return 36 * 64 + 4 * self.classes  # strict: 2,344 for ten classes

    @property
    def macs_official(self) -> int:
        return (36 + 4) * 64 + 5 * self.classes  # with biases, Linear once: 2,610


def write_model(path: Path, classes: int = 10, *, half: bool = False, wide: int = 4) -> Path:
    """Writes the network as one of the project's own files, with its graph."""
    import torch
    from torch import nn

    from compressor.audit.trace import graph_of

    model = nn.Sequential(
        nn.Conv2d(1, wide, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, classes),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
        model[0].weight.view(-1)[0] = 0.0
    if half:
        model = model.half()
    dtype = torch.float16 if half else torch.float32
    tree = {
        "format": "compressor-model",
        "format_version": 1,
        "arch": "tiny",
        "input_shape": (1, 8, 8),
        "state_dict": dict(model.state_dict()),
        "graph": graph_of(model.eval(), torch.zeros((1, 1, 8, 8), dtype=dtype)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tree, path)
    return path


def output_rows(form: Form, rows: int = ROWS) -> list[list[str]]:
    """Rows that are right: row i predicts class i modulo their number, with 0.91 or 0.98."""
    count = len(form.classes)
    made = []
    for index in range(rows):
        best = index % count
        low = 0.01
        values = [low] * count
        values[best] = 1.0 - low * (count - 1)
        made.append([f"{index}.wav", form.classes[best], *(f"{value:.4f}" for value in values)])
    return made


def output_text(form: Form, rows: list[list[str]] | None = None) -> str:
    lines = [list(form.header), *(output_rows(form) if rows is None else rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def complexity(year: int) -> dict[str, object]:
    """The complexity block of a year, as its organisers ask for it."""
    figures = Figures(3 if year == 2020 else 10)
    every: dict[str, object] = {
        "total_parameters": figures.params,
        "total_parameters_non_zero": figures.nonzero,
        # KB of the non-zero parameters: 54 * 4 / 1024 = 0.2109, 89 * 4 / 1024 = 0.3477
        "model_size": f"{4 * figures.nonzero / 1024:.4f}",
        "memory_use": figures.bytes,
        "total_model_size": figures.bytes,
        "macs": figures.macs_official,
    }
    asked = {
        2020: ("total_parameters", "total_parameters_non_zero", "model_size"),
        2021: ("total_parameters", "total_parameters_non_zero", "model_size"),
        2022: ("total_parameters", "total_parameters_non_zero", "memory_use", "macs"),
        2023: (
            *("total_model_size", "total_parameters", "total_parameters_non_zero"),
            *("memory_use", "macs"),
        ),
        2024: ("total_model_size", "total_parameters", "macs"),
        2025: ("total_model_size", "total_parameters", "macs"),
    }
    return {key: every[key] for key in asked[year]}


def meta_lines(year: int, label: str) -> list[str]:
    """A meta.yaml that is right, line by line."""
    form = FORMS[year]
    lines = [
        "# Submission information",
        "submission:",
        f"  label: {label}",
        "  name: Small test system",
        "  abbreviation: Small",
        "  authors:",
        "    - lastname: Martín Morató",
        "      firstname: Irene",
        "      email: irene@example.org",
        "      corresponding: true",
        "      affiliation:",
        "        abbreviation: INST",
        "        institute: Institute of Tests",
        "        department: !!null",
        "        location: Tampere, Finland",
        "    - lastname: Doe",
        "      firstname: Jane",
        "      email: jane.doe@example.org",
        "      affiliation:",
        "        abbreviation: INST",
        "        institute: Institute of Tests",
        "        location: Tampere, Finland",
        "system:",
        "  description:",
    ]
    for key in form.description:
        value = "!!null" if key in {"embeddings", "ensemble_method_subsystem_count"} else "CNN"
        lines.append(f"    {key}: {value}")
    lines.append("  complexity:")
    lines += [f"    {key}: {value}" for key, value in complexity(year).items()]
    if form.energy:
        lines.append("  energy_consumption:")
        lines += [f"    {key}: 0.302" for key in form.energy]
    lines += [
        "  external_datasets:",
        "    - name: AudioSet",
        "      url: https://example.org/audioset",
        "      total_audio_length: !!null",
        "  source_code: !!null",
        "results:",
        "  development_dataset:",
    ]
    for split in form.splits or ("",):
        indent = "    "
        if split:
            lines.append(f"    {split}:")
            indent = "      "
        lines += [f"{indent}overall:", f"{indent}  accuracy: 42.9", f"{indent}  logloss: 1.575"]
        for group, names in (("class_wise", form.classes), ("device_wise", form.devices)):
            if names:
                lines.append(f"{indent}{group}:")
            lines += [f"{indent}  {n}: {{accuracy: 40.0, logloss: 1.5}}" for n in names]
    return lines


@dataclass
class Made:
    """A package on disk, to be changed before it is gated."""

    root: Path
    year: int
    label: str
    rows: int = ROWS
    lines: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.root / "task1" / self.label

    @property
    def meta(self) -> Path:
        return self.folder / f"{self.label}.meta.yaml"

    @property
    def form(self) -> Form:
        return FORMS[self.year]

    @property
    def outputs(self) -> list[Path]:
        return [self.folder / f"{self.label}.{end}" for end in self.form.outputs]

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    def line(self, start: str) -> int:
        """Number, from 1, of the first line of meta.yaml that begins with a text."""
        lines = self.meta.read_text(encoding="utf-8").splitlines()
        return next(i for i, text in enumerate(lines, 1) if text.strip().startswith(start))

    def edit(self, start: str, new: str | None) -> int:
        """Replaces the first line of meta.yaml that begins so (None: takes it out); its number."""
        lines = self.meta.read_text(encoding="utf-8").splitlines()
        index = next(i for i, text in enumerate(lines) if text.strip().startswith(start))
        indent = lines[index][: len(lines[index]) - len(lines[index].lstrip())]
        if lines[index].strip().startswith("- ") and new is not None and not new.startswith("- "):
            indent += "  "
        lines[index : index + 1] = [] if new is None else [indent + new]
        self.meta.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return index + 1

    def write_output(self, text: str, which: int = 0) -> Path:
        path = self.outputs[which]
        path.write_text(text, encoding="utf-8", newline="")
        return path


Make = Callable[..., Made]


def make(root: Path, year: int, model: Path | None, label: str = "") -> Made:
    """Writes a whole package that is right.

    Args:
        root: where `task1/` goes; year: its form; model: the file to copy in, None for none.
        label: its label; the first of team Martin by default.
    """
    made = Made(root, year, label or f"Martin_INST_{TASKS[year]}_1")
    made.folder.mkdir(parents=True)
    lines = meta_lines(year, made.label)
    made.meta.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for path in made.outputs:
        path.write_text(output_text(made.form), encoding="utf-8")
    if model is not None:
        made.model.write_bytes(model.read_bytes())
    return made


def config(year: int, **more: Any) -> GateConfig:
    """Settings for the small evaluation set; 2022's fixed number type only warns."""
    levels = {"limit-depends": "warn", **more.pop("levels", {})}
    return GateConfig(years=(year,), rows=ROWS, levels=levels, **more)


def run(made: Made, path: Path | None = None, **more: Any) -> dict[str, Any]:
    """Gates a package under the settings of its year."""
    return gate([path or made.root], config(made.year, **more))


def errors(record: dict[str, Any]) -> list[tuple[str, str, int | None, str]]:
    """Findings that decide: id, file name, line and message."""
    return [
        (f["id"], Path(f["file"]).name, f["line"], f["message"])
        for f in record["findings"]
        if f["status"] in {"fail", "unmeasured"}
    ]
