"""How a ranking is shown: a table, CSV or a plain record, and what would raise one system."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from compressor.audit.ranking import TIES, standings
from compressor.audit.rules import EVIDENCE
from compressor.audit.standing import Standing, places_by_ties
from compressor.cli.text import columns, printable

if TYPE_CHECKING:
    from compressor.audit.rules import Rules
    from compressor.audit.systems import Table
    from compressor.audit.whatif import Step

__all__ = ["headline", "record", "standing_lines", "text", "write_csv"]

MIN_NAME = 10  # characters that a name keeps on a narrow terminal
MAX_ROWS = 8  # of what-if and of the tie rules; JSON holds them all


def _ranked(table: Table, ties: str) -> dict[str, list[Any]]:
    """Columns of the ranking, best first: place, name, score, each figure and its rank."""
    found = standings(table.values(), table.criteria, ties)
    order = found.order().tolist()
    named = {
        "place": found.places().tolist(),
        "name": table.names,
        "score": _whole(found.scores().tolist()),
    }
    figures = list(zip(*table.rows, strict=True)) or [()] * len(table.criteria)
    for at, criterion in enumerate(table.criteria):
        named[criterion.column] = _whole(figures[at])
        named[f"rank_{criterion.column}"] = _whole((found.ranks2[:, at] / 2).tolist())
    return {key: [values[index] for index in order] for key, values in named.items()}


def _moved(table: Table) -> list[dict[str, Any]]:
    """Systems whose place depends on the tie rule: name, and place under each rule, best first."""
    places = places_by_ties(table)
    rows = list(zip(table.names, *(places[rule] for rule in TIES), strict=True))
    moved = [row for row in rows if len(set(row[1:])) > 1]
    return [dict(zip(("name", *TIES), row, strict=True)) for row in sorted(moved, key=_places_of)]


def _places_of(row: tuple[Any, ...]) -> tuple[int, ...]:
    return row[1:]


def record(table: Table, rules: Rules, ties: str, standing: Standing | None) -> dict[str, Any]:
    """Everything as plain data; identical input gives an identical record."""
    moved, ranked = _moved(table), _ranked(table, ties)
    whole: dict[str, Any] = {
        "schema": 1,
        "rules": rules.label,
        "ranked_by": rules.ranked_by,
        "evidence": rules.ranked_by_evidence,
        "weights": {criterion.column: criterion.weight for criterion in table.criteria},
        "ties": ties,
        "order_depends_on_ties": bool(moved),
        "changed_by_ties": moved,
        "systems": [
            dict(zip(ranked, row, strict=True)) for row in zip(*ranked.values(), strict=True)
        ],
    }
    if standing is not None:
        whole["what_if"] = standing.to_dict()
    return whole


def write_csv(table: Table, ties: str, stream: TextIO) -> None:
    """Writes the ranking as CSV, names without what could steer a terminal."""
    ranked = _ranked(table, ties)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(ranked)
    ranked["name"] = [printable(name) for name in ranked["name"]]
    writer.writerows(zip(*ranked.values(), strict=True))


def headline(table: Table, ties: str, asked: int | None = None) -> str:
    """Who is first and by how much, or where the system stands that is asked about.

    The margin is that of the score, where one figure ranks that of the figure; a score is better
    the lower it is.

    Args:
        table: all systems.
        ties: tie rule of the scores.
        asked: index of a system; None for the first place.
    """
    if not table.names:
        return "NO SYSTEM to rank"
    found = standings(table.values(), table.criteria, ties)
    places, order = found.places().tolist(), found.order().tolist()
    values, what = found.scores().tolist(), "score"
    if len(table.criteria) == 1:
        values, what = [row[0] for row in table.rows], table.criteria[0].column
    at = order[0] if asked is None else asked
    place, own = places[at], values[at]
    equal = [index for index in order if places[index] == place]
    of = f"PLACE {place:,} of {len(order):,}: {printable(table.names[at])}"
    shared = "" if len(equal) == 1 else f" (shared by {len(equal):,})"
    said = f"{of}{shared}, {what} {_cell(*_whole([own]))}"
    ahead = [index for index in order if places[index] < place]
    behind = [index for index in order if places[index] > place]
    for others, word in ((ahead[-1:], "behind"), ([] if ahead else behind[:1], "ahead of")):
        for other in others:
            room = float(f"{abs(values[other] - own):.6g}")
            name = printable(table.names[other])
            return f"{said}, {_cell(room)} {word} place {places[other]:,} ({name})"
    return said


def text(
    table: Table,
    rules: Rules,
    ties: str,
    standing: Standing | None,
    width: int | None = None,
) -> Iterator[str]:
    """The table, what would raise a system, where the tie rule matters, and what it follows.

    Args:
        table: all systems.
        rules: whose ranking it is.
        ties: tie rule of the table.
        standing: of the system that is asked about; None for none.
        width: columns of the terminal, to which names are cut; None for no limit.
    """
    single = len(table.criteria) == 1  # one figure: its rank and the score say nothing new
    header, keys = ["place", "name"], ["place", "name"]
    if not single:
        header, keys = [*header, "score"], [*keys, "score"]
    for criterion in table.criteria:
        header += [criterion.column] if single else [criterion.column, "rank"]
        keys += [criterion.column] if single else [criterion.column, f"rank_{criterion.column}"]
    ranked = _ranked(table, ties)
    cells = [[_cell(value) for value in ranked[key]] for key in keys]
    lines = columns(header, list(zip(*cells, strict=True)), left={1})
    over = max(map(len, lines)) - width if width is not None else 0
    if over > 0:
        most = max(MIN_NAME, max(map(len, cells[1])) - over)
        cells[1] = [_cut(name, most) for name in cells[1]]
        lines = columns(header, list(zip(*cells, strict=True)), left={1})
    yield from lines
    yield ""
    if standing is not None:
        yield from standing_lines(standing, table)
        yield ""
    moved = _moved(table)
    if moved:
        yield "the order depends on the tie rule; places under dense, min and average:"
        for row in moved[:MAX_ROWS]:
            found = ", ".join(f"{row[rule]:,}" for rule in TIES)
            yield printable(f"  {row['name']}: {found}")
        if len(moved) > MAX_ROWS:
            yield f"  and {len(moved) - MAX_ROWS:,} more (--format json lists them)"
    elif not single:
        yield "the order is the same under every tie rule"
    by = rules.ranked_by or "the [[ranking]] tables of the file"
    yield f"{printable(rules.label)}: ranked by {printable(by)}"
    mark = rules.ranked_by_evidence
    if mark != "V":
        yield f"source: {mark}, {EVIDENCE[mark]}"


def standing_lines(standing: Standing, table: Table) -> Iterator[str]:
    """Where one system stands, and what each figure alone would have to become to raise it."""
    name = printable(standing.name)
    others = [f"{rule} {place:,}" for rule, place in standing.places.items()]
    same = len(set(standing.places.values())) == 1
    rest = "" if same else f"; {', '.join(p for p in others if not p.startswith(standing.ties))}"
    place = f"{name}: place {standing.place:,} of {standing.of:,}"
    if len(standing.ranks) == 1:  # one figure: no score, and ties only share a place
        yield place
    else:
        yield f"{place}, score {_cell(standing.score)} (ties: {standing.ties}{rest})"
    reached = sorted(
        {step.place for steps in standing.steps.values() for step in steps}, reverse=True
    )
    if standing.place == 1:
        return
    if not reached:
        yield "no change of one figure alone gains a place"
        return
    shown = reached if len(reached) <= MAX_ROWS else [*reached[: MAX_ROWS - 1], reached[-1]]
    ends = {criterion.column: criterion.best for criterion in table.criteria}
    yield "what one figure alone would have to become (change) for a place:"
    rows = [
        [
            f"{place:,}",
            *(
                _needed(place, steps, ends[column] == "highest")
                for column, steps in standing.steps.items()
            ),
        ]
        for place in shown
    ]
    yield from columns(["place", *standing.steps], rows, left=set(range(1, 1 + len(ends))))
    if len(shown) < len(reached):
        yield f"{len(reached) - len(shown):,} places between are left out (--format json has all)"


def _needed(place: int, steps: tuple[Step, ...], highest: bool) -> str:
    """The smallest change that reaches this place or a better one."""
    step = next((step for step in steps if step.place <= place), None)
    if step is None:
        return "-"
    bound = ("over " if highest else "under ") if step.beyond else ""
    change = _cell(float(f"{step.change:.6g}"))
    return f"{bound}{_cell(step.value)} ({'' if step.change < 0 else '+'}{change})"


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _whole(values: Iterable[float]) -> list[float]:
    """Numbers without a fraction as integers, so that they read 128,000 and not 128,000.0."""
    return [int(value) if value.is_integer() else value for value in values]


def _cell(value: object) -> str:
    if isinstance(value, str):
        return printable(value)
    return f"{int(value) if isinstance(value, float) and value.is_integer() else value:,}"
