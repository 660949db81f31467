"""Loops, branches and calls of TFLite files: what runs inside is counted as often as it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tflite_helpers import OPS, G, O, T, model, save

import compressor
from compressor.audit import AuditResult
from compressor.errors import ModelFileError

OPS["CALL"] = (31, 16)
OPS["LOGICAL_AND"] = (86, 61)


def audit(tmp_path: Path, *graphs: G) -> AuditResult:
    return compressor.audit(save(tmp_path / "a.tflite", model(*graphs)))


def scalar(name: str, value: int | None = None) -> T:
    return T(name, (), "int32", None if value is None else [value])


def loop(start: int, step: int, limit: int, *, fixed: bool = True, body: int = 2) -> list[G]:
    """A counter and 4 numbers that each round sends through a 4 x 4 layer."""
    begin = scalar("begin", start) if fixed else scalar("begin")
    main = G(
        [T("x", (1, 4)), begin, scalar("i_end"), T("y", (1, 4))],
        [O("WHILE", ["begin", "x"], ["i_end", "y"], {0: ("i", 1), 1: ("i", body)})],
        ["x"] if fixed else ["x", "begin"],
        ["y"],
    )
    condition = G(
        [scalar("i"), T("h", (1, 4)), scalar("limit", limit), T("go", (), "bool")],
        [O("LESS", ["i", "limit"], ["go"])],
        ["i", "h"],
        ["go"],
    )
    inside = G(
        [
            scalar("i"),
            T("h", (1, 4)),
            scalar("step", step),
            scalar("next"),
            T("w", (4, 4), data=[1.0] * 16),
            T("model/cell/MatMul", (1, 4)),
        ],
        [
            O("ADD", ["i", "step"], ["next"]),
            O("FULLY_CONNECTED", ["h", "w", None], ["model/cell/MatMul"]),
        ],
        ["i", "h"],
        ["next", "model/cell/MatMul"],
    )
    return [main, condition, inside]


@pytest.mark.parametrize(
    ("start", "step", "limit", "rounds"),
    [(0, 1, 10, 10), (0, 3, 10, 4), (2, 1, 2, 0), (5, 1, 2, 0), (-3, 2, 4, 4)],
)
def test_a_loop_that_counts_up_to_a_stored_limit(
    start: int, step: int, limit: int, rounds: int, tmp_path: Path
) -> None:
    result = audit(tmp_path, *loop(start, step, limit))
    assert result.macs == 16 * rounds
    assert (result.params, result.status) == (16, "exact")
    # the official counter does not look into subgraphs
    assert result.macs_by_convention["nessi-tflite"] == 0


@pytest.mark.parametrize("case", ["start", "step"])
def test_a_loop_without_a_fixed_count_is_partial(case: str, tmp_path: Path) -> None:
    graphs = loop(0, 1, 10, fixed=False) if case == "start" else loop(0, 0, 10)
    result = audit(tmp_path, *graphs)
    assert result.macs == 16
    assert result.statuses["macs"] == "partial"
    assert result.statuses["params"] == "exact"
    assert any("how often WHILE at i_end runs is not known" in note for note in result.notes)


def test_what_a_loop_starts_from_is_no_parameter_and_what_it_carries_along_is(
    tmp_path: Path,
) -> None:
    main = G(
        [
            scalar("begin", 0),
            T("first", (1, 4), data=[0.0] * 4),
            T("w", (4, 4), data=[1.0] * 16),
            scalar("i_end"),
            T("y", (1, 4)),
            T("w_end", (4, 4)),
        ],
        [O("WHILE", ["begin", "first", "w"], ["i_end", "y", "w_end"], {0: ("i", 1), 1: ("i", 2)})],
        [],
        ["y"],
    )
    same = [scalar("i"), T("h", (1, 4)), T("w", (4, 4))]
    condition = G(
        [*same, scalar("limit", 5), T("go", (), "bool")],
        [O("LESS", ["i", "limit"], ["go"])],
        ["i", "h", "w"],
        ["go"],
    )
    body = G(
        [*same, scalar("step", 1), scalar("next"), T("out", (1, 4))],
        [O("ADD", ["i", "step"], ["next"]), O("FULLY_CONNECTED", ["h", "w", None], ["out"])],
        ["i", "h", "w"],
        ["next", "out", "w"],
    )
    result = audit(tmp_path, main, condition, body)
    assert (result.params, result.macs, result.status) == (16, 80, "exact")


def branches(small: int, large: int) -> list[G]:
    """An IF between two layers on 4 numbers that end in 1."""

    def layer(width: int) -> G:
        tensors = [
            T("h", (1, 4)),
            T("w", (width, 4), data=[1.0] * 4 * width),
            T("m", (1, width)),
            T("axis", (1,), "int32", [1]),
            T("out", (1, 1)),
        ]
        ops = [O("FULLY_CONNECTED", ["h", "w", None], ["m"]), O("MEAN", ["m", "axis"], ["out"])]
        return G(tensors, ops, ["h"], ["out"])

    main = G(
        [T("which", (), "bool"), T("x", (1, 4)), T("y", (1, 1))],
        [O("IF", ["which", "x"], ["y"], {0: ("i", 1), 1: ("i", 2)})],
        ["which", "x"],
        ["y"],
    )
    return [main, layer(small), layer(large)]


def test_the_larger_branch_is_counted_and_named(tmp_path: Path) -> None:
    for order in ((3, 7), (7, 3)):
        result = audit(tmp_path, *branches(*order))
        assert result.macs == 28
        assert result.params == 12 + 28  # both are stored
        note = f"the larger is counted (MACs {order[0] * 4} and {order[1] * 4})"
        assert any(note in text for text in result.notes)
        assert result.details["never_called"]  # the other branch
    assert not any("larger" in text for text in audit(tmp_path, *branches(3, 3)).notes)


def test_a_called_subgraph_counts_at_every_call(tmp_path: Path) -> None:
    main = G(
        [T("x", (1, 4)), T("a", (1, 4)), T("b", (1, 4))],
        [O("CALL", ["x"], ["a"], {0: ("I", 1)}), O("CALL", ["a"], ["b"], {0: ("I", 1)})],
        ["x"],
        ["b"],
    )
    part = G(
        [T("h", (1, 4)), T("w", (4, 4), data=[1.0] * 16), T("out", (1, 4))],
        [O("FULLY_CONNECTED", ["h", "w", None], ["out"])],
        ["h"],
        ["out"],
    )
    result = audit(tmp_path, main, part)
    assert (result.params, result.macs, result.status) == (16, 32, "exact")


@pytest.mark.parametrize(
    ("graphs", "match"),
    [
        (loop(0, 1, 3, body=0), "takes 1 inputs and is given 2"),
        (loop(0, 1, 3, body=9), "subgraph 9 of 3"),
        (loop(0, 1, 3, body=-1), "subgraph -1 of 3"),
    ],
)
def test_loops_into_nothing_are_refused(graphs: list[G], match: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=match):
        audit(tmp_path, *graphs)


def test_a_subgraph_that_runs_itself_is_refused(tmp_path: Path) -> None:
    main = G(
        [T("x", (1, 4)), T("y", (1, 4))],
        [O("CALL", ["x"], ["y"], {0: ("I", 0)})],
        ["x"],
        ["y"],
    )
    with pytest.raises(ModelFileError, match="runs itself"):
        audit(tmp_path, main)


def test_calls_that_multiply_are_refused_in_bounded_time(tmp_path: Path) -> None:
    """Twelve levels that each call the next ten times: 10 ** 12 operators if followed."""
    import time

    graphs = []
    for level in range(12):
        names = [f"t{i}" for i in range(11)]
        ops = [O("CALL", [names[i]], [names[i + 1]], {0: ("I", level + 1)}) for i in range(10)]
        graphs.append(G([T(name, (1, 4)) for name in names], ops, ["t0"], ["t10"]))
    graphs.append(
        G([T("t0", (1, 4)), T("t1", (1, 4))], [O("RELU", ["t0"], ["t1"])], ["t0"], ["t1"])
    )
    start = time.process_time()
    with pytest.raises(ModelFileError, match="more than 60,000 operators"):
        audit(tmp_path, *graphs)
    assert time.process_time() - start < 5
