"""The rule files against the facts of each year, and rule files of a user's own."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from torch import nn

import compressor
from compressor.audit import AuditResult
from compressor.audit.rules import Limit, Metric, load_rules, rules_for, years
from compressor.audit.verdict import verdict_for
from compressor.errors import ConfigError

# year: segment, classes, evaluation files, number type, who ranks by what (with evidence marks)
FACTS = {
    2020: (10.0, 3, 8_640, ("free", "V"), ("macro accuracy", "V")),
    2021: (10.0, 10, 7_920, ("free", "V"), ("macro log loss", "V")),
    2022: (1.0, 10, 118_800, ("int8", "V"), ("macro log loss", "I")),
    2023: (1.0, 10, 118_800, ("free", "S"), ("0.5 x rank of accuracy", "V")),
    2024: (1.0, 10, 135_730, ("free", "V"), ("mean of the macro accuracies", "V")),
    2025: (1.0, 10, 178_930, ("free", "V"), ("macro accuracy", "V")),
}
# year: metric, largest, strictest, who counts, evidence
LIMITS = {
    2020: [("nonzero_bytes", 500 * 1024, 500 * 1024, "keras-2020", "V")],
    2021: [("nonzero_bytes", 4 * 32_768, 128_000, "strict", "S")],
    2022: [
        ("params", 128_000, 128_000, "strict", "V"),
        ("number_type", None, 0, "strict", "V"),
        ("macs", 30_000_000, 30_000_000, "nessi", "V"),
    ],
    2023: [
        ("param_bytes", 128_000, 128_000, "strict", "V"),
        ("macs", 30_000_000, 30_000_000, "nessi", "S"),
    ],
    2024: [
        ("param_bytes", 128_000, 128_000, "strict", "V"),
        ("macs", 30_000_000, 30_000_000, "nessi", "V"),
    ],
    2025: [
        ("param_bytes", 128_000, 128_000, "strict", "V"),
        ("macs", 30_000_000, 30_000_000, "nessi", "V"),
    ],
}


@pytest.mark.parametrize("year", FACTS)
def test_facts_of_a_year(year: int) -> None:
    rules = rules_for(year)
    segment, classes, files, number_type, (words, mark) = FACTS[year]
    assert (rules.segment_s, rules.classes, rules.evaluation_files) == (segment, classes, files)
    assert (rules.number_type, rules.number_type_evidence) == number_type
    assert rules.ranked_by.startswith(words)
    assert rules.ranked_by_evidence == mark
    assert rules.task == f"DCASE {year} Task 1{ {2020: 'B', 2021: 'A'}.get(year, '') }"
    assert (rules.label, rules.year) == (str(year), year)
    found = [(r.metric, r.max, r.strictest, r.convention, r.evidence) for r in rules.limits]
    assert found == LIMITS[year]


def test_no_year_is_left_out() -> None:
    assert list(years()) == list(FACTS) == list(LIMITS)


def test_how_the_years_rank() -> None:
    ranked = {
        year: [(c.column, c.best, c.weight) for c in rules_for(year).ranking] for year in FACTS
    }
    assert ranked[2023] == [
        ("accuracy", "highest", 0.5),
        ("bytes", "lowest", 0.25),
        ("macs", "lowest", 0.25),
    ]
    assert ranked[2021] == ranked[2022] == [("log_loss", "lowest", 1.0)]
    assert ranked[2020] == ranked[2024] == ranked[2025] == [("accuracy", "highest", 1.0)]
    (splits,) = rules_for(2024).ranking
    assert splits.mean_of == tuple(f"accuracy_{share}" for share in (5, 10, 25, 50, 100))


@pytest.fixture(scope="module")
def base() -> AuditResult:
    """910 float32 parameters, 910 MACs, no buffers."""
    return compressor.audit(nn.Linear(10, 91, bias=False), input_shape=(1, 10))


SHORT = """
title = "Watch"
[[limit]]
name = "memory"
metric = "param_bytes"
max = 3640
[[limit]]
name = "MACs"
metric = "macs"
max = 909
"""


def own(tmp_path: Path, text: str, name: str = "watch.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shortest_rule_file(base: AuditResult, tmp_path: Path) -> None:
    rules = load_rules(own(tmp_path, SHORT))
    assert (rules.task, rules.label, rules.year, rules.segment_s) == ("Watch", "watch", 0, None)
    assert rules.limits[0] == Limit("memory", "param_bytes", "strict", "B", "V", 3640)
    verdict = verdict_for(base, rules)
    assert [(c.status, c.margin) for c in verdict.checks] == [("pass", 0), ("fail", -1)]
    assert (verdict.label, verdict.status) == ("watch", "fail")
    # one of 910 is 0.11 %, rounded up
    assert verdict.fixes == ("remove 1 MACs (0.2 %): the only layer is Linear (910)",)


@pytest.mark.parametrize(
    ("metric", "largest", "status"),
    [
        ("params", 910, "pass"),
        ("params", 909, "fail"),
        ("nonzero_params", 910, "pass"),
        ("nonzero_params", 909, "fail"),
        ("nonzero_bytes", 3640, "pass"),
        ("nonzero_bytes", 3639, "fail"),
        # the product of 10 numbers in and 91 out: 101 numbers of 4 B are alive at once
        ("peak_activation_bytes", 404, "pass"),
        ("peak_activation_bytes", 403, "fail"),
    ],
)
def test_metrics(metric: str, largest: int, status: str, base: AuditResult, tmp_path: Path) -> None:
    text = f'title = "T"\n[[limit]]\nname = "n"\nmetric = "{metric}"\nmax = {largest}\n'
    found = verdict_for(base, load_rules(own(tmp_path, text)))
    assert found.status == status
    assert bool(found.fixes) is (status == "fail")


def test_own_segment_is_compared(base: AuditResult, tmp_path: Path) -> None:
    rules = load_rules(own(tmp_path, f"segment_s = 4\n{SHORT}"))
    assert rules.segment_s == 4.0
    meta = {"front_end": {"hop_length": 441, "sample_rate_hz": 44_100}, "layout": "CFT"}
    right = replace(base, input_shape=(1, 1, 40, 400), meta=meta)
    wrong = replace(base, input_shape=(1, 1, 40, 100), meta=meta)
    assert "of audio" not in verdict_for(right, rules).checks[1].note
    assert "about 1.0 s of audio, the rule is for 4 s" in verdict_for(wrong, rules).checks[1].note


def test_only_another_number_type(base: AuditResult, tmp_path: Path) -> None:
    text = 'title = "T"\n[[limit]]\nname = "n"\nmetric = "number_type"\nonly = "float16"\n'
    rules = load_rules(own(tmp_path, text))
    found = verdict_for(base, rules)
    assert (found.status, found.fixes) == ("depends", ("float16 → 1,820 B",))
    half = replace(base, bytes_by_dtype={"float16": 1820})
    assert verdict_for(half, rules).status == "pass"


RANKING = '[[ranking]]\ncolumn = "Accuracy"\nbest = "highest"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SHORT.replace('title = "Watch"', ""), r"watch\.toml: 'task' is missing"),
        (f'task = "x"\n{SHORT}', "'title' and 'task' are the same key"),
        (f"segment_s = 0\n{SHORT}", "segment_s = 0.0 must be above 0"),
        (f'segment_s = "1 s"\n{SHORT}', "segment_s = '1 s' must be of type float"),
        (SHORT.replace('"MACs"', '"memory"'), "two limits are called 'memory'"),
        (SHORT.replace("909", "-1"), "limit 'MACs': max = -1 must not be below 0"),
        (f"{SHORT}max_strictest = 910", "max_strictest = 910 must not be above max = 909"),
        (f'{SHORT}only = "int8"', "give `max` for a figure, `only` for a number type"),
        (SHORT.replace('"macs"', '"number_type"'), "a number type needs `only`"),
        (f'number_type_evidence = "x"\n{SHORT}', "number_type_evidence 'x', allowed V, S, I, N"),
        ('title = "T"\nlimit = 3\n', r"no \[\[limit\]\] table"),
        ('title = "T"\nlimit = [3]\n', r"written as \[\[limit\]\] tables"),
        (SHORT + RANKING.replace("highest", "most"), "best = 'most', allowed highest, lowest"),
        (SHORT + RANKING + "weight = 0", "weight = 0, allowed above 0"),
        (SHORT + RANKING + "weight = 0.1234567", "weight = 0.1234567, allowed .* six decimals"),
        (SHORT + RANKING + "points = 3", "unknown key 'points', allowed column, best"),
        (SHORT + RANKING + RANKING, "ranking names a column twice"),
        (SHORT + RANKING.replace("Accuracy", "name"), "must name a column of figures"),
        (SHORT + RANKING + 'mean_of = "a"', "mean_of must be a list"),
        (f"ranking = 3\n{SHORT}", r"written as \[\[ranking\]\] tables"),
        ("[" * 5000, "cannot be read as TOML"),
        ("\ud800", "cannot be read as TOML"),
    ],
)
def test_broken_rule_files(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "watch.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=message) as caught:
        load_rules(path)
    assert "\n" not in str(caught.value)


def test_no_such_rule_file_and_one_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml: cannot be read as TOML: No such file"):
        load_rules(tmp_path / "no.toml")
    with pytest.raises(ConfigError, match="more than 1,048,576 B"):
        load_rules(own(tmp_path, "#" * ((1 << 20) + 1)))


def test_columns_are_named_in_lower_case(tmp_path: Path) -> None:
    (criterion,) = load_rules(own(tmp_path, SHORT + RANKING)).ranking
    assert (criterion.column, criterion.weight) == ("accuracy", 1.0)


DOCS = Path(compressor.__file__).parent.parent / "docs" / "rules.md"


def test_the_documented_rule_file(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    example = text.split("```toml\n")[1].split("```")[0]
    rules = load_rules(own(tmp_path, example))
    assert (rules.task, rules.segment_s) == ("Wrist watch", 2.0)
    assert [limit.metric for limit in rules.limits] == ["param_bytes", "macs", "number_type"]


def test_every_key_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for year in years():
        table = tomllib.loads(rule_file(year).read_text(encoding="utf-8"))
        inner = [*table.pop("limit"), *table.pop("ranking")]
        for key in {*table, *(key for entry in inner for key in entry)}:
            assert f"`{key}`" in text
    for metric in get_args(Metric):
        assert f"`{metric}`" in text


def rule_file(year: int) -> Path:
    return Path(compressor.__file__).parent / "audit" / "rules" / f"{year}.toml"


def test_documented_limits_are_those_of_the_files() -> None:
    rows = {
        cells[0]: cells[1:]
        for line in DOCS.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
        and len(cells := [c.strip() for c in line.strip("|").split("|")]) == 7
    }
    for index, year in enumerate(FACTS):
        rules = rules_for(year)
        assert rows["classes"][index] == str(rules.classes)
        assert rows["evaluation files"][index] == f"{rules.evaluation_files:,}"
        assert rows["segment"][index] == f"{rules.segment_s:g} s"
        assert rows["number type"][index] == f"{rules.number_type} {rules.number_type_evidence}"
        size = next(limit for limit in rules.limits if limit.max != 30_000_000)
        assert f"{size.max:,}" in rows["size"][index]
        assert f"{size.strictest:,}" in rows["size"][index]
        macs = [limit for limit in rules.limits if limit.metric == "macs"]
        assert rows["MACs"][index] == (f"{macs[0].max:,} {macs[0].evidence}" if macs else "–")
