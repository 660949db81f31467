"""What stands under the figures: how things were counted, and where they come from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from reports.formats import capital, count, duration, joined, numbered, plural
from reports.record import walk
from reports.spread import TOLERANCE
from reports.summary import Summary
from reports.tables import Table
from reports.verdict import KEYS, Fact, spread_words

__all__ = ["counting", "last_lines", "provenance", "settings_table"]

EVIDENCE = {
    "V": "read in the organisers' own page or code",
    "S": "quoted by a third party",
    "I": "inferred or recomputed",
    "N": "not to be had",
}


def counting(summary: Summary) -> list[Fact]:
    """How accuracy, spread, knee, sizes and limits are defined on this page."""
    point = f"{100 * TOLERANCE:g} percentage point"
    facts = [
        Fact(
            "Accuracy",
            "Share of test clips whose class is right, on the test part of the split; macro "
            "accuracy is the mean of the class-wise accuracies. “Before” is after pruning and "
            "re-estimation of the BatchNorm statistics, “after” is after fine-tuning. Log loss is "
            "in nats.",
        ),
        Fact("Spread", capital(spread_words(summary))),
        Fact(
            "Held, falls",
            f"A ratio holds if its mean accuracy is at most {point} below the dense network of the "
            "same fold and seed; “held up to” is the largest ratio that holds with all smaller "
            "tested ones.",
        ),
        Fact(
            "Knee",
            "Both axes scaled to 0..1, the point farthest above the straight line from the first "
            "(dense, ratio 0) to the last point of the curve of means. A curve that falls by no "
            f"more than {point}, has fewer than four points or lies nowhere above that line has "
            "none.",
        ),
        Fact(
            "Prune ratio",
            "By channels: the share of BatchNorm channels under the global threshold. By params: "
            "the share of parameters removed. By weights (unstructured): the share of weights made "
            "zero, which keeps the network's shape, MACs and number of parameters.",
        ),
        Fact(
            "Bytes",
            "float16: 2 bytes a parameter, BatchNorm's scale and shift included, its running "
            "statistics not. int8: planned, 1 byte a convolution or linear weight and 4 a bias or "
            "BatchNorm parameter"
            + (
                ". In “Every method and number type” bytes are those of the stored network, "
                "counted by the audit of its file, scales apart; the other sections are of the "
                "float32 networks."
                if summary.ways
                else "; accuracies on this page are not those of int8 networks."
            ),
        ),
        Fact("MACs", _macs(summary)),
    ]
    facts.append(Fact("Not counted", _not_counted(summary)))
    facts += _limits(summary)
    return facts


def _not_counted(summary: Summary) -> str:
    """What the audits of the networks left out, as the records have it."""
    done = [point for point in summary.points if point["status"] == "ok"]
    stated = [point for point in done if point.get("audit_status")]
    always = (
        "Feature extraction is in no count: MACs are those of the network. Scales and zero points "
        "of integer networks and BatchNorm's running statistics are not parameters."
    )
    if not stated:
        return f"{always} Whether the count left operators out is not recorded in this run."
    left: dict[str, int] = {}
    for point in stated:
        for name in dict.fromkeys(map(str, point.get("uncounted") or ())):
            left[name] = left.get(name, 0) + 1
    if not left:
        return f"{always} No operator of {plural(len(stated), 'audited network')} was left out."
    names = joined([f"{name} ({plural(number, 'network')})" for name, number in left.items()])
    return f"{always} Left out for want of a counting rule: {names}; those MACs are too low."


def _macs(summary: Summary) -> str:
    text = "Multiply-accumulates of one inference on one segment: "
    if not any("macs_official" in level.sizes for level in summary.levels):
        return text + "strict count (convolutions, linear layers, matrix products)."
    return (
        text
        + "“MACs” is the strict count (convolutions, linear layers, matrix products), “official "
        "MACs” that of the challenge's counter (with bias, BatchNorm and linear layers as it "
        "counts them). Charts show the official count."
    )


def _limits(summary: Summary) -> list[Fact]:
    budget = summary.budget
    if not budget.limits:
        return [Fact("Limit", "None was set for this run.")]
    if not budget.judged:
        return [
            Fact(
                "Limit",
                f"{budget.words}: the record carries no verdict of its rules, so float16 bytes and "
                "official MACs were held against it here.",
            )
        ]
    checks = {check.name: check for level in summary.levels for check in level.budget.checks}
    lines = []
    for check in checks.values():
        text = f"{check.name}: {check.asked}"
        if KEYS.get(check.key):
            text += f", counted {KEYS[check.key]}"
        if check.evidence:
            text += f" (evidence {check.evidence}: {EVIDENCE.get(check.evidence, 'own mark')})"
        lines.append(text + "".join(f"; {note}" for note in check.notes))
    return [Fact(f"Limit of {budget.year}" if budget.year else "Limit", ". ".join(lines) + ".")]


def provenance(summary: Summary) -> list[Fact]:
    """Command, versions, seeds, data and machine, as the record has them."""
    run = summary.run
    origin = _provenance_of(summary)
    command = run.get("command") or origin.get("command")
    data = summary.data
    facts = [
        Fact("Command", _command(command)),
        Fact("Started", str(run.get("started") or "not recorded")),
        Fact("Runs", _time(summary)),
        Fact(
            "Seeds and folds",
            f"{numbered('seed', summary.seeds)}, {numbered('fold', summary.folds)}",
        ),
        Fact(
            "Data", f"{data.title}; {'synthetic' if data.synthetic else 'recordings'}; {data.split}"
        ),
        Fact("Data hash", _hashes(summary)),
        Fact("Sound", _sound(summary)),
        Fact("Devices", _devices(summary)),
        Fact("Notes on the data", "; ".join(data.notes)),
        Fact("Versions", _versions(run.get("versions") or origin.get("versions"))),
        Fact("Machine", str(run.get("platform") or origin.get("platform") or "not recorded")),
        Fact("Commit", str(run.get("commit") or origin.get("commit") or "not recorded")),
    ]
    return [fact for fact in facts if fact.text]


def _provenance_of(summary: Summary) -> Mapping[str, Any]:
    own = summary.run.get("provenance")
    if isinstance(own, Mapping):
        return own
    for point in summary.points:
        if isinstance(point.get("provenance"), Mapping):
            found: Mapping[str, Any] = point["provenance"]
            return found
    return {}


def _command(command: object) -> str:
    if isinstance(command, Sequence) and not isinstance(command, str):
        return shlex.join(str(part) for part in command)
    return str(command or "not recorded")


def _time(summary: Summary) -> str:
    text = f"{summary.finished} finished, {len(summary.failed)} failed"
    seconds = [
        p["cpu_seconds"] for p in summary.points if isinstance(p.get("cpu_seconds"), (int, float))
    ]
    return f"{text}; {duration(sum(seconds))} of CPU time" if seconds else text


def _hashes(summary: Summary) -> str:
    hashes = []
    for point in summary.points:
        origin = point.get("provenance")
        if isinstance(origin, Mapping) and origin.get("data_hash"):
            hashes.append(str(origin["data_hash"]))
    own = summary.run.get("data_hash")
    found = list(dict.fromkeys([str(own)] if own else hashes))
    return joined(found) or "not recorded"


def _sound(summary: Summary) -> str:
    data = summary.data
    parts = [f"front-end {data.front_end}"]
    if data.sample_rate_hz:
        parts.append(f"{count(data.sample_rate_hz)} Hz")
    if data.clip_s:
        parts.append(f"clips of {data.clip_s:g} s")
    return ", ".join(parts)


def _devices(summary: Summary) -> str:
    data = summary.data
    parts = []
    if data.seen:
        parts.append(f"{plural(len(data.seen), 'device')} in training: {', '.join(data.seen)}")
    if data.unseen:
        parts.append(f"{plural(len(data.unseen), 'device')} unseen: {', '.join(data.unseen)}")
    return "; ".join(parts) or "not told apart in this data set"


def _versions(versions: object) -> str:
    if not isinstance(versions, Mapping):
        return "not recorded"
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def settings_table(summary: Summary) -> Table:
    """Every leaf of `run.json` and of the first point's training settings.

    What `provenance` shows is left out: a command line reads badly as a list.
    """
    shown = {"command", "versions", "provenance"}
    settings = {key: value for key, value in summary.run.items() if key not in shown}
    rows = [(name, str(value)) for name, value in walk(settings)]
    for key in ("train_settings", "finetune_settings"):
        for point in summary.points:
            if isinstance(point.get(key), Mapping) and point[key]:
                rows += [(f"{key}.{name}", str(value)) for name, value in walk(point[key])]
                break
    return Table(
        caption="Settings of the run, as recorded.",
        columns=("setting", "value"),
        rows=tuple(rows),
        texts=frozenset({0, 1}),
    )


def last_lines(error: object, most: int = 12) -> str:
    """The end of an error text: its last lines say what happened."""
    lines = str(error or "no error was recorded").strip().splitlines()
    if len(lines) > most:
        return "\n".join(["…", *lines[-most:]])
    return "\n".join(lines)
