"""The page of an audit: one file or several, each with verdict, limits, layers and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.audit_words import (
    check_document,
    figure_facts,
    headline,
    in_short,
    layer_table,
    limit_rows,
    limits_table,
    short_name,
    status_of,
)
from reports.figures import Figure
from reports.formats import NONE, change, count, plural, year_ranges
from reports.layer_charts import layer_costs
from reports.limit_charts import limit_bars, model_bars
from reports.sections import Section, Shown, View, figure, section_page
from reports.tables import Table
from reports.verdict import Fact

__all__ = ["models_table", "render", "view_of"]

Record = Mapping[str, Any]

BADGES = {"pass": "Pass", "fail": "Fail", "open": "Open", "unknown": "Not judged"}


def render(document: Record, *, static: bool = False) -> str:
    """Build the page of an audit.

    Args:
        document: what `compressor audit --format json` writes.
        static: leave out what makes the charts answer to the pointer.

    Raises:
        UsageError: it is no such record.
    """
    checked = check_document(document)
    return section_page(view_of(checked, static=static), checked, static=static)


def view_of(document: Record, *, static: bool, compare: bool = False) -> View:
    """What the page shows.

    Args:
        document: a checked record.
        static: charts are pictures only.
        compare: the files are sides of a comparison: the first is what the others are held against.
    """
    files: Sequence[Record] = document["files"]
    sections: list[Section] = []
    if len(files) > 1:
        sections += _side_by_side(files, static, compare=compare)
    for index, file in enumerate(files):
        sections += _file_sections(file, index, len(files), static)
    sections.append(_origin(document))
    kicker = "Comparison of models" if compare else "Audit"
    if len(files) == 1:
        only = files[0]
        facts = () if "error" in only else tuple(figure_facts(only))
        status = status_of(only)
        return View(
            kicker=kicker,
            title=f"{short_name(only['file'])}: audit",
            status=status,
            badge=BADGES[status] if "error" not in only else "Not measured",
            headline=headline(only),
            facts=facts,
            sections=tuple(sections),
            made_from="the record of an audit",
        )
    states = [status_of(file) for file in files]
    worst = next((s for s in ("fail", "unknown", "open") if s in states), "pass")
    counts = [
        f"{states.count(state)} {word}"
        for state, word in (
            ("pass", "pass all rules"),
            ("fail", "over a limit of some year"),
            ("open", "in doubt"),
            ("unknown", "not judged"),
        )
        if state in states
    ]
    return View(
        kicker=kicker,
        title=f"{plural(len(files), 'model')} side by side" if compare else f"{len(files)} audits",
        status=worst,
        badge=BADGES[worst],
        headline=(_smallest(files) if compare else "")
        + f"{plural(len(files), 'file')}: {', '.join(counts)}.",
        facts=tuple(
            Fact(
                short_name(file["file"]),
                headline(file) + ("" if "error" in file else f" {in_short(file)}."),
            )
            for file in files
        ),
        sections=tuple(sections),
        made_from="the record of an audit",
    )


def _smallest(files: Sequence[Record]) -> str:
    """Which side has the fewest bytes, and by how much against the first."""
    done = [file for file in files if "error" not in file]
    if len(done) < 2 or done[0] is not files[0]:
        return ""  # nothing to hold against, or what was named first could not be measured
    labels, base = _labels(done), done[0]["audit"]
    at = min(range(len(done)), key=lambda index: done[index]["audit"]["param_bytes"])
    best = done[at]["audit"]
    saved = base["param_bytes"] - best["param_bytes"]
    if not saved:
        return f"None has fewer bytes than {labels[0]}. "
    said = f"{labels[at]} has the fewest bytes, {count(saved)} below {labels[0]}"
    said += f" ({_change(best['param_bytes'], base['param_bytes'])} %)"
    if best["macs"] is not None and base["macs"]:
        said += f", with {_change(best['macs'], base['macs'])} % MACs"
    return f"{said}. "


def _side_by_side(files: Sequence[Record], static: bool, *, compare: bool) -> list[Section]:
    done = [file for file in files if "error" not in file]
    figures: list[Figure] = []
    for key, title in (("param_bytes", "bytes of the parameters"), ("macs", "MACs")):
        rows = [
            {
                "name": name,
                "value": file["audit"][key],
                "text": count(file["audit"][key]),
            }
            for name, file in zip(_labels(done), done, strict=True)
            if file["audit"][key] is not None
        ]
        caption = f"{title[0].upper()}{title[1:]} of each file."
        chart = model_bars(rows, title, caption, f"models-{key.replace('_', '-')}")
        figures += figure(chart, caption, static=static)
    tables = [Shown(models_table(files))]
    found = _layer_changes(done) if compare and len(done) > 1 else None
    if found:
        tables.append(Shown(found, "Layer by layer", sortable=True))
    return [Section("Side by side", "models", figures=tuple(figures), tables=tuple(tables))]


def _labels(files: Sequence[Record]) -> list[str]:
    """Short names; whole paths where short ones would not tell the files apart."""
    names = [short_name(file["file"]) for file in files]
    if len(set(names)) < len(names):
        names = [str(file["file"]) for file in files]
    if len(set(names)) < len(names):
        names = [f"{index + 1}: {name}" for index, name in enumerate(names)]
    return names


def models_table(files: Sequence[Record]) -> Table:
    """Figures of several files, a row each, with the change against the first one measured."""
    base: Record = next((file["audit"] for file in files if "error" not in file), {})
    rows = []
    for file in files:
        if "error" in file:
            rows.append((file["file"], "not measured", *([NONE] * 9), str(file["error"])))
            continue
        audit = file["audit"]
        years = [str(v["label"]) for v in file.get("verdicts", ()) if v["status"] == "pass"]
        changes = (_change(audit[key], base[key]) for key in ("params", "param_bytes", "macs"))
        by_params, by_bytes, by_macs = changes
        rows.append(
            (
                file["file"],
                str(audit["status"]),
                count(audit["params"]),
                by_params,
                count(audit["nonzero_params"]),
                count(audit["param_bytes"]),
                by_bytes,
                count(audit["macs"]),
                by_macs,
                count(audit["macs_by_convention"].get("nessi")),
                count(audit["peak_activation_bytes"]),
                year_ranges(years) or "none",
            )
        )
    return Table(
        caption="Figures of every file; change in % against the first one.",
        columns=(
            *("file", "status", "parameters", "change, %", "non-zero", "bytes", "change, %"),
            *("MACs", "change, %", "official MACs", "peak activation bytes", "passes"),
        ),
        rows=tuple(rows),
        texts=frozenset({0, 1, 11}),
        what="models",
    )


def _change(value: float | None, base: float | None) -> str:
    if value is None or not base:
        return NONE
    return change(100.0 * (value - base) / base)


def _layer_changes(files: Sequence[Record]) -> Table | None:
    """Parameters and MACs by layer, a pair of columns a file; layers are matched by name."""
    names = dict.fromkeys(row["name"] for file in files for row in file["audit"]["layers"])
    found = []
    for file in files:
        mine: dict[str, list[int]] = {}
        for row in file["audit"]["layers"]:
            pair = mine.setdefault(row["name"], [0, 0])
            pair[0] += row["params"]
            pair[1] += row["macs"]
        found.append(mine)
    labels = _labels(files)
    rows = tuple(
        (
            name or "(whole network)",
            *(count(mine[name][at]) if name in mine else NONE for at in (0, 1) for mine in found),
        )
        for name in names
        if any(any(mine.get(name, ())) for mine in found)
    )
    if not rows:
        return None
    return Table(
        caption="Parameters and MACs of every layer that has any; layers are matched by name.",
        columns=(
            "layer",
            *(f"parameters, {label}" for label in labels),
            *(f"MACs, {label}" for label in labels),
        ),
        rows=rows,
        what="layers side by side",
    )


def _file_sections(file: Record, index: int, files: int, static: bool) -> list[Section]:
    many = files > 1
    end = f"-{index + 1}" if many else ""
    name = f"{short_name(file['file'])}: " if many else ""
    if "error" in file:
        return [Section(f"{name}not measured", f"error{end}", error=str(file["error"]))]
    audit = file["audit"]
    caption = "Share of each limit that the model uses; the line is the limit."
    found = limits_table(file)
    limits = Section(
        f"{name}against the limits" if many else "Against the limits",
        f"limits{end}",
        figures=figure(
            limit_bars(limit_rows(file), caption, f"limits{end}"), caption, static=static
        ),
        tables=(Shown(found),) if found else (),
        facts=tuple(figure_facts(file)) if many else (),
    )
    figures: list[Figure] = []
    of = f" of {short_name(file['file'])}" if many else ""
    rows = audit["layers"]
    for kind, key in (("params", "params"), ("macs", "macs")):
        words = "Parameters" if kind == "params" else "Multiply-accumulates"
        text = f"{words} by layer{of}."
        costs = [(row["name"], float(row[key]), None) for row in rows]
        chart = layer_costs(costs, kind, ("", ""), text, f"layer-{kind}{end}")
        figures += figure(chart, text, static=static)
    table = layer_table(file)
    layers = Section(
        f"{name}where parameters and MACs sit" if many else "Where parameters and MACs sit",
        f"layers{end}",
        figures=tuple(figures),
        tables=(Shown(table, f"{plural(len(table.rows), 'layer')}, one line each", True),)
        if table
        else (),
    )
    sections = [limits, layers]
    if "compare" in file:
        sections.append(_comparison(file, name, end))
    left = [str(entry) for entry in audit["uncounted"]]
    notes = [str(note) for note in audit["notes"]]
    counting = [
        Fact(
            "Not counted",
            f"{', '.join(left)}: no counting rule, the MACs are too low"
            if left
            else "No operator was left out. Feature extraction is in no count.",
        ),
        Fact(
            "Convention",
            f"{audit['convention']} for the table of layers; the limits are held against the "
            "count that their rules name.",
        ),
    ]
    counting += [Fact(f"Note {i + 1}", note) for i, note in enumerate(notes)]
    counting += [
        Fact("SHA-256", str(file.get("sha256") or "no file")),
        Fact("Size of the file", f"{count(file.get('file_bytes'))} B"),
        Fact("Format", str(audit["format"])),
    ]
    title = f"{name}how it was counted" if many else "How it was counted"
    return [*sections, Section(title, f"counting{end}", facts=tuple(counting))]


def _comparison(file: Record, name: str, end: str) -> Section:
    compare = file["compare"]
    rows = tuple(
        (figure_name, count(c["old"]), count(c["new"]), count(c["change"]), _percent(c["percent"]))
        for figure_name, c in compare["totals"].items()
    )
    totals = Table(
        caption=f"Against {compare['base']}.",
        columns=("figure", "old", "new", "change", "change, %"),
        rows=rows,
        what="comparison",
    )
    changed = tuple(
        (
            layer["name"] or "(whole network)",
            layer["state"],
            *(
                count(layer["figures"][key][side])
                for key in ("parameters", "bytes", "MACs")
                for side in ("old", "new")
            ),
        )
        for layer in compare["layers"]
        if layer["state"] != "same"
    )
    tables = [Shown(totals)]
    if changed:
        tables.append(
            Shown(
                Table(
                    caption="Layers that changed.",
                    columns=(
                        *("layer", "state", "parameters before", "after", "bytes before", "after"),
                        *("MACs before", "after"),
                    ),
                    rows=changed,
                    texts=frozenset({0, 1}),
                    what="changed layers",
                ),
                f"{plural(len(changed), 'layer')} changed",
                sortable=True,
            )
        )
    title = f"{name}against the base" if name else "Against the base"
    return Section(title, f"compare{end}", tables=tuple(tables))


def _percent(value: float | None) -> str:
    return NONE if value is None else change(value)


def _origin(document: Record) -> Section:
    versions = document.get("versions") or {}
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Section("Provenance", "provenance", facts=(Fact("Versions", text or "not recorded"),))
