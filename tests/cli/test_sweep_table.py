"""What a sweep says first, what of its table is left on a narrow screen, and its curves."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from compressor.cli import console
from compressor.cli.sweep_live import LiveTable, TableWatch, watch_of
from compressor.cli.sweep_table import curves, headline, table, tightest_check
from compressor.cli.text import fitted, spark
from compressor.sweep.execute import blank_record
from compressor.sweep.plan import Grid, build_plan
from compressor.sweep.summary import summarise

LIMIT = 1_000


def records(accuracies: dict[float, float], sizes: dict[float, int]) -> list[dict[str, Any]]:
    """Finished records: ratio 0 is the dense network; the limit is 1,000 B."""
    ratios = tuple(ratio for ratio in accuracies if ratio)
    plan = build_plan(Grid((1,), (0,), ratios), dense={}, point={})
    made = []
    for job in plan:
        ratio = job.prune_ratio or 0.0
        size = sizes[ratio]
        scores = {"accuracy": accuracies[ratio], "macro_accuracy": 0.5, "log_loss": 1.0, "n": 10}
        check = {"name": "memory", "unit": "B", "limit": LIMIT, "value": size}
        check |= {"margin": LIMIT - size, "status": "pass" if size <= LIMIT else "fail"}
        verdict = {"year": 2023, "status": check["status"], "checks": [check]}
        sized = dict.fromkeys(("params", "nonzero_params", "macs", "bytes_stored"), size)
        made.append(
            {
                **blank_record(job, {}),
                **sized,
                "status": "ok",
                "bytes_float16": size,
                "bytes_int8": size,
                "after_finetune": scores,
                "before_finetune": scores if ratio else None,
                "verdicts": [verdict],
            }
        )
    return made


def results(accuracies: dict[float, float], sizes: dict[float, int]) -> dict[str, Any]:
    points = json.loads(json.dumps(records(accuracies, sizes)))
    return {"run": {}, "points": points, "summary": summarise(points, 2023)}


CURVE = {0.0: 0.9, 0.3: 0.8, 0.5: 0.7, 0.7: 0.4}
SIZES = {0.0: 2_000, 0.3: 1_100, 0.5: 880, 0.7: 500}


def test_the_verdict_names_the_most_accurate_that_fits_and_its_margin() -> None:
    said = headline(results(CURVE, SIZES))
    assert said == "PASS 2023: ratio 0.50 with 70.0 %, memory 120 B to spare; 2 of 4 networks fit"
    dense = headline(results(CURVE, dict.fromkeys(SIZES, 1_000)))
    assert dense.startswith("PASS 2023: dense with 90.0 %, memory 0 B to spare; 4 of 4")


def test_the_verdict_names_the_nearest_where_none_fits() -> None:
    said = headline(results(CURVE, {ratio: size + 600 for ratio, size in SIZES.items()}))
    assert said == "FAIL 2023: 0 of 4 networks fit; nearest is ratio 0.70, memory 100 B over"


def test_the_tightest_check_is_the_one_with_least_room() -> None:
    points = records(CURVE, SIZES)
    assert tightest_check(points, 2023)["value"] == 2_000  # type: ignore[index]
    assert tightest_check(points, 2020) is None


@pytest.mark.parametrize(
    ("width", "gone"), [(140, ()), (80, ("room", "non-zero")), (60, ("room",))]
)
def test_the_table_fits(width: int, gone: tuple[str, ...]) -> None:
    screen = Console(width=200, file=io.StringIO(), no_color=True)
    screen.print(table(results(CURVE, SIZES), width))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert all(name not in text for name in gone)
    for kept in ("dense", "0.30", "0.50", "0.70", "after %", "90.0", "2,000"):
        assert kept in text
    if width == 140:
        assert "room" in text and "+12 %" in text  # 880 of 1,000


def test_spark() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert spark([5, None, 6]) == "▁·█"
    assert spark([3, 3]) == "██"
    assert spark([]) == spark([None]) == ""


def test_curves() -> None:
    (line,) = curves(results(CURVE, SIZES), None, drawn=False)
    # 90, 80, 70, 40: (80 - 40) / 50 and (70 - 40) / 50 of seven steps are 5.6 and 4.2
    assert line == "slimming  █▇▅▁  dense, then ratio 0.3 to 0.7: 80.0 to 40.0 %"
    drawn = curves(results(CURVE, SIZES), 80, drawn=True)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", text) for text in drawn]
    assert plain[-1] == line
    assert max(map(len, plain)) <= 80
    assert any("slimming" in text and "dense" in text for text in plain[:-1])  # the legend
    assert curves(results({0.0: 0.9, 0.5: 0.8}, SIZES), None, drawn=False) == []


def test_columns_are_left_away_in_order() -> None:
    header, rows = ["name", "what", "n"], [["x" * 10, "y" * 10, "1"]]
    assert fitted(header, rows, {0, 1}, None, [1, 0])[1] == "x" * 10 + "  " + "y" * 10 + "  1"
    assert fitted(header, rows, {0, 1}, 20, [1, 0])[1] == "x" * 10 + "  1"
    assert fitted(header, rows, {0, 1}, 5, [1, 0])[1] == "1"


def test_the_live_table_fills(tmp_path: Path) -> None:
    points = tmp_path / "points"
    points.mkdir()
    screen = Console(width=80, height=30, file=io.StringIO(), force_terminal=True, no_color=True)
    shown = LiveTable("sweep", 4, tmp_path, 2023, screen)
    texts = []
    for record in records(CURVE, SIZES):
        (points / f"{record['id']}.json").write_text(json.dumps(record))
        shown.advance(f"{record['id']}: accuracy", 1)
        with screen.capture() as captured:
            screen.print(shown._drawn())
        texts.append(re.sub(r"\x1b\[[0-9;]*m", "", captured.get()))
    for count, text in enumerate(texts, 1):
        assert sum("f1-s0-" in line for line in text.splitlines()) == count
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
        assert f"{count}/4" in text
    assert "█▇▅▁" in texts[-1]


def test_a_failure_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "points").mkdir()
    screen = Console(width=80, file=io.StringIO())
    shown = LiveTable("sweep", 1, tmp_path, 2023, screen)
    shown.advance("f1-s0-dense failed: out of memory", 1)
    assert "out of memory" in capsys.readouterr().err


def test_who_watches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(console, "fancy", lambda stream: True)
    assert isinstance(watch_of(tmp_path, 2023), TableWatch)
    monkeypatch.setattr(console, "_level", -1)
    assert watch_of(tmp_path, 2023) is console
    monkeypatch.setattr(console, "_level", 0)
    monkeypatch.setattr(console, "fancy", lambda stream: False)
    assert watch_of(tmp_path, 2023) is console
