"""How numbers are written: one place, so that page, Markdown and captions show the same text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.spread import Spread

__all__ = [
    "NONE",
    "against_dense",
    "average",
    "capital",
    "change",
    "count",
    "counted",
    "decimal",
    "duration",
    "headroom",
    "joined",
    "numbered",
    "percent",
    "percent_range",
    "percent_value",
    "plural",
    "points",
    "ratio",
    "short",
    "signed",
    "used",
    "year_ranges",
]

NONE = "–"


def count(value: float | None) -> str:
    """A whole number with thousands separators: 128,000."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{round(value):,}"


def counted(spread: Spread | None) -> str:
    """A size over several runs: one number where all agree, else the mean and the range."""
    if spread is None:
        return NONE
    if spread.low == spread.high:
        return count(spread.mean)
    return f"{count(spread.mean)} ({count(spread.low)} to {count(spread.high)})"


def average(spread: Spread | None) -> str:
    """The mean of a size over several runs, as a whole number."""
    return NONE if spread is None else count(spread.mean)


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """Which seeds or folds: fold 1; 3 seeds (0, 1 and 2)."""
    names = joined([str(number) for number in numbers])
    return f"{noun} {names}" if len(numbers) == 1 else f"{plural(len(numbers), noun)} ({names})"


def short(value: float | None) -> str:
    """A size in words: 30 M, 29.4 M, 512 k, 940."""
    if value is None or not math.isfinite(value):
        return NONE
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            text = f"{value / limit:.1f}"
            return (text[:-2] if text.endswith(".0") else text) + unit
    return f"{value:g}"


def ratio(value: float) -> str:
    """A prune ratio: two decimals, more only where they are needed (0.50, 0.625)."""
    text = f"{value:.4f}".rstrip("0")
    return text if len(text.split(".")[1]) >= 2 else f"{value:.2f}"


def percent_value(share: float | None, digits: int = 1) -> str:
    """A share in percent, without the sign: 74.2."""
    if share is None or not math.isfinite(share):
        return NONE
    return f"{100.0 * share:.{digits}f}"


def percent(spread: Spread | None, unit: bool = True) -> str:
    """A share over several runs: 74.2 ± 1.3 %, or 74.2 % where there is no spread."""
    if spread is None:
        return NONE
    text = percent_value(spread.mean)
    if spread.sd is not None:
        text += f" ± {percent_value(spread.sd)}"
    return f"{text} %" if unit else text


def percent_range(spread: Spread | None) -> str:
    """Lowest and highest share: 72.9 to 75.8."""
    if spread is None:
        return NONE
    return f"{percent_value(spread.low)} to {percent_value(spread.high)}"


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, a true minus, and no sign on what rounds to zero."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0.0:
        return text
    return ("−" if value < 0 else "+") + text


def headroom(percent: float) -> str:
    """Room below a limit in percent of it; what is no whole or no nothing is not rounded to one.

    99.99 of 100 left is > 99.9, and one byte over 128,000 is > −0.1.
    """
    if abs(percent) < 0.05 and percent:
        return "< +0.1" if percent > 0 else "> −0.1"
    return "> +99.9" if 99.95 <= percent < 100 else signed(percent)


def used(share: float) -> str:
    """How much of a limit is used, in whole percent: 63 %; < 1 %, and > 99 % where it just fits."""
    if 0 < share < 0.005:
        return "< 1 %"
    if 0.995 <= share < 1:
        return "> 99 %"
    return "> 100 %" if 1 < share < 1.005 else f"{100.0 * share:.0f} %"


def change(percent: float) -> str:
    """A change in percent; what is nearly all gone is not rounded to all: > −99.9 (or −100.0)."""
    return "> −99.9" if -100 < percent <= -99.95 else signed(percent)


def year_ranges(labels: Sequence[str]) -> str:
    """Years, three or more in a row as a range: 2020, 2021, 2023–2025; other labels as they are."""
    runs: list[list[str]] = []
    for label in labels:
        last = runs[-1][-1] if runs else ""
        if last.isdecimal() and label.isdecimal() and int(label) == int(last) + 1:
            runs[-1].append(label)
        else:
            runs.append([label])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def points(spread: Spread | None, unit: bool = True) -> str:
    """A difference of two shares in percentage points: −0.3 ± 0.4 points (± standard error)."""
    if spread is None:
        return NONE
    text = signed(100.0 * spread.mean)
    if spread.se is not None:
        text += f" ± {100.0 * spread.se:.1f}"
    return f"{text} points" if unit else text


def against_dense(spread: Spread | None) -> str:
    """A change in words: 0.4 ± 0.3 points below dense; level with dense."""
    if spread is None:
        return NONE
    error = "" if spread.se is None else f" ± {100.0 * spread.se:.1f}"
    size = f"{abs(100.0 * spread.mean):.1f}"
    if size == "1.0":  # the mark between held and lost: say on which side of it
        size = f"{abs(100.0 * spread.mean):.2f}"
    if float(size) == 0.0:
        return f"level with dense (0.0{error} points)" if error else "level with dense"
    return f"{size}{error} points {'below' if spread.mean < 0 else 'above'} dense"


def decimal(spread: Spread | None, digits: int = 3) -> str:
    """A plain number over several runs, such as a log loss: 0.912 ± 0.041."""
    if spread is None:
        return NONE
    text = f"{spread.mean:.{digits}f}"
    return text if spread.sd is None else f"{text} ± {spread.sd:.{digits}f}"


def duration(seconds: float) -> str:
    """A time: 42 s, 5 min 12 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun: 1 seed, 2 seeds."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def capital(text: str) -> str:
    """The text with its first letter upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def joined(words: list[str], last: str = "and") -> str:
    """A list in words: a, b and c."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
