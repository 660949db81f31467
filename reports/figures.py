"""The figures of a sweep: every chart with its caption, drawn once for page, PNG and SVG."""

from __future__ import annotations

from dataclasses import dataclass

from reports import charts
from reports.confusion import confusion_chart
from reports.curve_chart import accuracy_by_ratio
from reports.drawing import Chart
from reports.formats import percent, plural
from reports.layer_charts import layer_costs, layers, level_costs
from reports.summary import Summary
from reports.trade_chart import accuracy_by_size
from reports.ways_charts import accuracy_by_bytes, accuracy_by_type

__all__ = ["Figure", "close_words", "sweep_figures"]

ZOOM = "Hover for figures, click the legend to filter, shift + wheel zooms, double click resets."
HOVER = "Hover for figures."


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its caption.

    Attributes:
        chart: the drawings.
        caption: what it shows.
        static: only the picture goes into the page.
        hint: what the pointer can do where the chart is alive.
    """

    chart: Chart
    caption: str
    static: bool = False
    hint: str = HOVER


def source_words(summary: Summary) -> str:
    """The end of every caption: data set (synthetic or not), split, seeds and folds."""
    data = summary.data
    kind = "synthetic data, " if data.synthetic else ""
    return (
        f"Data: {data.title} ({kind}split: {data.split}; {plural(len(summary.folds), 'fold')}, "
        f"{plural(len(summary.seeds), 'seed')})."
    )


def close_words(summary: Summary) -> str:
    """Which network the layer charts and the confusion matrix are about, in words."""
    if summary.chosen is None:
        return "the dense network"
    series, level = summary.chosen
    return f"{series.label} at {level.words}" if len(summary.series) > 1 else level.words


def sweep_figures(summary: Summary, *, static: bool) -> dict[str, Figure | None]:
    """Every figure of a sweep by name; None where there is nothing to draw."""
    captions = _captions(summary)
    series, level = summary.chosen or (None, summary.dense)
    drawn: dict[str, Chart | None] = {
        **charts.budget_bars(summary, captions),
        "curve": accuracy_by_ratio(summary, captions["curve"]),
        **accuracy_by_size(summary, captions),
        "layers": layers(series, captions["layers"]) if series else None,
        "types": accuracy_by_type(summary, captions["types"]),
        "ways": accuracy_by_bytes(summary, captions["ways"]),
    }
    if level:
        names = ("dense", close_words(summary)) if series and summary.dense else ("it", "")
        for kind, rows in level_costs(summary.dense if series else None, level).items():
            name = f"layer_{kind}"
            drawn[name] = layer_costs(rows, kind, names, captions[name], name.replace("_", "-"))
        classes = summary.data.classes
        counts = level.confusion(len(classes))
        drawn["confusion"] = confusion_chart(counts, classes, captions["confusion"], "confusion")
    zoom = {"curve", "trade_bytes", "trade_macs", "ways"}
    return {
        name: Figure(chart, captions[name], static, ZOOM if name in zoom else HOVER)
        if (chart := drawn.get(name))
        else None
        for name in captions
    }


def _captions(summary: Summary) -> dict[str, str]:
    source = source_words(summary)
    spread = any(level.after and level.after.sd is not None for level in summary.levels)
    bars = " Bars show ± one standard deviation." if spread else " One run a ratio: no spread."
    knees = [
        f" Knee{f' of {s.label}' if len(summary.series) > 1 else ''} at ratio {s.knee.name}."
        for s in summary.series
        if s.knee
    ]
    dense = summary.dense.after if summary.dense else None
    level = f" Dotted line: dense network, {percent(dense)}." if dense else ""
    fits = (
        f" Shaded ratios, marked “fits”, are within {summary.budget.words}."
        if any(series.fitting for series in summary.series)
        else ""
    )
    few = len(charts.named_levels(summary)) > charts.MOST_BARS
    some = " Of each method: smallest and largest ratio, knee, best that fits." if few else ""
    front = " Ringed and joined by the dotted step: the Pareto front."
    close = close_words(summary)
    which = f" of {summary.chosen[0].label}" if summary.chosen and len(summary.series) > 1 else ""
    sit = f"by layer; the outline is the dense network, the bar {close}, mean over the runs."
    return {
        "bytes": f"Size of the parameters by prune ratio, mean over the runs.{some} {source}",
        "macs": "Multiply-accumulates of one inference by prune ratio, mean over the runs."
        f"{some} {source}",
        "curve": "Accuracy by prune ratio, after (solid) and before fine-tuning (dashed): mean "
        f"over the runs.{bars}{level}{''.join(knees)}{fits} {source}",
        "trade_bytes": "Accuracy after fine-tuning by size in float16; the numbers at the points "
        f"are prune ratios.{front}{bars} {source}",
        "trade_macs": "Accuracy after fine-tuning by multiply-accumulates of one inference; the "
        f"numbers at the points are prune ratios.{front}{bars} {source}",
        "layers": f"Share of channels kept in %, by layer and prune ratio{which}, mean over the "
        f"runs. {source}",
        "layer_params": f"Parameters {sit} {source}",
        "layer_macs": f"Multiply-accumulates {sit} {source}",
        "types": "Accuracy by number type, a line a network: what narrower numbers cost. PTQ: "
        f"static, quantised after training; QAT: trained with the rounding in place. {source}",
        "ways": "Accuracy by bytes of the stored parameters (logarithmic), a line a method and "
        f"number type, from the dense network to the largest ratio.{bars} {source}",
        "confusion": f"Share of the clips of a true class (row) in % that {close} takes for each "
        f"class (column), all runs together. {source}",
    }
