"""`compressor zoo list` on terminals of many widths: no figure is cut, columns are left away."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import pytest
from rich.console import Console

import zoo
from compressor.cli.zoo import SPARE, _list_table

BIGGEST = {"params": 1_059_590, "macs_official": 4_647_200_000, "macs": 4_647_190_000}


@pytest.fixture(scope="module")
def rows() -> list[tuple[Any, dict[str, Any]]]:
    return [(zoo.entry(name), BIGGEST) for name in zoo.list_models()]


def shown(rows: list[tuple[Any, dict[str, Any]]], width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(_list_table(rows, width))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [45, 50, 60, 80, 90, 100, 109, 110, 111, 112, 113, 114, 120, 200])
def test_no_figure_is_cut(rows: list[tuple[Any, dict[str, Any]]], width: int) -> None:
    lines = shown(rows, width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    table = lines[: len(rows) + 4]
    for entry, _ in rows:
        (line,) = (line.split() for line in table if line.split()[:1] == [entry.name])
        assert "1,059,590" in line


def test_what_was_left_away_is_said(rows: list[tuple[Any, dict[str, Any]]]) -> None:
    widths = range(45, 130)
    headers = {width: shown(rows, width)[1] for width in widths}
    for narrow, wide in pairwise(widths):  # more room never shows less
        assert set(headers[narrow].split()) <= set(headers[wide].split())
    whole = headers[129].split()
    assert {name.split()[0] for name in SPARE} <= set(whole)
    text = " ".join(" ".join(shown(rows, 80)).split())
    assert "Not enough room for certainty, year, input, strict." in text
    assert "Not enough room" not in " ".join(shown(rows, 129))
