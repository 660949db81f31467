"""Limits, readings that disagree, margins, and what would make a model pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import compressor
import zoo
from compressor.audit import AuditResult, LayerCount, planned_bytes, verdicts
from compressor.audit.rules import load_rules, rules_for, years
from compressor.audit.verdict import Check, verdict_for
from compressor.errors import ConfigError, UnknownNameError


@pytest.fixture(scope="module")
def base() -> AuditResult:
    """A model of 1,000 float32 parameters; tests replace what they are about."""
    result = compressor.audit(nn.Linear(10, 91, bias=False), input_shape=(1, 10))
    assert result.params == 910
    return result


def only(result: AuditResult, year: int, name: str) -> Check:
    (verdict,) = verdicts(result, year)
    (check,) = [check for check in verdict.checks if check.name == name]
    return check


def with_bytes(base: AuditResult, size: int, keras_2021: int | None = None) -> AuditResult:
    by = {"strict": size, "nessi": size, "keras-2020": size, "keras-2021": keras_2021 or size}
    return replace(base, param_bytes=size, bytes_by_convention=by, bytes_by_dtype={"float32": size})


def with_macs(base: AuditResult, nessi: int, strict: int) -> AuditResult:
    return replace(base, macs=strict, macs_by_convention={"strict": strict, "nessi": nessi})


def test_all_years_in_order(base: AuditResult) -> None:
    assert years() == (2020, 2021, 2022, 2023, 2024, 2025)
    found = verdicts(base)
    assert [verdict.year for verdict in found] == list(years())
    assert [verdict.status for verdict in found] == ["pass", "pass", "depends", *["pass"] * 3]
    assert verdicts(base, "2023") == verdicts(base, 2023) == (found[3],)
    assert verdicts(base, [2024, "2020"]) == (found[4], found[0])  # type: ignore[list-item]


@pytest.mark.parametrize("year", [2019, 2026, "2026", "next"])
def test_unknown_year(base: AuditResult, year: Any) -> None:
    with pytest.raises(UnknownNameError, match="unknown challenge year"):
        verdicts(base, year)


@pytest.mark.parametrize(
    ("year", "limit"),
    [(2020, 512_000), (2023, 128_000), (2024, 128_000), (2025, 128_000)],
)
def test_size_limits_to_the_byte(base: AuditResult, year: int, limit: int) -> None:
    name = "model size" if year == 2020 else "memory"
    fits, over = (only(with_bytes(base, size), year, name) for size in (limit, limit + 1))
    assert (fits.status, fits.margin, fits.limit) == ("pass", 0, limit)
    assert (over.status, over.margin) == ("fail", -1)


def test_2021_depends_on_the_unit(base: AuditResult) -> None:
    assert only(with_bytes(base, 128_000), 2021, "model size").status == "pass"
    between = only(with_bytes(base, 128_001), 2021, "model size")
    assert (between.status, between.limit, between.margin) == ("depends", 131_072, 3_071)
    assert "depends on the unit" in between.note
    assert between.evidence == "S"
    assert only(with_bytes(base, 131_072), 2021, "model size").status == "depends"
    assert only(with_bytes(base, 131_073), 2021, "model size").status == "fail"


def test_2021_depends_on_the_moving_statistics(base: AuditResult) -> None:
    check = only(with_bytes(base, 127_900, keras_2021=128_300), 2021, "model size")
    assert check.status == "depends"
    assert "strict 127,900, keras-2021 128,300" in check.note


def test_2022_counts_parameters_and_wants_int8(base: AuditResult) -> None:
    big = replace(base, params_by_convention={"strict": 128_001, "nessi": 128_001})
    assert only(big, 2022, "parameters").status == "fail"
    assert verdicts(big, 2022)[0].status == "fail"
    assert only(base, 2022, "number type").status == "depends"
    int8 = replace(base, bytes_by_dtype={"int8": 900, "int32": 40})
    assert only(int8, 2022, "number type").status == "pass"
    assert verdicts(int8, 2022)[0].status == "pass"
    mixed = replace(base, bytes_by_dtype={"int8": 900, "float32": 40})
    assert only(mixed, 2022, "number type").status == "depends"


@pytest.mark.parametrize("year", [2022, 2023, 2024, 2025])
def test_macs_limit(base: AuditResult, year: int) -> None:
    assert only(with_macs(base, 30_000_000, 29_000_000), year, "MACs").status == "pass"
    check = only(with_macs(base, 30_000_001, 29_000_000), year, "MACs")
    assert (check.status, check.margin) == ("fail", -1)
    fooled = only(with_macs(base, 2_500_000, 297_000_000), year, "MACs")
    assert fooled.status == "depends"
    assert "the true figure is 297,000,000 MACs" in fooled.note


def test_partial_and_unknown_macs_never_pass(base: AuditResult) -> None:
    partial = replace(base, statuses={**base.statuses, "macs": "partial"})
    assert only(partial, 2023, "MACs").status == "unknown"
    over = with_macs(partial, 31_000_000, 31_000_000)
    assert only(over, 2023, "MACs").status == "fail"  # what was counted is already too much
    unknown = replace(base, macs_by_convention={"strict": None, "nessi": None})
    assert verdicts(unknown, 2023)[0].status == "unknown"
    assert verdicts(unknown, 2020)[0].status == "pass"  # a year without a MACs limit


def test_masks_not_baked_in_leave_it_open() -> None:
    layer = nn.Linear(200, 200, bias=False)  # 160,000 B; a quarter is kept: 40,000 B
    prune.random_unstructured(layer, "weight", amount=30_000)
    result = compressor.audit(layer, input_shape=(1, 200))
    check = only(result, 2021, "model size")
    assert (check.value, check.status) == (40_000, "depends")
    assert "masks not baked in 160,000" in check.note


def test_a_state_dict_passes_when_all_of_it_would(tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    torch.save(nn.BatchNorm2d(100).state_dict(), path)
    found = {v.year: v.status for v in verdicts(compressor.audit(path))}
    assert found[2020] == found[2021] == "pass"
    assert found[2023] == "unknown"  # its MACs are


def test_segment_length_is_compared(base: AuditResult) -> None:
    front_end = {"hop_length": 441, "sample_rate_hz": 44_100}
    meta = {"front_end": front_end, "layout": "CFT"}
    long = replace(base, input_shape=(1, 1, 40, 1000), meta=meta)
    assert "about 10.0 s of audio, the rule is for 1 s" in only(long, 2023, "MACs").note
    right = replace(base, input_shape=(1, 1, 40, 101), meta=meta)
    assert "of audio" not in only(right, 2023, "MACs").note
    turned = replace(base, input_shape=(1, 1, 101, 40), meta={**meta, "layout": "CTF"})
    assert "of audio" not in only(turned, 2023, "MACs").note


def test_fixes_are_computed() -> None:
    result = compressor.audit(zoo.build("dcase2024_baseline"), input_shape=(1, 1, 256, 65))
    (verdict,) = verdicts(result, 2024)
    assert verdict.status == "fail"
    # 61,148 parameters: 58,440 weights and 2,708 of BatchNorm; in float32 116,592 B over
    assert (2 * 61_148, 58_440 + 4 * 2_708) == (122_296, 69_272)
    assert 4 * 61_148 - 128_000 == 116_592 == 4 * 29_148
    assert verdict.fixes == (
        "float16 → 122,296 B, fits",
        "int8 → 69,272 B, fits",
        "remove 29,148 of 61,148 parameters (47.7 %)",
    )
    large = compressor.audit(zoo.build("dsmn_seg_large"), input_shape=(1, 2, 256, 44))
    (verdict,) = verdicts(large, 2023)
    assert verdict.fixes[0] == "float16 → 243,624 B, over by 115,624 B"
    assert verdict.fixes[1].startswith("int8 → ")
    # both at once: 115,624 B over at 2 B each
    assert any(
        fix.startswith("float16 and remove 57,812 of 121,812 parameters") for fix in verdict.fixes
    )


def test_fix_names_the_largest_layers() -> None:
    net = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1))
    result = compressor.audit(net, input_shape=(1, 1, 40, 51))
    (verdict,) = verdicts(result, 2025)
    over = 2040 * 640 + 2040 * (64 * 64 * 9 + 64) - 30_000_000
    assert over == 46_638_720  # of 76,638,720: 60.86 %, never rounded down
    assert verdict.fixes[-1] == (
        "remove 46,638,720 MACs (60.9 %): the two largest layers are "
        f"1 (75,333,120) and 0 ({2040 * 640:,})"
    )


def test_planned_bytes() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 10))
    result = compressor.audit(net, input_shape=(1, 2, 5, 5))
    weights, rest = 2 * 4 * 9 + 360, 4 + 4 + 4 + 10
    assert planned_bytes(result, "float32") == 4 * (weights + rest) == result.param_bytes
    assert planned_bytes(result, "float16") == 2 * (weights + rest)
    assert planned_bytes(result, "int8") == weights + 4 * rest
    assert planned_bytes(result.layers, "int8") == weights + 4 * rest
    assert planned_bytes([LayerCount("a", "Conv2d", params=5, weight_params=3)], "int8") == 3 + 8
    with pytest.raises(UnknownNameError, match="did you mean int8"):
        planned_bytes(result, "int")


def test_2022_baseline_in_int8() -> None:
    """46,512 B are 45,816 int8 weights and 174 int32 biases of the folded network."""
    folded = nn.Sequential(
        nn.Conv2d(1, 16, 7, padding=3),
        nn.Conv2d(16, 16, 7, padding=3),
        nn.MaxPool2d(5),
        nn.Conv2d(16, 32, 7, padding=3),
        nn.MaxPool2d((4, 10)),
        nn.Flatten(),
        nn.Linear(64, 100),
        nn.Linear(100, 10),
    )
    result = compressor.audit(folded, input_shape=(1, 1, 40, 51))
    assert (result.params, planned_bytes(result, "int8")) == (45_990, 46_512)


def test_evidence_marks_come_from_the_facts() -> None:
    marks = {
        (year, limit.name): limit.evidence for year in years() for limit in rules_for(year).limits
    }
    assert {key for key, mark in marks.items() if mark != "V"} == {
        (2021, "model size"),
        (2023, "MACs"),
    }


def test_verdict_is_plain_data(base: AuditResult) -> None:
    plain = verdicts(base, 2023)[0].to_dict()
    assert plain["checks"][0]["limit"] == 128_000
    assert set(plain) == {"year", "label", "task", "status", "checks", "fixes"}
    # 3,640 B of 128,000: 124,360 B of room
    assert plain["checks"][0]["headroom_percent"] == pytest.approx(100 * 124_360 / 128_000)


RULES = """
year = 2030
task = "Mine"
segment_s = 1.0
classes = 10
official_counter = "ours"
ranked_by = "accuracy"
ranked_by_evidence = "V"
[[limit]]
name = "memory"
metric = "param_bytes"
convention = "strict"
unit = "B"
evidence = "V"
max = 100
"""


def test_a_rule_file_of_ones_own(base: AuditResult, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RULES)
    verdict = verdict_for(base, load_rules(path))
    assert (verdict.year, verdict.status) == (2030, "fail")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('task = "Mine"', "", "'task' is missing"),
        ("year = 2030", "year = true", "year = True must be of type int"),
        ("max = 100", "max = 1.5", "max = 1.5 must be of type int"),
        ("max = 100", "", "give `max`"),
        ("max = 100", "max = 100\nmaximum = 3", "unknown key 'maximum'"),
        ('"param_bytes"', '"parm_bytes"', "metric 'parm_bytes', allowed"),
        ('"strict"', '"stict"', "convention 'stict', allowed"),
        ('evidence = "V"', 'evidence = "X"', "evidence 'X'"),
        ("[[limit]]", "[limits]", r"unknown key 'limits'|no \[\[limit\]\]"),
        ("year = 2030", "year = = 3", "cannot be read as TOML"),
    ],
)
def test_broken_rule_files(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RULES.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_rules(path)
