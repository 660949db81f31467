"""The verdict of a sweep in words. Every word is chosen by a number of the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reports.budget import Check, dimension
from reports.formats import (
    against_dense,
    capital,
    count,
    counted,
    joined,
    numbered,
    percent,
    percent_value,
    plural,
)
from reports.spread import TOLERANCE, Spread
from reports.summary import Level, Series, Summary
from reports.ways import best_words, cost_words

__all__ = ["Fact", "Verdict", "spread_words", "verdict"]

KEYS = {
    "bytes_float16": "in float16",
    "bytes_int8": "in int8",
    "bytes_float32": "in float32",
    "macs_official": "by the official count",
    "macs": "by the strict count",
    "params": "",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the verdict: what it is about, and the sentence."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a run.

    Attributes:
        status: pass if a tested network fits the limit, fail if none does, open if the rules or
            the counters leave it open, unknown if there is no limit or nothing was counted.
        headline: the answer in one sentence.
        facts: the sentences behind it.
    """

    status: Literal["pass", "fail", "open", "unknown"]
    headline: str
    facts: tuple[Fact, ...]


def verdict(summary: Summary) -> Verdict:
    """The verdict: budget, accuracy, knee, best network, failures and data, from the numbers."""
    facts: list[Fact] = []
    many = len(summary.series) > 1
    headline = _many_head(summary) if many else _dense_head(summary)
    for series in summary.series:
        end = f", {series.label}" if many else ""
        fit, fits = _fit_words(summary, series)
        hold, holds = _hold_words(series)
        if not many:
            headline = _head(fit, hold, series)
        facts.append(Fact(f"Budget{end}", fits))
        facts.append(Fact(f"Accuracy{end}", holds))
        facts.append(Fact(f"Knee{end}", _knee_words(summary, series)))
        if series.best:
            facts.append(Fact(f"Best that fits{end}", _best_words(summary, series.best)))
    facts = _margin(summary) + facts
    if not summary.series:
        facts.append(Fact("Budget", _dense_fits(summary)))
        if summary.dense and summary.dense.after:
            text = f"The dense network reaches {percent(summary.dense.after)}."
            facts.append(Fact("Accuracy", text))
    if summary.ways:
        words, cost = best_words(summary), cost_words(summary)
        if words:
            headline = f"Best within the {summary.budget.name}: {words}."
            facts.insert(0, Fact("Best of all number types", capital(f"{words}.")))
        if cost:
            facts.insert(min(1, len(facts)), Fact("Number types", cost))
    if summary.failed:
        total = len(summary.points)
        facts.append(
            Fact(
                "Failed runs",
                f"{len(summary.failed)} of {plural(total, 'run')} failed and "
                + (
                    "is in no figure; its"
                    if len(summary.failed) == 1
                    else "are in no figure; their"
                )
                + " last lines stand below.",
            )
        )
    clip_s, segment_s = summary.data.clip_s, summary.budget.segment_s
    if clip_s and segment_s and clip_s != segment_s:
        facts.append(
            Fact(
                "Segment",
                f"One inference takes {clip_s:g} s of audio here; {summary.budget.name}s are for "
                f"segments of {segment_s:g} s. The verdict is on these networks as they are, not "
                "on a submission.",
            )
        )
    facts.append(Fact("Data", data_words(summary)))
    return Verdict(_status(summary), headline, tuple(facts))


def _margin(summary: Summary) -> list[Fact]:
    """The room of the best network that fits, or what the nearest one is over."""
    best = [(s, s.best) for s in summary.series if s.best and s.best.after]
    if best:
        series, level = max(best, key=lambda pair: pair[1].after.mean if pair[1].after else 0.0)
        where = f"{series.label} at {level.words}" if len(summary.series) > 1 else level.words
        return [
            Fact(
                "Margin", f"{capital(where)}, the best pruned one that fits, leaves {_room(level)}."
            )
        ]
    judged = [(s, lv) for s in summary.series for lv in s.levels if lv.budget.status == "fail"]
    if not judged or not summary.budget.limits:
        return []
    series, level = min(judged, key=lambda pair: _excess(pair[1]))
    where = f"{series.label} at {level.words}" if len(summary.series) > 1 else level.words
    over = _over(level)
    return [Fact("Margin", f"{capital(where)}, the nearest, is over: {over}.")] if over else []


def _status(summary: Summary) -> Literal["pass", "fail", "open", "unknown"]:
    statuses = [level.budget.status for level in summary.levels]
    if "pass" in statuses:
        return "pass"
    if "depends" in statuses:
        return "open"
    return "fail" if statuses and all(status == "fail" for status in statuses) else "unknown"


# -- budget ---------------------------------------------------------------------------------------


def _fit_words(summary: Summary, series: Series) -> tuple[str, str]:
    """The clause for the headline and the sentence for the facts."""
    budget = summary.budget
    if not budget.limits:
        return "", "No limit was set for this run."
    fitting = series.fitting
    open_levels = [lv for lv in series.levels if lv.budget.status in ("depends", "unknown")]
    if not fitting:
        if open_levels:
            return f"whether the {budget.name} is met is open", (
                f"Whether {budget.words} is met is open at {_open_words(open_levels)}."
                + (" No other network fits." if len(open_levels) < len(series.levels) else "")
            )
        last = min(series.levels, key=_excess)
        return (
            f"no tested ratio fits the {budget.name}",
            f"No tested network fits {budget.words}. Nearest is {last.words}: {_over(last)}.",
        )
    names = joined([level.words for level in fitting])
    dense_fits = summary.dense is not None and summary.dense.budget.status == "pass"
    if len(fitting) == len(series.levels):
        clause = (
            f"every tested ratio fits the {budget.name}"
            if len(fitting) > 1
            else f"{names} fits the {budget.name}"
        )
        also = " and the dense network fits as well" if dense_fits else ""
        text = f"{capital(names)} {_fit(fitting)} {budget.words}{also}. "
        if len(fitting) > 1:
            text = f"Every tested ratio fits {budget.words}{also}. "
    else:
        from_here = series.levels[series.levels.index(fitting[0]) :]
        if len(from_here) == len(fitting):
            clause = f"fits the {budget.name} from {fitting[0].words} on"
            text = f"Fits {budget.words} from {fitting[0].words} on"
        else:
            clause = f"fits the {budget.name} at {names}"
            text = f"Fits {budget.words} at {names}, not at the other ratios"
        text += "; the dense network fits too. " if dense_fits else ". "
    text += f"Room left at {fitting[0].words}: {_room(fitting[0])}."
    if summary.dense and not dense_fits and _over(summary.dense):
        text += f" The dense network is over: {_over(summary.dense)}."
    if open_levels:
        text += f" Open at {_open_words(open_levels)}."
    return clause, text


def _fit(levels: Sequence[Level]) -> str:
    return "fits" if len(levels) == 1 else "fit"


def _open_words(levels: Sequence[Level]) -> str:
    """At which levels a verdict is open, and why."""
    reasons = dict.fromkeys(
        f"{check.name} must be {check.asked}, this is {check.found}"
        if check.found
        else f"{check.name}: {'; '.join(check.notes) or 'not measured'}"
        for level in levels
        for check in level.budget.checks
        if check.status in ("depends", "unknown")
    )
    names = joined([level.words for level in levels])
    return f"{names} ({'; '.join(reasons)})" if reasons else names


def _excess(level: Level) -> float:
    """How far the worst check is over its limit, as a multiple of it."""
    found = [check.excess for check in level.budget.checks if check.excess is not None]
    return max(found, default=float("inf"))


def _amount(value: float, check: Check) -> str:
    """A counted size with its unit and how it was counted: 44,306 B in float16."""
    unit = "MACs" if dimension(check.unit) == "macs" else check.unit
    return " ".join(part for part in (count(value), unit, KEYS.get(check.key, "")) if part)


def _room(level: Level) -> str:
    """The margins of a level that fits: 44,306 B in float16 (34.6 % of the limit) and ..."""
    parts = [
        f"{_amount(check.margin, check)} "
        f"({percent_value(check.margin / check.limit)} % of the limit)"
        for check in level.budget.checks
        if check.margin is not None and check.limit
    ]
    return joined(parts) if parts else "not recorded"


def _over(level: Level) -> str:
    """The failed limits of a level: 88,012,345 MACs by the official count (2.93 × the limit)."""
    parts = [
        f"{_amount(check.value.high, check)} ({check.excess:.2f} × the limit)"
        for check in level.budget.checks
        if check.value is not None and check.excess is not None and check.excess > 1
    ]
    parts += [
        f"{check.name} {check.found} ({check.asked})"
        for check in level.budget.checks
        if check.found and check.status == "fail"
    ]
    return joined(parts)


# -- accuracy -------------------------------------------------------------------------------------


def _hold_words(series: Series) -> tuple[str, str]:
    tolerance = f"{100 * TOLERANCE:g} point"
    judged = [level for level in series.levels if level.change and level.ratio is not None]
    if not judged:
        return "", "Nothing to hold against: there is no dense network of the same fold and seed."
    if series.broke is None:
        last = judged[-1]
        return (
            f"accuracy holds within {tolerance} of dense up to ratio {last.name}, "
            "the largest tested",
            f"Held within {tolerance} of dense at every tested ratio; at {last.words} it is "
            f"{percent(last.after)}, {against_dense(last.change)}.",
        )
    broke = series.broke
    lost = f"{broke.words} has {percent(broke.after)}, {against_dense(broke.change)}"
    worst = min(judged, key=lambda level: level.change.mean if level.change else 0.0)
    if series.until is None:
        clause = f"accuracy is {_plain(broke)} at {broke.words} already"
        text = f"Not held within {tolerance} of dense at the smallest tested ratio: {lost}"
    else:
        held = series.until
        clause = f"accuracy holds within {tolerance} of dense up to ratio {held.name}"
        text = (
            f"Held within {tolerance} of dense up to {held.words} ({percent(held.after)}, "
            f"{against_dense(held.change)}); falls beyond: {lost}"
        )
    if worst is not broke:
        text += f"; {worst.words} has {percent(worst.after)}, {against_dense(worst.change)}"
    if series.again:
        text += f". Back within {tolerance} at {joined([level.words for level in series.again])}"
    return clause, text + "."


def _knee_words(summary: Summary, series: Series) -> str:
    knee = series.knee
    if knee is None:
        tested = [level for level in series.levels if level.ratio is not None]
        if len(tested) < 3:
            return "Too few ratios for a knee: it takes at least three and the dense network."
        first = summary.dense or tested[0]
        if first.after and tested[-1].after:
            fall = first.after.mean - tested[-1].after.mean
            if fall <= TOLERANCE + 1e-9:
                return f"No knee: the curve falls by no more than {100 * TOLERANCE:g} point."
        return "No knee: the curve nowhere lies above the straight line between its ends."
    return (
        f"The curve bends at {knee.words} ({percent(knee.after)}), the point farthest above the "
        f"straight line from {'the dense network' if summary.dense else 'the first point'} to the "
        "largest ratio."
    )


def _best_words(summary: Summary, best: Level) -> str:
    text = f"{capital(best.words)} with {percent(best.after)}"
    if best.change:
        text += f" ({against_dense(best.change)})"
    params = best.sizes.get("params")
    dense = summary.dense.sizes.get("params") if summary.dense else None
    if params:
        text += f" and {counted(params)} parameters"
        if dense and dense.mean:
            text += f", {percent_value(params.mean / dense.mean, 0)} % of the dense network's"
    return text + "."


def _plain(level: Level) -> str:
    """A change without its error, for headlines: 3.5 points below dense."""
    change = level.change
    return against_dense(Spread(1, change.mean, None, change.mean, change.mean) if change else None)


def _head(fit: str, hold: str, series: Series) -> str:
    """Both clauses in one sentence, joined by what they mean for each other."""
    if not fit or not hold:
        return capital(f"{fit or hold}.") if fit or hold else "Nothing could be judged."
    if series.fitting and series.until and series.until.ratio is not None:
        held_and_fits = [
            level
            for level in series.fitting
            if level.ratio is not None and level.ratio <= series.until.ratio
        ]
        if not held_and_fits:
            first = series.fitting[0]
            fallen = f", where accuracy is {_plain(first)}" if first.change else ""
            return capital(f"{fit}{fallen}; {hold}.")
    return capital(f"{fit}; {hold}.")


def _many_head(summary: Summary) -> str:
    """The headline of several methods: the best network within the limit."""
    number = len(summary.series)
    best = [
        (series.best.after.mean, series.label, series.best)
        for series in summary.series
        if series.best and series.best.after
    ]
    if best:
        _, label, level = max(best, key=lambda entry: entry[0])
        return (
            f"Best of {number} methods within the {summary.budget.name}: {label} at {level.words} "
            f"with {percent(level.after)}, {_plain(level)}."
        )
    if summary.budget.limits:
        return f"None of {number} methods is known to fit the {summary.budget.name}."
    return f"{number} methods compared; no limit was set."


def _dense_head(summary: Summary) -> str:
    if summary.dense is None:
        return "No run finished: there is nothing to judge."
    return "Only the dense network finished: there is no pruning curve yet."


def _dense_fits(summary: Summary) -> str:
    if not summary.budget.limits:
        return "No limit was set for this run."
    dense = summary.dense
    if dense is None or dense.budget.status in ("unknown", "depends"):
        return f"Not judged against {summary.budget.words}."
    if dense.budget.status == "pass":
        return f"The dense network fits {summary.budget.words}: {_room(dense)}."
    return f"The dense network does not fit {summary.budget.words}: {_over(dense)}."


# -- data -----------------------------------------------------------------------------------------


def data_words(summary: Summary) -> str:
    """Data set, split, folds, seeds and spread in words."""
    data = summary.data
    title = data.title
    if data.synthetic:
        title += (
            ": SYNTHETIC data, generated sounds and no recordings. The figures show how the tools "
            "behave and say nothing about real scenes"
        )
    sizes = []
    if data.n_train is not None:
        sizes.append(f"{count(data.n_train)} training clips")
    if data.n_test is not None:
        sizes.append(f"{count(data.n_test)} test clips")
    where = " in the first fold" if len(summary.folds) > 1 and sizes else ""
    parts = [", ".join(sizes) + where] if sizes else []
    if data.classes:
        parts.append(plural(len(data.classes), "class", "classes"))
    tail = f" ({', '.join(parts)})" if parts else ""
    return f"{title}. Split: {data.split}{tail}. {capital(spread_words(summary))}"


def spread_words(summary: Summary) -> str:
    """What ± means in this report, or why there is none."""
    seeds, folds = numbered("seed", summary.seeds), numbered("fold", summary.folds)
    if not summary.seeds and not summary.folds:
        return "No run finished."
    if len(summary.seeds) <= 1 and len(summary.folds) <= 1:
        return f"One run a ratio ({folds}, {seeds}): no spread can be given."
    if len(summary.seeds) <= 1:
        why = "; with one seed the spread is that between folds, not between trainings"
    elif len(summary.folds) <= 1:
        why = "; with one fold the spread is that between trainings, not between test parts"
    else:
        why = ""
    return (
        f"{folds}, {seeds}; ± is the standard deviation over them, after a difference its "
        f"standard error{why}."
    )
