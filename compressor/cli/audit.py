"""`compressor audit`: what model files hold and cost, and whether they pass each year's rules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressor.errors import CompressorError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from compressor.audit import AuditResult, Verdict

FORMATS = ("text", "json")
WORDS = {"pass": "PASS", "fail": "FAIL", "depends": "DEPENDS", "unknown": "UNKNOWN"}


def audit(
    files: Annotated[list[Path], typer.Argument(help="Model files (.pt); never executed.")],
    *,
    year: Annotated[
        str, typer.Option(help="Rules to check: 2020 to 2025, or all (for information only).")
    ] = "all",
    convention: Annotated[
        str, typer.Option(help="Convention of the layer table: strict or nessi (official).")
    ] = "strict",
    output: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "text",
    layers: Annotated[bool, typer.Option("--layers", help="Show the layer table.")] = False,
    input_shape: Annotated[
        str | None,
        typer.Option(help="Count on another input, as 1,1,40,51 (rebuilds the network)."),
    ] = None,
) -> None:
    """Audit model files: parameters, bytes, MACs, memory and the verdict of each year.

    Exit code: 0 pass, 1 a budget of --year failed or is in doubt, 2 usage, 3 not measurable.

    Example: compressor audit model.pt --year 2023 --layers
    """
    from compressor.audit import CONVENTIONS, verdicts
    from compressor.audit.rules import years

    if output not in FORMATS:
        raise UnknownNameError("output format", output, FORMATS)
    if convention not in CONVENTIONS:
        raise UnknownNameError("counting convention", convention, CONVENTIONS)
    if year != "all" and year not in map(str, years()):
        raise UnknownNameError("challenge year", year, ["all", *map(str, years())])
    shape = _shape(input_shape)
    records: list[dict[str, Any]] = []
    worst = 0
    for file in files:
        try:
            result = _measure(file, convention, shape)
        except UsageError:
            raise
        except CompressorError as error:
            print(f"error: {error}", file=sys.stderr)
            records.append({"file": str(file), "status": "error", "error": str(error)})
            worst = 3
            continue
        found = verdicts(result, year)
        worst = max(worst, _exit_code(found) if year != "all" else 0)
        if output == "json":
            records.append(_record(file, result, found))
        else:
            print("\n".join(_text(file, result, found, layers)))
    if output == "json":
        import json

        print(json.dumps({"schema": 1, "files": records}, indent=2, ensure_ascii=False))
    raise typer.Exit(worst)


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"--input-shape {text!r}: expected positive sizes, as 1,1,40,51")
    return shape


def _measure(file: Path, convention: str, shape: tuple[int, ...] | None) -> AuditResult:
    from compressor.audit import audit as measure

    result = measure(file, convention=convention)
    if shape is None or shape == result.input_shape:
        return result
    if result.format != "compressor-model":
        raise UsageError(
            f"{file.name}: --input-shape needs a file that names its network, this is a "
            f"{result.format}"
        )
    from compressor import artifact  # torch: only to run the network on another input

    network = artifact.load(file).build()
    if result.bytes_by_dtype.keys() == {"float16"}:
        network = network.half()
    return measure(network, input_shape=shape, convention=convention)


def _exit_code(found: tuple[Verdict, ...]) -> int:
    states = {verdict.status for verdict in found}
    return 1 if states & {"fail", "depends"} else 3 if "unknown" in states else 0


def _record(file: Path, result: AuditResult, found: tuple[Verdict, ...]) -> dict[str, Any]:
    import hashlib

    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "file": str(file),
        "sha256": digest,
        "status": result.status,
        "verdicts": [verdict.to_dict() for verdict in found],
        "audit": result.to_dict(),
    }


def _text(
    file: Path, result: AuditResult, found: tuple[Verdict, ...], layers: bool
) -> Iterator[str]:
    from compressor.cli.text import columns, printable

    arch = result.meta.get("arch")
    what = f"{arch}, {result.format}" if arch else result.format
    yield printable(f"{file.name} ({what}): {_headline(found)}")
    yield ""
    rows = [
        [
            str(verdict.year),
            WORDS[verdict.status] if index == 0 else "",
            check.name,
            _number(check.value),
            _number(check.limit),
            "" if check.margin is None else f"{check.margin:+,}",
            check.unit,
            WORDS[check.status].lower(),
            "" if check.evidence == "V" else check.evidence,
        ]
        for verdict in found
        for index, check in enumerate(verdict.checks)
    ]
    header = ["year", "verdict", "limit of", "value", "limit", "margin", "unit", "check", "source"]
    yield from columns(header, rows, left={1, 2, 6, 7})
    yield ""
    yield from _figures(result)
    if notes := list(_notes(result, found)):
        yield ""
        yield from map(printable, notes)
    if layers:
        yield ""
        yield from _layers(result)


def _headline(found: tuple[Verdict, ...]) -> str:
    """One year: the verdict and the tightest margin. All years: which pass and which fail."""
    if len(found) > 1:
        groups = [
            f"{WORDS[state]} {', '.join(str(v.year) for v in found if v.status == state)}"
            for state in ("pass", "fail", "depends", "unknown")
            if any(v.status == state for v in found)
        ]
        return "; ".join(groups)
    (verdict,) = found
    decisive = [check for check in verdict.checks if check.status == verdict.status]
    shares = {
        check.margin / check.limit: check
        for check in decisive
        if check.margin is not None and isinstance(check.limit, int)
    }
    if not shares:
        return f"{WORDS[verdict.status]} {verdict.task}: {decisive[0].name}"
    check = shares[min(shares)]
    assert check.margin is not None
    side = "to spare" if check.margin >= 0 else "over"
    return (
        f"{WORDS[verdict.status]} {verdict.task}: {check.name} {_number(check.value)} {check.unit} "
        f"of {_number(check.limit)}, {abs(check.margin):,} {side}"
    )


def _figures(result: AuditResult) -> Iterator[str]:
    by_dtype = ", ".join(f"{size:,} B {name}" for name, size in result.bytes_by_dtype.items())
    shape = "x".join(map(str, result.input_shape)) or "unknown"
    figures = {
        "parameters": f"{result.params:,} ({result.nonzero_params:,} not zero)",
        "parameter bytes": f"{result.param_bytes:,} ({by_dtype})",
        "buffers": f"{result.buffer_bytes:,} B beside the parameters",
        "input": shape,
        "MACs strict": _number(result.macs_by_convention.get("strict")),
        "MACs official": _number(result.macs_by_convention.get("nessi")),
        "peak activations": "unknown"
        if result.peak_activation_bytes is None
        else f"{result.peak_activation_bytes:,} B at {result.peak_activation_layer}",
        "status": result.status,
    }
    for name, value in figures.items():
        yield f"{name:<17} {value}"


def _notes(result: AuditResult, found: tuple[Verdict, ...]) -> Iterator[str]:
    fixes: dict[str, list[int]] = {}
    for verdict in found:
        for fix in verdict.fixes:
            fixes.setdefault(fix, []).append(verdict.year)
    for fix, years in fixes.items():
        yield f"to pass {', '.join(map(str, years))}: {fix}"
    doubtful: dict[str, list[int]] = {}
    for verdict in found:
        for check in verdict.checks:
            if check.note and (check.status in {"depends", "unknown"} or len(found) == 1):
                doubtful.setdefault(f"{check.name}: {check.note}", []).append(verdict.year)
    for text, years in doubtful.items():
        yield f"note {', '.join(map(str, years))}: {text}"
    for note in result.notes:
        yield f"note: {note}"
    if any(check.evidence != "V" for verdict in found for check in verdict.checks):
        yield "source: blank = organisers, S = third party, I = inferred, N = not to be had"


def _layers(result: AuditResult) -> Iterator[str]:
    from compressor.cli.text import columns

    official = result.convention == "nessi"
    rows = [
        [
            layer.name or "(model)",
            layer.kind,
            f"{layer.params:,}",
            f"{layer.nonzero_params:,}",
            f"{layer.param_bytes:,}",
            f"{layer.macs_official if official else layer.macs:,}",
            "x".join(map(str, layer.output_shape)),
            layer.dtype,
        ]
        for layer in result.layers
        if layer.params or layer.macs or layer.macs_official
    ]
    header = ["layer", "kind", "parameters", "not zero", "bytes"]
    header += ["MACs official" if official else "MACs", "output", "dtype"]
    yield from columns(header, rows, left={0, 1, 6, 7})


def _number(value: int | str | None) -> str:
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else value
