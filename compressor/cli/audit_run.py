"""The work behind `compressor audit`: each file measured, judged, compared and placed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.audit import Verdict, audit
from compressor.audit.report_record import error_record, file_record, sha256_of
from compressor.audit.rules import Rules, load_rules, rules_for, years
from compressor.audit.verdict import verdict_for
from compressor.cli.audit_inputs import Shapes, arch_on_segment
from compressor.errors import CompressorError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from compressor.audit import AuditResult
    from compressor.audit.compare import Comparison
    from compressor.audit.standing import Standing
    from compressor.audit.systems import Table

__all__ = ["Outcome", "Request", "outcomes", "ranking_of", "read_rules"]

ALL = "all"
RANKING_YEAR = 2023  # ranks by accuracy, memory and MACs: what an audit and an accuracy tell


@dataclass(frozen=True)
class Request:
    """What is asked of every file.

    Attributes:
        rules: to compare with; `binding` holds the labels of those that decide the exit code.
        convention, shapes, arch, run: as in `compressor.audit`.
        base: file to compare with; "" for none.
        accuracy: of the model, placed in `table` by `ranking`; None for no placing.
    """

    rules: tuple[Rules, ...]
    binding: frozenset[str]
    convention: str = "strict"
    shapes: Shapes | None = None
    arch: str | None = None
    run: bool = False
    base: str = ""
    accuracy: float | None = None
    table: Table | None = None
    ranking: Rules | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one file: a result with verdicts, or an error."""

    file: str
    exit_code: int
    result: AuditResult | None = None
    verdicts: tuple[Verdict, ...] = ()
    comparison: Comparison | None = None
    base: str = ""
    standing: Standing | None = None
    error: CompressorError | None = None

    def record(self) -> dict[str, object]:
        """Returns plain JSON-able Python."""
        if self.result is None:
            assert self.error is not None
            return error_record(self.file, self.error)
        record = file_record(self.file, self.result, self.verdicts)
        if self.comparison is not None:
            digest, _ = sha256_of(self.base)
            record["compare"] = {
                "base": self.base,
                "base_sha256": digest,
                **self.comparison.to_dict(),
            }
        if self.standing is not None:
            record["standing"] = self.standing.to_dict()
        return record


def read_rules(year: str | None, own: Sequence[str]) -> tuple[tuple[Rules, ...], frozenset[str]]:
    """Returns the rules to check, and the labels of those that decide the exit code.

    All years together are for information; one year and the user's own rules decide.

    Raises:
        UnknownNameError: no rules for that year.
        ConfigError: a rule file that cannot be read as such.
    """
    known = years()
    if year is not None and year != ALL and year not in map(str, known):
        raise UnknownNameError("challenge year", year, [ALL, *map(str, known)])
    wanted = known if year == ALL or (year is None and not own) else ()
    if year is not None and year != ALL:
        wanted = (int(year),)
    mine = tuple(load_rules(Path(path)) for path in own)
    rules = (*(rules_for(number) for number in wanted), *mine)
    binding = rules if len(wanted) <= 1 else mine
    return rules, frozenset(rule.label for rule in binding)


def ranking_of(rules: Sequence[Rules]) -> Rules:
    """The rules that place a model: the only ones given if they rank, otherwise those of 2023."""
    return rules[0] if len(rules) == 1 and rules[0].ranking else rules_for(RANKING_YEAR)


def outcomes(
    files: Sequence[str | os.PathLike[str]], request: Request, *, live: str | None = None
) -> Iterator[Outcome]:
    """Audits files one after the other; a file that cannot be measured gives an error and goes on.

    Args:
        files: paths.
        request: what is asked of each.
        live: the one of `files` that is the name of a network, built and counted as it is.

    Raises:
        UsageError: the only file cannot be counted as asked, or the base model cannot.
        ModelFileError: the base model cannot be read.
    """
    base = _measure(request.base, request) if request.base else None
    for file in files:
        name = os.fspath(file)
        try:
            result = _measure_live(name, request) if name == live else _measure(name, request)
            yield _outcome(name, result, request, base)
        except CompressorError as error:
            if len(files) == 1 and isinstance(error, UsageError):
                raise
            yield Outcome(name, error.exit_code, error=error)


def _measure(file: str, request: Request) -> AuditResult:
    arch, shapes = request.arch, request.shapes
    if arch is not None and shapes is None:
        segments = {rule.segment_s for rule in request.rules}
        arch, shapes = arch_on_segment(arch, segments.pop() if len(segments) == 1 else None)
    return audit(
        file, input_shape=shapes, convention=request.convention, run=request.run, arch=arch
    )


def _measure_live(name: str, request: Request) -> AuditResult:
    """Builds a network of the zoo or of the user's own code and counts it.

    Its input is the segment of the one year that is asked for, otherwise its own, under its own
    front-end.
    """
    import inspect

    import zoo
    from compressor.audio.logmel import preset

    entry = zoo.entry(zoo.allow(name))
    segments = {rule.segment_s for rule in request.rules}
    seconds = (segments.pop() if len(segments) == 1 else None) or entry.segment_s
    sizes: dict[str, int] = {}
    shape = entry.input_shape
    if request.shapes is not None and len(request.shapes[0]) == 4:
        shape = request.shapes[0][1:4]  # three sizes
    elif zoo.is_own(name) or seconds != entry.segment_s:
        channels, mels, frames = preset(entry.front_end).shape(seconds)
        shape = (channels, frames, mels) if entry.layout == "CTF" else (channels, mels, frames)
    if shape != entry.input_shape or zoo.is_own(name):
        channels, mels, frames = shape if entry.layout == "CFT" else (shape[0], shape[2], shape[1])
        given = {"in_channels": channels, "mels": mels, "frames": frames}
        accepted = inspect.signature(entry.builder).parameters
        sizes = {key: size for key, size in given.items() if key in accepted}
    model = zoo.build(name, entry.num_classes, **sizes).eval()
    shapes = request.shapes or ((1, *shape),)
    return audit(model, input_shape=shapes, convention=request.convention)


def _outcome(file: str, result: AuditResult, request: Request, base: AuditResult | None) -> Outcome:
    found = tuple(verdict_for(result, rule) for rule in request.rules)
    comparison = standing = None
    if base is not None:
        from compressor.audit.compare import compare

        comparison = compare(base, result)
    if request.accuracy is not None and request.table is not None and request.ranking is not None:
        from compressor.audit.standing import place_model

        standing = place_model(result, request.table, request.ranking, request.accuracy)
    states = {verdict.status for verdict in found if verdict.label in request.binding}
    code = 1 if states & {"fail", "depends"} else 3 if "unknown" in states else 0
    return Outcome(file, code, result, found, comparison, request.base, standing)
