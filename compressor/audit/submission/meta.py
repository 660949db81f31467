"""The `<label>.meta.yaml` of a system: fields of its year, authors, and what it declares."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from compressor.audit.submission.declared import FIELDS, Quantity, parse_quantity
from compressor.audit.submission.forms import TODO, Form
from compressor.audit.submission.labels import label_problems
from compressor.audit.submission.problems import Problem, quoted
from compressor.audit.submission.yamlnodes import Tree, read_yaml

__all__ = ["MAX_ABBREVIATION", "Declared", "Meta", "check_meta"]

MAX_ABBREVIATION = 10
_OPEN = re.compile(rf"\b{TODO}\b")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_DATASET = ("name", "url", "total_audio_length")
_SCORES = ("accuracy", "logloss")


@dataclass(frozen=True, slots=True)
class Declared:
    """One complexity figure as declared: field name, quantity, how it was written, and its line."""

    name: str
    quantity: Quantity
    raw: str
    line: int


@dataclass(slots=True)
class Meta:
    """What was read from a meta.yaml.

    Attributes:
        read: the file is YAML, so that its fields were checked.
        label: `submission.label`, "" where missing; label_line: its line.
        declared: complexity figures that could be read, by field name.
        subsystems: `ensemble_method_subsystem_count`; None where not given.
        accuracy: `results.development_dataset.overall.accuracy`; None where not given.
    """

    read: bool = False
    label: str = ""
    label_line: int | None = None
    declared: dict[str, Declared] = field(default_factory=dict)
    subsystems: int | None = None
    accuracy: float | None = None


def check_meta(data: bytes, file: str, label: str, form: Form) -> tuple[Meta, list[Problem]]:
    """Reads and checks a meta.yaml.

    Args:
        data: its bytes.
        file: how the user knows it.
        label: what the folder says the label is.
        form: of the year.

    Returns:
        What it says, and everything that is wrong with it, each with its line.
    """
    tree, problems = read_yaml(data, file)
    meta = Meta()
    if tree is None:
        return meta, problems
    meta.read = True
    reader = _Reader(tree, file, form, problems)
    reader.todos()
    reader.submission(meta, label)
    reader.system(meta)
    reader.results(meta)
    return meta, problems


def _is_todo(tree: Tree) -> bool:
    return tree.kind == "scalar" and _OPEN.search(tree.raw) is not None


class _Reader:
    """Walks one file; every method adds what it finds to the list of problems."""

    def __init__(self, tree: Tree, file: str, form: Form, problems: list[Problem]) -> None:
        self.tree = tree
        self.file = file
        self.form = form
        self.problems = problems

    def add(self, check: str, message: str, fix: str, line: int | None) -> None:
        self.problems.append(Problem(check, self.file, message, fix, line))

    def block(self, parent: Tree | None, path: str, kind: str = "map") -> Tree | None:
        """Returns the map or list at a path below `parent`; says when it is not one."""
        if parent is None:
            return None
        key = path.rpartition(".")[2]
        found = parent.fields.get(key)
        if found is None:
            self.add(
                "meta-fields",
                f"{path} is missing",
                f"add `{key}:` under {path.rpartition('.')[0] or 'the top'}",
                parent.line,
            )
        elif found.kind != kind:
            wanted = "`key: value` lines" if kind == "map" else "a list (lines that begin with -)"
            self.add(
                "meta-fields",
                f"{path}: expected {wanted}, found {_kind(found)}",
                f"write {wanted} below `{key}:`",
                parent.lines[key],
            )
            return None
        return found

    def text(self, parent: Tree | None, path: str, *, check: str = "meta-fields") -> Tree | None:
        """Returns a filled scalar at a path; says when it is missing or empty."""
        if parent is None:
            return None
        above, _, key = path.rpartition(".")
        found = parent.fields.get(key)
        if found is None:
            self.add(check, f"{path} is missing", f"add `{key}: ...` under {above}", parent.line)
            return None
        if found.kind != "scalar" or found.empty:
            what = "empty" if found.kind == "scalar" else _kind(found)
            fix = f"write a value behind `{key}:`"
            self.add(check, f"{path}: expected a value, found {what}", fix, parent.lines[key])
            return None
        return found

    def todos(self) -> None:
        """Fields of a skeleton that nobody has filled in."""
        for path, scalar in self.tree.scalars():
            if _is_todo(scalar):
                fix = "write the value, or null (!!null) where the field allows it"
                self.add("meta-todo", f"{path} is still to be written ({TODO})", fix, scalar.line)

    # -- submission -------------------------------------------------------------------------------

    def submission(self, meta: Meta, label: str) -> None:
        block = self.block(self.tree, "submission")
        if block is None:
            return
        found = self.text(block, "submission.label")
        if found is not None and not _is_todo(found):
            meta.label, meta.label_line = found.raw, found.line
            if found.raw != label:
                self.add(
                    "meta-label",
                    f"submission.label is {quoted(found.raw)}, the folder and files say "
                    f"{quoted(label)}",
                    "use one label for folder, files and meta.yaml",
                    found.line,
                )
                self.problems += label_problems(found.raw, self.form, self.file, found.line)
        self.text(block, "submission.name")
        short = self.text(block, "submission.abbreviation")
        if short is not None and len(short.raw) > MAX_ABBREVIATION and not _is_todo(short):
            self.add(
                "meta-abbreviation",
                f"submission.abbreviation {quoted(short.raw)} has {len(short.raw)} characters, at "
                f"most {MAX_ABBREVIATION} are allowed",
                f"shorten it to {MAX_ABBREVIATION}",
                short.line,
            )
        self.authors(self.block(block, "submission.authors", "list"))

    def authors(self, block: Tree | None) -> None:
        if block is None:
            return
        corresponding = []
        for index, author in enumerate(block.items):
            where = f"submission.authors[{index}]"
            if author.kind != "map":
                fix = "write lastname, firstname, email, corresponding and affiliation of each"
                self.add("meta-authors", f"{where}: found {_kind(author)}", fix, author.line)
                continue
            for key in ("lastname", "firstname"):
                self.text(author, f"{where}.{key}", check="meta-authors")
            email = self.text(author, f"{where}.email", check="meta-authors")
            if email is not None and not _is_todo(email) and not _EMAIL.fullmatch(email.raw):
                fix = "write one address, as name@example.org"
                message = f"{where}.email {quoted(email.raw)} is no address"
                self.add("meta-authors", message, fix, email.line)
            mark = author.fields.get("corresponding")
            if mark is not None and not mark.empty:
                if not isinstance(mark.value, bool):
                    message = f"{where}.corresponding is {quoted(mark.raw)}, allowed true or false"
                    self.add("meta-authors", message, "write true or false", mark.line)
                elif mark.value:
                    corresponding.append(mark.line)
            affiliation = author.fields.get("affiliation")
            # a list of several affiliations is found in real packages
            places = (
                affiliation.items if affiliation and affiliation.kind == "list" else [affiliation]
            )
            for place in places:
                if place is None or place.kind != "map":
                    line = author.line if place is None else place.line
                    fix = "add affiliation: with abbreviation, institute and location"
                    self.add("meta-authors", f"{where}.affiliation is missing", fix, line)
                    continue
                for key in ("abbreviation", "institute", "location"):
                    self.text(place, f"{where}.affiliation.{key}", check="meta-authors")
        if len(corresponding) != 1:
            found = "none" if not corresponding else "lines " + ", ".join(map(str, corresponding))
            self.add(
                "meta-authors",
                f"{len(corresponding)} corresponding authors ({found}), exactly one is allowed",
                "mark one author with `corresponding: true`",
                corresponding[1]
                if len(corresponding) > 1
                else self.tree.fields["submission"].lines["authors"],
            )

    # -- system -----------------------------------------------------------------------------------

    def system(self, meta: Meta) -> None:
        block = self.block(self.tree, "system")
        if block is None:
            return
        description = self.block(block, "system.description")
        if description is not None:
            for key in self.form.description:
                if key not in description.fields:
                    self.missing(
                        "system.description", key, description, "or !!null if it does not apply"
                    )
            count = description.get("ensemble_method_subsystem_count")
            if count is not None and not count.empty and not _is_todo(count):
                value = count.value
                if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                    meta.subsystems = value
                else:
                    self.add(
                        "meta-fields",
                        "system.description.ensemble_method_subsystem_count is "
                        f"{quoted(count.raw)}, expected a whole number of 1 or more, or !!null",
                        "write how many networks are averaged, !!null for one",
                        count.line,
                    )
        self.complexity(meta, block)
        if self.form.energy:
            self.energy(block)
        self.datasets(block)
        if "source_code" not in block.fields:
            self.missing("system", "source_code", block, "or !!null if it is not public")

    def missing(
        self, path: str, key: str, parent: Tree, hint: str, check: str = "meta-fields"
    ) -> None:
        fix = f"add `{key}: ...` under {path}, {hint}" if hint else f"add `{key}: ...` under {path}"
        self.add(check, f"{path}.{key} is missing", fix, parent.line)

    def complexity(self, meta: Meta, system: Tree) -> None:
        block = system.fields.get("complexity")
        if block is None or block.kind != "map":
            line = system.lines["complexity"] if block is not None else system.line
            wanted = ", ".join(self.form.complexity)
            message = f"system.complexity is {'missing' if block is None else _kind(block)}"
            self.add("meta-complexity", message, f"add it with {wanted}", line)
            return
        for key in self.form.complexity:
            if key not in block.fields:
                hint = f"{self.form.year} asks for it"
                self.missing("system.complexity", key, block, hint, "meta-complexity")
        for key, figure in FIELDS.items():
            found = block.fields.get(key)
            if found is None or _is_todo(found):
                continue
            if found.kind != "scalar" or found.empty:
                if key in self.form.complexity:
                    message = f"system.complexity.{key}: expected a number, found "
                    message += "nothing" if found.empty else _kind(found)
                    fix = "write the figure of compressor audit"
                    self.add("meta-complexity", message, fix, block.lines[key])
                continue
            read = parse_quantity(found.raw, figure)
            if isinstance(read, str):
                message = f"system.complexity.{key}: {quoted(found.raw)} {read}"
                fix = f"write a bare number, as in `{key}: 46512`"
                self.add("meta-complexity", message, fix, found.line)
            else:
                meta.declared[key] = Declared(key, read, found.raw, found.line)

    def energy(self, system: Tree) -> None:
        block = system.fields.get("energy_consumption")
        if block is None or block.kind != "map":
            message = f"system.energy_consumption is {'missing' if block is None else _kind(block)}"
            fix = f"add it with {', '.join(self.form.energy)}, in kWh"
            self.add("meta-energy", message, fix, system.line if block is None else block.line)
            return
        for key in self.form.energy:
            path = f"system.energy_consumption.{key}"
            found = block.fields.get(key)
            if found is None:
                self.missing("system.energy_consumption", key, block, "in kWh", "meta-energy")
            elif not _is_todo(found):
                value = _figure(re.sub(r"\s*kwh$", "", found.raw.strip(), flags=re.IGNORECASE))
                if value is None or value < 0:
                    shown = quoted(found.raw) if found.kind == "scalar" else _kind(found)
                    message = f"{path} is {shown}, expected kWh as a number of 0 or more"
                    fix = "write what was measured in kWh, as in 0.302"
                    self.add("meta-energy", message, fix, found.line)

    def datasets(self, system: Tree) -> None:
        block = system.fields.get("external_datasets")
        if block is None:
            self.missing("system", "external_datasets", system, "or !!null if none was used")
            return
        if block.kind == "scalar" and block.empty:
            return
        if block.kind != "list":
            message = f"system.external_datasets: expected a list or !!null, found {_kind(block)}"
            self.add("meta-fields", message, "write one `- name: ...` entry a data set", block.line)
            return
        for index, item in enumerate(block.items):
            if item.kind == "scalar" and item.empty:
                continue
            for key in _DATASET:
                if key not in item.fields:
                    self.missing(f"system.external_datasets[{index}]", key, item, "or !!null")

    # -- results ----------------------------------------------------------------------------------

    def results(self, meta: Meta) -> None:
        block = self.block(self.tree, "results")
        found = self.block(block, "results.development_dataset")
        if found is None:
            return
        path = "results.development_dataset"
        if not self.form.splits:
            self.scores(meta, found, path)
            return
        for split in self.form.splits:
            part = found.fields.get(split)
            if part is None:
                self.missing(path, split, found, f"{self.form.year} asks for it", "meta-results")
            elif part.kind == "map":
                self.scores(meta, part, f"{path}.{split}")

    def scores(self, meta: Meta, block: Tree, path: str) -> None:
        """Overall, by class and by device; what is null has not been measured, which is allowed."""
        asked = ["overall", "class_wise", *(["device_wise"] if self.form.devices else [])]
        for key in asked:
            if key not in block.fields:
                self.missing(path, key, block, "or !!null", "meta-results")
        overall = block.fields.get("overall")
        if overall is not None and overall.kind == "map":
            self.numbers(overall, f"{path}.overall", _SCORES)
            accuracy = overall.fields.get("accuracy")
            if accuracy is not None and isinstance(accuracy.value, (int, float)):
                meta.accuracy = float(accuracy.value)
        for key, names in (("class_wise", self.form.classes), ("device_wise", self.form.devices)):
            group = block.fields.get(key)
            if group is None or group.kind != "map" or not names:
                continue
            for name in names:
                if name not in group.fields:
                    self.missing(f"{path}.{key}", name, group, "or !!null", "meta-results")
                elif group.fields[name].kind == "map":
                    self.numbers(group.fields[name], f"{path}.{key}.{name}", _SCORES)

    def numbers(self, block: Tree, path: str, keys: Sequence[str]) -> None:
        for key in keys:
            found = block.fields.get(key)
            if found is None:
                self.missing(path, key, block, "or !!null", "meta-results")
            elif not (found.empty and found.kind == "scalar") and not _is_todo(found):
                value = _figure(found.raw)
                top = 100.0 if key == "accuracy" else math.inf
                if value is None or not 0.0 <= value <= top:
                    shown = quoted(found.raw) if found.kind == "scalar" else _kind(found)
                    allowed = "0 to 100" if key == "accuracy" else "a number of 0 or more"
                    message = f"{path}.{key} is {shown}, expected {allowed}"
                    fix = "write the figure without a unit, !!null where it was not measured"
                    self.add("meta-results", message, fix, found.line)


def _figure(raw: str) -> float | None:
    """A finite number as it was written; None for anything else."""
    try:
        value = float(raw)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _kind(tree: Tree) -> str:
    if tree.kind == "scalar":
        return "nothing" if tree.empty else f"the text {quoted(tree.raw)}"
    return "a list" if tree.kind == "list" else "`key: value` lines"
