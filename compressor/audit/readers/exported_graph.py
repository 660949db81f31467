"""From the JSON of an exported program to the plain form of an operator graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import prod
from typing import Any, NamedTuple

from compressor.audit.graph import GRAPH_VERSION
from compressor.audit.macs import rule_for
from compressor.audit.readers.exported_modules import ModuleCalls
from compressor.audit.readers.exported_ops import (
    ATTRIBUTES,
    CONVOLUTIONS,
    RECURRENT,
    aliases_input,
)
from compressor.audit.readers.exported_sizes import Sizes
from compressor.audit.readers.widths import WIDTHS

__all__ = ["DTYPES", "Builder", "tensor_names"]

# torch._export.serde.schema.ScalarType
DTYPES: Mapping[int, str] = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
MAX_DEPTH = 16  # graphs inside graphs
_WRAPPERS = {"wrap_with_set_grad_enabled", "wrap_with_autocast", "hints_wrapper"}


class _Scope(NamedTuple):
    """Where a node stands: what its graph says of tensors, their values, graphs around it."""

    metas: Mapping[str, Any]
    names: dict[str, int]
    depth: int


class Builder:
    """Walks the nodes of a program, graphs inside it included, and collects a plain graph."""

    def __init__(self, sizes: Sizes, modules: ModuleCalls) -> None:
        """Takes the bound sizes and the module tree of the program."""
        self.sizes = sizes
        self.modules = modules
        self.values: list[list[Any]] = []
        self.strides: list[list[int]] = []
        self.storage_bytes: list[int] = []
        self.ops: list[dict[str, Any]] = []
        self.doubts: list[str] = []

    # -- values -------------------------------------------------------------------------------

    def new(self, meta: Mapping[str, Any], home: str | int | None = None) -> int:
        """Adds a value of a TensorMeta; without a home it gets memory of its own."""
        shape = [self._size(item) for item in meta["sizes"]]
        steps = [self._size(item) for item in meta["strides"]]
        dtype = DTYPES.get(meta["dtype"], "unknown")
        if home is None:
            home = len(self.storage_bytes)
            self.storage_bytes.append(prod(shape) * WIDTHS.get(dtype, 4))
        self.values.append([shape, dtype, home])
        self.strides.append(steps)
        return len(self.values) - 1

    def _size(self, item: Mapping[str, Any]) -> int:
        try:
            return self.sizes.of(item)
        except ValueError as error:
            doubt = f"{error}: taken as 1"
            if doubt not in self.doubts:
                self.doubts.append(doubt)
            return 1

    # -- nodes --------------------------------------------------------------------------------

    def walk(self, graph: Mapping[str, Any], names: dict[str, int], depth: int = 0) -> list[int]:
        """Adds the nodes of one graph.

        Args:
            graph: its JSON.
            names: the values of its inputs by name; grows by those of its nodes.
            depth: how many graphs it stands inside.

        Returns:
            Its outputs.
        """
        if depth > MAX_DEPTH:
            raise ValueError("graphs nested too deeply")
        metas = graph["tensor_values"]
        for node in graph["nodes"]:
            made = [name for out in node["outputs"] for name in tensor_names(out)]
            if not made and "higher_order" not in node["target"]:
                continue  # arithmetic on sizes, assertions
            self.modules.enter(node.get("metadata") or {})
            self._node(node, made, _Scope(metas, names, depth))
        return [names[name] for out in graph["outputs"] for name in tensor_names(out)]

    def _node(self, node: Mapping[str, Any], made: list[str], scope: _Scope) -> None:
        metas, names, _ = scope
        name = _operator(node["target"])
        groups = [
            (item["name"], [names[n] for n in tensor_names(item["arg"])]) for item in node["inputs"]
        ]
        inputs = [index for _, group in groups for index in group]
        graphs = [
            item["arg"]["as_graph"]["graph"] for item in node["inputs"] if "as_graph" in item["arg"]
        ]
        if graphs:
            self._inner(name, graphs, inputs, made, scope)
            return
        plain = {item["name"]: value for item in node["inputs"] for value in _plain(item["arg"])}
        outputs = []
        for out in made:
            meta = metas[out]
            index = self.new(meta, self._home(name, inputs, meta, plain))
            names[out] = index
            outputs.append(index)
        view = outputs and inputs and all(self._shares(index, inputs) for index in outputs)
        if not (view and not name.endswith("_")):
            self.ops.append(self._op(name, groups, inputs, outputs, plain))
        self.modules.produced([self.values[index][0] for index in outputs])

    def _home(
        self, name: str, inputs: list[int], meta: Mapping[str, Any], plain: Mapping[str, Any]
    ) -> str | int | None:
        if not inputs:
            return None
        shape, dtype, home = self.values[inputs[0]]
        first = (shape, self.strides[inputs[0]], dtype)
        if name.startswith("quantized_decomposed.dequantize") and isinstance(home, str):
            return home  # a stored weight made readable: no activation
        out = (
            [self._size(item) for item in meta["sizes"]],
            [self._size(item) for item in meta["strides"]],
            DTYPES.get(meta["dtype"], "unknown"),
        )
        return home if aliases_input(name, first, out, plain) else None

    def _shares(self, index: int, inputs: list[int]) -> bool:
        home = self.values[index][2]
        return any(self.values[each][2] == home for each in inputs) and not (
            isinstance(home, str) and self.values[index][1] != self.values[inputs[0]][1]
        )

    def _op(
        self,
        name: str,
        groups: list[tuple[str, list[int]]],
        inputs: list[int],
        outputs: list[int],
        plain: Mapping[str, Any],
    ) -> dict[str, Any]:
        attrs = {key: plain[key] for key in ATTRIBUTES if key in plain}
        if name in CONVOLUTIONS:
            attrs["transposed"] = CONVOLUTIONS[name][1]
            name = "aten.convolution"
        elif name in RECURRENT:
            params = dict(groups).get("params", [])
            first = next(index for index, (key, _) in enumerate(groups) if key == "params")
            start = sum(len(group) for _, group in groups[:first])
            attrs = {"mode": RECURRENT[name], "weights": [start, start + len(params)]}
            name = "recurrent"
        return {
            "op": name,
            "module": self.modules.current,
            "in": inputs,
            "out": outputs,
            "attrs": attrs,
        }

    # -- graphs inside --------------------------------------------------------------------------

    def _inner(
        self,
        name: str,
        graphs: list[Mapping[str, Any]],
        inputs: list[int],
        made: list[str],
        scope: _Scope,
    ) -> None:
        """Runs a wrapper's graph, or the costlier branch of a condition; names what it cannot."""
        metas, names, depth = scope
        local = name.rpartition(".")[2]
        results: list[int] | None = None
        if local in _WRAPPERS and len(graphs) == 1:
            results = self._branch(graphs[0], inputs, depth)
        elif local == "cond" and len(graphs) == 2:
            results = self._larger(graphs, inputs[1:], depth)
        else:
            self.ops.append(
                {"op": name, "module": self.modules.current, "in": inputs, "out": [], "attrs": {}}
            )
        for place, out in enumerate(made):
            known = results is not None and place < len(results)
            names[out] = results[place] if known and results is not None else self.new(metas[out])
            if not known:
                self.ops[-1]["out"].append(names[out])

    def _branch(self, graph: Mapping[str, Any], inputs: list[int], depth: int) -> list[int]:
        arguments = [name for item in graph["inputs"] for name in tensor_names(item)]
        if len(arguments) != len(inputs):
            raise ValueError("a graph inside that takes other arguments")
        return self.walk(graph, dict(zip(arguments, inputs, strict=True)), depth + 1)

    def _larger(self, graphs: list[Mapping[str, Any]], inputs: list[int], depth: int) -> list[int]:
        """Keeps the branch with more multiply-accumulates."""
        found = []
        start = len(self.ops)
        for graph in graphs:
            results = self._branch(graph, inputs, depth)
            steps = self.ops[start:]
            del self.ops[start:]
            found.append((sum(map(self._macs, steps)), steps, results))
        low, high = sorted((found[0][0], found[1][0]))
        self.doubts.append(
            f"a condition: the larger branch is counted ({high:,} MACs, the other has {low:,})"
        )
        _, steps, results = max(found, key=lambda item: item[0])
        self.ops += steps
        return results

    def _macs(self, op: Mapping[str, Any]) -> int:
        rule = rule_for(op["op"])
        if rule is None:
            return 0
        with suppress(ValueError, IndexError, KeyError, TypeError):
            shapes = [[tuple(self.values[i][0]) for i in op[key]] for key in ("in", "out")]
            return rule(shapes[0], shapes[1], op["attrs"])
        return 0

    def plain(
        self, stored: Mapping[str, Any], inputs: list[int], outputs: list[int]
    ) -> dict[str, Any]:
        """Returns the graph in the form that `graph.read_graph` checks."""
        return {
            "version": GRAPH_VERSION,
            "modules": self.modules.records(),
            "calls": self.modules.calls,
            **stored,
            "storage_bytes": self.storage_bytes,
            "values": self.values,
            "inputs": inputs,
            "outputs": outputs,
            "ops": self.ops,
        }


def tensor_names(argument: Mapping[str, Any]) -> Iterator[str]:
    """Yields the tensors that an argument refers to, in order; None entries are left out."""
    for kind, value in argument.items():
        if kind == "as_tensor":
            yield _text(value["name"])
        elif kind == "as_tensors":
            for item in value:
                yield _text(item["name"])
        elif kind == "as_nested_tensors":
            for group in value:
                for item in group:
                    yield _text(item["name"])
        elif kind == "as_optional_tensors":
            for item in value:
                yield from tensor_names(item)
        elif kind == "as_optional_tensor":
            yield from tensor_names(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a name that is no text")
    return value


def _plain(argument: Mapping[str, Any]) -> Iterator[Any]:
    """Yields the plain value of an argument, if it has one."""
    for kind, value in argument.items():
        if kind in {"as_bool", "as_int", "as_ints", "as_string"}:
            yield value


def _operator(target: object) -> str:
    """Shortens "torch.ops.aten.conv2d.default" to "aten.conv2d"."""
    parts = _text(target).removeprefix("torch.ops.").split(".")
    return ".".join(parts[:2])
