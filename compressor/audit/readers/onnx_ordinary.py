"""Walks one operator that holds no graph: its shapes, its constants, who its stored inputs are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from compressor.audit.graph import Shape
from compressor.audit.inventory import Role
from compressor.audit.macs import rule_for
from compressor.audit.readers.onnx_fold import fold
from compressor.audit.readers.onnx_payload import BITS, DTYPES, FLOATS, QUANTISED
from compressor.audit.readers.onnx_quant import packed_matrix, zero_point
from compressor.audit.readers.onnx_records import Tensor
from compressor.audit.readers.onnx_roles import FOLLOW, by_type, place_of
from compressor.audit.readers.onnx_shapes import ELEMENTWISE, ShapeRule
from compressor.audit.readers.onnx_shapes_layers import LAYERS, einsum_terms
from compressor.audit.readers.onnx_shapes_move import MOVES
from compressor.audit.readers.onnx_state import UNKNOWN, Emitted, Frame
from compressor.audit.readers.onnx_values import (
    Buffer,
    Call,
    Site,
    Stored,
    UnknownShape,
    Val,
    checked,
)

if TYPE_CHECKING:
    from compressor.audit.readers.onnx_walk import Walker

__all__ = ["SHAPES", "ordinary"]

SHAPES: Mapping[str, ShapeRule] = {**ELEMENTWISE, **LAYERS, **MOVES}
_VIEWS = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_CREATING = frozenset({"ConstantOfShape", "EyeLike", "Range"})  # inputs are sizes, no contents
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike"}
)


def ordinary(
    walker: Walker, call: Call, site: Site, names: tuple[str, ...], frame: Frame
) -> list[Val]:
    """Walks one operator.

    Args:
        walker: the walk; the operator is added to its list unless it costs nothing at run time.
        call: the operator on its inputs.
        site: the operator as a layer.
        names: of its outputs.
        frame: where it stands.

    Returns:
        Its outputs.

    Raises:
        ValueError: its shapes contradict each other (and what wrong attributes raise).
    """
    fixed = bool(call.inputs) and call.op not in _RANDOM
    fixed = fixed and all(given is None or given.fixed for given in call.inputs)
    if call.op == "ConstantOfShape":
        fill = call.attrs.get("value")
        call.state["fill"] = 0.0
        if isinstance(fill, Tensor):
            region = walker.shelf.payload.check(fill, "value")
            call.state["fill"] = (walker.shelf.payload.small(fill, region, 1) or (None,))[0]
    walker.folding -= sum(len(given.const or ()) for given in call.inputs if given is not None)
    call.folding = walker.folding > 0
    found = _infer(walker, call, names, site, frame)
    _roles(walker, call, site, fixed)
    outputs = [_output(shape, dtype) for dtype, shape in found]
    _fold(walker, call, outputs)
    _carry(call, outputs, fixed)
    if outputs and all(value.const is not None for value in outputs):
        for value in outputs:
            value.fixed, value.home = True, value.home if value.origins else None
    counted = rule_for(f"onnx.{call.op}") is not None
    if counted or not _left_out(call, outputs, fixed):
        _emit(walker, call, site, outputs, counted)
    return outputs


def _infer(
    walker: Walker, call: Call, names: tuple[str, ...], site: Site, frame: Frame
) -> list[tuple[str, Shape | None]]:
    rule = SHAPES.get(call.op)
    known: list[tuple[str, Shape | None]] | None = None
    if rule is not None:
        with suppress(UnknownShape):
            known = [(dtype, checked(shape)) for dtype, shape in rule(call)[: len(names)]]
    if known is None:
        known = [_declared(walker, name, frame) for name in names]
        if rule is not None and any(shape is not None for _, shape in known):
            walker.doubt(
                ("macs", "peak_activation_bytes"),
                f"{site.path} (onnx.{call.op}): its shape depends on data, the one that the file "
                "declares is taken",
            )
    return known + [_declared(walker, name, frame) for name in names[len(known) :]]


def _declared(walker: Walker, name: str, frame: Frame) -> tuple[str, Shape | None]:
    """What the file says of a value that shape functions cannot find."""
    info = frame.infos.get(name)
    if info is None:
        return "", None
    dtype = DTYPES.get(info.dtype, ("", 0))[0]
    if info.axes is None:
        return dtype, None
    sizes = [walker.symbols.get(axis) if isinstance(axis, str) else axis for axis in info.axes]
    shape = tuple(size for size in sizes if size is not None)
    return dtype, shape if len(shape) == len(sizes) else None


def _output(shape: Shape | None, dtype: str) -> Val:
    nbytes = (prod(shape) * BITS.get(dtype, 0) + 7) // 8 if shape is not None else 0
    return Val(dtype, shape, home=Buffer(nbytes))


def _fold(walker: Walker, call: Call, outputs: list[Val]) -> None:
    """Computes the few numbers that shapes are made of, within a budget for the whole file."""
    if not outputs or outputs[0].shape is None or not call.folding:
        return
    const = fold(call, outputs[0].dtype, outputs[0].shape)
    if const is not None:
        outputs[0].const = const
        walker.folding -= len(const)


def _roles(walker: Walker, call: Call, site: Site, fixed: bool) -> None:
    """Tells the stored tensors among the inputs what they are."""
    zero_point(call)
    packed_matrix(call)
    tags = {given.tag for given in call.inputs if given}
    scaled = call.op == "Mul" and bool(tags & {"scale", "accumulator"})
    dequantises = fixed and _dequantises(call)
    for index, given in enumerate(call.inputs):
        if given is None or not given.origins:
            continue
        if fixed and call.op in FOLLOW and (index == 0 or call.op == "Concat"):
            continue  # who reads the result decides
        if dequantises and index == 0:
            continue
        place = place_of(call.op, index)
        for origin in given.origins:
            role: Role | None = place.role
            if scaled or dequantises:
                role = "scale"
            elif role is None:
                real = origin.dtype in FLOATS or origin.dtype in QUANTISED or origin.zero
                made = origin.inline and (prod(origin.shape) == 1 or walker.shelf.filled(origin, 0))
                rank = len(given.shape or ())
                role = by_type(given.dtype, rank) if real and not made else "constant"
            elif place.idle is not None and _idle(walker, call, origin, place.idle):
                role = "constant"
            walker.shelf.assign(origin, role, replace(site, local=place.local))


def _idle(walker: Walker, call: Call, stored: Stored, number: int) -> bool:
    """Tells whether an initial state, or scale and shift together, change nothing."""
    if call.op != "InstanceNormalization":
        return walker.shelf.filled(stored, number)
    scale, shift = (call.value(i).direct for i in (1, 2))
    if scale is None or shift is None:
        return False
    return walker.shelf.filled(scale, 1) and walker.shelf.filled(shift, 0)


def _carry(call: Call, outputs: list[Val], fixed: bool) -> None:
    """Passes on what a result is made of: origins, homes of views, the way of scales."""
    if not outputs:
        return
    first, result = call.given(0), outputs[0]
    homes = [given.home for given in call.inputs if given and isinstance(given.home, Stored)]
    for value in outputs if fixed else ():
        value.fixed = True
        if homes and call.op not in _CREATING:
            value.home = homes[0]
        if call.op in FOLLOW or _dequantises(call):
            sources = call.inputs if call.op == "Concat" else call.inputs[:1]
            value.origins = tuple(o for given in sources if given for o in given.origins)
            if call.op == "Identity" and first is not None:
                value.direct = first.direct
    if first is None:
        return
    same_type = call.op in {"Cast", "CastLike"} and first.dtype == result.dtype
    if (call.op in _VIEWS or same_type) and first.home is not None:
        result.home = first.home
    tags = {given.tag for given in call.inputs if given}
    if call.op == "DynamicQuantizeLinear" and len(outputs) > 1:
        outputs[1].tag = "scale"
    elif call.op in {"MatMulInteger", "ConvInteger"}:
        result.tag = "accumulator"
    elif call.op == "ConstantOfShape" and fixed:
        result.tag = "uniform"
    elif call.op in {"Cast", "Identity"} or (first.tag == "uniform" and _keeps_uniform(call)):
        result.tag = first.tag
    elif call.op == "Mul" and "scale" in tags and "accumulator" not in tags:
        result.tag = "scale"


def _dequantises(call: Call) -> bool:
    """Stored integers, cast to floats, times one stored number for each output or for all.

    The same as DequantizeLinear, written so that it is worked out once, at loading.
    """
    if call.op != "Mul" or len(call.inputs) != 2:
        return False
    whole, scale = call.given(0), call.given(1)
    if whole is None or scale is None or scale.direct is None or not whole.shape:
        return False
    integers = bool(whole.origins) and all(o.dtype in QUANTISED for o in whole.origins)
    single = prod(scale.direct.shape) in (1, whole.shape[0])
    return integers and single and whole.dtype in FLOATS and scale.direct.dtype in FLOATS


def _keeps_uniform(call: Call) -> bool:
    """Whether one number for all stays one number for all."""
    scale = call.given(1)
    single = scale is not None and scale.shape is not None and prod(scale.shape) == 1
    return call.op == "DequantizeLinear" and single


def _averages(call: Call) -> bool:
    """A depthwise convolution whose weights are one number, made at loading: an average pooling."""
    weight = call.given(1)
    if call.op != "Conv" or weight is None or weight.tag != "uniform" or not weight.shape:
        return False
    return weight.shape[1] == 1 and call.attrs.get("group", 1) == weight.shape[0]


def _left_out(call: Call, outputs: list[Val], fixed: bool) -> bool:
    """Views, and what is computed from stored tensors or shapes when the model is loaded."""
    learned = any(
        origin.role == "parameter" for given in call.inputs if given for origin in given.origins
    )
    if learned and call.op not in FOLLOW:
        return False
    if all(value.home is None for value in outputs):
        return True
    if fixed and all(isinstance(value.home, Stored) for value in outputs):
        return True
    first = call.given(0)
    return first is not None and first.home is not None and outputs[0].home is first.home


def _emit(walker: Walker, call: Call, site: Site, outputs: list[Val], counted: bool) -> None:
    attrs = {key: value for key, value in call.attrs.items() if _plain(value)}
    averages = _averages(call)
    counted = counted and not averages
    name = "onnx.AveragePool" if averages else f"onnx.{call.op}"
    given = [value for value in call.inputs if value is not None]
    if any(value.shape is None for value in (*outputs, *given)):
        walker.doubt(("peak_activation_bytes",), f"shapes not known at {site.path} ({name})")
        if counted:
            name += UNKNOWN
    elif call.op == "Einsum":
        shapes = tuple(call.shape(i) for i in range(len(call.inputs)))
        terms, result, sizes = einsum_terms(call.text("equation", ""), shapes)
        attrs = {"terms": terms, "result": result, "sizes": sizes}
    used = [o for value in given for o in value.origins if o.role == "parameter"]
    parameters = tuple(dict.fromkeys(used))
    node = site.key
    if parameters:  # one layer however often it runs
        site = replace(site, key=(call.op, *map(id, parameters)))
    walker.ops.append(
        Emitted(name, site, node, list(call.inputs), outputs, attrs, walker.times, parameters)
    )


def _plain(value: object) -> bool:
    """Tells whether a counting rule may want an attribute: a number or a short list of them."""
    if isinstance(value, list):
        return len(value) <= 64 and all(isinstance(item, int) for item in value)
    return isinstance(value, int)
