"""Our figures beside those of other counters, on structures whose figures are known by hand.

    python tests/benchmarks/compare_counters.py [--write docs/compared.md] [--only NAME] [--ours]

Prints Markdown tables; `--write` puts them between the markers of a page. Each counter runs on each
structure in a process of its own, forked from one that built the structure and imported everything:
some leave hooks and patched functions behind, and one crash must not spoil the next count. Exit
code 1 where ours is wrong. Needs the development extra, on Linux or macOS.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import logging
import os
import platform
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import structures_quantised  # noqa: F401  (registers the rest)
import torch
from structures import STRUCTURES, Structure
from torch import Tensor, nn

import compressor

TIMEOUT_S = 120
# Figures that differ by the convention alone: a bias, a normalisation or a pooling counts or not.
CONVENTION = {
    "convolution with bias": " †",
    "Conv + BatchNorm + ReLU": " †",
    "the same, BatchNorm folded": " †",
    "adaptive-pool head": " †",
    "DCASE 2022 baseline": " †",
    "DCASE 2024 baseline": " †",
}
START, END = "<!-- compared: start -->", "<!-- compared: end -->"
Found = Mapping[str, Any]
Results = list[tuple[Structure, dict[str, Found]]]


# -- the counters -------------------------------------------------------------------------------


def ours(model: Any, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """`compressor.audit`, strict; an exported program brings its own inputs."""
    exported = isinstance(model, torch.export.ExportedProgram)
    result = compressor.audit(model, inputs=None if exported else inputs)
    return {
        "macs": result.macs,
        "params": result.params,
        "nonzero": result.nonzero_params,
        "bytes": result.param_bytes,
        "stored": dict(result.bytes_by_dtype),
        "buffers": result.buffer_bytes,
        "status": result.status,
    }


def torchinfo(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """What the official counter of 2022 to 2025 calls."""
    from torchinfo import summary

    found = summary(model, input_data=list(inputs), verbose=0)
    return {
        "macs": found.total_mult_adds,
        "params": found.total_params,
        "bytes": found.total_param_bytes,
    }


def fvcore(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Its "flop" is one multiply-accumulate."""
    from fvcore.nn import FlopCountAnalysis, parameter_count

    return {
        "params": parameter_count(model)[""],
        "macs": int(FlopCountAnalysis(model, inputs).total()),
    }


def ptflops(model: nn.Module, inputs: tuple[Tensor, ...], backend: str = "pytorch") -> Found:
    """Several inputs go in by name."""
    from ptflops import get_model_complexity_info

    names = list(inspect.signature(model.forward).parameters)
    batch = inputs[0] if len(inputs) == 1 else dict(zip(names, inputs, strict=False))
    macs, params = get_model_complexity_info(
        model,
        (1,),
        as_strings=False,
        print_per_layer_stat=False,
        input_constructor=lambda _: batch,
        backend=backend,
    )
    return {"macs": macs, "params": params}


def ptflops_aten(model: nn.Module, inputs: tuple[Tensor, ...]) -> Found:
    """The second of its two backends."""
    return ptflops(model, inputs, "aten")


def thop(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Returns floats."""
    from thop import profile

    macs, params = profile(model, inputs=inputs, verbose=False)
    return {"macs": int(macs), "params": int(params)}


def flop_counter_mode(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Counts two operations a multiply-accumulate; parameters are not its business."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as mode:
        model(*inputs)
    return {"macs": mode.get_total_flops() // 2}


COUNTERS: dict[str, Callable[[Any, tuple[Tensor, ...]], Found]] = {
    "compressor": ours,
    "torchinfo": torchinfo,
    "fvcore": fvcore,
    "ptflops": ptflops,
    "ptflops aten": ptflops_aten,
    "thop": thop,
    "FlopCounterMode": flop_counter_mode,
}


# -- one count in a process of its own ------------------------------------------------------------


def traces_of(model: Any) -> dict[str, Any]:
    """What a counter should leave alone."""
    spaces = (torch, torch.nn.functional, Tensor)
    names = ("relu", "linear", "conv2d", "matmul", "bmm", "add", "softmax", "interpolate")
    traces: dict[str, Any] = {
        "functions of torch": [getattr(space, name, None) for space in spaces for name in names]
    }
    if isinstance(model, nn.Module):
        modules = list(model.modules())
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules]
        traces |= {
            "hooks": hooks,
            "training flags": [m.training for m in modules],
            "attributes": [sorted(m.__dict__) for m in modules],
            "names in state_dict": sorted(model.state_dict()),
        }
    return traces


def counted(counter: str, model: Any, inputs: tuple[Tensor, ...]) -> Found:
    """Runs one counter in a forked process; {"error": ...} where it fails or hangs."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os.write(write, json.dumps(_answer(counter, model, inputs)).encode())
        finally:
            os._exit(0)
    os.close(write)
    data = b""
    while select.select([read], [], [], TIMEOUT_S)[0]:
        part = os.read(read, 1 << 16)
        if not part:
            break
        data += part
    else:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    os.waitpid(child, 0)
    return json.loads(data) if data else {"error": "no answer"}


def _answer(counter: str, model: Any, inputs: tuple[Tensor, ...]) -> Found:
    """The count, or the error, and whether the network and torch are as they were."""
    if counter != "compressor" and isinstance(model, torch.export.ExportedProgram):
        model = model.module()  # what the others can be given
    before = traces_of(model)
    try:
        found = dict(COUNTERS[counter](model, inputs))
    except BaseException as error:  # whatever a counter raises is its answer
        found = {"error": "".join(traceback.format_exception_only(error)).strip()[:200]}
    if "error" not in found and found["macs"] is None:
        found = {"error": "answers None"}
    after = traces_of(model)
    found["changed"] = [kind for kind in before if before[kind] != after[kind]]
    return found


# -- tables ---------------------------------------------------------------------------------------


def expected(structure: Structure) -> dict[str, Any]:
    """The figures by hand, under the names of the answers."""
    return {
        "macs": structure.macs,
        "params": structure.params,
        "nonzero": structure.nonzero,
        "bytes": sum(structure.stored.values()),
        "stored": dict(structure.stored),
        "buffers": structure.buffers,
    }


def cell(found: Found, metric: str, right: int) -> str:
    """One figure; bold where it is wrong."""
    if metric in found:
        return f"{found[metric]:,}" if found[metric] == right else f"**{found[metric]:,}**"
    return "**fails**" if "error" in found else "–"


def row(cells: list[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def table(results: Results, metric: str, all_rows: bool) -> list[str]:
    """One metric on the structures; without `all_rows` only those that some counter gets wrong."""
    names = [n for n in COUNTERS if any(metric in found[n] for _, found in results)]
    lines = [row(["structure", "by hand", *names]), row(["---", *["---:"] * (len(names) + 1)])]
    for structure, found in results:
        right = expected(structure)[metric]
        cells = [cell(found[name], metric, right) for name in names]
        if all_rows or any("**" in text for text in cells):
            mark = CONVENTION.get(structure.name, "") if metric == "macs" else ""
            lines.append(row([structure.name + mark, f"{right:,}", *cells]))
    return lines


METRICS = {
    "macs": "MACs",
    "params": "parameters",
    "nonzero": "non-zero parameters",
    "bytes": "bytes of parameters",
    "stored": "bytes by number type",
    "buffers": "bytes of buffers",
}


def scores(results: Results) -> list[str]:
    """How many structures each counter gets right, fails on, and leaves changed."""
    lines = [row(["", *COUNTERS]), row(["---", *["---:"] * len(COUNTERS)])]
    for metric, title in METRICS.items():
        cells = []
        for name in COUNTERS:
            answers = [(expected(s)[metric], found[name].get(metric)) for s, found in results]
            gives = any(answer is not None for _, answer in answers)
            cells.append(str(sum(a == b for a, b in answers)) if gives else "–")
        lines.append(row([f"{title}, right", *cells]))
    aside = [(s, found) for s, found in results if s.name not in CONVENTION]
    cells = [str(sum(f[name].get("macs") == s.macs for s, f in aside)) for name in COUNTERS]
    lines.insert(3, row([f"the same, on the {len(aside)} without †", *cells]))
    for title, key in (("fails", "error"), ("network or torch left changed", "changed")):
        cells = [str(sum(bool(found[name].get(key)) for _, found in results)) for name in COUNTERS]
        lines.append(row([title, *cells]))
    return lines


def stored_table(results: Results) -> list[str]:
    """What only ours tells; bold where it is not the figure by hand."""
    lines = [
        row(["structure", "non-zero", "bytes by number type", "buffers"]),
        row(["---", "---:", "---", "---:"]),
    ]
    for structure, found in results:
        answer, right = found["compressor"], expected(structure)
        text = ", ".join(f"{k} {v:,}" for k, v in answer.get("stored", {}).items()) or "–"
        text = text if answer.get("stored") == right["stored"] else f"**{text}**"
        cells = [cell(answer, "nonzero", right["nonzero"]), text]
        lines.append(row([structure.name, *cells, cell(answer, "buffers", right["buffers"])]))
    return lines


def page(results: Results) -> str:
    """All tables as Markdown."""
    packages = ("torch", "torchinfo", "fvcore", "ptflops", "thop", "torchao", "brevitas")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return "\n".join(
        [
            f"{len(results)} structures; Python {platform.python_version()}, {versions}, "
            f"compressor {compressor.__version__}. FlopCounterMode is torch's.",
            "",
            *scores(results),
            "",
            "### Multiply-accumulates",
            "",
            *table(results, "macs", all_rows=True),
            "",
            "### Parameters, where some counter is wrong",
            "",
            *table(results, "params", all_rows=False),
            "",
            "### What only compressor tells",
            "",
            *stored_table(results),
        ]
    )


def write(path: Path, text: str) -> None:
    """Puts the tables between the markers of a page."""
    old = path.read_text(encoding="utf-8")
    if START not in old or END not in old:
        sys.exit(f"{path}: no lines {START} and {END} to write between")
    head, tail = old.partition(START)[0], old.partition(END)[2]
    path.write_text(f"{head}{START}\n{text}\n{END}{tail}", encoding="utf-8")


def main() -> None:
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="PAGE.md", help="put the tables in a page")
    parser.add_argument("--only", default="", metavar="NAME", help="those with this in the name")
    parser.add_argument("--ours", action="store_true", help="count with compressor alone")
    parser.add_argument("--json", type=Path, help="write every answer, with the errors")
    options = parser.parse_args()
    chosen = [s for s in STRUCTURES if options.only in s.name]
    if not chosen:
        sys.exit(f"no structure has {options.only!r} in its name")
    if options.ours:
        for name in list(COUNTERS)[1:]:
            del COUNTERS[name]
    torch.set_num_threads(1)  # a forked process has none of the threads of its parent
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)  # the counters log what they leave out
    for name in ("torchinfo", "fvcore.nn", "ptflops", "thop", "torch.utils.flop_counter"):
        importlib.import_module(name)
    results = []
    for structure in chosen:
        model, inputs = structure.build()
        results.append((structure, {name: counted(name, model, inputs) for name in COUNTERS}))
        print(structure.name, file=sys.stderr)
    text = page(results)
    print(text)
    if options.json is not None:
        answers = {s.name: {"by hand": expected(s), **found} for s, found in results}
        options.json.write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")
    if options.write is not None:
        write(options.write, text)
    wrong = [
        f"{s.name}: {METRICS[metric]} {found['compressor'].get(metric)}, by hand {right}"
        for s, found in results
        for metric, right in expected(s).items()
        if found["compressor"].get(metric) != right
    ]
    if wrong:
        sys.exit("ours is wrong on " + "; ".join(wrong))


if __name__ == "__main__":
    main()
