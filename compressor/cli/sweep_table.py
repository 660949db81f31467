"""The table and the sentences that `compressor sweep` ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["findings", "table", "title"]

Group = Mapping[str, Any]


def table(results: Mapping[str, Any]) -> Table:
    """One line a network: means, and the sample standard deviation where there are several runs.

    With one method and float networks alone a line is named by its ratio; otherwise method and
    number type have columns of their own, and bytes are those of the stored file.
    """
    from rich import box
    from rich.table import Table

    summary = results["summary"]
    groups = summary["groups"]
    many = len({group["method"] for group in groups} - {"dense"}) > 1
    typed = any(group["quantize"] != "none" for group in groups)
    shown = Table(box=box.SIMPLE_HEAD)
    if many:
        shown.add_column("method", no_wrap=True)
    shown.add_column("ratio", no_wrap=True)
    if typed:
        shown.add_column("type", no_wrap=True)
    sizes = {"params": "params", "nonzero_params": "non-zero"}
    sizes |= (
        {"bytes_stored": "bytes"} if typed else {"bytes_float16": "B fp16", "bytes_int8": "B int8"}
    )
    sizes["macs"] = "MACs"
    for name in (*sizes.values(), "before %", "after %", "log loss", str(summary["year"])):
        shown.add_column(name, justify="right", no_wrap=True)
    for group in groups:
        cells = [_name(group)]
        if many:
            cells.insert(0, group["method"])
        if typed:
            cells.append("float32" if group["quantize"] == "none" else group["quantize"])
        shown.add_row(
            *cells,
            *(_size(group[key]) for key in sizes),
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
    typed = any(group["quantize"] != "none" for group in groups)
    lines = [
        f"before, after: test accuracy before and after fine-tuning; {year}: verdict of that "
        "year's rules on the network stored as float16"
        + (", int8 networks as int8; int8 accuracy: measured in onnxruntime" if typed else "")
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
    lines += _costs(groups)
    for group in groups:
        pooled = group["pooled_accuracy"]
        if pooled is not None and pooled["mean"] is not None:
            text = _spread(pooled, scale=100.0, digits=1)
            lines.append(
                f"{_long_name(group)}: {text} % over the clips of all {pooled['folds']} folds."
            )
    return lines


def _long_name(group: Group) -> str:
    parts = [] if group["method"] in ("dense", "slimming") else [group["method"]]
    parts.append(_name(group))
    if group["quantize"] != "none":
        parts.append(group["quantize"])
    return " ".join(parts)


def _costs(groups: Sequence[Group]) -> list[str]:
    """What each number type costs, in points against the float network it was made from."""
    found: dict[str, list[float]] = {}
    for group in groups:
        change = group["accuracy_change_to_float"]["mean"]
        if change is not None:
            found.setdefault(group["quantize"], []).append(100.0 * change)
    return [
        f"{name} against float32 of the same network: {sum(changes) / len(changes):+.2f} points "
        f"on average, {min(changes):+.2f} at worst, over {len(changes)} networks."
        for name, changes in found.items()
    ]
