"""What only running code can tell: asked of a child process with limits. No torch on this side.

The answer is plain JSON and is checked like a foreign file: code that ran there may have forged it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from math import prod
from pathlib import Path
from typing import Any

from compressor.audit.graph import Graph, read_graph
from compressor.audit.inventory import Inventory, Role, StoredTensor
from compressor.audit.quantised import assign_roles
from compressor.audit.readers.child_process import ask
from compressor.audit.readers.widths import WIDTHS
from compressor.audit.shown import shown_name
from compressor.errors import ModelFileError, UsageError

__all__ = ["read_factory", "read_torchscript_file", "rebuilt", "rows_of", "with_network"]

Shapes = tuple[tuple[int, ...], ...]


def read_torchscript_file(file: Path, name: str, size: int, shapes: Shapes | None) -> Inventory:
    """Loads a TorchScript archive in a child process and runs it once.

    Args:
        file: the file.
        name: what messages call it.
        size: its bytes.
        shapes: the shapes of its inputs.

    Raises:
        UsageError: no shapes.
        ModelFileError: the child crashed, hung, or answered what is no network.
        MeasureError: it does not run on such inputs.
    """
    if shapes is None:
        raise UsageError(
            f"{name}: a TorchScript file does not say on what input to run: give input_shape=... "
            "(--input-shape), for example 1,1,40,51"
        )
    with file.open("rb") as stream:
        request = {"job": "torchscript", "file": stream.fileno(), "shapes": shapes, "size": size}
        answer = ask(request, name, (stream.fileno(),))
    return _inventory(answer, name, "torchscript")


def read_factory(target: str, shapes: Shapes | None, *, run: bool) -> Inventory:
    """Builds the network of a "package.module:factory" in a child process and runs it once.

    Raises:
        UsageError: running was not permitted, or no shapes.
        ModelFileError: the child crashed, hung, or answered what is no network.
        MeasureError: no such factory, or it fails.
    """
    name = shown_name(target)
    if not run:
        raise UsageError(
            f"{name}: names code, which is run only when asked for, in a "
            "child process with limits: run=True (--allow-code)"
        )
    if shapes is None:
        raise UsageError(
            f"{name}: does not say on what input to run: give input_shape=... (--input-shape), for "
            "example 1,1,40,51"
        )
    answer = ask({"job": "factory", **_target(target), "shapes": shapes}, name)
    return _inventory(answer, name, "module")


def with_network(found: Inventory, arch: str, shapes: Shapes | None, *, run: bool) -> Inventory:
    """Gives bare weights the graph of the network they belong to.

    Args:
        found: what the file holds.
        arch: a name in the zoo, or "package.module:factory"; both may be followed by keyword
            arguments: "cp_resnet(num_classes=15)".
        shapes: the inputs; None for the zoo's own.
        run: whether a factory may run.

    Raises:
        UsageError: an unknown network, or a factory that was not permitted.
        ModelFileError: the weights are not those of that network.
    """
    shown = shown_name(arch)
    if ":" in arch:
        if not run:
            raise UsageError(
                f"arch {shown}: names code, which is run only when asked for: run=True "
                "(--allow-code)"
            )
        if shapes is None:
            raise UsageError(f"arch {shown}: give input_shape=... (--input-shape) too")
    floats = {t.dtype for t in found.parameters if "float" in t.dtype}
    request = {
        "job": "graph",
        **_target(arch),
        "shapes": shapes,
        "dtype": next(iter(floats)) if len(floats) == 1 else "float32",
    }
    graph = _graph(ask(request, found.source), found.source)
    return replace(_with_graph(found, graph, shown), meta={**found.meta, "arch": shown})


def rebuilt(found: Inventory, file: Path, shapes: Shapes) -> Inventory:
    """Counts one of the project's own files on another input: the zoo builds its network again.

    Raises:
        ModelFileError: the file cannot be loaded, or its network is not in the zoo.
        MeasureError: the network does not run on that input.
    """
    floats = {t.dtype for t in found.parameters if "float" in t.dtype}
    request = {
        "job": "artifact",
        "path": str(file.absolute()),
        "shapes": shapes,
        "dtype": next(iter(floats)) if len(floats) == 1 else "float32",
    }
    graph = _graph(ask(request, found.source), found.source)
    return _with_graph(found, graph, str(found.meta.get("arch", "its network"))[:80])


def _target(text: str) -> dict[str, Any]:
    """Splits "name(key=value, ...)" into a name and plain arguments."""
    name, bracket, rest = text.partition("(")
    arguments: dict[str, Any] = {}
    if bracket:
        try:
            call = ast.parse(f"f({rest}", mode="eval").body
            keywords = call.keywords if isinstance(call, ast.Call) and not call.args else None
            arguments = {str(k.arg): ast.literal_eval(k.value) for k in keywords or ()}
            json.dumps(arguments)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            keywords = None
        if keywords is None:
            raise UsageError(
                f"{shown_name(text)}: the arguments must be plain keyword arguments, as "
                "name(num_classes=10)"
            )
    return {"target": name, "arguments": arguments}


def _graph(answer: Mapping[str, Any], name: str) -> Graph:
    try:
        return read_graph(answer.get("graph"))
    except ModelFileError as error:
        raise ModelFileError(
            f"{name}: the child process answered with no graph: {error}"
        ) from error


def _inventory(answer: Mapping[str, Any], name: str, format_: str) -> Inventory:
    graph = _graph(answer, name)
    rows = answer.get("tensors")
    if not isinstance(rows, list) or len(rows) > 200_000:
        raise ModelFileError(f"{name}: the child process answered with no list of tensors")
    deployed = answer.get("deployed_bits")
    bits = (
        {str(k)[:512]: v for k, v in deployed.items() if type(v) is int and 0 < v <= 64}
        if isinstance(deployed, dict)
        else {}
    )
    found = Inventory(name, format_, tuple(_tensor(row, name) for row in rows), graph)
    return assign_roles(replace(found, deployed_bits=bits))


def _tensor(row: object, name: str) -> StoredTensor:
    roles: tuple[Role, ...] = ("parameter", "buffer", "constant", "scale")
    match row:
        case [
            str(key),
            list(shape),
            str(dtype),
            str(role),
            int(numel),
            int(nonzero),
            int(effective),
            int(nbytes),
            str(first),
        ] if (
            role in roles
            and max(map(len, (key, dtype, first))) <= 512
            and (key + dtype + first).isprintable()
            and len(shape) <= 32
            and all(type(n) is int and 0 <= n < 1 << 48 for n in (*shape, numel, nbytes))
            and 0 <= effective <= nonzero <= numel
        ):
            known = next(r for r in roles if r == role)
            return StoredTensor(
                key, tuple(shape), dtype, known, numel, nonzero, effective, nbytes, first
            )
    raise ModelFileError(f"{name}: the child process answered with what is no tensor")


def _with_graph(found: Inventory, graph: Graph, arch: str) -> Inventory:
    """Checks the weights of a file against a network and takes over its graph and roles."""
    wanted = {**graph.parameters, **graph.buffers, **graph.packed}
    stored = {t.name: t for t in found.tensors if t.role != "constant"}
    unsaved = graph.unsaved
    differences = [
        f"{shown_name(key)} is {t.shape} in the file, {wanted[key][0]} in the network"
        for key, t in stored.items()
        if key in wanted and t.shape != wanted[key][0]
    ]
    extra = [f"{shown_name(key)} is not in the network" for key in stored if key not in wanted]
    missing = [
        f"{shown_name(key)} is not in the file"
        for key in wanted
        if key not in stored and key not in unsaved
    ]
    every = [*differences, *extra, *missing]
    if every:
        more = f" and {len(every) - 3} more" if len(every) > 3 else ""
        raise ModelFileError(
            f"{found.source}: not the weights of {arch}: {'; '.join(every[:3])}{more}; give the "
            "network they were made with"
        )
    tensors = [replace(stored[key], role=_role(key, graph)) for key in wanted if key in stored]
    for table, role in ((graph.buffers, "buffer"), (graph.constants, "constant")):
        for key, (shape, dtype) in table.items():
            if key not in stored:
                numel = prod(shape)
                nbytes = numel * WIDTHS.get(dtype, 0) if role == "buffer" else 0
                kind: Role = "buffer" if role == "buffer" else "constant"
                tensors.append(StoredTensor(key, shape, dtype, kind, numel, 0, 0, nbytes, key))
    tied = {t.name: graph.tied.get(t.name, t.first) for t in tensors}
    return replace(
        found,
        tensors=tuple(replace(t, first=tied[t.name]) for t in tensors),
        graph=graph,
        roles_certain=True,
        doubts={},
    )


def _role(key: str, graph: Graph) -> Role:
    return "buffer" if key in graph.buffers else "parameter"


def rows_of(tensors: Sequence[StoredTensor]) -> list[list[Any]]:
    """Returns tensors in the plain form that an answer carries."""
    return [list(astuple(tensor)) for tensor in tensors]
