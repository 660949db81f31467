"""Walks an ONNX graph once, on given input shapes, and notes every operator that runs.

Local functions are inlined, branches and loops resolved (`onnx_control`), single operators walked
by `onnx_ordinary`. The result is plain data that `onnx_layers` turns into an inventory. Everything
is bounded: operators, values, nesting, and the numbers that constants are computed from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compressor.audit.readers.onnx_control import SPECIAL
from compressor.audit.readers.onnx_order import in_order
from compressor.audit.readers.onnx_ordinary import ordinary
from compressor.audit.readers.onnx_payload import Payload
from compressor.audit.readers.onnx_records import (
    FunctionDef,
    GraphDef,
    ModelDef,
    Node,
    Reference,
    SparseTensor,
    ValueInfo,
)
from compressor.audit.readers.onnx_shelf import Shelf
from compressor.audit.readers.onnx_state import Emitted, Frame, Scope
from compressor.audit.readers.onnx_values import Call, Site, Val
from compressor.audit.shown import shown_name
from compressor.errors import ModelFileError

__all__ = ["Walker"]

MAX_STEPS = 50_000  # operators that are walked, those of functions and loops at every pass
MAX_EDGES = 500_000
MAX_DEPTH = 48  # functions and graphs within each other
MAX_PATH = 300  # characters that name an operator: functions in functions add up
MAX_TEXTS = 20  # doubts of one metric, and notes
MAX_FOLDED = 2_000_000  # numbers computed on the way to shapes

# what a shape function raises where a file's shapes or attributes make no sense
_WRONG = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    ArithmeticError,
    StopIteration,
)


class Walker:
    """The state of one walk.

    Attributes:
        model: the file's messages.
        shelf: the stored tensors met so far.
        ops: the operators that run, in order.
        doubts: metric -> what makes it less than exact.
        notes: what a reader should know, in the order found, each once.
        symbols: names of open axes -> the size that was chosen.
        times: how often the loops around the current place run it.
        folding: numbers that may still be computed on the way to shapes.
        unread: graphs that never run, whose stored tensors are registered already.
    """

    def __init__(self, model: ModelDef, payload: Payload, name: str) -> None:
        """Takes the file's messages, the reader of its numbers and what messages call the file."""
        self.model = model
        self.name = name
        self.shelf = Shelf(payload, name)
        self.ops: list[Emitted] = []
        self.doubts: dict[str, dict[str, None]] = {}
        self.notes: dict[str, None] = {}
        self.symbols: dict[str, int] = {}
        self.times = 1
        self.folding = MAX_FOLDED
        self._steps = MAX_STEPS
        self._edges = MAX_EDGES
        # by id of records that the model keeps alive: a body may be walked many times
        self._infos: dict[int, Mapping[str, ValueInfo]] = {}
        self._orders: dict[int, list[Node]] = {}
        self.unread: set[int] = set()

    def graph(self, graph: GraphDef, scope: Scope, frame: Frame) -> list[Val]:
        """Walks a graph whose inputs are in the scope already.

        Returns:
            Its outputs.

        Raises:
            ModelFileError: it contradicts itself or goes beyond the bounds.
        """
        if frame.depth > MAX_DEPTH:
            raise self.refused(f"graphs and functions nested more than {MAX_DEPTH} deep")
        self._spend(0, len(graph.initializers) + len(graph.outputs))
        for tensor in graph.initializers:
            held = tensor.values if isinstance(tensor, SparseTensor) else tensor
            if held.name in scope.names:
                raise self.refused(f"tensor {held.name!r} is there twice")
            scope.names[held.name] = self.shelf.tensor(tensor)
        infos = self._infos.get(id(graph))
        if infos is None:
            infos = {info.name: info for info in (*graph.infos, *graph.outputs)}
            self._infos[id(graph)] = infos
        self._nodes(graph.nodes, scope, replace(frame, infos=infos))
        return [self._needed(scope, info.name, "the graph's outputs") for info in graph.outputs]

    def _nodes(self, nodes: list[Node], scope: Scope, frame: Frame) -> None:
        order = self._orders.get(id(nodes))
        if order is None:
            order = self._orders[id(nodes)] = in_order(nodes, self.name)
        for place, node in enumerate(order):
            self._node(node, scope, frame, place)

    def _spend(self, steps: int, edges: int) -> None:
        self._steps -= steps
        self._edges -= edges
        if self._steps < 0 or self._edges < 0:
            raise self.refused(
                f"more than {MAX_STEPS:,} operators or {MAX_EDGES:,} values in one inference, with "
                "functions and loops unrolled"
            )

    def _needed(self, scope: Scope, name: str, where: str) -> Val:
        try:
            found = scope.get(name)
        except KeyError:
            found = None
        if found is None:
            raise self.refused(f"{where} read {name!r}, which nothing makes")
        return found

    def _node(self, node: Node, scope: Scope, frame: Frame, place: int) -> None:
        self._spend(1, len(node.inputs) + len(node.outputs))
        path = _path(node, place, frame.prefix)
        inputs = tuple(self._input(scope, name, path) if name else None for name in node.inputs)
        attrs = {key: self._attr(value, frame) for key, value in node.attrs.items()}
        attrs = {key: value for key, value in attrs.items() if value is not None}
        version = frame.opsets.get(node.domain, 1)
        call = Call(node.op, version, inputs, attrs, len(node.outputs))
        function = self.model.functions.get((node.op, node.overload))
        if function is not None:
            outputs = self._function(function, node, call, path, frame)
        else:
            try:
                outputs = self._operator(node, call, path, scope, frame)
            except _WRONG as error:
                raise self.refused(
                    f"the shapes at {path} (onnx.{node.op}) contradict each other: {error}"
                ) from error
        for name, value in zip(node.outputs, outputs, strict=False):
            if name and name in scope.names:
                raise self.refused(f"value {name!r} is made twice")
            if name:
                scope.names[name] = value

    def _input(self, scope: Scope, name: str, path: str) -> Val | None:
        try:
            return scope.get(name)
        except KeyError:
            raise self.refused(f"{path} reads {name!r}, which nothing makes") from None

    def _attr(self, value: Any, frame: Frame) -> Any:
        if not isinstance(value, Reference):
            return value
        if frame.attrs is None:
            raise self.refused(f"attribute reference {value.name!r} outside of a function")
        return frame.attrs.get(value.name)

    def _function(
        self, function: FunctionDef, node: Node, call: Call, path: str, frame: Frame
    ) -> list[Val]:
        """Inlines a local function."""
        key = (node.op, node.overload)
        if key in frame.stack:
            raise self.refused(f"function {node.op!r} calls itself")
        if frame.depth >= MAX_DEPTH:
            raise self.refused(f"graphs and functions nested more than {MAX_DEPTH} deep")
        if len(call.inputs) > len(function.inputs):
            raise self.refused(
                f"{path} gives function {node.op!r} {len(call.inputs)} inputs, it takes "
                f"{len(function.inputs)}"
            )
        scope = Scope()
        missing = (None,) * (len(function.inputs) - len(call.inputs))
        scope.names.update(zip(function.inputs, (*call.inputs, *missing), strict=True))
        inner = Frame(
            prefix=path,
            opsets=function.opsets or frame.opsets,
            attrs={**function.defaults, **call.attrs},
            stack=(*frame.stack, key),
            depth=frame.depth + 1,
        )
        self._nodes(function.nodes, scope, inner)
        return [self._needed(scope, name, f"function {node.op!r}") for name in function.outputs]

    def _operator(self, node: Node, call: Call, path: str, scope: Scope, frame: Frame) -> list[Val]:
        if call.op == "Constant":
            return [self.shelf.constant(call.attrs, next(filter(None, node.outputs), ""))]
        site = Site(path, call.op, (id(node), path), "")
        special = SPECIAL.get(call.op)
        if special is not None:
            found = special(self, call, site, scope, frame)
            if found is not None:
                return found
        return ordinary(self, call, site, node.outputs, frame)

    def doubt(self, metrics: tuple[str, ...], text: str) -> None:
        """Notes what makes some metrics less than exact, at most twenty texts a metric."""
        for metric in metrics:
            texts = self.doubts.setdefault(metric, {})
            if len(texts) < MAX_TEXTS:
                texts[text] = None

    def note(self, text: str) -> None:
        """Notes what makes no metric less than exact, at most twenty times."""
        if len(self.notes) < MAX_TEXTS:
            self.notes[text] = None

    def refused(self, text: str) -> ModelFileError:
        """Returns the error for a file that cannot be a model."""
        return ModelFileError(f"{self.name}: {shown_name(text, 400)}")


def _path(node: Node, place: int, prefix: str) -> str:
    """Names the layer of an operator: "/body/body.2/a/Conv" is "body.2.a"."""
    kind = node.op.rpartition(".")[2]
    parts: list[str] = []
    for part in filter(None, node.name.split("/")):
        if parts and part.startswith(parts[-1] + "."):  # torch repeats the parent's name
            parts.pop()
        parts.append(part)
    if len(parts) > 1 and parts[-1] == kind:
        parts.pop()
    own = ".".join(parts) or f"{kind}_{place}"
    path = f"{prefix}.{own}" if prefix else own
    return path if len(path) <= MAX_PATH else "..." + path[-MAX_PATH:]
