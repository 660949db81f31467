"""Run a recipe for a command: files, progress, interrupts, one row a step."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from compressor.cli import console
from compressor.cli.commands import INTERRUPTED
from compressor.cli.targets import check_target
from compressor.errors import UsageError
from compressor.recipe import Recipe

if TYPE_CHECKING:
    from compressor.engine import StepRecord

__all__ = ["run_recipe"]


def _out(model: Path, out: Path | None, word: str) -> Path:
    """Where the result goes; never the model itself."""
    target = out or model.with_name(f"{model.stem}-{word}.pt")
    same = target.resolve() == model.resolve()
    if same or (target.exists() and model.exists() and target.samefile(model)):
        raise UsageError(
            f"--out {target} is the model itself, which is never changed; name another file"
        )
    check_target(target)
    return target


def run_recipe(
    word: str,
    model: Path,
    recipe: Recipe,
    *,
    out: Path | None,
    data: str | None,
    fold: int | None,
    cache: Path | None,
    threads: int | None,
    output: str,
    keep_steps: bool = False,
) -> None:
    """Run a recipe on a model file, write the result, print one row a step.

    Args:
        word: what the result is called where `out` is not given.
        model: the model file.
        recipe: what to do.
        out: where to write the result; None puts it beside the model.
        data: what `open_dataset` opens; None for no clips.
        fold: of the data.
        cache: folder of cached features.
        threads: of torch; None for one a core.
        output: "text" or "json".
        keep_steps: write each finished step beside the result.

    Raises:
        CompressorError: bad values, or a network with which it cannot be done.
        Exit: interrupted.
    """
    from compressor import runtime

    target = _out(model, out, word)
    runtime.tune(threads=threads or runtime.cores())
    from compressor.artifact import load, save
    from compressor.engine import Keeper, compress, open_data

    artifact = load(model)
    if data is None and recipe.needs_data:
        raise UsageError(
            f"step {recipe.needs_data[0]} needs clips; add --data DIR (or --data synthetic)"
        )
    features = None
    if data is not None:
        with console.on_progress("data") as on_data, console.on_progress("features") as on_features:
            features = open_data(
                artifact, data, fold=fold, cache=cache, on_data=on_data, on_features=on_features
            )
    records: list[StepRecord] = []

    def on_step(record: StepRecord) -> None:
        records.append(record)
        done = "taken from an earlier run" if record.resumed else f"{record.seconds:.1f} s"
        console.note(f"step {record.index}/{record.count} {record.kind}: {done}")

    keeper = Keeper(target) if keep_steps else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # CI ends jobs with it: end in order
    try:
        with console.on_progress("epochs") as on_epoch:
            result = compress(
                artifact,
                recipe,
                features,
                keeper=keeper,
                out=target,
                command=("compressor", *sys.argv[1:]),
                on_step=on_step,
                on_epoch=lambda epoch, epochs, _: on_epoch(epoch, epochs),
            )
    except KeyboardInterrupt:
        text = "interrupted; nothing is written (finished steps are kept with --keep-steps)"
        if keeper is not None:
            text = (
                f"interrupted; {len(records)} finished step(s) are kept: the same command goes on"
            )
        console.note(text)
        raise typer.Exit(INTERRUPTED) from None
    target.parent.mkdir(parents=True, exist_ok=True)
    save(result, target)
    if output == "json":
        record = {
            "schema": 1,
            "model": str(model),
            "out": str(target),
            "recipe": recipe.to_dict(),
            "steps": [{**r.to_dict(), "resumed": r.resumed} for r in records],
        }
        print(json.dumps(record, indent=2, ensure_ascii=False))
    else:
        print("\n".join([_verdict(target), "", *_text(records), "", str(target)]))


def _verdict(path: Path) -> str:
    """What each year says of the written file, as `compressor audit` says it."""
    from compressor.audit import audit, verdicts
    from compressor.cli.audit_text import headline
    from compressor.cli.text import printable, screen_width, wrapped

    text = printable(headline(verdicts(audit(path))))
    return "\n".join(wrapped([text], screen_width()))


def _text(records: Sequence[StepRecord]) -> Iterator[str]:
    """One row a step, the network as it was first; then notes."""
    from compressor.cli.text import fitted, screen_width, wrapped

    width = screen_width()
    first = records[0]
    rows = [_row("(as it was)", first.audit_before, first.accuracy_before, None)]
    rows += [_row(r.kind, r.audit_after, r.accuracy_after, r.seconds) for r in records]
    header = ["step", "parameters", "not zero", "bytes", "MACs", "accuracy %", "log loss", "s"]
    yield from fitted(header, rows, {0}, width, [7, 2, 6])
    lines = [f"{record.kind}: {note}" for record in records for note in record.notes]
    for record in records:
        if "rules" in record.facts:
            share = record.facts["sparsity"]
            lines.append(f"{record.kind}: {share:.1%} of {record.facts['weights']:,} weights zero")
            lines += [f"  {year} {line}" for year, line in record.facts["rules"].items()]
        if "scale_bytes" in record.facts:
            size = record.facts["scale_bytes"]
            lines.append(f"{record.kind}: scales and zero points {size:,} B beside the parameters")
        predicted = record.facts.get("predicted")
        if predicted:
            lines.append(
                f"{record.kind}: {predicted['param_bytes']:,} B in {predicted['number_type']} and "
                f"{predicted['macs']:,} MACs predicted"
            )
    if any(record.measured_in == "onnxruntime" for record in records):
        lines.append("accuracy of integers: measured in onnxruntime")
    if first.accuracy_before is None:
        lines.append("no accuracy: give --data")
    if lines:
        yield ""
        yield from wrapped(lines, width)


def _row(name: str, figures: Any, scores: Any, seconds: float | None) -> list[str]:
    macs = figures["macs"]
    return [
        name,
        f"{figures['params']:,}",
        f"{figures['nonzero_params']:,}",
        f"{figures['param_bytes']:,}",
        "unknown" if macs is None else f"{macs:,}",
        "–" if scores is None else f"{100 * scores['accuracy']:.1f}",
        "–" if scores is None else f"{scores['log_loss']:.3f}",
        "" if seconds is None else f"{seconds:.1f}",
    ]
