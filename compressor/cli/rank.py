"""`compressor rank`: the ranking of a year over a CSV of systems, and what would change it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressor.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from compressor.audit.rules import Rules

FORMATS = ("table", "json", "csv")
DEFAULT_YEAR = 2023  # the year that ranked by accuracy, memory and MACs


def rank(
    systems: Annotated[Path, typer.Argument(help="CSV with name, accuracy, bytes and macs.")],
    *,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,ACCURACY,BYTES,MACS", help="One more system; repeatable."),
    ] = None,
    ties: Annotated[
        str, typer.Option(help="Rank of equal values: dense (1,2,2,3), min or average.")
    ] = "dense",
    year: Annotated[
        str, typer.Option(help="Whose ranking: 2020 to 2025; the other years need other columns.")
    ] = str(DEFAULT_YEAR),
    rules: Annotated[
        Path | None,
        typer.Option(metavar="MY.toml", help="A rule file of your own with [[ranking]] tables."),
    ] = None,
    what_if: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which change of one figure raises this system."),
    ] = None,
    output: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")
    ] = "table",
) -> None:
    """Rank systems: by default 0.5 x accuracy rank + 0.25 x memory rank + 0.25 x MACs rank.

    Example: compressor rank systems.csv --add mine,0.56,98304,25000000 --what-if mine
    """
    from compressor.audit.ranking import tie_rule
    from compressor.audit.standing import standing_of
    from compressor.audit.systems import parse_system, read_table
    from compressor.cli import rank_text
    from compressor.cli.audit_text import screen_width, wrapped

    if output not in FORMATS:
        raise UnknownNameError("output format", output, FORMATS)
    tie_rule(ties)
    rule = ranking_rules(year, rules)
    table = read_table(systems, rule.ranking)
    for text in add or []:
        table = table.with_row(*parse_system(text, rule.ranking))
    asked = None if what_if is None else table.index(what_if)
    standing = None if asked is None else standing_of(table, asked, ties)
    if asked is None and add and len(add) == 1:
        asked = len(table.names) - 1  # the one that was added is what the question is about
    if output == "json":
        from compressor.audit.report_record import dumps

        print(dumps(rank_text.record(table, rule, ties, standing)))
    elif output == "csv":
        rank_text.write_csv(table, ties, sys.stdout)
    else:
        width = screen_width()
        lines = [rank_text.headline(table, ties, asked), ""]
        lines += rank_text.text(table, rule, ties, standing, width)
        print("\n".join(wrapped(lines, width)))
    if column := table.mixed_units():
        print(
            f"note: {systems.name}: {column} mixes fractions and percent, they are compared as "
            "they stand",
            file=sys.stderr,
        )


def ranking_rules(year: str, own: Path | None) -> Rules:
    """The rules that say how to rank: a year's, or those of the user's file.

    Raises:
        UnknownNameError: no rules for that year.
        UsageError: the user's file does not say how to rank.
    """
    from compressor.audit.rules import load_rules, rules_for, years

    if own is not None:
        loaded = load_rules(own)
        if not loaded.ranking:
            raise UsageError(f"{own.name}: no [[ranking]] table, so it does not say how to rank")
        return loaded
    if year not in map(str, years()):
        raise UnknownNameError("challenge year", year, map(str, years()))
    return rules_for(int(year))
