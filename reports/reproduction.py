"""A reproduction record as tables: the paper's figures with ours beside them, and what it is worth.

Every table names data set, seeds and spread in its caption. ± is the sample standard deviation over
seeds where it stands behind a figure, and the standard error behind a difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from compressor.errors import UsageError
from reports.formats import (
    NONE,
    average,
    count,
    decimal,
    duration,
    joined,
    numbered,
    percent,
    percent_value,
    plural,
    points,
    signed,
)
from reports.spread import Spread, spread
from reports.tables import Table
from reports.verdict import Fact

__all__ = [
    "ablations",
    "checked",
    "facts",
    "heading",
    "long_rows",
    "ours_of",
    "paired",
    "score_of",
    "tables",
]

SCHEMA = 1
MAIN = "recipe"
_SMALL = 12  # classes that a confusion matrix is readable for

Row = Mapping[str, Any]


def checked(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record itself, if it is one that can be shown.

    Raises:
        UsageError: something else, or written by a newer version.
    """
    if record.get("kind") != "reproduction":
        raise UsageError("this is no record of `compressor reproduce`; give its results.json")
    if record.get("schema") != SCHEMA:
        raise UsageError(
            f"the record has schema {record.get('schema')!r}, this version reads {SCHEMA}: update "
            "compressor, or run `compressor reproduce` again"
        )
    return record


def heading(record: Mapping[str, Any]) -> str:
    """One line: what was run on what."""
    return f"{record['recipe']['id']} on {record['data']['title']}"


def tables(record: Mapping[str, Any]) -> dict[str, Table]:
    """All tables that have something to show, by name."""
    record = checked(record)
    found: dict[str, Table] = {"paper": _paper(record)}
    if any(name != MAIN for name in record["lines"]):
        found["ablation"] = _ablation(record)
    for group in ("device", "class"):
        table = _by(record, group)
        if table.rows:
            found[group] = table
    confusion = _confusion(record)
    if confusion is not None:
        found["confusion"] = confusion
    return found


def facts(record: Mapping[str, Any]) -> list[Fact]:
    """What a reader must know before the figures."""
    record = checked(record)
    recipe, data, epochs = record["recipe"], record["data"], record["epochs"]
    labels = [f"{recipe['title']} ({recipe['about']})" if recipe["about"] else recipe["title"]]
    shown = [
        Fact("System", labels[0]),
        Fact("Paper", recipe["paper"]),
        Fact(
            "Data",
            f"{data['title']}{', synthetic' if data['synthetic'] else ''}, {data['split']}: "
            f"{data['train_clips']:,} training clips, {data['test_clips']:,} test clips of "
            f"{data['clip_s']:g} s, {plural(len(data['classes']), 'class', 'classes')}; the "
            f"paper's figures are of {recipe['data']}",
        ),
        Fact("Training", _budget(epochs)),
        Fact("Runs", f"{numbered('seed', record['seeds'])}; {_standard_error(record)}"),
    ]
    shown += [Fact("Not as in the paper", note) for note in record["notes"]]
    for name, line in record["lines"].items():
        shown += [Fact(f"Not as in the paper, {name}", note) for note in line["notes"]]
    shown += [Fact("Open in the paper", note) for note in recipe["notes"]]
    seconds = spread(one.get("epoch_s") for one in record["lines"][MAIN]["stages"].get("dense", ()))
    if seconds is not None:
        shown.append(Fact("Wall time", f"{duration(seconds.mean)} an epoch (dense network)"))
    made = record["provenance"]
    shown.append(Fact("Command", " ".join(map(str, made["command"]))))
    shown.append(Fact("Versions", _versions(made)))
    return shown


def long_rows(record: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of a CSV file: one row for each line, stage and seed."""
    header = [
        "recipe", "data", "line", "stage", "seed", "epochs", "params", "nonzero_params",
        "param_bytes", "macs", "macs_official", "accuracy", "macro_accuracy", "log_loss", "clips",
        "measured_in",
    ]  # fmt: skip
    rows = []
    for one in _runs(checked(record)):
        scores = one["evaluation"]
        rows.append(
            [record["recipe"]["id"], record["data"]["title"]]
            + [one[name] for name in header[2:11]]
            + [scores[name] for name in header[11:14]]
            + [scores["n"], one["measured_in"]]
        )
    return header, rows


def _runs(record: Mapping[str, Any]) -> Iterable[Row]:
    for line in record["lines"].values():
        for runs in line["stages"].values():
            yield from runs


def _budget(epochs: Mapping[str, int]) -> str:
    if epochs["trained"] == epochs["paper"]:
        return plural(epochs["paper"], "epoch")
    return (
        f"{plural(epochs['trained'], 'epoch')} of the recipe's {epochs['paper']}: a budget, not "
        "the paper's training"
    )


def _standard_error(record: Mapping[str, Any]) -> str:
    """How far chance alone moves one accuracy."""
    n = record["data"]["test_clips"]
    shares = [one["evaluation"]["macro_accuracy"] for one in _runs(record)]
    worst = max((math.sqrt(share * (1 - share) / n) for share in shares), default=0.0)
    return (
        f"one accuracy on {n:,} test clips has a standard error of up to {100 * worst:.1f} points"
    )


def _where(record: Mapping[str, Any]) -> str:
    data, seeds = record["data"], record["seeds"]
    synthetic = ", synthetic data" if data["synthetic"] else ""
    many = f"± over {plural(len(seeds), 'seed')}" if len(seeds) > 1 else "one seed, no spread"
    trained, full = record["epochs"]["trained"], record["epochs"]["paper"]
    budget = "" if trained == full else f", {trained} of {full} epochs"
    return f"{data['title']}{synthetic}, {data['split']}{budget}, {many}"


def ours_of(record: Mapping[str, Any], of: str) -> Sequence[Row]:
    """Our runs that stand beside a published line; none where they were not made."""
    if not of:
        return ()
    if of.startswith("ablation "):
        line = record["lines"].get(of.removeprefix("ablation "))
        return () if line is None else line["stages"].get("dense", ())
    found: Sequence[Row] = record["lines"][MAIN]["stages"].get(of, ())
    return found


def score_of(runs: Sequence[Row], name: str) -> Spread | None:
    """Mean and spread of a figure over the seeds."""
    return spread(one["evaluation"][name] for one in runs)


def _paper(record: Mapping[str, Any]) -> Table:
    """The paper's table with ours beside it; what only we have stands below."""
    variant = record["recipe"]["variant"]
    lines = [row for row in record["published"]["rows"] if row["variant"] in ("", variant)]
    beside = {row["of"] for row in lines}
    lines += [
        {"name": stage, "of": stage, "source": ""}
        for stage in record["lines"][MAIN]["stages"]
        if stage not in beside
    ]
    columns = (
        "system", "our stage", "parameters, paper", "parameters", "size, paper", "bytes",
        "MACs, paper", "MACs, official", "accuracy %, paper", "accuracy %", "log loss, paper",
        "log loss", "source",
    )  # fmt: skip
    rows = []
    for row in lines:
        runs = ours_of(record, row["of"])
        accuracy, loss = row.get("accuracy"), row.get("log_loss")
        rows.append(
            (
                row["name"],
                row["of"] or NONE,
                row.get("params") or NONE,
                average(spread(one["params"] for one in runs)),
                row.get("size") or NONE,
                average(spread(one["param_bytes"] for one in runs)),
                row.get("macs") or NONE,
                average(spread(one["macs_official"] for one in runs)),
                NONE if accuracy is None else f"{accuracy:g}",
                percent(score_of(runs, "macro_accuracy"), unit=False),
                NONE if loss is None else f"{loss:.3f}",
                decimal(score_of(runs, "log_loss")),
                row["source"] or NONE,
            )
        )
    caption = (
        f"Published figures ({record['recipe']['data']}) and ours ({_where(record)}); accuracy is "
        "the mean over classes."
    )
    return _without_empty(Table(caption, columns, tuple(rows), frozenset({0, 1, 12})))


def _without_empty(table: Table) -> Table:
    """The table without columns in which no row has anything."""
    kept = [i for i in range(len(table.columns)) if any(row[i] != NONE for row in table.rows)]
    return Table(
        table.caption,
        tuple(table.columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in table.rows),
        frozenset(place for place, i in enumerate(kept) if i in table.texts),
    )


def paired(
    ours: Sequence[Row], others: Sequence[Row], name: str
) -> tuple[Spread | None, list[float]]:
    """Differences other - ours of the seeds that both have."""
    mine = {one["seed"]: one["evaluation"][name] for one in ours}
    differences = [
        one["evaluation"][name] - mine[one["seed"]] for one in others if one["seed"] in mine
    ]
    return spread(differences), differences


def ablations(
    record: Mapping[str, Any],
) -> Iterator[tuple[str, str, str, Sequence[Row], Sequence[Row]]]:
    """Each ablation line at each stage it is compared at.

    Yields:
        (name, what is different, stage, runs of the recipe, runs of the line).
    """
    for name, line in record["lines"].items():
        if name == MAIN:
            continue
        for stage, runs in line["stages"].items():
            if stage in (line["compare"] or ["dense"]):
                ours = record["lines"][MAIN]["stages"].get(stage, ())
                yield name, line["about"], stage, ours, runs


def _ablation(record: Mapping[str, Any]) -> Table:
    """Each idea left away, against everything, seed by seed."""
    rows = []
    for name, about, stage, ours, runs in ablations(record):
        change, single = paired(ours, runs, "macro_accuracy")
        loss, _ = paired(ours, runs, "log_loss")
        rows.append(
            (
                name,
                about,
                stage,
                percent(score_of(ours, "macro_accuracy"), unit=False),
                percent(score_of(runs, "macro_accuracy"), unit=False),
                points(change, unit=False),
                _signed_loss(loss),
                f"{sum(one < 0 for one in single)} of {len(single)}",
            )
        )
    caption = (
        f"Each of the paper's ideas left away, compared seed by seed ({_where(record)}); a "
        "difference below 0 says that the idea helps, ± is its standard error over seeds."
    )
    columns = (
        "line", "what is different", "stage", "accuracy %, recipe", "accuracy %, line",
        "difference, points", "log loss, difference", "seeds with less",
    )  # fmt: skip
    return Table(caption, columns, tuple(rows), frozenset({0, 1, 2}))


def _signed_loss(change: Spread | None) -> str:
    if change is None:
        return NONE
    text = signed(change.mean, 3)
    return text if change.se is None else f"{text} ± {change.se:.3f}"


def _by(record: Mapping[str, Any], group: str) -> Table:
    """Figures by device or class: the paper's where it has some, and ours of the same stages."""
    variant = record["recipe"]["variant"]
    published = [
        one
        for one in record["published"]["by"]
        if one["group"] == group and one["variant"] in ("", variant)
    ]
    stages = list(dict.fromkeys(one["of"] for one in published)) or ["dense"]
    columns = [group]
    runs_of = {stage: ours_of(record, stage) for stage in stages}
    cells: dict[str, list[str]] = {
        name: [name]
        for runs in runs_of.values()
        for run in runs
        for name in run["evaluation"][f"{group}_log_loss"]
    }
    for stage, runs in runs_of.items():
        for figure, word in (("accuracy", "accuracy %"), ("log_loss", "log loss")):
            theirs = next(
                (one for one in published if (one["of"], one["figure"]) == (stage, figure)), None
            )
            if theirs is not None and set(theirs["values"]) & set(cells):
                columns.append(f"{word}, paper ({theirs['source']})")
                for name, row in cells.items():
                    row.append(_published(theirs["values"].get(name), figure))
            columns.append(f"{word}, {stage}")
            for name, row in cells.items():
                values = [r["evaluation"][f"{group}_{figure}"].get(name) for r in runs]
                found = spread(values)
                row.append(percent(found, unit=False) if figure == "accuracy" else decimal(found))
    caption = f"By {group} ({_where(record)}); published figures are of {record['recipe']['data']}."
    return Table(caption, tuple(columns), tuple(tuple(row) for row in cells.values()))


def _published(value: float | None, figure: str) -> str:
    if value is None:
        return NONE
    return f"{value:g}" if figure == "accuracy" else f"{value:.3f}"


def _confusion(record: Mapping[str, Any]) -> Table | None:
    """Which class is taken for which, in % of the true class, over all seeds of the last stage."""
    classes: list[str] = record["data"]["classes"]
    stages = record["lines"][MAIN]["stages"]
    if not stages or len(classes) > _SMALL:
        return None
    stage = list(stages)[-1]
    counted = [run["evaluation"]["confusion"] for run in stages[stage]]
    places = range(len(classes))
    total = [[sum(one[i][j] for one in counted) for j in places] for i in places]
    rows, shades = [], []
    for name, counts in zip(classes, total, strict=True):
        clips = sum(counts)
        shares = [value / clips if clips else None for value in counts]
        rows.append((name, count(clips), *(percent_value(share, 0) for share in shares)))
        shades.append((None, None, *(None if s is None else min(9, int(10 * s)) for s in shares)))
    caption = (
        f"Rows: true class; columns: share in % that was taken for it, {stage} "
        f"({joined([plural(len(record['seeds']), 'seed')])} added up; {_where(record)})."
    )
    return Table(caption, ("class", "clips", *classes), tuple(rows), shades=tuple(shades))


def _versions(made: Mapping[str, Any]) -> str:
    versions = made["versions"]
    named = [
        f"{name} {versions[name]}" for name in ("compressor", "torch", "numpy") if name in versions
    ]
    commit = f", commit {made['commit']}" if made.get("commit") else ""
    return f"{', '.join(named)}{commit}, {made['platform']}"
