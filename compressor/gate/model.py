"""One model held against the limits of its years, own limits, the accuracy floor and the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.audit.submission.problems import Problem, quoted
from compressor.errors import CompressorError, MeasureError, UsageError
from compressor.gate.checks import limit_check
from compressor.gate.config import LIMITS, GateConfig
from compressor.gate.record import Recorder

if TYPE_CHECKING:
    from compressor.audit.records import AuditResult
    from compressor.audit.rules import Rules
    from compressor.audit.verdict import Check, Verdict

__all__ = ["ModelGate"]

_UNITS = {
    "param_bytes": "B",
    "file_bytes": "B",
    "params": "parameters",
    "nonzero_params": "parameters",
    "macs": "MACs",
    "peak_activation_bytes": "B",
}
_WORDS = {
    "param_bytes": "parameter bytes",
    "file_bytes": "bytes of the file",
    "params": "parameters",
    "nonzero_params": "non-zero parameters",
    "macs": "MACs",
    "peak_activation_bytes": "peak activation bytes",
}


class ModelGate:
    """Measures models and holds them against the settings.

    Attributes:
        recorder: takes what is found; rules: of the years and of own rule files.
    """

    def __init__(self, recorder: Recorder, rules: Sequence[Rules]) -> None:
        """Takes where to write to, and the rules of the run."""
        self.recorder = recorder
        self.config: GateConfig = recorder.config
        self.rules = rules
        self._base: AuditResult | None = None

    def measure(self, file: Path, shown: str) -> AuditResult | None:
        """Audits a model file; None where it cannot be read, which is noted.

        Args:
            file: the file.
            shown: how the user knows it.

        Raises:
            UsageError: settings that do not fit the file (an input shape that it does not take).
        """
        from compressor.audit import audit

        self.recorder.check("model-file", shown)
        try:
            return audit(
                file, convention=self.config.convention, input_shape=self.config.input_shape
            )
        except UsageError:
            raise
        except CompressorError as error:
            fix = "give a model file that compressor audit reads"
            problem = Problem("model-file", shown, str(error), fix)
            self.recorder.problem(problem, unmeasured=True)
            return None

    def check(self, result: AuditResult, shown: str, file: Path, names: Sequence[str]) -> None:
        """Makes every check of a model.

        Args:
            result: of the audit, or of several added up.
            shown: how the user knows the file.
            file: it, for the record.
            names: what results files may call it.
        """
        verdicts = self.judge(result, shown)
        self.note(result, shown, file, verdicts)
        self.compare(result, shown, file.stat().st_size, names)

    def note(
        self, result: AuditResult, shown: str, file: Path, verdicts: Sequence[Verdict]
    ) -> None:
        """Puts the audit of one file into the record."""
        from compressor.audit.report_record import file_record

        record: dict[str, Any] = dict(file_record(file, result, verdicts))
        record["file"] = shown
        self.recorder.model(record)
        self.recorder.file(shown, "model", record["sha256"], record["file_bytes"])

    def judge(self, result: AuditResult, shown: str) -> tuple[Verdict, ...]:
        """Holds a result against the limits of the years and of own rule files."""
        from compressor.audit.fixes import fixes_for
        from compressor.audit.verdict import verdict_for

        verdicts = []
        for rules in self.rules:
            verdict = verdict_for(result, rules)
            verdicts.append(verdict)
            for limit, check in zip(rules.limits, verdict.checks, strict=True):
                fixes = fixes_for(result, limit) if check.status in {"fail", "depends"} else ()
                self._limit(limit.metric, verdict, check, shown, "; ".join(fixes))
        return tuple(verdicts)

    def _limit(self, metric: str, verdict: Verdict, check: Check, shown: str, fix: str) -> None:
        """One limit of one year: passed, failed, in doubt, or not measured."""
        name = f"{verdict.task}: {check.name}"
        value, limit = check.value, check.limit
        over = isinstance(value, int) and isinstance(limit, int) and value > limit
        said = f"{name} is {_words(value)} {check.unit}".rstrip() + f", allowed {_words(limit)}"
        if check.margin is not None and check.margin < 0:
            said += f" ({-check.margin:,} over)"
        id_ = limit_check(metric)
        if check.status == "depends":
            id_ = "limit-depends"
        elif check.status == "unknown" and not over:
            id_ = "measurement"
        self.recorder.check(
            id_,
            shown,
            name,
            value=value,
            limit=limit,
            unit=check.unit,
            evidence=check.evidence,
        )
        fix = fix or "make the network smaller, or choose the year whose rules it follows"
        if check.status == "depends":
            problem = Problem(id_, shown, f"{said}: {check.note}", fix)
            self.recorder.problem(problem, name)
        elif id_ == "measurement":
            self._unmeasured(shown, name, f"{said}: {check.note}", partly=value is not None)
        elif check.status != "pass":
            self.recorder.problem(Problem(id_, shown, said, fix), name)

    def _unmeasured(self, shown: str, name: str, message: str, *, partly: bool) -> None:
        """Nothing is proved where a figure is missing; a partial one may be allowed."""
        fix = (
            "export the network so that every operator can be counted, or set allow_partial = true"
            if partly
            else "give a file with its operator graph (.onnx, .pt2, .tflite, a compressor .pt)"
        )
        self.recorder.problem(
            Problem("measurement", shown, message, fix),
            name,
            unmeasured=True,
            soften=partly and self.config.allow_partial,
        )

    # -- own limits, accuracy, base ---------------------------------------------------------------

    def compare(self, result: AuditResult, shown: str, size: int, names: Sequence[str]) -> None:
        """Own limits, accuracy floor and growth.

        Args:
            result: of the audit, or of several added up.
            shown: how the user knows it.
            size: bytes of its files.
            names: what results files may call it.
        """
        for key, limit in self.config.limits.items():
            figure = LIMITS[key]
            value = size if figure == "file_bytes" else _figure(result, figure)
            name = f"own limit: {_WORDS[figure]}"
            over = value is not None and value > limit
            certain = over or self._certain(result, figure, value, limit)
            self.recorder.check(
                "own-limit" if certain else "measurement",
                shown,
                name,
                value=value,
                limit=limit,
                unit=_UNITS[figure],
            )
            if value is not None and over:
                message = (
                    f"{_WORDS[figure]} {value:,}, own limit {limit:,} ({value - limit:,} over)"
                )
                fix = f"make the network smaller, or raise {key} in {self.config.source}"
                self.recorder.problem(Problem("own-limit", shown, message, fix), name)
            elif not certain:
                message = f"{_WORDS[figure]}: {_doubt(result, figure)}"
                self._unmeasured(shown, name, message, partly=value is not None)
        if self.config.accuracy is not None:
            self._accuracy(shown, names)
        if self.config.base is not None:
            self._growth(result, shown)

    @staticmethod
    def _certain(result: AuditResult, figure: str, value: int | None, limit: int) -> bool:
        """Whether a value within its limit is proved to be so."""
        if value is None:
            return False
        if result.statuses.get(figure, "exact") == "exact":
            return True
        # parameters told from buffers by name: at most everything that is stored counts
        doubtful = result.buffer_bytes
        return figure in {"params", "nonzero_params", "param_bytes"} and value + doubtful <= limit

    def _accuracy(self, shown: str, names: Sequence[str]) -> None:
        from compressor.gate.results import read_accuracy

        asked = self.config.accuracy
        assert asked is not None
        file = self.config.folder / asked.file
        try:
            value = read_accuracy(file, names, asked.column, asked.row)
        except MeasureError as error:
            self.recorder.check("accuracy", shown, limit=asked.floor)
            fix = f"write the results to {asked.file}, or change accuracy in {self.config.source}"
            problem = Problem("accuracy", shown, f"accuracy: {error}", fix)
            self.recorder.problem(problem, unmeasured=True)
            return
        from compressor.audit.report_record import sha256_of

        self.recorder.file(asked.file, "results", *sha256_of(file))
        self.recorder.check("accuracy", shown, value=value, limit=asked.floor)
        if value < asked.floor:
            message = (
                f"accuracy {value:.6g} in {quoted(asked.file)} is below the floor {asked.floor:g}"
            )
            fix = "train longer, prune less, or lower accuracy.floor"
            if value <= 1.0 < asked.floor:
                fix = "the column holds shares: write the floor as a share too, as 0.55"
            self.recorder.problem(Problem("accuracy", shown, message, fix))

    def _growth(self, result: AuditResult, shown: str) -> None:
        base = self.config.base
        assert base is not None
        old = self._base_result(base.file, shown)
        if old is None:
            return
        for figure, growth in base.growth.items():
            was, now = _figure(old, figure), _figure(result, figure)
            name = f"growth: {_WORDS[figure]}"
            if was is None or now is None:
                which = result if now is None else old
                message = f"growth of {_WORDS[figure]}: {_doubt(which, figure)}"
                self._unmeasured(shown, name, message, partly=False)
                continue
            top = was * (100.0 + growth.amount) / 100.0 if growth.percent else was + growth.amount
            partly = now <= top and "partial" in {
                result.statuses.get(figure),
                old.statuses.get(figure),
            }
            self.recorder.check(
                "measurement" if partly else "growth",
                shown,
                name,
                value=now,
                limit=int(top),
                unit=_UNITS[figure],
            )
            if now > top:
                share = f", {100.0 * (now - was) / was:+.2f} %" if was else ""
                message = (
                    f"{_WORDS[figure]} {now:,}, the base has {was:,} ({now - was:+,}{share}), "
                    f"allowed growth {growth.shown}"
                )
                fix = f"make the network smaller, or raise the growth in {self.config.source}"
                self.recorder.problem(Problem("growth", shown, message, fix), name)
            elif partly:
                message = f"growth of {_WORDS[figure]}: only partly measured"
                self._unmeasured(shown, name, message, partly=True)

    def _base_result(self, asked: str, shown: str) -> AuditResult | None:
        from compressor.audit import audit
        from compressor.audit.report_record import sha256_of

        file = self.config.folder / asked
        if self._base is None:
            try:
                self._base = audit(
                    file, convention=self.config.convention, input_shape=self.config.input_shape
                )
            except UsageError:
                raise
            except CompressorError as error:
                fix = f"change base.file in {self.config.source}"
                problem = Problem("growth", shown, f"the base model: {error}", fix)
                self.recorder.problem(problem, unmeasured=True)
                return None
        self.recorder.file(asked, "base", *sha256_of(file))
        return self._base


def _words(value: int | str | None) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _figure(result: AuditResult, figure: str) -> int | None:
    value = getattr(result, figure)
    return value if isinstance(value, int) else None


def _doubt(result: AuditResult, figure: str) -> str:
    """Why a figure is not exact."""
    if result.uncounted and figure == "macs":
        names = ", ".join(result.uncounted[:4])
        return f"only partly measured: no counting rule for {names}"
    if getattr(result, figure, None) is None:
        return "unknown: the file has no operator graph"
    return "only partly measured"
