"""All formats of one record: same bytes for same input, valid, and harmless whatever it holds."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import packages
import pytest
from packages import Make, config, run

import reports
from compressor.errors import UnknownNameError, UsageError
from compressor.gate.config import GateConfig, Waiver
from compressor.gate.run import gate
from reports.gate_formats import FORMATS, SUFFIXES, render

SCHEMA = Path(reports.__file__).parent / "schemas" / "gate-1.json"
EVIL = (
    "<script>alert(1)</script> ::error::x ##[error]y \x1b[31m \u202eevil\u2066 | `c` @team [a](b)"
    "\n::stop-commands::t"
)


def good(make: Make) -> dict[str, Any]:
    return run(make(2023))


def bad(make: Make) -> dict[str, Any]:
    """Errors with lines, a warning, a waiver, and a model that could not be read."""
    made = make(2023)
    made.edit("abbreviation:", "abbreviation: ElevenChars")
    made.edit("macs:", "macs: 2344")
    made.edit("training:", "training: little")
    waiver = Waiver("meta-energy", "meter is on its way", date(9999, 1, 1))
    return run(made, waivers=(waiver,))


def unmeasured(make: Make) -> dict[str, Any]:
    made = make(2023)
    made.model.write_text("no model")
    return run(made)


def evil(make: Make, folder: Path) -> dict[str, Any]:
    """Names and values out of a nightmare, in every place where a package can hold one."""
    made = make(2023)
    quoted = json.dumps(EVIL)  # a YAML double-quoted text
    for key in ("abbreviation", "macs", "total_parameters", "training", "corresponding", "email"):
        made.edit(f"{key}:", f"{key}: {quoted}")
    form = made.form
    rows = packages.output_rows(form)
    rows[3][0] = EVIL.replace("\n", " ") + ".wav"
    rows[4][1] = EVIL.replace("\n", "\x0b")
    rows[5][4] = EVIL.replace("\n", "\x85")
    made.write_output(packages.output_text(form, rows))
    name = EVIL.replace("/", "_")
    (made.folder / f"{name}.pt").write_text("no model")
    (made.folder / f"::warning::{name}.output.csv").write_text("x")
    shutil.move(made.root, folder / "::error::<b>package")
    waivers = (Waiver("meta-authors", EVIL, date(9999, 1, 1)),)
    return gate([folder / "::error::<b>package"], config(2023, waivers=waivers))


RECORDS = ["good", "bad", "unmeasured", "evil"]


@pytest.fixture(params=RECORDS)
def record(request: pytest.FixtureRequest, make: Make, tmp_path: Path) -> dict[str, Any]:
    if request.param == "evil":
        return evil(make, tmp_path)
    makers = {"good": good, "bad": bad, "unmeasured": unmeasured}
    return makers[request.param](make)


def test_the_record_follows_its_schema(record: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    plain = json.loads(render(record, "json"))
    jsonschema.Draft202012Validator(schema).validate(plain)
    assert plain == json.loads(json.dumps(record))  # nothing is lost by the escapes


def test_the_schema_refuses_what_is_no_record(make: Make) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    broken = json.loads(render(good(make), "json"))
    broken["files"][0]["sha256"] = "short"
    with pytest.raises(jsonschema.ValidationError, match="short"):
        jsonschema.Draft202012Validator(schema).validate(broken)


def test_counts_are_those_of_the_findings(record: dict[str, Any]) -> None:
    found = [finding["status"] for finding in record["findings"]]
    counts = record["counts"]
    assert counts["errors"] == found.count("fail")
    assert counts["unmeasured"] == found.count("unmeasured")
    assert counts["waived"] == found.count("waived")
    for finding in record["findings"]:
        check = record["checks"][finding["check"]]
        assert check["id"] == finding["id"]
        assert check["status"] not in {"pass", "skip"}


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_input_gives_the_same_bytes(form: str, make: Make) -> None:
    made = make(2023)
    made.edit("macs:", "macs: 2600")
    assert render(run(made), form) == render(run(made), form)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_names_every_problem(form: str, make: Make) -> None:
    record = bad(make)
    text = render(record, form)
    if form in {"html", "junit"}:
        text = text.replace("&#39;", "'").replace("&apos;", "'").replace("&quot;", '"')
    if form == "markdown":
        text = text.replace("\\", "")
    if form == "github":
        text = text.replace("%3A", ":")
    for finding in record["findings"]:
        assert finding["message"] in text
        assert finding["id"] in text
        if form == "json":
            assert f'"line": {finding["line"]}' in text
        elif form == "github":
            assert f"line={finding['line']}" in text
        else:
            assert f".yaml:{finding['line']}" in text


@pytest.mark.parametrize("width", [80, 120])
def test_text_fits_the_terminal_and_loses_no_figure(width: int, record: dict[str, Any]) -> None:
    whole, text = render(record, "text"), render(record, "text", width)
    longest = max(len(word) for word in whole.split())  # a path that cannot be broken stays whole
    lines = text.split("\n")
    assert max(map(len, lines)) <= max(width, longest + 6)
    assert not any(line.lstrip().startswith("::") for line in lines)
    figures = re.findall(r"\b\d[\d,.]*\b|\b[0-9a-f]{64}\b", whole)
    assert set(figures) <= set(re.findall(r"\b\d[\d,.]*\b|\b[0-9a-f]{64}\b", text))
    assert text.startswith(whole.split(" /")[0])  # the verdict
    assert render(record, "text", 10_000) == whole  # room enough: the same lines


def test_a_failure_names_the_margin_in_the_first_line(make: Make) -> None:
    made = make(2023)
    packages.write_model(made.model, wide=9000)
    # 9,000 * 9 + 9,000 + 10 * 9,000 + 10 = 180,010 parameters of 4 B, 128,000 B allowed
    first = render(run(made), "text", 80).splitlines()[0]
    assert first.startswith("FAIL 592,040 B over (DCASE 2023 Task 1: memory); 6 errors")


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_names_are_harmless(form: str, make: Make, tmp_path: Path) -> None:
    record = evil(make, tmp_path)
    assert record["exit_code"] == 1
    text = render(record, form)
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines), [x for x in lines if not x.isprintable()]
    assert "##[" not in text
    commands = [line for line in lines if line.lstrip().startswith("::")]
    if form == "github":
        assert len(commands) == len(record["findings"]) + 1
        assert commands == lines[:-1]
        levels = {re.match(r"::(\w+) ", line)[1] for line in commands}  # type: ignore[index]
        assert levels <= {"error", "warning", "notice"}
    else:
        assert commands == []
    if form == "markdown":
        cells = re.sub(r"(?m)^\|?[-:| ]+$|^\| | \| | \|$", "", text)
        assert not re.search(r"(?<!\\)[<`|\[]", cells)  # what is left of markup is escaped
        assert "@" not in text
    elif form == "html":
        assert all(found in OURS for found in _Page(text).scripts)
        assert "<script>alert" not in text
    elif form not in {"text", "github"}:
        assert "<script" not in text


# attributes of the page's scripts: ours run; records, specifications and the runtime are data
OURS: tuple[dict[str, str | None], ...] = (
    {},
    {"type": "application/json"},
    {"type": "application/json", "id": "record"},
    {"type": "text/plain", "id": "runtime"},
)


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "srcset"}]
        self.scripts += [dict(attrs)] if tag == "script" else []
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_html_has_our_scripts_only_and_asks_for_nothing(record: dict[str, Any]) -> None:
    page = _Page(render(record, "html"))
    assert all(found in OURS for found in page.scripts)
    assert not {"b", "img", "iframe", "object", "base"} & set(page.tags)
    assert all(link == "data:," or link.startswith("#") for link in page.links)
    assert "http" not in re.sub(r"\s", "", "".join(page.links))


def test_junit_is_xml_with_a_case_a_check(record: dict[str, Any]) -> None:
    root = ET.fromstring(render(record, "junit"))
    assert root.tag == "testsuites"
    cases = root.findall("./testsuite/testcase")
    checks = record["checks"]
    assert len(cases) == len(checks) == int(root.attrib["tests"])
    statuses = [check["status"] for check in checks]
    assert len(root.findall(".//failure")) == statuses.count("fail") == int(root.attrib["failures"])
    assert len(root.findall(".//error")) == statuses.count("unmeasured")
    assert len(root.findall(".//skipped")) == statuses.count("waived") + statuses.count("skip")
    for suite in root:
        assert int(suite.attrib["tests"]) == len(suite)


def test_annotations_point_at_file_and_line(make: Make) -> None:
    record = bad(make)
    first = render(record, "github").splitlines()[0]
    finding = record["findings"][0]
    assert first.startswith("::error file=")
    assert f",line={finding['line']},title=compressor gate%3A meta-abbreviation::" in first
    assert "% " not in first


def test_annotations_escape_per_cent_signs(make: Make) -> None:
    made = make(2023)
    made.edit("email:", "email: 50%0A,x:y")
    text = render(run(made), "github")
    assert "50%250A,x:y" in text


def test_unknown_formats_and_records(make: Make) -> None:
    with pytest.raises(UnknownNameError, match="did you mean junit"):
        render(good(make), "junitxml")
    with pytest.raises(UsageError, match="not a gate record of version 1"):
        render({"schema": "compressor-gate", "schema_version": 2}, "text")
    assert set(SUFFIXES.values()) <= set(FORMATS)


def test_reports_import_nothing_of_the_audit() -> None:
    folder = Path(reports.__file__).parent
    for file in folder.glob("gate_*.py"):
        text = file.read_text(encoding="utf-8")
        assert "compressor.audit" not in text and "compressor.gate" not in text.replace(
            'f"compressor.gate.', ""
        ), file


def test_settings_in_the_record(models: dict[int, Path]) -> None:
    record = gate([models[10]], GateConfig(years=(2024,), limits={"max_macs": 9000}))
    assert record["settings"]["years"] == [2024]
    assert record["settings"]["limits"] == {"max_macs": 9000}
    assert record["models"][0]["input_shape"] == [1, 1, 8, 8]
    assert record["models"][0]["convention"] == "strict"
    assert set(record["versions"]) >= {"python", "numpy", "PyYAML"}
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", render(record, "json"))


# -- a real browser -------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(
    scripts: bool, width: int, browser: Any, make: Make, tmp_path: Path
) -> None:
    record = evil(make, tmp_path)
    file = tmp_path / "gate.html"
    file.write_text(render(record, "html"), encoding="utf-8")
    context = browser.new_context(
        java_script_enabled=scripts, viewport={"width": width, "height": 844}
    )
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(file.as_uri(), wait_until="load")
    assert asked == [file.as_uri()]
    assert said == []
    text = page.locator("body").inner_text()
    assert "<script>alert(1)</script>" in text  # as words
    for finding in record["findings"][:3]:
        assert finding["id"] in text
    if scripts:  # nothing is wider than a phone; tables scroll in their own frame
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
