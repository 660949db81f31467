"""Every method in every number type: which is the best at its size, as a table and in words."""

from __future__ import annotations

from collections.abc import Sequence

from reports.formats import (
    NONE,
    average,
    capital,
    counted,
    decimal,
    percent,
    points,
    signed,
)
from reports.spread import Spread
from reports.summary import Level, Summary, Way
from reports.tables import Table, verdict_cell

__all__ = [
    "Entry",
    "best_entry",
    "best_words",
    "cost_words",
    "entries",
    "entry_name",
    "front",
    "stored_bytes",
    "ways_table",
]

JUDGED_AS = "float16"  # the number type in which the sweep judges its float32 networks

Entry = tuple[Way, Level]
"""A network: the way it was made and stored, and its ratio."""


def stored_bytes(way: Way, level: Level) -> Spread | None:
    """Bytes of the parameters as they are stored; older records do not say them for float32."""
    own = level.sizes.get("bytes_stored")
    if own is None and way.quantize == "none":
        return level.sizes.get("bytes_float32")
    return own


def entries(summary: Summary) -> list[Entry]:
    """Every network once: the dense one of a number type belongs to all its methods."""
    found: dict[int, Entry] = {}
    for way in summary.ways:
        for level in way.levels:
            found.setdefault(id(level), (way, level))
    return list(found.values())


def entry_name(summary: Summary, entry: Entry) -> str:
    """A network in a table: method and ratio, the method only where there are several."""
    way, level = entry
    dense = level.target is None and not level.ratio
    many = len({way.method for way in summary.ways}) > 1
    return level.name if dense or not many else f"{way.method} {level.name}"


def front(found: Sequence[Entry]) -> list[Entry]:
    """The networks that no other beats in both: none as small or smaller is as accurate."""
    scored = [
        (size.mean, -level.after.mean, place)
        for place, (way, level) in enumerate(found)
        if level.after and (size := stored_bytes(way, level))
    ]
    best: list[Entry] = []
    level_so_far = 0.0
    for _, negative, place in sorted(scored):
        if not best or negative < level_so_far:
            best.append(found[place])
            level_so_far = negative
    return best


def best_entry(summary: Summary) -> Entry | None:
    """The most accurate network that fits the budget; of equals the smallest.

    float32 networks are judged as float16, as they would be handed in: where float16 ones were
    measured, those stand for them.
    """
    measured = any(way.quantize == "fp16" for way in summary.ways)
    fitting = [
        (level.after.mean, -size.mean, way, level)
        for way, level in entries(summary)
        if level.after
        and level.budget.status == "pass"
        and not (measured and way.quantize == "none")
        and (size := handed_in(way, level)) is not None
    ]
    if not fitting:
        return None
    _, _, way, level = max(fitting, key=lambda found: found[:2])
    return way, level


def handed_in(way: Way, level: Level) -> Spread | None:
    """Bytes that the verdict is about: of float32 networks those in float16."""
    if way.quantize == "none":
        return level.sizes.get("bytes_float16")
    return stored_bytes(way, level)


def best_words(summary: Summary) -> str:
    """`best_entry` in words: slimming at ratio 0.50 as int8 QAT with 81.0 % in 9,492 B."""
    entry = best_entry(summary)
    if entry is None:
        return ""
    way, level = entry
    dense = level.target is None and not level.ratio
    many = len({one.method for one in summary.ways}) > 1
    what = level.words if dense or not many else f"{way.method} at {level.words}"
    name = JUDGED_AS if way.quantize == "none" else way.type_name
    return f"{what} as {name} with {percent(level.after)} in {counted(handed_in(way, level))} B"


def cost_words(summary: Summary) -> str:
    """What each number type costs against float32 of the same network, in points."""
    sentences = []
    for name in dict.fromkeys(way.quantize for way in summary.ways):
        mine = [(w, lv) for w, lv in entries(summary) if w.quantize == name and lv.to_float]
        changes = [100 * level.to_float.mean for _, level in mine if level.to_float]
        if not changes:
            continue
        worst = min(range(len(changes)), key=changes.__getitem__)
        text = f"{mine[0][0].type_name} {signed(sum(changes) / len(changes))} points on average"
        if len(changes) > 1:
            text += f", at worst {signed(changes[worst])} ({entry_name(summary, mine[worst])})"
        sentences.append(text)
    if not sentences:
        return ""
    return f"Against float32 of the same network: {capital('; '.join(sentences))}."


def ways_table(summary: Summary) -> Table | None:
    """Accuracy against stored bytes of every network, by size."""
    found = entries(summary)
    if not found:
        return None
    marked = {id(level) for _, level in front(found)}
    sized = [(stored_bytes(way, level), way, level) for way, level in found]
    order = sorted(sized, key=lambda one: -one[0].mean if one[0] else 0.0)
    rows = [
        (
            entry_name(summary, (way, level)),
            way.type_name,
            average(size),
            average(level.sizes.get("nonzero_params")),
            average(level.sizes.get("macs")),
            percent(level.after, unit=False),
            points(level.change, unit=False) if level is not summary.dense else NONE,
            points(level.to_float, unit=False),
            decimal(level.log_loss),
            verdict_cell(level.budget) + (f", as {JUDGED_AS}" if way.quantize == "none" else ""),
            "best" if id(level) in marked else "",
        )
        for size, way, level in order
    ]
    data = summary.data
    where = f"{data.title}{', synthetic data' if data.synthetic else ''}, {data.split}"
    return Table(
        caption=f"Every method in every number type on {where}, the largest file first: means over "
        "the runs, accuracy in %, changes in points. Bytes are those of the stored parameters; "
        "int8 accuracy was measured in onnxruntime. Best: no other is as small and as accurate.",
        columns=(
            "network",
            "type",
            "bytes",
            "non-zero",
            "MACs",
            "accuracy",
            "change against dense",
            "change against float32",
            "log loss",
            summary.budget.name if summary.budget.limits else "limit",
            "at its size",
        ),
        rows=tuple(rows),
        texts=frozenset({0, 1, 9, 10}),
        row_marks=tuple("knee" if row[-1] == "best" else "" for row in rows),
    )
