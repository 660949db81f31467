"""From TFLite records to the operator graph: one module an operator, loops and branches followed.

A converter lists operators in the order in which they run. An operator that reads what nothing has
written before, or writes what is written already, is refused; with that, no cycle can be built.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from compressor.audit.graph import Graph, ModuleRecord, Op, Value
from compressor.audit.macs import rule_for
from compressor.audit.readers.flatbuffer import Buffer
from compressor.audit.readers.tflite_loops import Loops
from compressor.audit.readers.tflite_roles import VIEWS, WEIGHT_VIEWS
from compressor.audit.readers.tflite_schema import BITS, ModelRecord, OpRecord, SubgraphRecord
from compressor.errors import ModelFileError

__all__ = ["GraphBuilder", "carried_slots", "consumers_of"]

_MAX_OPS = 60_000  # after subgraphs were put in place of the operators that call them
_MAX_DEPTH = 16  # of subgraphs in subgraphs
_POOLS = {"AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"}


def consumers_of(part: SubgraphRecord) -> dict[int, list[tuple[int, int]]]:
    """Maps each tensor to the operators that read it, as (operator, operand)."""
    readers: dict[int, list[tuple[int, int]]] = {}
    for index, op in enumerate(part.ops):
        for slot, tensor in enumerate(op.inputs):
            if tensor >= 0:
                readers.setdefault(tensor, []).append((index, slot))
    return readers


def carried_slots(op: OpRecord, body: SubgraphRecord) -> frozenset[int]:
    """Operands of a WHILE that each round writes anew: what the loop starts from, not weights."""
    if not len(body.inputs) == len(body.outputs) == len(op.inputs):
        return frozenset()
    pairs = enumerate(zip(body.inputs, body.outputs, strict=True))
    return frozenset(slot for slot, (given, left) in pairs if given != left)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk stands: subgraph, operator, how often it runs, subgraphs around it."""

    part: int
    index: int
    repeat: int
    outer: tuple[int, ...]


@dataclass
class GraphBuilder:
    """Builds the graph of subgraph 0.

    Attributes:
        source: the file, for messages; model: its records.
        homes: (subgraph, tensor) -> name of the stored tensor it is.
        paths: (subgraph, operator) -> path of its module.
        doubts: what makes MACs and activation memory less than exact.
        notes: where one of two branches was counted.
    """

    source: Buffer
    model: ModelRecord
    homes: dict[tuple[int, int], str]
    paths: dict[tuple[int, int], str]
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _modules: dict[str, tuple[int, str]] = field(default_factory=dict)
    _calls: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    _values: list[Value] = field(default_factory=list)
    _storages: list[int] = field(default_factory=list)
    _ops: list[Op] = field(default_factory=list)
    _steps: int = 0
    _loops: Loops = field(init=False)

    def __post_init__(self) -> None:
        """Prepares the search for loop counters."""
        self._loops = Loops(self.model)

    def build(
        self,
        parameters: dict[str, tuple[tuple[int, ...], str]],
        constants: dict[str, tuple[tuple[int, ...], str]],
        tied: dict[str, str],
        owned: dict[str, list[str]],
    ) -> Graph:
        """Walks through the model.

        Args:
            parameters: stored parameters, name -> (shape, number type).
            constants: stored constants, alike.
            tied: name -> first name of the same buffer.
            owned: module path -> names of its parameters.

        Raises:
            ModelFileError: operators that contradict each other.
        """
        main = self.model.subgraphs[0]
        bound = {index: self._activation(0, index) for index in main.inputs}
        states = [i for i, tensor in enumerate(main.tensors) if tensor.variable]
        bound |= {index: self._activation(0, index) for index in states}
        inputs = tuple(bound[index] for index in main.inputs)
        kept = tuple(bound[index] for index in states)  # alive before and after an inference
        known = self._run(0, bound, 1, ())
        outputs = tuple(known[i] for i in main.outputs)
        modules = [ModuleRecord("", "TFLite", False, ())]
        modules += [
            ModuleRecord(path, kind, True, tuple(owned.get(path, ())))
            for path, (_, kind) in self._modules.items()
        ]
        modules += [
            ModuleRecord(path, "unused", True, tuple(names))
            for path, names in owned.items()
            if path not in self._modules
        ]
        return Graph(
            modules=tuple(modules),
            calls=tuple(self._calls),
            parameters=parameters,
            buffers={},
            constants=constants,
            packed={},
            unsaved=frozenset(),
            tied=tied,
            frozen=frozenset(),
            storage_bytes=tuple(self._storages),
            values=tuple(self._values),
            inputs=(*inputs, *kept),
            outputs=(*outputs, *kept),
            ops=tuple(self._ops),
        )

    def _activation(self, part: int, tensor: int, home: int | str | None = None) -> int:
        """Makes the value of a tensor: a new buffer, or one that shares `home`."""
        record = self.model.subgraphs[part].tensors[tensor]
        if home is None:
            home = len(self._storages)
            self._storages.append(-(-record.numel * BITS.get(record.dtype, 0) // 8))
        self._values.append(Value(record.shape, record.dtype, home))
        return len(self._values) - 1

    def _run(
        self, part: int, bound: dict[int, int], repeat: int, outer: tuple[int, ...]
    ) -> dict[int, int]:
        """Emits the operators of a subgraph; returns the values of its tensors."""
        if part >= len(self.model.subgraphs):
            raise self.source.fail(f"subgraph {part} of {len(self.model.subgraphs)}")
        if part in outer or len(outer) >= _MAX_DEPTH:
            raise self.source.fail(f"subgraph {part} runs itself, or too many inside each other")
        graph = self.model.subgraphs[part]
        known = dict(bound)
        for index, op in enumerate(graph.ops):
            if not self._of_weight(part, op):  # that one belongs to the layer that uses the weight
                path = self.paths[part, index]
                self._modules.setdefault(path, (len(self._modules) + 1, op.name))
        for index, op in enumerate(graph.ops):
            self._steps += 1
            if self._steps > _MAX_OPS:
                raise self.source.fail(f"more than {_MAX_OPS:,} operators")
            inputs = [self._read(part, t, known, index) for t in op.inputs if t >= 0]
            self._check_written(graph, op, known)
            self._follow(_Place(part, index, repeat, (*outer, part)), op, inputs)
            outputs = [self._write(part, op, i, inputs) for i in op.outputs]
            known |= dict(zip(op.outputs, outputs, strict=True))
            self._emit(_Place(part, index, repeat, outer), op, inputs, outputs)
        for index in graph.outputs:
            if index not in known:  # an output that is an input's constant, or nothing at all
                known[index] = self._read(part, index, known, len(graph.ops))
        return known

    def _read(self, part: int, tensor: int, known: dict[int, int], when: int) -> int:
        if tensor in known:
            return known[tensor]
        home = self.homes.get((part, tensor))
        record = self.model.subgraphs[part].tensors[tensor]
        if home is not None:
            known[tensor] = self._activation(part, tensor, home)
        elif record.variable or not record.numel:
            known[tensor] = self._activation(part, tensor)
        else:
            raise self.source.fail(
                f"operator {when} reads tensor {record.name[:80]!r} before anything writes it"
            )
        return known[tensor]

    def _check_written(self, graph: SubgraphRecord, op: OpRecord, known: dict[int, int]) -> None:
        for tensor in op.outputs:
            if tensor in known and not graph.tensors[tensor].variable:
                raise self.source.fail(
                    f"tensor {graph.tensors[tensor].name[:80]!r} is written twice, or stored and "
                    "written"
                )
        if len(set(op.outputs)) != len(op.outputs):
            raise self.source.fail(f"operator {op.name} writes one tensor twice")

    def _write(self, part: int, op: OpRecord, tensor: int, inputs: list[int]) -> int:
        """A new activation, or a view of the first input."""
        first = self._values[inputs[0]].home if inputs else None
        weight = op.name in WEIGHT_VIEWS and isinstance(first, str)
        moved = op.name in VIEWS and bool(inputs)
        if moved:
            self._check_moved(part, op, tensor, inputs[0])
        return self._activation(part, tensor, first if weight or moved else None)

    def _check_moved(self, part: int, op: OpRecord, tensor: int, given: int) -> None:
        """A view holds as many elements as its input, unless the file leaves its shape open."""
        record = self.model.subgraphs[part].tensors[tensor]
        shape = self._values[given].shape
        if prod(shape) == record.numel:
            return
        if not record.open_axes and record.shape:
            raise self.source.fail(f"{op.name} makes {list(record.shape)} of {list(shape)}")
        self.doubts.append(
            f"{op.name} to {record.name[:80]!r}: its shape is open, counted as {list(record.shape)}"
        )

    def _of_weight(self, part: int, op: OpRecord) -> bool:
        """Tells whether an operator only unpacks a stored weight."""
        return op.name in WEIGHT_VIEWS and (part, op.inputs[0] if op.inputs else -1) in self.homes

    def _emit(self, at: _Place, op: OpRecord, inputs: list[int], outputs: list[int]) -> None:
        path = self.paths[at.part, at.index]
        module = self._modules.setdefault(path, (len(self._modules) + 1, op.name))[0]
        attrs: dict[str, object] = {
            "slots": tuple(slot for slot, tensor in enumerate(op.inputs) if tensor >= 0),
            "subgraph": at.part,
        }
        if at.repeat != 1:
            attrs["repeat"] = at.repeat
        if op.options is not None and op.name in _POOLS:
            attrs["filter"] = (op.options.integer(4, "i"), op.options.integer(3, "i"))
        if op.options is not None and op.name == "BATCH_MATMUL":
            attrs["adj_x"] = bool(op.options.integer(0, "B"))
            attrs["adj_y"] = bool(op.options.integer(1, "B"))
        name = f"tflite.{op.name}"
        if rule_for(name) is not None and (data := self._unshaped(inputs, outputs)):
            name += f" ({data})"  # has no rule: the figure becomes partial and says where
        self._ops.append(Op(name, module, tuple(inputs), tuple(outputs), attrs))
        if not self._of_weight(at.part, op):
            shape = self._values[outputs[0]].shape if outputs else ()
            self._calls.append((module, shape))

    def _unshaped(self, inputs: list[int], outputs: list[int]) -> str:
        """Tells an activation whose shape the file does not know from one that contradicts."""
        for index in (*inputs, *outputs[:1]):
            value = self._values[index]
            if isinstance(value.home, int) and not value.shape:
                return "of unknown shape"
        return ""

    def _follow(self, at: _Place, op: OpRecord, inputs: list[int]) -> None:
        """Runs the subgraphs that an operator stands for."""
        options, path = op.options, self.paths[at.part, at.index]
        if op.name == "WHILE" and options is not None:
            trips = self._loops.trips(at.part, op)
            if trips is None:
                self.doubts.append(f"how often WHILE at {path} runs is not known: counted once")
            times = at.repeat * (1 if trips is None else trips)
            given = self._started(op, options.integer(1, "i"), inputs)
            for field_number in (0, 1):
                self._call(options.integer(field_number, "i"), given, times, at.outer)
        elif op.name == "IF" and options is not None:
            branches = [options.integer(0, "i"), options.integer(1, "i")]
            self._larger(at, branches, inputs[1:])
        elif op.name == "CALL" and options is not None:
            self._call(options.integer(0, "I"), inputs, at.repeat, at.outer)
        elif op.name == "STABLEHLO_COMPOSITE" and options is not None:
            self._call(options.integer(1, "i"), inputs, at.repeat, at.outer)

    def _started(self, op: OpRecord, body: int, inputs: list[int]) -> list[int]:
        """Operands of a loop: a stored number that it starts from becomes an activation."""
        parts = self.model.subgraphs
        if not 0 <= body < len(parts) or len(inputs) != len(op.inputs):
            return inputs  # refused by the call
        carried = carried_slots(op, parts[body])
        given = list(inputs)
        for slot in carried:
            if isinstance(self._values[inputs[slot]].home, str):
                given[slot] = self._activation(body, parts[body].inputs[slot])
        return given

    def _call(self, part: int, inputs: list[int], repeat: int, outer: tuple[int, ...]) -> None:
        if not 0 <= part < len(self.model.subgraphs):
            raise self.source.fail(f"subgraph {part} of {len(self.model.subgraphs)}")
        formal = self.model.subgraphs[part].inputs
        if len(formal) != len(inputs):
            raise self.source.fail(
                f"subgraph {part} takes {len(formal)} inputs and is given {len(inputs)}"
            )
        self._run(part, dict(zip(formal, inputs, strict=True)), repeat, outer)

    def _larger(self, at: _Place, branches: Iterable[int], inputs: list[int]) -> None:
        """Keeps the operators of the branch with more multiply-accumulates."""
        start, calls = len(self._ops), len(self._calls)
        found: list[tuple[int, list[Op], list[tuple[int, tuple[int, ...]]]]] = []
        for branch in branches:
            self._call(branch, inputs, at.repeat, at.outer)
            ops, made = self._ops[start:], self._calls[calls:]
            del self._ops[start:], self._calls[calls:]
            found.append((sum(map(self._cost, ops)), ops, made))
        _, ops, made = max(found, key=lambda item: item[0])
        self._ops += ops
        self._calls += made
        if len({cost for cost, _, _ in found}) > 1:
            costs = " and ".join(f"{cost:,}" for cost, _, _ in found)
            path = self.paths[at.part, at.index]
            self.notes.append(
                f"which branch of IF at {path} runs depends on data: the larger is counted (MACs "
                f"{costs})"
            )

    def _cost(self, op: Op) -> int:
        rule = rule_for(op.name)
        if rule is None:
            return 0
        shapes = [[self._values[i].shape for i in indices] for indices in (op.inputs, op.outputs)]
        try:
            return rule(shapes[0], shapes[1], op.attrs)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise ModelFileError(f"{op.name}: its shapes contradict each other: {error}") from error
