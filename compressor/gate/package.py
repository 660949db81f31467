"""A submission package held against its year: layout, meta.yaml, output files, and its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.audit.submission.declared import FIELDS, matches, measured, shown
from compressor.audit.submission.forms import Form
from compressor.audit.submission.labels import label_problems, team_problems
from compressor.audit.submission.meta import Declared, Meta, check_meta
from compressor.audit.submission.outputs import MAX_OUTPUT_BYTES, check_output
from compressor.audit.submission.package import Entry, Package, System, open_package
from compressor.audit.submission.problems import Problem, quoted
from compressor.audit.submission.yamlnodes import MAX_META_BYTES
from compressor.errors import ModelFileError
from compressor.gate.combine import combined
from compressor.gate.model import ModelGate
from compressor.gate.record import Recorder

if TYPE_CHECKING:
    from compressor.audit.records import AuditResult
    from compressor.audit.rules import Rules

__all__ = ["gate_package"]

_META_CHECKS = (
    *("meta-fields", "meta-todo", "meta-label", "meta-authors", "meta-abbreviation"),
    *("meta-complexity", "meta-results"),
)
_OUTPUT_CHECKS = (
    *("output-header", "output-rows", "output-names", "output-labels"),
    *("output-probabilities", "output-argmax"),
)
_ONE_MODEL_EACH = frozenset({2024, 2025})  # a model a split, a model a device: never added up


def gate_package(path: Path, form: Form, models: ModelGate, model: Path | None = None) -> None:
    """Makes every check of a package.

    Args:
        path: a label folder, a folder of label folders, or a zip archive.
        form: of the year.
        models: measures and judges what is in it.
        model: the model file of the one system, where it is not in the package.

    Raises:
        ModelFileError: the archive cannot be read.
    """
    recorder = models.recorder
    with open_package(path) as package:
        recorder.target(
            package.shown,
            "package",
            year=form.year,
            evidence=form.evidence,
            labels=[system.label for system in package.systems],
        )
        recorder.check("package-layout", package.shown)
        recorder.problems(package.problems)
        recorder.check("systems-count", package.shown)
        recorder.problems(team_problems((s.label for s in package.systems), package.shown))
        for system in package.systems:
            _System(package, system, form, models, model).check()


class _System:
    """The checks of one label folder."""

    def __init__(
        self, package: Package, system: System, form: Form, models: ModelGate, model: Path | None
    ) -> None:
        self.package = package
        self.system = system
        self.form = form
        self.models = models
        self.model = model
        self.recorder: Recorder = models.recorder
        self.config = models.config

    def check(self) -> None:
        """Names, then meta.yaml, then output files, then models and what was declared of them."""
        system = self.system
        self.recorder.check("label", system.shown)
        self.recorder.problems(label_problems(system.label, self.form, system.shown))
        self.recorder.check("file-names", system.shown)
        metas = self.named(system.metas, ("meta.yaml",), "meta.yaml")
        outputs = self.named(system.outputs, self.form.outputs, "output file")
        meta, meta_shown = Meta(), system.shown
        for entry in metas:
            meta, meta_shown = self.meta(entry), entry.shown
        for entry in outputs:
            self.output(entry)
        self.measure(meta, meta_shown)

    def named(self, found: Sequence[Entry], ends: Sequence[str], what: str) -> list[Entry]:
        """Finds files by their exact names; takes the only other one for a missing one."""
        wanted = [f"{self.system.label}.{end}" for end in ends]
        by_name = {entry.name: entry for entry in found}
        chosen = [by_name[name] for name in wanted if name in by_name]
        others = [entry for entry in found if entry.name not in wanted]
        missing = [name for name in wanted if name not in by_name]
        for name, entry in zip(missing, others, strict=False):
            message = f"{what} is named {quoted(entry.name)}, expected {quoted(name)}"
            self.add("file-names", entry.shown, message, "rename it")
            chosen.append(entry)
        for name in missing[len(others) :]:
            message = f"the {what} {quoted(name)} is missing"
            self.add("file-names", self.system.shown, message, f"add {quoted(name)}")
        for entry in others[len(missing) :]:
            message = f"{quoted(entry.name)} is one {what} too many"
            fix = f"leave it out; {self.form.year} asks for {', '.join(ends)} behind the label"
            self.add("file-names", entry.shown, message, fix)
        return chosen

    def add(self, check: str, file: str, message: str, fix: str, line: int | None = None) -> None:
        self.recorder.problem(Problem(check, file, message, fix, line))

    def meta(self, entry: Entry) -> Meta:
        self.recorder.check("meta-yaml", entry.shown)
        try:
            data = self.package.read(entry, MAX_META_BYTES)
        except ModelFileError as error:
            self.add("meta-yaml", entry.shown, str(error), "write a plain meta.yaml")
            return Meta()
        self.recorder.file(entry.shown, "meta", self.package.sha256(entry), entry.size)
        meta, problems = check_meta(data, entry.shown, self.system.label, self.form)
        if meta.read:
            for check in (*_META_CHECKS, *(["meta-energy"] if self.form.energy else [])):
                self.recorder.check(check, entry.shown)
        self.recorder.problems(problems)
        return meta

    def output(self, entry: Entry) -> None:
        self.recorder.check("output-format", entry.shown)
        try:
            data = self.package.read(entry, MAX_OUTPUT_BYTES)
        except ModelFileError as error:
            self.add("output-format", entry.shown, str(error), "write a plain table")
            return
        self.recorder.file(entry.shown, "output", self.package.sha256(entry), entry.size)
        table, problems = check_output(
            data, entry.shown, self.form, rows=self.config.rows, most=self.config.max_findings
        )
        for check in _OUTPUT_CHECKS if table else ():
            self.recorder.check(check, entry.shown)
        self.recorder.problems(problems)

    # -- models -----------------------------------------------------------------------------------

    def files(self) -> list[tuple[Path, str]]:
        """Model files with the names the user knows them by; what was configured goes first."""
        if self.model is not None:
            return [(self.model, self.model.as_posix())]
        if self.config.model:
            given = self.config.model.replace("{label}", self.system.label)
            return [(self.config.folder / given, given)]
        found = []
        for entry in self.system.models:
            try:
                found.append((self.package.on_disk(entry), entry.shown))
            except ModelFileError as error:
                problem = Problem("model-file", entry.shown, str(error), "write the file anew")
                self.recorder.problem(problem, unmeasured=True)
        return found

    def measure(self, meta: Meta, meta_shown: str) -> None:
        files = self.files()
        self.recorder.check("model-missing", self.system.shown)
        if not files and not self.system.models:
            problem = Problem(
                "model-missing",
                self.system.shown,
                "no model file: limits and declared figures cannot be measured",
                "put the model into the folder, name it with --model or `model` in the settings, "
                "or set levels.model-missing to 'warn'",
            )
            self.recorder.problem(problem, unmeasured=True)
        results: list[AuditResult] = []
        read: list[tuple[Path, str]] = []
        for file, name in files:
            result = self.models.measure(file, name)
            if result is not None:
                results.append(replace(result, source=name.rpartition("/")[2]))
                read.append((file, name))
        missing = 0 if self.model or self.config.model else len(self.system.models) - len(read)
        total = self.form.year not in _ONE_MODEL_EACH
        if not results or missing or len(read) < len(files):
            for result, (file, name) in zip(results, read, strict=True):
                self.models.note(result, name, file, ())
            self.declared(meta, meta_shown, [], total=total)  # a part says nothing of the whole
            return
        self.judge(results, read, total=total)
        self.subsystems(meta, len(results), meta_shown)
        self.declared(meta, meta_shown, results, total=total)

    def judge(
        self, results: Sequence[AuditResult], files: Sequence[tuple[Path, str]], *, total: bool
    ) -> None:
        """Limits: of the sum where several models are one ensemble, else of each."""
        names = [_names(shown_as) for _, shown_as in files]
        if total and len(results) > 1:
            for result, (file, shown_as) in zip(results, files, strict=True):
                self.models.note(result, shown_as, file, ())
            result = combined(results, f"{len(results)} models")
            size = sum(file.stat().st_size for file, _ in files)
            every = [name for group in names for name in group]
            self.models.judge(result, self.system.shown)
            self.models.compare(result, self.system.shown, size, [self.system.label, *every])
            return
        for result, (file, shown_as), mine in zip(results, files, names, strict=True):
            verdicts = self.models.judge(result, shown_as)
            self.models.note(result, shown_as, file, verdicts)
            known_as = [self.system.label, *mine]
            self.models.compare(result, shown_as, file.stat().st_size, known_as)

    def subsystems(self, meta: Meta, count: int, meta_shown: str) -> None:
        """An ensemble's members are all there."""
        if count < 2 or self.form.year in _ONE_MODEL_EACH or meta.subsystems == count:
            return
        said = "nothing" if meta.subsystems is None else str(meta.subsystems)
        message = f"{count} model files, ensemble_method_subsystem_count says {said}"
        fix = f"write ensemble_method_subsystem_count: {count}, or leave out what is not used"
        self.add("declared", meta_shown, message, fix)

    # -- what was declared ------------------------------------------------------------------------

    def declared(
        self, meta: Meta, meta_shown: str, results: Sequence[AuditResult], *, total: bool
    ) -> None:
        """Every declared figure against the measured one and against the year's limits."""
        for name, declared in meta.declared.items():
            if results:
                self.compare(declared, meta_shown, results, total=total)
            for rules in self.models.rules:
                if rules.year == self.form.year:
                    self.within(name, declared, meta_shown, rules)

    def compare(
        self, declared: Declared, meta_shown: str, results: Sequence[AuditResult], *, total: bool
    ) -> None:
        figure = FIELDS[declared.name]
        found = measured(results, figure, self.form.year, total=total)
        title = f"declared {declared.name}"
        path = f"system.complexity.{declared.name}"
        official = next(iter(found.readings.values()), None)
        doubt = figure == "macs" and any(r.statuses["macs"] != "exact" for r in results)
        self.recorder.check(
            "measurement" if doubt or official is None else "declared",
            meta_shown,
            title,
            value=declared.raw,
            limit=official,
            unit=found.unit,
        )
        if official is None or doubt:
            why = "it is unknown" if official is None else "MACs are only partly measured"
            problem = Problem(
                "measurement",
                meta_shown,
                f"{path} {quoted(declared.raw)} cannot be compared: {why}",
                "give a model file with its whole operator graph",
                declared.line,
            )
            soften = official is not None and self.config.allow_partial
            self.recorder.problem(problem, title, unmeasured=True, soften=soften)
            return
        value = matches(declared.quantity, found.readings.values(), self.config.tolerance)
        if value is None:
            readings = list(dict.fromkeys(found.readings.values()))
            said = " or ".join(shown(reading, found.unit) for reading in readings)
            message = f"{path} is {quoted(declared.raw)}, measured {said}"
            fix = f"write `{declared.name}: {self.suggested(declared.name, readings[0])}`"
            problem = Problem("declared", meta_shown, message, fix, declared.line)
            self.recorder.problem(problem, title)
        elif figure == "macs" and value != official:
            message = (
                f"{path} {declared.raw} is the strict count; the counter of {self.form.year} reads "
                f"{official:,}"
            )
            fix = f"write `{declared.name}: {official}`"
            problem = Problem("declared-reading", meta_shown, message, fix, declared.line)
            self.recorder.problem(problem, title)

    @staticmethod
    def suggested(name: str, value: int) -> str:
        """How the year's template writes a figure."""
        return f"{value / 1024:.2f}" if name == "model_size" else str(value)

    def within(self, name: str, declared: Declared, meta_shown: str, rules: Rules) -> None:
        """A declared figure above the limit needs no model to be wrong."""
        figure = FIELDS[name]
        for limit in rules.limits:
            if limit.metric != figure or limit.max is None:
                continue
            title = f"declared {name} within {rules.task}: {limit.name}"
            self.recorder.check(
                "declared-limit",
                meta_shown,
                title,
                value=declared.raw,
                limit=limit.max,
                unit=limit.unit,
            )
            if declared.quantity.least > limit.max:
                message = (
                    f"system.complexity.{name} declares {quoted(declared.raw)}, the limit of "
                    f"{self.form.year} is {limit.max:,} {limit.unit}"
                )
                fix = "send in a smaller system, or correct the figure"
                problem = Problem("declared-limit", meta_shown, message, fix, declared.line)
                self.recorder.problem(problem, title)


def _names(shown_as: str) -> list[str]:
    """What results files may call a model file: its name, with and without the suffix."""
    name = shown_as.rpartition("/")[2]
    return [name, name.rpartition(".")[0] or name]
