"""The table and the sentences that `compressor sweep` ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressor.cli.text import spark

__all__ = [
    "SPARE",
    "curves",
    "findings",
    "headline",
    "points_of",
    "table",
    "tightest_check",
    "title",
]

if TYPE_CHECKING:
    from rich.table import Table

Group = Mapping[str, Any]


# What is left away where a terminal is narrow, in this order.
SPARE = ("room", "non-zero", "log loss", "B int8", "before %")


def table(results: Mapping[str, Any], width: int | None = None) -> Table:
    """One line a network: means, and the sample standard deviation where there are several runs.

    With one method and float networks alone a line is named by its ratio; otherwise method and
    number type have columns of their own, and bytes are those of the stored file.

    Args:
        results: what stands in `results.json`.
        width: columns there are; None for no limit.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    names, left, rows = _cells(results)
    shown = Table(box=box.SIMPLE_HEAD)
    for gone in range(len(SPARE) + 1):
        kept = [i for i, name in enumerate(names) if name not in SPARE[:gone]]
        shown = Table(box=box.SIMPLE_HEAD)
        for i in kept:
            shown.add_column(
                names[i], justify="left" if names[i] in left else "right", no_wrap=True
            )
        for row in rows:
            shown.add_row(*(row[i] for i in kept))
        if width is None or Console(width=10_000).measure(shown).maximum <= width:
            break
    return shown


def _cells(results: Mapping[str, Any]) -> tuple[list[str], set[str], list[list[str]]]:
    """Names of the columns, those that stand to the left, and a row a network."""
    summary = results["summary"]
    groups, year = summary["groups"], summary["year"]
    many = len({group["method"] for group in groups} - {"dense"}) > 1
    typed = any(group["quantize"] != "none" for group in groups)
    left = ["method"] * many + ["ratio"] + ["type"] * typed
    sizes = {"params": "params", "nonzero_params": "non-zero"}
    sizes |= (
        {"bytes_stored": "bytes"} if typed else {"bytes_float16": "B fp16", "bytes_int8": "B int8"}
    )
    sizes["macs"] = "MACs"
    names = [*left, *sizes.values(), "before %", "after %", "log loss", str(year), "room"]
    rows = []
    for group in groups:
        cells = [group["method"]] * many + [_name(group)]
        if typed:
            cells.append("float32" if group["quantize"] == "none" else group["quantize"])
        tightest = tightest_check(points_of(results, group), year)
        rows.append(
            [
                *cells,
                *(_size(group[key]) for key in sizes),
                _spread(group["accuracy_before"], scale=100.0, digits=1),
                _spread(group["accuracy"], scale=100.0, digits=1),
                _spread(group["log_loss"], scale=1.0, digits=3),
                _verdict(group["verdicts"]),
                "–" if tightest is None else f"{room_of(tightest):+.0f} %",
            ]
        )
    return names, set(left), rows


def points_of(results: Mapping[str, Any], group: Group) -> list[Mapping[str, Any]]:
    """The finished records of a group: one a seed and fold."""
    keys = ("method", "prune_by", "prune_ratio", "target_params", "quantize")
    return [
        point
        for point in results["points"]
        if point["status"] == "ok" and all(point.get(key) == group.get(key) for key in keys)
    ]


def tightest_check(points: Sequence[Mapping[str, Any]], year: int) -> Mapping[str, Any] | None:
    """The check of a year's rules with the least room in percent of its limit, over some runs."""
    checks = [
        check
        for point in points
        for verdict in point["verdicts"]
        if verdict["year"] == year
        for check in verdict["checks"]
        if room_of(check) is not None
    ]
    return min(checks, key=lambda check: room_of(check) or 0.0, default=None)


def room_of(check: Mapping[str, Any]) -> float | None:
    """The margin in percent of the limit; None where there is no number to compare."""
    margin, limit = check.get("margin"), check.get("limit")
    return (
        None if margin is None or not isinstance(limit, int) or not limit else 100 * margin / limit
    )


def headline(results: Mapping[str, Any]) -> str:
    """The verdict: the most accurate network within the year's limits and the margin it has.

    Where none is within, the one that is nearest to it.
    """
    summary = results["summary"]
    year, groups = summary["year"], summary["groups"]
    known = [g for g in groups if g["verdicts"] and g["accuracy"]["mean"] is not None]
    fitting = [g for g in known if set(g["verdicts"]) == {"pass"}]
    share = f"{len(fitting)} of {len(known)} networks fit"
    if fitting:
        best = max(fitting, key=lambda g: g["accuracy"]["mean"])
        accuracy = _spread(best["accuracy"], scale=100.0, digits=1)
        text = f"PASS {year}: {_called(best)} with {accuracy} %"
        check = tightest_check(points_of(results, best), year)
        return text + (f", {_margin(check)}" if check else "") + f"; {share}"
    if not known:
        return f"UNKNOWN {year}: no network could be judged"
    open_ = any(set(g["verdicts"]) & {"depends", "unknown"} for g in known)
    word = "OPEN" if open_ else "FAIL"
    near = [(c, g) for g in known if (c := tightest_check(points_of(results, g), year)) is not None]
    if not near:
        return f"{word} {year}: {share}"
    check, group = max(near, key=lambda pair: room_of(pair[0]) or 0.0)
    return f"{word} {year}: {share}; nearest is {_called(group)}, {_margin(check)}"


def _called(group: Group) -> str:
    text = _long_name(group)
    return text if group["method"] == "dense" or text.startswith("to ") else f"ratio {text}"


def _margin(check: Mapping[str, Any]) -> str:
    margin, unit = (
        check["margin"],
        "" if check["unit"] in (check["name"], "MACs") else check["unit"],
    )
    side = "to spare" if margin >= 0 else "over"
    return f"{check['name']} {abs(margin):,} {unit}".rstrip() + f" {side}"


def curves(results: Mapping[str, Any], width: int | None, *, drawn: bool) -> list[str]:
    """Accuracy after fine-tuning over the prune ratio: a spark line a method, and a plot.

    Args:
        results: what stands in `results.json`.
        width: columns of the terminal; None for none.
        drawn: whether to draw the plot above the spark lines.
    """
    groups = results["summary"]["groups"]
    dense = next(
        (100 * g["accuracy"]["mean"] for g in groups if _plain_dense(g) and g["accuracy"]["n"]),
        None,
    )
    series: dict[str, list[tuple[float, float]]] = {}
    for group in groups:
        mean, ratio = group["accuracy"]["mean"], group["prune_ratio"]
        if group["method"] == "dense" or group["quantize"] != "none" or None in (mean, ratio):
            continue
        series.setdefault(group["method"], []).append((ratio, 100 * mean))
    series = {name: sorted(points) for name, points in series.items() if len(points) > 1}
    if not series:
        return []
    lines = _plot(series, dense, width or 80) if drawn else []
    longest = max(map(len, series))
    for name, points in series.items():
        values = [accuracy for _, accuracy in points]
        before = [] if dense is None else [dense]
        ends = f"{points[0][0]:g} to {points[-1][0]:g}"
        span = f"{values[0]:.1f} to {values[-1]:.1f} %"
        start = "dense, then ratio" if before else "ratio"
        lines.append(f"{name:<{longest}}  {spark([*before, *values])}  {start} {ends}: {span}")
    return lines


def _plain_dense(group: Group) -> bool:
    return bool(group["method"] == "dense" and group["quantize"] == "none")


def _plot(
    series: Mapping[str, Sequence[tuple[float, float]]], dense: float | None, width: int
) -> list[str]:
    """Lines of a plot in braille dots, with the dense network's level."""
    from uniplot import plot_to_string

    xs = [[ratio for ratio, _ in points] for points in series.values()]
    ys = [[accuracy for _, accuracy in points] for points in series.values()]
    names = list(series)
    if dense is not None:
        xs.append([min(map(min, xs)), max(map(max, xs))])
        ys.append([dense, dense])
        names.append("dense")
    drawn = plot_to_string(
        xs=xs,
        ys=ys,
        lines=True,
        width=min(width - 14, 100),
        height=12,
        y_unit=" %",
        title="accuracy after fine-tuning over the prune ratio",
        legend_labels=names,
        color=True,
    )
    return str(drawn).rstrip().splitlines()


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
