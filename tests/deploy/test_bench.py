"""Timing arithmetic by hand; kernels and memory of small files for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from compressor.cli.bench import bench as bench_command
from compressor.deploy.bench import bench, ratio_of, timing
from compressor.deploy.kernels import Kernel, KernelTable, family, kind_of, slower_families
from compressor.deploy.memory import Memory, measure_memory
from compressor.errors import MeasureError, ModelFileError, UsageError


def test_timing_by_hand() -> None:
    # 1 2 3 4 5 ms: median 3, quartiles 2 and 4
    found = timing([[0.001, 0.005], [0.003], [0.002, 0.004]])
    assert (found.low, found.median, found.high, found.least, found.runs) == pytest.approx(
        (2.0, 3.0, 4.0, 1.0, 5)
    )


def test_ratio_is_of_rounds() -> None:
    """The second round was disturbed: both ten times as long; its ratio says the same."""
    file = [[0.001, 0.001, 0.009], [0.010], [0.001]]
    base = [[0.002], [0.020, 0.020, 0.001], [0.002]]
    # medians of the rounds: 2/1, 20/10, 2/1
    found = ratio_of(file, base)
    assert (found.median, found.low, found.high, found.rounds) == pytest.approx((2.0, 2.0, 2.0, 3))
    assert found.verdict == "faster"
    assert ratio_of(base, file).verdict == "slower"
    assert ratio_of([[1.0], [2.0]], [[2.0], [1.0]]).verdict == "no clear difference"


@pytest.mark.parametrize(
    ("op", "types", "expected"),
    [
        ("QLinearConv", ["uint8", "float"], "integer"),
        ("QGemm", ["uint8"], "integer"),
        ("ConvInteger", ["uint8"], "integer"),
        ("Transpose", ["uint8"], "integer"),
        ("QuantizeLinear", ["float"], "convert"),
        ("DequantizeLinear", ["uint8"], "convert"),
        ("Conv", ["float", "float"], "float"),
        ("Shape", ["int64"], "other"),
        ("RandomNormal", [], "other"),
    ],
)
def test_kinds(op: str, types: list[str], expected: str) -> None:
    assert kind_of(op, types) == expected


def test_families() -> None:
    plain = ["QLinearConv", "FusedConv", "NhwcFusedConv", "Conv"]
    assert {family(op) for op in plain} == {"Conv"}
    assert family("QGemm") == family("FusedGemm") == family("MatMul") == "Gemm"
    assert family("QuantizeLinear") == "conversion to and from int8"
    assert family("QuickGelu") == "QuickGelu"


def test_table_by_hand() -> None:
    table = KernelTable(
        (
            Kernel("q", "QuantizeLinear", "convert", 0.5),
            Kernel("a", "QLinearConv", "integer", 1.0),
            Kernel("b", "QLinearConv", "integer", 2.0),
            Kernel("m", "ReduceMean", "float", 0.25),
            Kernel("s", "Sigmoid", "float", 0.25 + 1.0),
        )
    )
    assert table.total_ms == 5.0
    assert table.rows()[0] == ("QLinearConv", "integer", 2, 3.0)
    assert (table.share("integer"), table.share("convert")) == (0.6, 0.1)
    assert [kernel.name for kernel in table.leftovers()] == ["s", "m"]
    base = KernelTable((Kernel("c", "Conv", "float", 2.5), Kernel("s", "Sigmoid", "float", 1.0)))
    assert base.leftovers() == ()  # a float network has no leftovers
    # Conv 3.0 - 2.5, Sigmoid 1.25 - 1.0, ReduceMean 0.25, conversion 0.5
    assert sorted(slower_families(table, base)) == [
        ("Conv", 0.5),
        ("ReduceMean", 0.25),
        ("Sigmoid", 0.25),
        ("conversion to and from int8", 0.5),
    ]


@pytest.mark.parametrize(("high", "named"), [(0.9, True), (1.1, False)])
def test_the_operator_that_makes_integers_slower_is_named(high: float, named: bool) -> None:
    from compressor.cli.bench import _text
    from compressor.deploy.bench import BenchResult, FileResult, Ratio, Timing

    def measured(name: str, kernel: Kernel) -> FileResult:
        time = Timing(1.0, 0.9, 1.1, 0.9, 20)
        return FileResult(Path(name), 100, time, time, 32, None, KernelTable((kernel,)))

    result = BenchResult(
        measured("q.onnx", Kernel("a", "QLinearConv", "integer", 2.5)),
        measured("f.onnx", Kernel("a", "Conv", "float", 1.0)),
        Ratio(0.8, 0.7, high, 9),
        Ratio(1.2, 1.1, 1.3, 9),
        1,
        {"processor": "x", "instructions": "", "onnxruntime": "1"},
    )
    lines = list(_text(result))
    assert ("slower because of Conv (+1.500 ms)" in lines) == named
    assert any("--placement fastest" in line for line in lines) == named
    assert result.to_dict()["slower_operators"] == (
        [{"operator": "Conv", "ms_more": 1.5}] if named else []
    )


def test_real_kernels_of_both_files(conv_networks: tuple[Path, Path]) -> None:
    int8, base = conv_networks
    rounds: list[tuple[int, int]] = []
    result = bench(
        int8,
        base,
        rounds=3,
        batch_size=4,
        warm_up=1,
        memory=False,
        on_round=lambda done, of: rounds.append((done, of)),
    )
    ran = {kernel.op: kernel.kind for kernel in result.file.kernels.kernels}
    assert ran["QLinearConv"] == "integer"
    assert "Conv" not in ran
    assert "left_in_float" in [kernel.name for kernel in result.file.kernels.leftovers()]
    assert result.base is not None
    assert "QLinearConv" not in {kernel.op for kernel in result.base.kernels.kernels}
    assert not result.base.kernels.integer
    assert result.ratio is not None
    assert result.ratio.rounds == 3
    assert result.ratio.low <= result.ratio.median <= result.ratio.high
    assert result.file.throughput == pytest.approx(4000.0 / result.file.batch.median)
    assert rounds == [(i, 6) for i in range(1, 7)]
    assert json.loads(json.dumps(result.to_dict()))["base"]["file"] == str(base)


def test_memory_of_a_process_of_its_own(conv_networks: tuple[Path, Path]) -> None:
    found = measure_memory(conv_networks[0])
    # Python, numpy and onnxruntime take tens of MB; a small network well under as much again
    assert 10e6 < found.before < 1e9
    assert found.before <= found.peak
    assert 0 <= found.network < 200e6
    assert Memory(before=5, peak=3).network == 0


def test_memory_of_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(MeasureError, match=r"memory of .*x\.onnx.*cannot load"):
        measure_memory(tmp_path / "x.onnx")


def test_bad_requests(conv_networks: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--rounds is 0"):
        bench(conv_networks[0], rounds=0)
    with pytest.raises(ModelFileError, match="does not exist"):
        bench(conv_networks[0], tmp_path / "no.onnx")


def test_command(conv_networks: tuple[Path, Path]) -> None:
    app = typer.Typer()
    app.command()(bench_command)
    int8, base = conv_networks
    found = CliRunner().invoke(app, [str(int8), "--vs", str(base), "--rounds", "2", "--batch", "2"])
    assert found.exit_code == 0, found.output
    assert "int8.onnx against float.onnx:" in found.stdout
    assert "float leftovers: left_in_float (Erf)" in found.stdout
    assert "QLinearConv" in found.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.pt", "compressor export {file} --to onnx writes one"),
        ("model.tflite", "name its ONNX file, or export the model that it was made of"),
    ],
)
def test_another_kind_of_file_is_told_how_to_become_onnx(
    name: str, said: str, conv_networks: tuple[Path, Path], tmp_path: Path
) -> None:
    app = typer.Typer()
    app.command()(bench_command)
    file = tmp_path / name
    file.write_bytes(b"weights")
    for args in ([str(file)], [str(conv_networks[0]), "--vs", str(file)]):
        error = CliRunner().invoke(app, args).exception
        assert isinstance(error, UsageError)
        assert str(error).startswith(f"{file} is no ONNX file")
        assert str(error).endswith(said.format(file=file))
