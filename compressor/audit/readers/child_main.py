"""The child process of an audit: builds or loads one network, runs it once, answers in JSON.

Started by child.py; imports torch. What it is asked for decides what code runs here: a network of
the zoo, a factory that the user named, or a TorchScript archive.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

from compressor.audit.readers.child_sandbox import close_off, limit_memory


def main() -> None:
    """Reads a request from standard input and answers on the descriptor named on the command."""
    answer_to = int(sys.argv[1])
    request = json.load(sys.stdin)
    seconds, memory = request["limits"]
    close_off(seconds)
    tempfile.tempdir = os.getcwd()  # not looked for by trying to write  # noqa: PTH109
    import torch

    limit_memory(memory + 4 * int(request.get("size", 0)))
    try:
        answer = _answer(request)
    except BaseException as error:  # whatever a foreign network raises
        answer = _error(error)
    del torch
    with os.fdopen(answer_to, "wb") as stream:
        stream.write(json.dumps(answer).encode() + b"\n")
        stream.flush()
    os._exit(0)  # no exit handlers of foreign code


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    from compressor.audit.graph import read_graph
    from compressor.audit.readers.child import rows_of
    from compressor.audit.readers.module import deployed_bits, stored_tensors
    from compressor.audit.trace import graph_of, make_inputs

    torch.set_num_threads(1)
    job = request["job"]
    module, shapes = _module(request)
    if not isinstance(module, torch.nn.Module):
        return {
            "kind": "measure",
            "error": f"{request.get('target')} returned a {type(module).__name__}, expected a "
            "torch module",
        }
    plain = graph_of(module, make_inputs(module, shapes))
    if job in {"graph", "artifact"}:
        return {"graph": plain}
    tensors = stored_tensors(module, read_graph(plain))
    return {"graph": plain, "tensors": rows_of(tensors), "deployed_bits": deployed_bits(module)}


def _module(request: dict[str, Any]) -> tuple[Any, Any]:
    """Returns the network a request asks for and the shapes to run it on."""
    import torch

    shapes = request["shapes"]
    job = request["job"]
    if job == "torchscript":
        with os.fdopen(request["file"], "rb") as stream:
            return torch.jit.load(stream, map_location="cpu"), shapes  # type: ignore[no-untyped-call]
    if job == "artifact":
        from importlib import import_module

        module = import_module("compressor.artifact").load(request["path"]).build()
        return _cast(module, request["dtype"], shapes)
    target = request["target"]
    module, own = _built(target, request["arguments"], request["user_path"])
    shapes = [list(own)] if shapes is None else shapes
    return _cast(module, request["dtype"], shapes) if job == "graph" else (module, shapes)


def _cast(module: Any, dtype: str, shapes: Any) -> tuple[Any, Any]:
    """Gives a network the number type of the stored weights, where it is a narrower float."""
    import torch

    if dtype in {"float16", "bfloat16", "float64"}:
        module = module.to(getattr(torch, dtype))
    return module, shapes


def _built(target: str, arguments: dict[str, Any], user_path: str) -> tuple[Any, tuple[int, ...]]:
    from importlib import import_module

    if ":" in target:
        sys.path.insert(0, user_path)
        path, _, name = target.partition(":")
        return getattr(import_module(path), name)(**arguments), ()
    zoo = import_module("zoo")
    return zoo.build(target, **arguments), (1, *zoo.entry(target).input_shape)


def _error(error: BaseException) -> dict[str, Any]:
    from compressor.errors import CompressorError, UsageError

    line = next(iter(str(error).strip().splitlines()), "")[:400]
    if isinstance(error, CompressorError):
        return {"kind": "usage" if isinstance(error, UsageError) else "measure", "error": line}
    if isinstance(error, MemoryError) or "can't allocate memory" in line:
        return {"kind": "measure", "error": "went over the memory limit of the child process"}
    return {"kind": "measure", "error": f"{type(error).__name__}: {line}"}


if __name__ == "__main__":
    main()
