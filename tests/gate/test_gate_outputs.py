"""Output files: each thing that can be wrong is named with its line."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from packages import FORMS, ROWS, Make, errors, output_rows, output_text, run

from compressor.gate.config import GateConfig
from compressor.gate.run import gate


def cells(year: int, change: Callable[[list[list[str]]], None]) -> str:
    form = FORMS[year]
    table = [list(form.header), *output_rows(form)]
    change(table)
    return "".join("\t".join(row) + "\n" for row in table)


def _set(row: int, column: int, value: str) -> Callable[[list[list[str]]], None]:
    def change(table: list[list[str]]) -> None:
        table[row][column] = value

    return change


# text of the output file, check, line, a part of the message; row r of the table is line r + 1
OUTPUT: dict[str, tuple[str, str, int | None, str]] = {
    "no header": (cells(2023, lambda t: t.pop(0)), "output-header", 1, "there is no header row"),
    "missing column": (
        cells(2023, lambda t: [row.pop() for row in t]), "output-header", 1, "missing 'tram'"),
    "unknown column": (
        cells(2023, _set(0, 3, "busses")), "output-header", 1, "missing 'bus'; unknown 'busses'"),
    "other order": (
        cells(2023, lambda t: [row.insert(2, row.pop()) for row in t]), "output-header", 1,
        "the columns stand in another order"),
    "commas": (
        cells(2023, lambda t: None).replace("\t", ","), "output-format", 1,
        "columns are separated by ','"),
    "byte order mark": (
        "\ufeff" + cells(2023, lambda t: None), "output-format", 1, "byte order mark"),
    "empty": ("", "output-format", None, "the file is empty"),
    "a row too few": (
        cells(2023, lambda t: t.pop()), "output-rows", None,
        f"{ROWS - 1} rows, the evaluation set of 2023 has {ROWS}"),
    "names that are missing": (
        cells(2023, lambda t: t.pop(4)), "output-rows", None, "1 file is not named: 3.wav"),
    "twice": (
        cells(2023, _set(6, 0, "2.wav")), "output-names", 7, "2.wav stands twice, first in line 4"),
    "outside of the set": (
        cells(2023, _set(6, 0, "20.wav")), "output-names", 7,
        "20.wav is not in the evaluation set, the last is 19.wav"),
    "folder": (
        cells(2023, _set(6, 0, "audio/5.wav")), "output-names", 7, "file name 'audio/5.wav'"),
    "leading zero": (cells(2023, _set(6, 0, "05.wav")), "output-names", 7, "file name '05.wav'"),
    "no wav": (cells(2023, _set(6, 0, "5")), "output-names", 7, "file name '5'"),
    "unknown label": (
        cells(2023, _set(6, 1, "beach")), "output-labels", 7, "unknown scene_label 'beach'"),
    "not the arg-max": (
        cells(2023, _set(6, 1, "tram")), "output-argmax", 7,
        "predicts tram (0.01), the highest probability is public_square (0.91)"),
    "not a number": (
        cells(2023, _set(6, 2, "x")), "output-probabilities", 7, "airport is 'x'"),
    "nan": (
        cells(2023, _set(6, 2, "nan")), "output-probabilities", 7, "airport is nan, expected 0"),
    "infinity": (
        cells(2023, _set(6, 3, "inf")), "output-probabilities", 7, "bus is inf, expected 0 to 1"),
    "negative": (
        cells(2023, _set(6, 3, "-0.1")), "output-probabilities", 7, "bus is -0.1, expected 0"),
    # row 6 has 0.91 and nine times 0.01; 0.012 instead of one of them: 1.002
    "sum": (
        cells(2023, _set(6, 3, "0.012")), "output-probabilities", 7,
        "the probabilities sum to 1.002, expected 1 within 0.001"),
    "underscore": (
        cells(2023, _set(6, 3, "0.0_1")), "output-probabilities", 7, "bus is '0.0_1'"),
    "a cell too many": (
        cells(2023, lambda t: t[6].append("0")), "output-format", 7, "13 columns, expected 12"),
    "a cell too few": (
        cells(2023, lambda t: t[6].pop()), "output-format", 7, "11 columns, expected 12"),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUT)
def test_a_broken_output_file_is_named_with_its_line(name: str, make: Make) -> None:
    text, check, line, message = OUTPUT[name]
    made = make(2023)
    path = made.write_output(text)
    found = errors(run(made))
    assert (check, path.name, line) in [f[:3] for f in found if message in f[3]], found


def test_sums_within_a_thousandth_pass(make: Make) -> None:
    made = make(2023)
    # 1.001 and 0.999: row 6 holds 0.91 + 9 * 0.01
    for value in ("0.011", "0.009"):
        made.write_output(cells(2023, _set(6, 3, value)))
        assert errors(run(made)) == []


def test_equal_probabilities_may_be_labelled_either_way(make: Make) -> None:
    made = make(2023)
    tie = ["0.4", "0.4", *["0.025"] * 8]

    def change(table: list[list[str]]) -> None:
        table[6][1:] = ["bus", *tie]
        table[7][1:] = ["airport", *tie]

    made.write_output(cells(2023, change))
    assert errors(run(made)) == []


def test_windows_line_ends_and_a_blank_last_line_pass(make: Make) -> None:
    made = make(2023)
    made.write_output(cells(2023, lambda t: None).replace("\n", "\r\n") + "\r\n")
    made.meta.write_bytes(made.meta.read_bytes().replace(b"\n", b"\r\n"))
    assert errors(run(made)) == []


def test_rows_in_any_order_pass(make: Make) -> None:
    made = make(2023)
    rows = output_rows(made.form)
    made.write_output(output_text(made.form, rows[::-1]))
    assert errors(run(made)) == []


def test_a_file_that_is_wrong_in_every_row_gives_a_short_report(make: Make) -> None:
    made = make(2023)

    def change(table: list[list[str]]) -> None:
        for row in table[1:]:
            row[1] = "beach"

    made.write_output(cells(2023, change))
    found = errors(run(made))
    assert len(found) == 11  # ten in full, one for the other ten: lines 12 to 21
    assert found[-1][3] == "10 more rows have the same kind of problem (lines 12 to 21)"
    assert len(errors(run(made, max_findings=0))) == ROWS


def test_problems_of_each_split_name_their_file(make: Make) -> None:
    made = make(2024)
    for which in (1, 3):
        made.write_output(cells(2024, _set(6, 1, "beach")), which)
    assert [f[1] for f in errors(run(made))] == [made.outputs[1].name, made.outputs[3].name]


def test_the_years_own_number_of_rows(make: Make) -> None:
    made = make(2023)
    record = gate([made.root], GateConfig(years=(2023,)))
    messages = [f[3] for f in errors(record)]
    assert messages[0] == "20 rows, the evaluation set of 2023 has 118,800"
    assert messages[1].startswith("118,780 files are not named: 20.wav, 21.wav")


@pytest.mark.slow
def test_a_whole_evaluation_set_in_seconds(make: Make) -> None:
    made = make(2025)
    form = made.form
    made.write_output(output_text(form, output_rows(form, form.rows)))
    before = os.times()
    record = gate([made.root], GateConfig(years=(2025,)))
    after = os.times()
    assert errors(record) == []
    assert after.user - before.user < 5.0
