"""`compressor zoo list` and `compressor zoo show`: same figures as the registry and the counter."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import zoo
from compressor.cli.zoo import app
from compressor.errors import ShapeError, UnknownNameError

runner = CliRunner()


def test_list_as_json_has_all_networks() -> None:
    result = runner.invoke(app, ["list", "--format", "json"])
    assert result.exit_code == 0
    listed = json.loads(result.stdout)
    assert listed["schema"] == 1
    models = {model["name"]: model for model in listed["models"]}
    assert list(models) == zoo.list_models()
    measured = models["dcase2024_baseline"]["measured"]
    assert (measured["params"], measured["bytes_float16"]) == (61_148, 122_296)
    assert (measured["macs"], measured["macs_official"]) == (29_416_448, 29_419_156)
    assert measured["status"] == "exact"
    for name, model in models.items():
        entry = zoo.entry(name)
        assert model["measured"]["input_shape"] == list(entry.input_shape)
        assert model["measured"]["macs"] < model["measured"]["macs_official"]
        assert [r["value"] for r in model["reported"]] == [r.value for r in entry.reported]
        assert model["arguments"]["num_classes"] == entry.num_classes


def test_list_as_table() -> None:
    result = runner.invoke(app, ["list"])
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert set(zoo.list_models()) <= set(lines)
    # name, year, input, parameters, official MACs, strict MACs; published: parameters, MACs, ...
    expected = "dsmn_seg 2023 2×256×44 45,164 8.65 8.11 45.1k 8.64 53.4 1.287 certain"
    assert lines["dsmn_seg"] == expected.split()
    # the only published count is of the pruned network, which is not what was measured
    assert lines["cp_resnet"][3:7] == ["1,059,590", "4,647.20", "4,647.19", "-"]
    assert "seresnet18" in result.stderr  # progress goes to the other stream
    assert "counting" not in result.stdout


def test_show_puts_measured_beside_published() -> None:
    result = runner.invoke(app, ["show", "dsmn_seg"])
    assert result.exit_code == 0
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "parameters 45,164 45.1k Table 3, Model1" in rows
    assert "MACs, official counter 8,645,641 8.64 MMACs Table 3, Model1" in rows
    assert "accuracy, int8 53.3 % Table 3, Model1" in rows
    assert any("sixth block" in row for row in rows)


def test_show_at_other_sizes() -> None:
    arguments = ["show", "mbconv_deepsound", "--mels", "64", "--format", "json"]
    shown = json.loads(runner.invoke(app, arguments).stdout)
    assert shown["measured"]["input_shape"] == [1, 640, 64]
    assert shown["measured"]["params"] == 62_154
    assert shown["measured"]["macs_official"] == 158_959_438
    assert shown["measured"]["arguments"] == {"mels": 64}
    # published figures are of other sizes: not on one line with the measured ones
    table = runner.invoke(app, ["show", "mbconv_deepsound", "--mels", "64"]).stdout
    rows = [" ".join(line.split()) for line in table.splitlines()]
    assert "parameters 62,154" in rows


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["show", "dsmn_sge"], UnknownNameError, "dsmn_seg"),
        (["show", "dsmn_seg", "--mels", "40"], ShapeError, "multiple of 32"),
    ],
)
def test_errors_reach_the_command_line(
    arguments: list[str], error: type[Exception], message: str
) -> None:
    result = runner.invoke(app, arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert result.stdout == ""


def test_bad_options_are_usage_errors() -> None:
    assert runner.invoke(app, ["show", "dsmn_seg", "--mels", "0"]).exit_code == 2
    assert runner.invoke(app, ["list", "--format", "xml"]).exit_code == 2
