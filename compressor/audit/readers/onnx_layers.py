"""From a walked ONNX graph to the tensors and the operator graph of an inventory.

Layers. Every operator is one layer without children. Its path is that of its weight where the file
kept it ("layers.0.conv.weight" -> "layers.0.conv"), otherwise the operator's own name with dots
("/layers/0/conv/Conv" -> "layers.0.conv"). The same operator on the same parameters is one layer
that is called again. Parameters are called by what they are (path + ".weight", ".bias"), so that
the torch convention, which goes by these names, counts an exported network as torch counts it.
"""

from __future__ import annotations

from math import prod
from typing import Any

from compressor.audit.graph import Graph, ModuleRecord, Op, Shape, Value
from compressor.audit.inventory import StoredTensor
from compressor.audit.readers.onnx_count import counted
from compressor.audit.readers.onnx_payload import FLOATS, QUANTISED
from compressor.audit.readers.onnx_state import Emitted
from compressor.audit.readers.onnx_values import Buffer, Site, Stored, Val
from compressor.audit.readers.onnx_walk import Walker

__all__ = ["Layers"]

MAX_CALLS = 100_000
_WEIGHTS = ("weight", "bias", "running_mean", "running_var")
_RECURRENT = frozenset({"onnx.GRU", "onnx.LSTM", "onnx.RNN"})
_ROLES = {"parameter": 0, "buffer": 1, "scale": 2, "constant": 2}


class Layers:
    """Names everything, then lists it."""

    def __init__(self, walker: Walker) -> None:
        """Takes a finished walk; gives every stored tensor its name."""
        self._walker = walker
        self._modules: list[ModuleRecord] = [ModuleRecord("", "ONNX", leaf=False, parameters=())]
        self._paths: dict[str, int] = {"": 1}
        self._names: dict[str, int] = {}
        self._index: dict[object, int] = {}
        self._held: dict[object, dict[str, None]] = {}
        self._stored = sorted(walker.shelf.stored.values(), key=lambda stored: stored.order)
        self._bytes: list[int] = [0]  # the first one stands for an input that was left out
        self._values: list[Value] = [Value((), "none", 0)]
        self._decide()
        self._layers()

    # -- layers -----------------------------------------------------------------------------------

    def _decide(self) -> None:
        """A tensor that nothing read is what its type says."""
        for stored in self._stored:
            if stored.role is None:
                real = stored.dtype in FLOATS or stored.dtype in QUANTISED
                stored.role = "parameter" if real and stored.shape else "constant"

    def _layers(self) -> None:
        """Gives each operator its layer and each parameter its name.

        First the layers that own parameters, because their paths are worth more; then all others.
        """
        owners: dict[object, list[Stored]] = {}
        for stored in self._stored:
            if stored.role in {"parameter", "buffer"} and stored.owner is not None:
                owners.setdefault(stored.owner.key, []).append(stored)
        keyed = {op.node: op.site.key for op in self._walker.ops}
        for held in owners.values():
            site = held[0].owner
            assert site is not None
            key = keyed.get(site.key, site.key)
            path = self._fresh_path(_path_of(held, site))
            self._add(key, path, site.kind)
            for stored in held:
                assert stored.owner is not None
                local = stored.owner.local or _last(stored.label)
                self._own(key, stored, f"{path}.{local}")
        for stored in self._stored:
            if stored.name:
                continue
            if stored.role == "parameter":  # nothing reads it
                path, _, local = stored.label.rpartition(".")
                key = ("unread", path)
                if key not in self._index:
                    self._add(key, self._fresh_path(path or "unread"), "")
                self._own(key, stored, f"{self._modules[self._index[key]].path}.{local}")
            else:
                stored.name = self._fresh_name(stored.label)
        for op in self._walker.ops:
            if op.site.key not in self._index:
                self._add(op.site.key, self._fresh_path(op.site.path), op.site.kind)
            for stored in op.parameters:
                self._held[op.site.key][stored.name] = None
        for key, index in self._index.items():
            module = self._modules[index]
            names = tuple(self._held[key])
            self._modules[index] = ModuleRecord(module.path, module.type, True, names)

    def _add(self, key: object, path: str, kind: str) -> None:
        self._index[key] = len(self._modules)
        self._held[key] = {}
        self._modules.append(ModuleRecord(path, kind, leaf=True, parameters=()))

    def _own(self, key: object, stored: Stored, name: str) -> None:
        stored.name = self._fresh_name(name)
        if stored.role == "parameter":
            self._held[key][stored.name] = None

    def _fresh_path(self, path: str) -> str:
        return _fresh(path, self._paths)

    def _fresh_name(self, name: str) -> str:
        return _fresh(name, self._names)

    # -- results ----------------------------------------------------------------------------------

    def tensors(self) -> tuple[StoredTensor, ...]:
        """Returns the stored tensors, parameters first, in the order of the file."""
        found: list[StoredTensor] = []
        firsts: dict[object, str] = {}
        for stored in sorted(self._stored, key=lambda one: _ROLES[one.role or "constant"]):
            first = stored.name
            if stored.region is not None:  # two records of the same bytes of an external file
                key = (stored.region, stored.dtype, stored.shape)
                first = firsts.setdefault(key, stored.name)
                if first == stored.name:
                    self._walker.shelf.payload.external.claim(stored.region)
            found.append(counted(stored, first, self._walker))
            if stored.index_bytes:
                name = self._fresh_name(f"{stored.name}.indices")
                size = stored.index_bytes
                found.append(StoredTensor(name, (), "int64", "buffer", 0, 0, 0, size, name))
        return tuple(found)

    def graph(self, inputs: list[Val], outputs: list[Val], tensors: Any) -> Graph:
        """Returns the operator graph."""
        given = tuple(self._value(value) for value in inputs)
        ops: list[Op] = []
        calls: list[tuple[int, Shape]] = []
        for op in self._walker.ops:
            module = self._index[op.site.key]
            attrs = op.attrs if op.times == 1 else {**op.attrs, "times": op.times}
            read = tuple(self._input(value) for value in op.inputs)
            made = tuple(self._value(value) for value in op.outputs)
            ops.append(Op(op.name, module, read, made, attrs))
            if len(calls) + op.times > MAX_CALLS:
                self._walker.note(
                    f"{self._modules[module].path} runs {op.times:,} times: the official figure "
                    "counts it once",
                )
                calls.append((module, _called(op)))
            else:
                calls += [(module, _called(op))] * op.times
        tables: dict[str, dict[str, tuple[Shape, str]]] = {}
        for tensor in tensors:
            role = "constant" if tensor.role == "scale" else tensor.role
            tables.setdefault(role, {})[tensor.name] = (tensor.shape, tensor.dtype)
        return Graph(
            modules=tuple(self._modules),
            calls=tuple(calls),
            parameters=tables.get("parameter", {}),
            buffers=tables.get("buffer", {}),
            constants=tables.get("constant", {}),
            packed={},
            unsaved=frozenset(),
            tied={t.name: t.first for t in tensors if t.first != t.name and t.role == "parameter"},
            frozen=frozenset(),
            inputs=given,
            outputs=tuple(self._value(value) for value in outputs),
            ops=tuple(ops),
            values=tuple(self._values),
            storage_bytes=tuple(self._bytes),
        )

    def _input(self, value: Val | None) -> int:
        """Index of an input; the first value, without axes, stands for one that was left out."""
        return 0 if value is None else self._value(value)

    def _value(self, value: Val) -> int:
        if value.index < 0:
            value.index = len(self._values)
            home: int | str = 0
            if isinstance(value.home, Stored):
                learned = value.home.role in {"parameter", "buffer"}
                home = value.home.name if learned else 0  # scales are no weights that are read
            elif value.home is not None:
                home = self._buffer(value.home)
            self._values.append(Value(value.shape or (), value.dtype or "unknown", home))
        return value.index

    def _buffer(self, buffer: Buffer) -> int:
        if buffer.index < 0:
            buffer.index = len(self._bytes)
            self._bytes.append(buffer.nbytes)
        return buffer.index


def _called(op: Emitted) -> Shape:
    """Output shape of a call; of a recurrent layer as torch has it: (T, N, directions x H)."""
    shape = op.outputs[0].shape or () if op.outputs else ()
    data = op.inputs[0].shape if op.inputs and op.inputs[0] is not None else None
    if op.name in _RECURRENT and data is not None:
        return (*data[:2], prod(shape) // max(prod(data[:2]), 1))
    return shape


def _path_of(held: list[Stored], site: Site) -> str:
    """Path of a layer: of its weight's name in the file, or of the operator."""
    for stored in held:
        path, _, local = stored.label.rpartition(".")
        if path and local.startswith(_WEIGHTS):
            return path
    return site.path


def _last(label: str) -> str:
    """Last part of a name in the file."""
    return label.rpartition("/")[2].rpartition(".")[2] or "tensor"


def _fresh(name: str, taken: dict[str, int]) -> str:
    """Returns a name that is not taken; `taken` holds how often each was asked for."""
    found = name
    while found in taken:
        taken[name] += 1
        found = f"{name}_{taken[name]}"
    taken[found] = 1
    return found
