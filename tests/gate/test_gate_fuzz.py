"""Made-up meta.yaml and output files: whatever they hold, an answer and never a traceback."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packages import FORMS, complexity, meta_lines, output_text

from compressor.audit.submission.declared import FIELDS, matches, parse_quantity
from compressor.audit.submission.labels import label_problems, parse_label
from compressor.audit.submission.meta import check_meta
from compressor.audit.submission.outputs import check_output
from compressor.audit.submission.problems import Problem
from compressor.audit.submission.yamlnodes import read_yaml

LABEL = "Martin_INST_task1_1"
YEARS = st.sampled_from(sorted(FORMS))
QUICK = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

SNIPPETS = st.sampled_from(
    [
        *("submission:", "system:", "complexity: ", "authors:\n  - ", "results: {", "]", "}", "- "),
        *(
            "&a ",
            "*a",
            "!!null",
            "!!python/object:os.system",
            "? ",
            "|\n  x",
            ">-",
            "---\n",
            "%YAML 9",
        ),
        *("label: ", "macs: 1:30:60", ": ", "\t", "'", '"', "\\u0000", "#", "<<: *a", "!!binary x"),
        *("0x1F", "1e400", ".nan", ".inf", "2001-01-01", "yes", "~", "total_parameters: ", "\x85"),
    ]
)

CELLS = st.text(max_size=6) | st.sampled_from(["0.wav", "bus", "0.1", "nan"])


def sound(problems: list[Problem], text: bytes) -> None:
    """Every problem has words, a fix, and a line that is in the file."""
    lines = max(len(text.splitlines()), text.count(b"\n") + 1) + text.count(b"\r") + 1
    for problem in problems:
        assert problem.message and problem.fix
        assert "\n" not in problem.message
        # YAML also counts NEL and the line separators of Unicode as ends of lines
        assert problem.line is None or 1 <= problem.line <= lines + text.count(b"\xc2\x85") + (
            text.count(b"\xe2\x80")
        )


@QUICK
@given(data=st.binary(max_size=300), year=YEARS)
@example(data=b"\x00", year=2023)
@example(data=b"a: &a [*a]", year=2023)
@example(data=b"? [a]\n: b", year=2023)
@example(data="a: \ud7ff\U0010ffff".encode(), year=2023)
def test_meta_of_any_bytes(data: bytes, year: int) -> None:
    _, problems = check_meta(data, "x.meta.yaml", LABEL, FORMS[year])
    assert problems
    sound(problems, data)


@QUICK
@given(parts=st.lists(SNIPPETS | st.text(max_size=8), max_size=30), year=YEARS)
def test_meta_of_snippets(parts: list[str], year: int) -> None:
    data = "".join(parts).encode("utf-8", "replace")
    _, problems = check_meta(data, "x.meta.yaml", LABEL, FORMS[year])
    assert problems
    sound(problems, data)


@QUICK
@given(data=st.data(), year=YEARS)
def test_a_right_meta_with_a_line_changed(data: st.DataObject, year: int) -> None:
    lines = meta_lines(year, LABEL)
    index = data.draw(st.integers(0, len(lines) - 1))
    kind = data.draw(st.sampled_from(["cut", "double", "swap", "value", "indent"]))
    if kind == "cut":
        del lines[index]
    elif kind == "double":
        lines.insert(index, lines[index])
    elif kind == "swap":
        other = data.draw(st.integers(0, len(lines) - 1))
        lines[index], lines[other] = lines[other], lines[index]
    elif kind == "value":
        value = data.draw(SNIPPETS | st.text(max_size=12))
        lines[index] = lines[index].partition(":")[0] + ": " + value
    else:
        lines[index] = " " * data.draw(st.integers(0, 12)) + lines[index].lstrip()
    text = "\n".join(lines).encode("utf-8", "replace")
    meta, problems = check_meta(text, "x.meta.yaml", LABEL, FORMS[year])
    sound(problems, text)
    assert set(meta.declared) <= set(FIELDS)


@QUICK
@given(
    rows=st.lists(
        st.lists(
            st.text(max_size=6) | st.sampled_from(["0.wav", "bus", "0.1", "nan"]), max_size=14
        ),
        max_size=8,
    ),
    year=YEARS,
    header=st.booleans(),
)
def test_outputs_of_any_cells(rows: list[list[str]], year: int, header: bool) -> None:
    form = FORMS[year]
    lines = [list(form.header), *rows] if header else rows
    data = "\n".join("\t".join(line) for line in lines).encode("utf-8", "replace")
    _, problems = check_output(data, "x.csv", form, rows=3)
    assert problems
    sound(problems, data)


@QUICK
@given(data=st.binary(max_size=400), year=YEARS)
@example(data=b"\xff\xfe", year=2023)
@example(data=b'filename\t"', year=2023)
@example(data=b"\n\n\n", year=2023)
@example(data=b"0.wav", year=2023)
@example(data=b'filename\tscene_label\n"' + b"x" * 200_000, year=2023)
def test_outputs_of_any_bytes(data: bytes, year: int) -> None:
    _, problems = check_output(data, "x.csv", FORMS[year], rows=3)
    assert problems
    sound(problems, data)


@QUICK
@given(at=st.integers(0, 900), byte=st.integers(0, 255))
def test_a_right_output_with_a_byte_changed(at: int, byte: int) -> None:
    text = bytearray(output_text(FORMS[2023]).encode())
    text[at % len(text)] = byte
    _, problems = check_output(bytes(text), "x.csv", FORMS[2023], rows=20)
    sound(problems, bytes(text))


@QUICK
@given(raw=st.text(max_size=30), figure=st.sampled_from(sorted(set(FIELDS.values()))))
@example(raw="9" * 25, figure="macs")
@example(raw="1e99999999", figure="macs")
@example(raw="\u0661", figure="macs")
def test_declared_numbers_of_any_text(raw: str, figure: str) -> None:
    read = parse_quantity(raw, figure)
    if not isinstance(read, str):
        assert read.number >= 0
        matches(read, [0, 1, 360, 10**12])


@QUICK
@given(text=st.text(max_size=40), year=YEARS)
def test_labels_of_any_text(text: str, year: int) -> None:
    problems = list(label_problems(text, FORMS[year], "x"))
    label = parse_label(text)
    if not problems:
        assert label is not None and 1 <= label.index <= 4


BOMBS = {
    # 9 levels of 9 aliases each: 9**9 values when written out
    "laughs": "a0: &a0 [x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)),
    "itself": "a: &a\n  b: *a\n",
    "deep": "a: " + "[" * 5000,
    "deep blocks": "".join(" " * i + "a:\n" for i in range(400)),
    "wide": "a:\n" + "  - x\n" * 40_000,
    "large": "a: " + "x" * 300_000,
    "keys": "".join(f"k{i}: 1\n" for i in range(30_000))[: 250 << 10],
    "brackets": "{" * 3000 + "}" * 3000,
    "questions": "? " * 5000,
    "quote": "a: '" + "\n" * 200_000,
    "tags": "!a " * 20_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_bounded_time(name: str) -> None:
    started = time.process_time()
    tree, problems = read_yaml(BOMBS[name].encode(), "x.meta.yaml")
    assert time.process_time() - started < 5.0
    assert tree is None
    assert len(problems) == 1 and problems[0].check == "meta-yaml"


def test_aliases_within_reason_are_read() -> None:
    text = "a: &x {b: 1, c: [2, 3]}\nd: *x\ne: *x\n"
    tree, problems = read_yaml(text.encode(), "x.meta.yaml")
    assert problems == [] and tree is not None
    found = tree.get("e", "c")
    assert found is not None and [item.value for item in found.items] == [2, 3]


@pytest.mark.parametrize(
    ("raw", "figure", "values", "found"),
    [
        # exact numbers of units
        ("46512", "param_bytes", [46512], 46512),
        ("46513", "param_bytes", [46512], None),
        ("46_512", "params", [46512], 46512),
        ("46,512", "params", [46512], 46512),
        ("46 512", "params", [46512], 46512),
        ("46512 parameters", "params", [46512], 46512),
        # rounded or cut to the digits given: 46,512 / 1000 and / 1024 = 45.42
        ("46.5", "param_bytes", [46512], 46512),
        ("46.6 kB", "param_bytes", [46512], 46512),
        ("46.7 kB", "param_bytes", [46512], None),
        ("45.4 KiB", "param_bytes", [46512], 46512),
        ("46.5 KiB", "param_bytes", [46512], None),
        ("46512 B", "param_bytes", [46512], 46512),
        ("46.512 B", "param_bytes", [46512], None),
        # 92,492 B = 90.32 KB of 1,024
        ("90.3", "nonzero_bytes", [92492], 92492),
        ("92492", "nonzero_bytes", [92492], None),  # that would be 92 MB: the unit is KB
        ("92492 B", "nonzero_bytes", [92492], 92492),
        ("29.23 M", "macs", [29234920], 29234920),
        ("29.2 MMACs", "macs", [29234920], 29234920),
        ("29M", "macs", [29234920], 29234920),
        ("28M", "macs", [29234920], None),
        ("2.9e7", "macs", [29234920], 29234920),
        ("29234920 MACs", "macs", [29234920], 29234920),
        ("0", "macs", [29234920], None),
        ("0", "macs", [0], 0),
        # any of several readings
        ("46118", "params", [45990, 46118], 46118),
    ],
)
def test_declared_against_measured(
    raw: str, figure: str, values: list[int], found: int | None
) -> None:
    quantity = parse_quantity(raw, figure)
    assert not isinstance(quantity, str), quantity
    assert matches(quantity, values) == found


@pytest.mark.parametrize("raw", ["", "few", "-5", "0x10", "1e999", "46512 apples", "1..2", "nan"])
def test_what_is_no_figure(raw: str) -> None:
    assert isinstance(parse_quantity(raw, "params"), str)


def test_the_fixtures_agree_with_the_forms() -> None:
    for year, form in FORMS.items():
        assert set(form.complexity) <= set(complexity(year))
