"""The table and the sentences that `compressor sweep` ends with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["findings", "table", "title"]

Group = Mapping[str, Any]


def table(results: Mapping[str, Any]) -> Table:
    """One line a ratio: means, and the sample standard deviation where there are several runs."""
    from rich import box
    from rich.table import Table

    summary = results["summary"]
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("ratio", no_wrap=True)
    for name in ("params", "non-zero", "B fp16", "B int8", "MACs"):
        shown.add_column(name, justify="right", no_wrap=True)
    for name in ("before %", "after %", "log loss", str(summary["year"])):
        shown.add_column(name, justify="right", no_wrap=True)
    for group in summary["groups"]:
        shown.add_row(
            _name(group),
            *(
                _size(group[key])
                for key in ("params", "nonzero_params", "bytes_float16", "bytes_int8", "macs")
            ),
            _spread(group["accuracy_before"], scale=100.0, digits=1),
            _spread(group["accuracy"], scale=100.0, digits=1),
            _spread(group["log_loss"], scale=1.0, digits=3),
            _verdict(group["verdicts"]),
        )
    return shown


def title(results: Mapping[str, Any]) -> str:
    """The line over the table: what was run, on what, how often."""
    run = results["run"]
    return f"{run['model']} on {run['title']} ({run['split']}), {_runs(results['summary'])}"


def _runs(summary: Mapping[str, Any]) -> str:
    seeds, folds = len(summary["seeds"]), len(summary["folds"])
    text = f"{seeds} seed{'s' if seeds != 1 else ''}"
    if folds > 1:
        text += f" × {folds} folds"
    return text + (", ± sample standard deviation" if seeds * folds > 1 else ", no spread")


def _name(group: Group) -> str:
    if group["method"] == "dense":
        return "dense"
    if group["prune_ratio"] is None or group["prune_by"] == "target":
        return f"to {group['target_params']:,}"
    from compressor.sweep.plan import tag

    return tag(group["prune_ratio"])


def _size(figures: Mapping[str, Any]) -> str:
    return "–" if figures["mean"] is None else f"{figures['mean']:,.0f}"


def _spread(figures: Mapping[str, Any], *, scale: float, digits: int) -> str:
    if figures["mean"] is None:
        return "–"
    text = f"{scale * figures['mean']:.{digits}f}"
    return text if figures["std"] is None else f"{text} ± {scale * figures['std']:.{digits}f}"


def _verdict(counts: Mapping[str, int]) -> str:
    if len(counts) < 2:
        return next(iter(counts), "–")
    return f"{counts.get('pass', 0)}/{sum(counts.values())} pass"


def findings(results: Mapping[str, Any]) -> list[str]:
    """What the curve says, in sentences, from the summary's numbers."""
    groups, year = results["summary"]["groups"], results["summary"]["year"]
    lines = [
        f"before, after: test accuracy before and after fine-tuning; {year}: verdict of that "
        "year's rules on the network stored as float16"
    ]
    if results["run"]["synthetic"]:
        lines.append("The data is synthetic: the figures say nothing about real recordings.")
    for curve in results["summary"]["curves"]:
        held = {part["points"]: part["prune_ratio"] for part in curve["within_points_of_dense"]}
        if held:
            texts = [
                f"{points:g} point{'s' if points != 1 else ''}: "
                + ("no ratio" if ratio is None else f"up to {ratio:g}")
                for points, ratio in held.items()
            ]
            lines.append(
                f"{curve['method']}, mean accuracy within dense − " + "; ".join(texts) + "."
            )
        if curve["knee"] is not None:
            lines.append(
                f"{curve['method']}, the curve bends at ratio {curve['knee']['prune_ratio']:g}."
            )
    for group in groups:
        pooled = group["pooled_accuracy"]
        if pooled is not None and pooled["mean"] is not None:
            text = _spread(pooled, scale=100.0, digits=1)
            lines.append(f"{_name(group)}: {text} % over the clips of all {pooled['folds']} folds.")
    return lines
