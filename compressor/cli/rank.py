"""`compressor rank`: the 0.5/0.25/0.25 score over a CSV of systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressor.errors import UnknownNameError

FORMATS = ("table", "json", "csv")


def rank(
    systems: Annotated[Path, typer.Argument(help="CSV with name, accuracy, bytes and macs.")],
    ties: Annotated[
        str, typer.Option(help="Rank of equal values: dense (1,2,2,3), min or average.")
    ] = "dense",
    output: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")
    ] = "table",
) -> None:
    """Rank systems by 0.5 x accuracy rank + 0.25 x memory rank + 0.25 x MACs rank.

    Example: compressor rank systems.csv --ties dense --format json
    """
    from compressor.audit.ranking import order_depends_on_ties, read_systems
    from compressor.audit.ranking import rank as rank_systems

    if output not in FORMATS:
        raise UnknownNameError("output format", output, FORMATS)
    read = read_systems(systems)
    ranked = rank_systems(read, ties)
    depends = order_depends_on_ties(read) if read else False
    rows = [
        {
            "place": row.place,
            "name": row.system.name,
            "score": row.score,
            "accuracy": row.system.accuracy,
            "rank_accuracy": row.rank_accuracy,
            "bytes": row.system.bytes,
            "rank_bytes": row.rank_bytes,
            "macs": row.system.macs,
            "rank_macs": row.rank_macs,
        }
        for row in ranked
    ]
    if output == "json":
        import json

        record = {
            "schema": 1,
            "ties": ties,
            "order_depends_on_ties": depends,
            "systems": [{key: _whole(value) for key, value in row.items()} for row in rows],
        }
        print(json.dumps(record, indent=2, ensure_ascii=False))
    elif output == "csv":
        import csv
        import sys

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows[0] if rows else ["place", "name", "score"])
        writer.writerows([_whole(value) for value in row.values()] for row in rows)
    else:
        from compressor.cli.text import columns

        header = ["place", "name", "score", "accuracy", "rank", "bytes", "rank", "macs", "rank"]
        cells = [[_cell(value) for value in row.values()] for row in rows]
        print("\n".join(columns(header, cells, left={1})))
    if depends and output != "json":
        typer.echo("note: the order depends on the tie rule (--ties dense|min|average)", err=True)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _cell(value: object) -> str:
    value = _whole(value)
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)
