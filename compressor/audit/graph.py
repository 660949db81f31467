"""The operator graph of one inference: plain Python in files, typed records in memory.

A graph is written by `compressor.audit.trace.graph_of` and stored in a model file, so that the file
is counted without torch. Its plain form (version 1):

- `modules`: `{"path", "type", "leaf", "parameters": [names]}`, the root first;
- `calls`: `[module index, output shape]`, one for each module call, in order of return;
- `parameters`, `buffers`, `constants`: name -> `[shape, dtype]`; a constant is a tensor that is
  neither a parameter nor a buffer of the module; `packed`: weights inside quantised layers;
  `unsaved`: buffers a state dict leaves out;
- `tied`: name -> the first name of the same tensor; `frozen`: parameters without gradient;
- `storage_bytes`: size of each activation buffer;
- `values`: `[shape, dtype, home]`; home is the index of an activation buffer or the name of the
  stored tensor that this value is (a view of);
- `inputs`, `outputs`: value indices;
- `ops`: `{"op", "module", "in", "out", "attrs"}` with value indices; views are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from compressor.audit.shown import shown_value
from compressor.errors import ModelFileError

__all__ = ["GRAPH_VERSION", "Graph", "ModuleRecord", "Op", "Shape", "Value", "read_graph"]

GRAPH_VERSION = 1
MAX_RECORDS = 200_000  # ops, values or calls: far above any network, low enough to bound time
MAX_EDGES = 2_000_000  # value indices of all operators: lists of a file may be shared
MAX_NAME = 512

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor: its shape, number type and home (activation buffer, or name of a stored tensor)."""

    shape: Shape
    dtype: str
    home: int | str


@dataclass(frozen=True, slots=True)
class Op:
    """One operator call; `inputs` are its tensor arguments in order, `attrs` the plain ones."""

    name: str
    module: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModuleRecord:
    """A module: path, class name, whether it has no children, names of its own parameters."""

    path: str
    type: str
    leaf: bool
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """The whole graph; see the head of this file for the fields."""

    modules: tuple[ModuleRecord, ...]
    calls: tuple[tuple[int, Shape], ...]
    parameters: Mapping[str, tuple[Shape, str]]
    buffers: Mapping[str, tuple[Shape, str]]
    constants: Mapping[str, tuple[Shape, str]]
    packed: Mapping[str, tuple[Shape, str]]
    unsaved: frozenset[str]
    tied: Mapping[str, str]
    frozen: frozenset[str]
    storage_bytes: tuple[int, ...]
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ops: tuple[Op, ...]

    def where(self, op: Op) -> str:
        """Returns "layer (operator)" for messages; the operator alone at the root."""
        path = self.modules[op.module].path
        return f"{path} ({op.name})" if path else op.name

    def read_homes(self) -> set[str]:
        """Returns the stored tensors that some operator reads, tied ones under their first name."""
        homes = {self.values[index].home for op in self.ops for index in op.inputs}
        names = {home for home in homes if isinstance(home, str)}
        return names | {self.tied[name] for name in names if name in self.tied}

    def shapes(self, indices: tuple[int, ...]) -> tuple[Shape, ...]:
        """Returns the shapes of some values."""
        return tuple(self.values[index].shape for index in indices)


def read_graph(plain: object) -> Graph:
    """Checks a plain graph and types it.

    Args:
        plain: what `graph_of` returned, perhaps after a trip through a file.

    Raises:
        ModelFileError: the graph is newer than this program or is not a graph; the message names
            the field.
    """
    if not isinstance(plain, Mapping):
        raise ModelFileError(f"graph: expected a mapping, found {type(plain).__name__}")
    version = plain.get("version")
    if version != GRAPH_VERSION:
        raise ModelFileError(
            f"graph: version {version!r} is not supported (this program reads {GRAPH_VERSION}); "
            "write the file again with this version of compressor"
        )
    modules = tuple(map(_module, _bounded(_list(plain, "modules"), "parameters")))
    if not modules:
        raise ModelFileError("graph: 'modules' is empty, expected at least the model itself")
    storage_bytes = tuple(_count(item, "storage_bytes") for item in _list(plain, "storage_bytes"))
    parameters = _table(plain, "parameters")
    buffers = _table(plain, "buffers")
    constants = _table(plain, "constants")
    packed = _table(plain, "packed") if "packed" in plain else {}
    stored = parameters.keys() | buffers.keys() | constants.keys() | packed.keys()
    values = tuple(_value(item, len(storage_bytes), stored) for item in _list(plain, "values"))
    tied = plain.get("tied", {})
    if not isinstance(tied, Mapping) or not all(
        key in parameters and value in parameters for key, value in tied.items()
    ):
        raise ModelFileError("graph: 'tied' must map names of parameters to names of parameters")
    calls = tuple(_call(item, len(modules)) for item in _list(plain, "calls"))
    for module in modules:
        if unknown := [name for name in module.parameters if name not in parameters]:
            raise ModelFileError(f"graph: module {module.path!r} owns unknown {unknown[0]!r}")
    return Graph(
        modules=modules,
        calls=calls,
        parameters=parameters,
        buffers=buffers,
        constants=constants,
        packed=packed,
        unsaved=frozenset(_name(item, "unsaved") for item in _list(plain, "unsaved")),
        tied=dict(tied),
        frozen=frozenset(_name(item, "frozen") for item in _list(plain, "frozen")),
        storage_bytes=storage_bytes,
        values=values,
        inputs=_indices(plain.get("inputs"), "inputs", len(values)),
        outputs=_indices(plain.get("outputs"), "outputs", len(values)),
        ops=tuple(
            _op(item, len(modules), len(values))
            for item in _bounded(_list(plain, "ops"), "in", "out")
        ),
    )


def _list(plain: Mapping[Any, Any], key: str) -> list[Any]:
    items = plain.get(key)
    if not isinstance(items, (list, tuple)):
        raise ModelFileError(f"graph: {key!r} must be a list, found {type(items).__name__}")
    if len(items) > MAX_RECORDS:
        raise ModelFileError(f"graph: {len(items)} {key}, at most {MAX_RECORDS} are read")
    return list(items)


def _bounded(items: list[Any], *keys: str) -> Iterator[Any]:
    """Passes records on while their lists together stay within bounds."""
    edges = 0
    for item in items:
        if isinstance(item, Mapping):
            for key in keys:
                part = item.get(key)
                edges += len(part) if isinstance(part, (list, tuple)) else 0
        if edges > MAX_EDGES:
            raise ModelFileError(f"graph: more than {MAX_EDGES} entries in {' and '.join(keys)}")
        yield item


def _count(item: object, field_name: str) -> int:
    if type(item) is not int or item < 0 or item >= 1 << 62:
        raise ModelFileError(f"graph: {field_name} holds {shown_value(item)}, expected a size")
    return item


def _name(item: object, field_name: str) -> str:
    if not isinstance(item, str) or len(item) > MAX_NAME or not item.isprintable():
        raise ModelFileError(
            f"graph: {field_name} holds {shown_value(item)}, expected a plain name"
        )
    return item


def _shape(item: object) -> Shape:
    if not isinstance(item, (list, tuple)) or len(item) > 32:
        raise ModelFileError(f"graph: {shown_value(item)} is not a shape")
    return tuple(_count(size, "a shape") for size in item)


def _table(plain: Mapping[Any, Any], key: str) -> dict[str, tuple[Shape, str]]:
    table = plain.get(key)
    if not isinstance(table, Mapping) or len(table) > MAX_RECORDS:
        raise ModelFileError(f"graph: {key!r} must map names to [shape, dtype]")
    typed: dict[str, tuple[Shape, str]] = {}
    for name, entry in table.items():
        if not isinstance(entry, (list, tuple)) or len(entry) != 2:
            raise ModelFileError(f"graph: {key}[{name!r}] must be [shape, dtype]")
        typed[_name(name, key)] = (_shape(entry[0]), _name(entry[1], key))
    return typed


def _module(item: object) -> ModuleRecord:
    if not isinstance(item, Mapping):
        raise ModelFileError("graph: an entry of 'modules' is not a mapping")
    names = item.get("parameters", ())
    if not isinstance(names, (list, tuple)):
        raise ModelFileError("graph: a module's 'parameters' is not a list")
    return ModuleRecord(
        path=_name(item.get("path"), "modules"),
        type=_name(item.get("type"), "modules"),
        leaf=bool(item.get("leaf")),
        parameters=tuple(_name(name, "modules") for name in names),
    )


def _call(item: object, modules: int) -> tuple[int, Shape]:
    if not isinstance(item, (list, tuple)) or len(item) != 2:
        raise ModelFileError("graph: an entry of 'calls' is not [module, output shape]")
    return _indices([item[0]], "calls", modules)[0], _shape(item[1])


def _value(item: object, storages: int, stored: frozenset[str] | set[str]) -> Value:
    if not isinstance(item, (list, tuple)) or len(item) != 3:
        raise ModelFileError("graph: an entry of 'values' is not [shape, dtype, home]")
    home = item[2]
    known = home in stored if isinstance(home, str) else type(home) is int and 0 <= home < storages
    if not known:
        raise ModelFileError(f"graph: a value lives in {shown_value(home)}, which does not exist")
    return Value(_shape(item[0]), _name(item[1], "values"), home)


def _op(item: object, modules: int, values: int) -> Op:
    if not isinstance(item, Mapping):
        raise ModelFileError("graph: an entry of 'ops' is not a mapping")
    attrs = item.get("attrs", {})
    if not isinstance(attrs, Mapping):
        raise ModelFileError("graph: the 'attrs' of an operator are not a mapping")
    return Op(
        name=_name(item.get("op"), "ops"),
        module=_indices([item.get("module")], "ops", modules)[0],
        inputs=_indices(item.get("in"), "ops", values),
        outputs=_indices(item.get("out"), "ops", values),
        attrs=attrs,
    )


def _indices(items: object, field_name: str, size: int) -> tuple[int, ...]:
    if not isinstance(items, (list, tuple)):
        raise ModelFileError(f"graph: {field_name} must hold a list of indices")
    for index in items:
        if type(index) is not int or not 0 <= index < size:
            raise ModelFileError(
                f"graph: {field_name} holds {shown_value(index)}, allowed 0..{size - 1}"
            )
    return tuple(items)
