"""Branches, loops and sequences of ONNX graphs.

If: the branch that a known condition picks, otherwise the one with more multiply-accumulates, and
the audit says so. Loop and Scan: the body once, times the trip count; a Loop whose shapes or
condition change from pass to pass is unrolled as long as it is short. A Loop without a known count
is counted once and named as a doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from compressor.audit.graph import Shape
from compressor.audit.macs import rule_for
from compressor.audit.readers.onnx_ordinary import ordinary
from compressor.audit.readers.onnx_records import GraphDef
from compressor.audit.readers.onnx_shelf import tensors_in
from compressor.audit.readers.onnx_state import UNKNOWN, Emitted, Frame, Scope
from compressor.audit.readers.onnx_values import MAX_ELEMENTS, Buffer, Call, Site, Val, axis_of

if TYPE_CHECKING:
    from compressor.audit.readers.onnx_walk import Walker

__all__ = ["SPECIAL"]

MAX_UNROLL = 64
_METRICS = ("macs", "peak_activation_bytes")

Special = Callable[["Walker", Call, Site, Scope, Frame], "list[Val] | None"]


@contextmanager
def _apart(walker: Walker, times: int = 1) -> Iterator[list[Emitted]]:
    """Collects the operators of a branch or body, which runs `times` times, in a list apart."""
    ops: list[Emitted] = []
    outer, before = walker.ops, walker.times
    if before * times >= MAX_ELEMENTS:
        raise ValueError("loops within loops that never end in practice")
    walker.ops, walker.times = ops, before * times
    try:
        yield ops
    finally:
        walker.ops, walker.times = outer, before


def _inner(frame: Frame, path: str) -> Frame:
    return replace(frame, prefix=path, depth=frame.depth + 1)


def _body(call: Call, name: str) -> GraphDef:
    graph = call.attrs.get(name)
    if not isinstance(graph, GraphDef):
        raise ValueError(f"attribute {name!r} is no graph")  # noqa: TRY004
    return graph


def macs_of(ops: list[Emitted]) -> int:
    """Counts operators as they will be counted later; what has no rule or contradicts itself: 0."""
    total = 0
    for op in ops:
        rule = None if op.name.endswith(UNKNOWN) else rule_for(op.name)
        if rule is None:
            continue
        inputs = [(value.shape or ()) if value else () for value in op.inputs]
        outputs = [value.shape or () for value in op.outputs]
        try:
            total += op.times * rule(inputs, outputs, op.attrs)
        except (ValueError, IndexError, KeyError, TypeError):  # reported when it is counted
            continue
    return total


def _if(walker: Walker, call: Call, site: Site, scope: Scope, frame: Frame) -> list[Val]:
    condition = call.value(0).const
    branches = [_body(call, "then_branch"), _body(call, "else_branch")]
    inner = _inner(frame, site.path)
    if condition is not None and len(condition) == 1:
        taken, other = branches if condition[0] else reversed(branches)
        if id(other) not in walker.unread:
            walker.unread.add(id(other))
            for tensor in tensors_in(other):  # stored, though it never runs
                walker.shelf.tensor(tensor)
        return walker.graph(taken, Scope(scope), inner)
    found = []
    for branch in branches:
        with _apart(walker) as ops:
            outputs = walker.graph(branch, Scope(scope), inner)
        memory = sum(
            value.home.nbytes
            for op in ops
            for value in op.outputs
            if isinstance(value.home, Buffer)
        )
        found.append((macs_of(ops), memory, ops, outputs))
    one, two = found
    larger = one if one[:2] >= two[:2] else two
    walker.ops += larger[2]
    if one[0] != two[0]:
        walker.note(
            f"which branch of {site.path} (onnx.If) runs depends on data: the larger is counted "
            f"({max(one[0], two[0]):,} MACs, the other {min(one[0], two[0]):,})",
        )
    elif _shapes(one[3]) != _shapes(two[3]):
        walker.doubt(_METRICS, f"the shape behind {site.path} (onnx.If) depends on data")
    return larger[3]


def _shapes(values: list[Val]) -> list[Shape | None]:
    return [value.shape for value in values]


def _loop(walker: Walker, call: Call, site: Site, scope: Scope, frame: Frame) -> list[Val]:
    body = _body(call, "body")
    limit, start = call.given(0), call.given(1)
    trip = int(limit.const[0]) if limit is not None and limit.const else None
    runs = start is None or (start.const is not None and bool(start.const[0]))
    if start is not None and start.const is not None and not start.const[0]:
        trip = 0
    carried = [call.value(i) for i in range(2, len(call.inputs))]
    if trip is not None and trip < 0:
        trip = 0

    def once(iteration: int | None, goes_on: bool, values: list[Val]) -> list[Val]:
        inner = Scope(scope)
        counter = Val("int64", (), None if iteration is None else (iteration,), home=Buffer(8))
        condition = Val("bool", (), (True,) if goes_on else None, home=Buffer(1))
        given = [counter, condition, *values]
        if len(body.inputs) != len(given):
            raise ValueError(f"a body of {len(body.inputs)} inputs for {len(given)} values")
        inner.names.update(zip((info.name for info in body.inputs), given, strict=True))
        return walker.graph(body, inner, _inner(frame, site.path))

    anything = [_varying(value) for value in carried]
    with _apart(walker, trip or 1) as ops:
        results = once(None, runs, anything)
    if len(results) < 1 + len(carried):
        raise ValueError(f"a body of {len(results)} outputs for {len(carried)} values")
    after, scanned = results[1 : 1 + len(carried)], results[1 + len(carried) :]
    if trip == 0:
        return [*carried, *(_stacked(0, value) for value in scanned)]
    steady = _shapes(after) == _shapes(carried) and not any(_open(op) for op in ops)
    endless = bool(results[0].const and results[0].const[0])
    if trip is not None and steady and endless:
        walker.ops += ops
        return [*after, *(_stacked(trip, value) for value in scanned)]
    if (unrolled := _unrolled(walker, trip, once, carried, runs)) is not None:
        return unrolled
    walker.ops += ops
    if trip is None or not steady:
        why = "how often it runs" if trip is None else "what shapes its passes have"
        counted = "one pass is counted" if trip is None else "all as the first"
        walker.doubt(_METRICS, f"{site.path} (onnx.Loop): {why} is not known, {counted}")
    else:
        walker.doubt(
            _METRICS,
            f"{site.path} (onnx.Loop): may end before its {trip:,} passes, all are counted",
        )
    pairs = zip(after, carried, strict=True)
    stable = [new if new.shape == old.shape else _unknown(new) for new, old in pairs]
    return [*stable, *(_unknown(value) for value in scanned)]


def _unrolled(
    walker: Walker,
    trip: int | None,
    once: Callable[[int | None, bool, list[Val]], list[Val]],
    values: list[Val],
    runs: bool,
) -> list[Val] | None:
    """Walks pass after pass; None where the end is not reached or not known."""
    if not runs or (trip is not None and trip > MAX_UNROLL):
        return None
    count, passed = len(values), []
    with _apart(walker) as ops:
        for iteration in range(MAX_UNROLL if trip is None else trip):
            results = once(iteration, True, values)
            values, scanned = results[1 : 1 + count], results[1 + count :]
            passed.append(scanned)
            if results[0].const is None:
                return None
            if not results[0].const[0]:
                break
        else:
            if trip is None:
                return None
    walker.ops += ops
    stacks = zip(*passed, strict=True)
    return [*values, *(_piled(list(column)) for column in stacks)]


def _open(op: Emitted) -> bool:
    return any(value.shape is None for value in op.outputs)


def _varying(value: Val) -> Val:
    """A value that another pass changes: its shape stays, its numbers do not."""
    return Val(value.dtype, value.shape, home=value.home, index=-1, items=value.items)


def _unknown(value: Val) -> Val:
    return Val(value.dtype, None, home=Buffer(0))


def _stacked(trip: int, value: Val) -> Val:
    if value.shape is None:
        return _unknown(value)
    size = value.home.nbytes if isinstance(value.home, Buffer) else 0
    return Val(value.dtype, (trip, *value.shape), home=Buffer(trip * size))


def _piled(column: list[Val]) -> Val:
    shapes = {value.shape for value in column}
    if len(shapes) != 1 or None in shapes:
        return _unknown(column[0])
    return _stacked(len(column), column[0])


def _scan(walker: Walker, call: Call, site: Site, scope: Scope, frame: Frame) -> list[Val] | None:
    if call.version < 9:  # had a batch axis of its own; no exporter writes it any more
        return None
    body, scans = _body(call, "body"), call.integer("num_scan_inputs", 0)
    states = len(call.inputs) - scans
    if scans < 1 or states < 0 or len(body.inputs) != len(call.inputs):
        raise ValueError(f"{scans} scanned of {len(call.inputs)} inputs")
    axes = call.list("scan_input_axes", (0,) * scans)
    trips = set()
    given = [_varying(call.value(i)) for i in range(states)]
    for place in range(scans):
        shape = call.value(states + place).shape
        if shape is None:
            return None
        axis = axis_of(axes[place], len(shape))
        trips.add(shape[axis])
        part = (*shape[:axis], *shape[axis + 1 :])
        given.append(Val(call.dtype(states + place), part, home=Buffer(0)))
    if len(trips) != 1:
        raise ValueError(f"scanned axes of {sorted(trips)}")
    (trip,) = trips
    inner = Scope(scope)
    inner.names.update(zip((info.name for info in body.inputs), given, strict=True))
    with _apart(walker, max(trip, 1)) as ops:
        results = walker.graph(body, inner, _inner(frame, site.path))
    if trip:
        walker.ops += ops
    if _shapes(results[:states]) != _shapes(given[:states]):
        walker.doubt(_METRICS, f"{site.path} (onnx.Scan): its state changes shape")
    outs = call.list("scan_output_axes", (0,) * (len(results) - states))
    stacked = []
    for value, axis in zip(results[states:], outs, strict=True):
        pile = _stacked(trip, value)
        if pile.shape is not None and value.shape is not None:
            place = axis_of(axis, len(pile.shape))
            pile.shape = (*value.shape[:place], trip, *value.shape[place:])
        stacked.append(pile)
    return [*results[:states], *stacked]


# -- sequences ------------------------------------------------------------------------------------


def _sequence(items: list[Val]) -> Val:
    return Val("", None, items=tuple(items))


def _place(call: Call, index: int) -> int | None:
    given = call.given(index)
    if given is None or given.const is None or len(given.const) != 1:
        return None
    return int(given.const[0])


def _construct(_w: Walker, call: Call, _s: Site, _c: Scope, _f: Frame) -> list[Val]:
    return [_sequence([call.value(i) for i in range(len(call.inputs))])]


def _empty(_w: Walker, _call: Call, _s: Site, _c: Scope, _f: Frame) -> list[Val]:
    return [_sequence([])]


def _insert(_w: Walker, call: Call, _s: Site, _c: Scope, _f: Frame) -> list[Val] | None:
    items = call.value(0).items
    place = len(items or ()) if call.given(2) is None else _place(call, 2)
    if items is None or place is None:
        return None
    held = list(items)
    held.insert(place, call.value(1))
    return [_sequence(held)]


def _at(_w: Walker, call: Call, _s: Site, _c: Scope, _f: Frame) -> list[Val] | None:
    items, place = call.value(0).items, _place(call, 1)
    if items is None or place is None:
        return None
    return [items[place]]


def _length(_w: Walker, call: Call, _s: Site, _c: Scope, _f: Frame) -> list[Val] | None:
    items = call.value(0).items
    return None if items is None else [Val("int64", (), (len(items),), fixed=True)]


def _split_to(walker: Walker, call: Call, site: Site, _c: Scope, frame: Frame) -> list[Val] | None:
    data, shape = call.value(0), call.value(0).shape
    if shape is None:
        return None
    axis = axis_of(call.integer("axis", 0), len(shape))
    parts = call.given(1)
    if parts is not None and parts.const is None:
        return None
    keep = parts is not None or call.integer("keepdims", 1) != 0
    sizes: tuple[int, ...] = (1,) * shape[axis] if shape[axis] <= 4096 else ()
    if parts is not None and parts.const is not None:
        each = int(parts.const[0]) if parts.shape == () else 0
        whole = shape[axis]
        if parts.shape == () and each > 0 and whole // each <= 4096:
            sizes = tuple(min(each, whole - at) for at in range(0, whole, each))
        elif parts.shape != ():
            sizes = tuple(int(size) for size in parts.const)
    if sum(sizes) != shape[axis] or min(sizes, default=0) < 0:
        return None
    given = (data, Val("int64", (len(sizes),), sizes, fixed=True))
    attrs = {"axis": axis}
    split = Call("Split", 13, given, attrs, len(sizes))
    items = ordinary(walker, split, site, ("",) * len(sizes), frame)
    if not keep:
        squeezed = Val("int64", (1,), (axis,), fixed=True)
        items = [
            ordinary(walker, Call("Squeeze", 13, (item, squeezed), {}, 1), site, ("",), frame)[0]
            for item in items
        ]
    return [_sequence(items)]


def _concat_from(
    walker: Walker, call: Call, site: Site, _c: Scope, frame: Frame
) -> list[Val] | None:
    items = call.value(0).items
    if not items or any(item.shape is None for item in items):
        return None
    axis = call.integer("axis", 0)
    if call.integer("new_axis", 0):
        place = Val("int64", (1,), (axis,), fixed=True)
        items = tuple(
            ordinary(walker, Call("Unsqueeze", 13, (item, place), {}, 1), site, ("",), frame)[0]
            for item in items
        )
    joined = Call("Concat", 13, items, {"axis": axis}, 1)
    return ordinary(walker, joined, site, ("",), frame)


def _pass(_w: Walker, call: Call, _s: Site, _c: Scope, _f: Frame) -> list[Val] | None:
    found = call.given(0)
    return None if found is None else [found]


def _has(_w: Walker, call: Call, _s: Site, _c: Scope, _f: Frame) -> list[Val] | None:
    found = call.given(0)
    if found is not None and not found.dtype and found.items is None:
        return None  # an optional input of the graph: it may be empty
    return [Val("bool", (), (found is not None,), fixed=True)]


SPECIAL: Mapping[str, Special] = {
    "ConcatFromSequence": _concat_from,
    "If": _if,
    "Loop": _loop,
    "Optional": _pass,
    "OptionalGetElement": _pass,
    "OptionalHasElement": _has,
    "Scan": _scan,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SplitToSequence": _split_to,
}
