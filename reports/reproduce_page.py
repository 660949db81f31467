"""The page of a reproduction: the paper's figures with ours beside, the ideas one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.confusion import confusion_chart
from reports.figures import Figure
from reports.formats import capital, joined, plural, signed
from reports.paper_charts import beside_paper, differences
from reports.reproduction import (
    ablations,
    checked,
    facts,
    heading,
    ours_of,
    paired,
    score_of,
    tables,
)
from reports.sections import Section, Shown, View, figure, section_page
from reports.verdict import Fact

__all__ = ["headline", "render"]

Record = Mapping[str, Any]

HEADINGS = {
    "paper": "Beside the paper",
    "ablation": "The paper's ideas, one by one",
    "device": "By device",
    "class": "By class",
    "confusion": "What is taken for what",
}
MAIN = "recipe"
LATE = ("System", "Paper", "Command", "Versions", "Time")  # these stand below, the others above


def render(record: Record, *, static: bool = False) -> str:
    """Build the page.

    Args:
        record: `results.json` of `compressor reproduce`.
        static: leave out what makes the charts answer to the pointer.

    Raises:
        UsageError: not a record of a reproduction.
    """
    return section_page(_view(checked(record), static), record, static=static)


def figures(record: Record) -> dict[str, Figure | None]:
    """The page's charts by name, without what makes them answer to the pointer.

    Raises:
        UsageError: not a record of a reproduction.
    """
    record = checked(record)
    return {name: next(iter(_figures(record, name, True)), None) for name in tables(record)}


def _view(record: Record, static: bool) -> View:
    said = facts(record)
    found = tables(record)
    sections = [
        Section(
            HEADINGS[name],
            name,
            figures=tuple(_figures(record, name, static)),
            tables=(Shown(table),),
        )
        for name, table in found.items()
    ]
    sections.append(
        Section(
            "What was run",
            "provenance",
            facts=tuple(fact for fact in said if fact.label in LATE),
        )
    )
    return View(
        kicker="A paper's system, trained here",
        title=heading(record),
        status="unknown",
        badge="Beside the paper",
        headline=headline(record),
        facts=tuple(fact for fact in said if fact.label not in LATE) + _synthetic(record),
        sections=tuple(sections),
        synthetic=bool(record["data"]["synthetic"]),
        made_from="results.json",
    )


def _synthetic(record: Record) -> tuple[Fact, ...]:
    if not record["data"]["synthetic"]:
        return ()
    text = "SYNTHETIC data: generated sounds, not recordings. They say nothing about the paper's."
    return (Fact("Data are", text),)


def headline(record: Record) -> str:
    """How far ours are from the published figures, and what stands between them."""
    rows = _beside(record)
    both = [row for row in rows if row["paper"] is not None]
    published = sum(row.get("accuracy") is not None for row in _published(record))
    if not both:
        text = f"None of {plural(published, 'published accuracy', 'published accuracies')} has ours"
        text += " beside it"
    else:
        far = max(both, key=lambda row: abs(row["mean"] - row["paper"]))
        change = signed(far["mean"] - far["paper"])
        text = (
            f"{len(both)} of {plural(published, 'published accuracy', 'published accuracies')} "
            f"with ours beside; the farthest is {change} points ({far['name']})"
        )
    return capital(f"{text}. {_caveat(record)}")


def _caveat(record: Record) -> str:
    """Why a difference need not mean anything, in a sentence; always there."""
    epochs, parts = record["epochs"], []
    if record["data"]["synthetic"]:
        parts.append("the data are synthetic")
    elif record["data"]["title"] != record["recipe"]["data"]:
        parts.append(f"data here: {record['data']['title']}, there: {record['recipe']['data']}")
    if epochs["trained"] != epochs["paper"]:
        parts.append(f"{epochs['trained']} of {epochs['paper']} epochs were trained")
    if not parts:
        return f"{plural(len(record['seeds']), 'seed')}."
    return f"Not the paper's conditions: {joined(parts)}."


def _published(record: Record) -> list[Record]:
    variant = record["recipe"]["variant"]
    return [row for row in record["published"]["rows"] if row["variant"] in ("", variant)]


def _beside(record: Record) -> list[dict[str, Any]]:
    """A row each published line and each of our stages without one: accuracies in %."""
    lines: list[Record] = _published(record)
    beside = {row["of"] for row in lines}
    lines += [
        {"name": stage, "of": stage}
        for stage in record["lines"][MAIN]["stages"]
        if stage not in beside
    ]
    rows = []
    for line in lines:
        ours = score_of(ours_of(record, line["of"]), "macro_accuracy")
        if ours is None:
            continue
        rows.append(
            {
                "name": str(line["name"]),
                "paper": line.get("accuracy"),
                "mean": 100 * ours.mean,
                "sd": 100 * (ours.sd or 0.0),
                "n": ours.n,
                "source": str(line.get("source") or ""),
            }
        )
    return rows


def _figures(record: Record, name: str, static: bool) -> list[Figure]:
    data, seeds = record["data"], plural(len(record["seeds"]), "seed")
    kind = "synthetic data, " if data["synthetic"] else ""
    source = f"Data: {data['title']} ({kind}{data['split']}; {seeds})."
    if name == "paper":
        text = (
            "Accuracy, mean over classes: published (diamond) and ours (circle, bar ± one standard "
            f"deviation over seeds). Published figures are of {record['recipe']['data']}. {source}"
        )
        return list(figure(beside_paper(_beside(record), text, "paper"), text, static=static))
    if name == "ablation":
        text = (
            "What leaving one idea away changes, in points, paired by seed; below 0 the idea "
            f"helps. Bars show ± the standard error over seeds. {source}"
        )
        rows = _ablations(record)
        return list(figure(differences(rows, text, "ablation"), text, static=static))
    if name == "confusion":
        stages = record["lines"][MAIN]["stages"]
        stage = list(stages)[-1]
        counted = [run["evaluation"]["confusion"] for run in stages[stage]]
        places = range(len(data["classes"]))
        counts = [[sum(int(one[i][j]) for one in counted) for j in places] for i in places]
        text = f"Share of the clips of a true class (row) in %, {stage}, all seeds. {source}"
        chart = confusion_chart(counts, data["classes"], text, "confusion")
        return list(figure(chart, text, static=static))
    return []


def _ablations(record: Record) -> list[dict[str, Any]]:
    rows = []
    for name, about, stage, ours, runs in ablations(record):
        change, _ = paired(ours, runs, "macro_accuracy")
        if change is None:
            continue
        rows.append(
            {
                "name": name if stage == "dense" else f"{name}, {stage}",
                "about": str(about),
                "change": 100 * change.mean,
                "se": 100 * (change.se or 0.0),
                "n": change.n,
            }
        )
    return rows
