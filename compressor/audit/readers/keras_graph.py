"""From Keras layer configurations to the operator graph: one operator a layer call."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from compressor.audit.graph import Graph, ModuleRecord, Op, Shape, Value
from compressor.audit.inventory import StoredTensor
from compressor.audit.macs import rule_for, strict_macs
from compressor.audit.readers.keras_config import Layer, Model, Ref
from compressor.audit.readers.keras_layers import VIEWS, canonical, channels_first, output_shapes
from compressor.audit.readers.widths import WIDTHS
from compressor.audit.shown import one_line
from compressor.errors import ModelFileError

__all__ = ["Built", "build_graph"]

_MAX_STEPS = 50_000  # layer calls, and layers of models that are called
_MAX_OPERANDS = 1_000_000
_MAX_RANK = 32
_MAX_ELEMENTS = 1 << 44  # of one activation
# Weights by the end of their name, the longer ends first.
_ENDS = ("recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "kernel")


@dataclass(frozen=True)
class Built:
    """The graph (None where the input is open), doubts by metric, and what a reader should know."""

    graph: Graph | None
    doubts: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


_MISFITS = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class _OpenShapeError(Exception):
    """The network leaves an axis of its input open."""


def build_graph(
    model: Model,
    owners: Mapping[str, Mapping[str, str]],
    tensors: Sequence[StoredTensor],
    name: str,
) -> Built:
    """Builds the graph of a model on its own input shape, one clip at a time.

    Args:
        model: the configuration.
        owners: layer path -> local weight name -> tensor name.
        tensors: the stored tensors.
        name: what messages call the file.

    Raises:
        ModelFileError: layers that contradict each other or their weights.
    """
    builder = _Builder(owners, tensors, name)
    try:
        inputs = builder.inputs(model)
        outputs = builder.run(model, inputs)
        graph = builder.graph(model, inputs, outputs)
        strict_macs(graph)
    except _OpenShapeError as error:
        return Built(None, {"macs": (str(error),)}, ())
    except ModelFileError as error:
        text = str(error)
        raise ModelFileError(text if text.startswith(name) else f"{name}: {text}") from error
    doubts: dict[str, tuple[str, ...]] = {}
    if builder.unknown:
        op = next(op for op in graph.ops if builder.unknown.intersection(op.outputs))
        text = f"the shapes behind {graph.where(op)} are not known"
        doubts["peak_activation_bytes"] = (text,)
    return Built(graph, doubts, tuple(builder.notes))


class _Builder:
    def __init__(
        self,
        owners: Mapping[str, Mapping[str, str]],
        tensors: Sequence[StoredTensor],
        name: str,
    ) -> None:
        self.owners, self.name = owners, name
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.notes: list[str] = []
        self.modules: dict[str, tuple[int, str]] = {}
        self.frozen: set[str] = set()
        self.calls: list[tuple[int, Shape]] = []
        self.values: list[Value] = []
        self.unknown: set[int] = set()
        self.storages: list[int] = []
        self.ops: list[Op] = []
        self.stored: dict[str, int] = {}
        self.steps = self.operands = 0

    def fail(self, reason: str) -> ModelFileError:
        return ModelFileError(
            f"{self.name}: the model configuration contradicts itself: {one_line(reason)}"
        )

    # --- models ---

    def inputs(self, model: Model) -> list[int]:
        """Makes the values that the network is given."""
        by_name = {layer.names[-1]: layer for layer in model.layers}
        if model.sequential:
            shapes = [_first_shape(model)]
        else:
            wanted = [by_name.get(ref[0]) for ref in model.inputs]
            shapes = [_own_shape(layer.config) if layer is not None else None for layer in wanted]
        if not shapes or any(shape is None for shape in shapes):
            raise _OpenShapeError("the file does not give the shape of the network's input")
        dtype = _dtype(model.layers[0].config)
        return [self.activation(_closed(shape), dtype) for shape in shapes if shape is not None]

    def run(self, model: Model, inputs: list[int]) -> list[int]:
        """Emits the layers of a model; returns the values of its outputs."""
        self.steps += len(model.layers) + 1
        if self.steps > _MAX_STEPS:
            raise self.fail(f"more than {_MAX_STEPS:,} layer calls")
        if model.sequential:
            current = inputs
            for layer in model.layers:
                if layer.kind != "InputLayer":
                    current = self.call(layer, current)
            return current
        known: dict[tuple[str, int], list[int]] = {}
        if len(model.inputs) != len(inputs):
            raise self.fail(f"a model of {len(model.inputs)} inputs is given {len(inputs)}")
        for (layer_name, node, _), value in zip(model.inputs, inputs, strict=True):
            known[layer_name, node] = [value]
        self.in_order(model, known)
        return [self.pick(known, ref) for ref in model.outputs]

    def in_order(self, model: Model, known: dict[tuple[str, int], list[int]]) -> None:
        """Runs every call as soon as its inputs are there, the layers in the file's order."""
        waiting: dict[tuple[int, int], int] = {}
        wakes: dict[tuple[str, int], list[tuple[int, int]]] = {}
        ready: list[tuple[int, int]] = []
        for i, layer in enumerate(model.layers):
            for node, refs in enumerate(layer.calls):
                if (layer.names[-1], node) in known or not refs:
                    continue
                missing = {ref[:2] for ref in refs} - known.keys()
                for key in missing:
                    wakes.setdefault(key, []).append((i, node))
                waiting[i, node] = len(missing)
                if not missing:
                    ready.append((i, node))
        heapq.heapify(ready)
        while ready:
            i, node = heapq.heappop(ready)
            layer = model.layers[i]
            waiting.pop((i, node), None)
            given = [self.pick(known, ref) for ref in layer.calls[node]]
            known[layer.names[-1], node] = self.call(layer, given)
            for woken in wakes.get((layer.names[-1], node), ()):
                waiting[woken] -= 1
                if not waiting[woken]:
                    heapq.heappush(ready, woken)
        if waiting:
            stuck = model.layers[min(waiting)[0]].path
            raise self.fail(f"{stuck[:120]!r} waits for a layer that never runs (a circle?)")

    def pick(self, known: Mapping[tuple[str, int], list[int]], ref: Ref) -> int:
        values = known.get(ref[:2])
        if values is None or ref[2] >= len(values):
            raise self.fail(f"no output {ref[2]} of {ref[0][:120]!r}")
        return values[ref[2]]

    # --- layers ---

    def call(self, layer: Layer, inputs: list[int]) -> list[int]:
        """Emits one call of a layer."""
        if layer.model is not None:
            return self.run(layer.model, inputs)
        kind, config, shown = layer.kind, layer.config, layer.kind
        shapes: list[Shape] | None = None
        folded = inputs
        known = not any(index in self.unknown for index in inputs)
        given = [self.values[index].shape for index in inputs]
        try:
            if kind in {"TimeDistributed", "Bidirectional"}:
                kind, config = _inner(config)
                shown = f"{layer.kind}({kind})"
            if known and inputs and layer.kind == "TimeDistributed":
                shape = given[0]
                flat = (shape[0] * shape[1], *shape[2:])
                folded = [self.value(flat, self.values[inputs[0]])]
                inside = output_shapes(kind, config, [flat])
                shapes = None if inside is None else [(*shape[:2], *s[1:]) for s in inside]
            elif known and inputs:
                shapes = output_shapes(kind, config, given)
                if layer.kind == "Bidirectional" and shapes is not None:
                    shapes = _both_ways(layer.config, kind, shapes)
        except (
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            AttributeError,
            OverflowError,
        ) as error:
            what = f"{type(error).__name__} {str(error)[:160]}"
            raise self.fail(f"{layer.path[:120]!r} ({shown}): {what}") from error
        return self.emit(layer, kind, shown, folded, shapes)

    def emit(
        self, layer: Layer, kind: str, shown: str, inputs: list[int], shapes: list[Shape] | None
    ) -> list[int]:
        path = layer.path
        number = self.modules.setdefault(path, (len(self.modules) + 1, shown))[0]
        own = self.owners.get(path, {})
        if layer.config.get("trainable") is False:
            self.frozen.update(own.values())
        name = f"keras.{kind}"
        operands = ["data"] * len(inputs)
        weights = []
        for local, tensor in own.items():
            end = next((e for e in _ENDS if local == e or local.endswith(f"_{e}")), local)
            operands.append(end)
            weights.append(self.weight(tensor))
        self.operands += len(operands)
        if self.operands > _MAX_OPERANDS:
            raise self.fail(f"more than {_MAX_OPERANDS:,} inputs and weights of layers")
        attrs: dict[str, Any] = {"operands": tuple(operands)}
        if channels_first(layer.config) or channels_first(_maybe_inner(layer.config)):
            attrs["channels_first"] = True
        if shapes is None:
            outputs = [self.activation((), "float32")]
            self.unknown.update(outputs)
            if rule_for(name) is not None:
                name += " (of unknown shape)"
            self.remark(layer)
        else:
            dtype = _dtype(layer.config)
            view = kind in VIEWS and len(shapes) == 1
            first = self.values[inputs[0]]
            outputs = [
                self.value(shape, first) if view else self.activation(shape, dtype)
                for shape in shapes
            ]
            if rule_for(name) is not None and not any(end in _ENDS for end in operands):
                name += " (its weights are not stored)"
        self.ops.append(Op(name, number, (*inputs, *weights), tuple(outputs), attrs))
        self.calls.append((number, self.values[outputs[0]].shape))
        return outputs

    def remark(self, layer: Layer) -> None:
        """Says of a Lambda that it holds code."""
        if layer.kind == "Lambda":
            code = not isinstance(layer.config.get("function"), str)
            held = "with code inside the file" if code else "of a function outside the file"
            self.notes.append(f"{layer.path}: a Lambda layer {held}, not executed and not counted")

    # --- values ---

    def activation(self, shape: Shape, dtype: str) -> int:
        if len(shape) > _MAX_RANK or prod(shape) > _MAX_ELEMENTS:
            raise self.fail(f"an activation of the shape {list(shape)[:16]}")
        self.storages.append(prod(shape) * WIDTHS.get(dtype, 4) if shape else 0)
        self.values.append(Value(shape, dtype, len(self.storages) - 1))
        return len(self.values) - 1

    def value(self, shape: Shape, like: Value) -> int:
        """Another shape of the same numbers."""
        if len(shape) > _MAX_RANK:
            raise self.fail(f"a shape of {len(shape):,} axes")
        self.values.append(Value(shape, like.dtype, like.home))
        return len(self.values) - 1

    def weight(self, tensor: str) -> int:
        if tensor not in self.stored:
            found = self.tensors[tensor]
            self.values.append(Value(found.shape, found.dtype, tensor))
            self.stored[tensor] = len(self.values) - 1
        return self.stored[tensor]

    def graph(self, model: Model, inputs: Iterable[int], outputs: Iterable[int]) -> Graph:
        for layer in model.leaves():  # a layer that no call reaches is a module all the same
            self.modules.setdefault(layer.path, (len(self.modules) + 1, layer.kind))
        tensors = self.tensors.values()
        parameters = {t.name: (t.shape, t.dtype) for t in tensors if t.role == "parameter"}
        return Graph(
            modules=(
                ModuleRecord("", model.kind, False, ()),
                *(
                    ModuleRecord(
                        path,
                        kind,
                        True,
                        tuple(n for n in self.owners.get(path, {}).values() if n in parameters),
                    )
                    for path, (_, kind) in self.modules.items()
                ),
            ),
            calls=tuple(self.calls),
            parameters=parameters,
            buffers={t.name: (t.shape, t.dtype) for t in tensors if t.role == "buffer"},
            constants={},
            packed={},
            unsaved=frozenset(),
            tied={t.name: t.first for t in tensors if t.first != t.name and t.name in parameters},
            frozen=frozenset(self.frozen & parameters.keys()),
            storage_bytes=tuple(self.storages),
            values=tuple(self.values),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            ops=tuple(self.ops),
        )


def _inner(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    layer = config["layer"]
    return canonical(str(layer["class_name"])), layer["config"]


def _maybe_inner(config: Mapping[str, Any]) -> Mapping[str, Any]:
    layer = config.get("layer")
    inner = layer.get("config") if isinstance(layer, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _both_ways(config: Mapping[str, Any], kind: str, shapes: list[Shape]) -> list[Shape] | None:
    """Output of a Bidirectional around a recurrent layer."""
    if kind not in {"LSTM", "GRU", "SimpleRNN"} or len(shapes) != 1:
        return None
    mode = config.get("merge_mode", "concat")
    if mode is None:
        return [shapes[0], shapes[0]]
    return [(*shapes[0][:-1], 2 * shapes[0][-1])] if mode == "concat" else shapes


def _dtype(config: Mapping[str, Any]) -> str:
    """Number type that a layer computes in ("mixed_float16": float16)."""
    dtype = config.get("dtype")
    if isinstance(dtype, Mapping):
        inner = dtype.get("config")
        dtype = inner.get("name") if isinstance(inner, Mapping) else None
    text = dtype.removeprefix("mixed_") if isinstance(dtype, str) else "float32"
    return text if text in WIDTHS else "float32"


def _own_shape(config: Mapping[str, Any]) -> list[Any] | None:
    """Input shape that a layer's settings give, with its batch axis."""
    for key in ("batch_input_shape", "batch_shape"):
        if isinstance(config.get(key), list):
            return list(config[key])
    if isinstance(config.get("input_shape"), list):
        return [None, *config["input_shape"]]
    return None


def _first_shape(model: Model) -> list[Any] | None:
    """Input shape of a Sequential: of its first layer, or as it was built."""
    for source in (model.layers[0].config, model.config):
        if (shape := _own_shape(source)) is not None:
            return shape
    built = model.config.get("build_input_shape")
    first = model.layers[0]
    if first.model is not None and not isinstance(built, list):
        return _first_shape(first.model)
    return list(built) if isinstance(built, list) else None


def _closed(shape: Sequence[Any]) -> Shape:
    """An open batch axis is one clip; another open axis cannot be counted on."""
    sizes = [1 if i == 0 and size is None else size for i, size in enumerate(shape)]
    if any(size is None for size in sizes):
        shown = "x".join("?" if size is None else str(size) for size in sizes)
        raise _OpenShapeError(f"the network leaves its input open ({shown[:60]})")
    if not 0 < len(sizes) <= 16 or not all(type(size) is int and size > 0 for size in sizes):
        raise _OpenShapeError("the file does not give the shape of the network's input")
    return tuple(sizes)
