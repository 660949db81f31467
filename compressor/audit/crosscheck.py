"""Does the graph in a file speak of the weights in that file? Shapes against shapes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from compressor.audit.graph import Graph, Op, Shape
from compressor.audit.macs import RULES
from compressor.audit.quantised import float_masters
from compressor.errors import ModelFileError

__all__ = ["crosscheck"]

_CONVOLUTIONS = {"aten.convolution", "aten._convolution", "aten.mkldnn_convolution"}


def crosscheck(graph: Graph, stored: Mapping[str, Shape], name: str) -> dict[str, tuple[str, ...]]:
    """Compares a graph with the stored tensors it is about.

    Args:
        graph: as read from the file.
        stored: shapes of its tensors.
        name: what messages call the file.

    Returns:
        Doubts by metric: layers that use only a part of their weight, weights that no operator
        uses although their layer was called.

    Raises:
        ModelFileError: a tensor is missing, unknown to the graph or of another shape; an operator
            reads what nothing wrote, or its output cannot follow from its input. The message names
            the layer.
    """
    declared = {**graph.parameters, **graph.buffers, **graph.packed}
    for tensor, shape in stored.items():
        if tensor not in declared:
            raise _contradiction(name, f"the graph does not know the stored {tensor}")
        if shape != declared[tensor][0]:
            raise _contradiction(
                name, f"{tensor} is stored as {shape}, the graph says {declared[tensor][0]}"
            )
    for tensor in declared:
        if tensor not in stored and tensor not in graph.unsaved:
            raise _contradiction(name, f"{tensor} of the graph is not stored")
    _check_flow(graph, name)
    spare = float_masters(graph)
    doubts = [
        *_partial_weights(graph),
        *(doubt for name, doubt in _unused_weights(graph) if name not in spare),
    ]
    return {"macs": tuple(doubts)} if doubts else {}


def _contradiction(name: str, what: str) -> ModelFileError:
    return ModelFileError(f"{name}: contradicts itself: {what}; write the file again")


def _check_flow(graph: Graph, name: str) -> None:
    """Every operator reads what was written before, and every convolution fits its shapes."""
    written = {
        value.home for index in graph.inputs if isinstance((value := graph.values[index]).home, int)
    }
    for op in graph.ops:
        for index in op.inputs:
            home = graph.values[index].home
            if isinstance(home, int) and home not in written:
                if index in op.outputs:
                    continue  # an in-place operator that fills a fresh buffer
                raise _contradiction(name, f"{graph.where(op)} reads what nothing wrote")
        for index in op.outputs:
            if isinstance(home := graph.values[index].home, int):
                written.add(home)
        if op.name in _CONVOLUTIONS:
            _check_convolution(graph, op, name)
    for index in graph.outputs:
        home = graph.values[index].home
        if isinstance(home, int) and home not in written:
            raise _contradiction(name, "an output that nothing wrote")


def _check_convolution(graph: Graph, op: Op, name: str) -> None:
    """Output sizes follow from input, kernel, stride, padding and dilation (torch.nn.Conv2d)."""
    image, weight = graph.shapes(op.inputs[:2])
    (out,) = graph.shapes(op.outputs[:1])
    spatial = len(weight) - 2
    transposed = bool(op.attrs.get("transposed"))
    groups = op.attrs.get("groups", 1)
    geometry = [_ints(op, key, spatial) for key in ("stride", "padding", "dilation")]
    extra = _ints(op, "output_padding", spatial)
    if spatial < 1 or min(len(image), len(out)) < spatial + 1 or type(groups) is not int:
        raise _contradiction(name, f"the shapes at {graph.where(op)} are no convolution")
    expected = []
    for axis in range(spatial):
        size, kernel = image[len(image) - spatial + axis], weight[2 + axis]
        stride, padding, dilation = (values[axis] for values in geometry)
        if stride < 1 or dilation < 1:
            raise _contradiction(name, f"{graph.where(op)} has a stride or dilation below 1")
        reach = dilation * (kernel - 1)
        if transposed:
            expected.append((size - 1) * stride - 2 * padding + reach + extra[axis] + 1)
        else:
            expected.append((size + 2 * padding - reach - 1) // stride + 1)
    channels = (weight[0], weight[1] * groups) if transposed else (weight[1] * groups, weight[0])
    found = (image[len(image) - spatial - 1], out[len(out) - spatial - 1])
    if channels != found or tuple(expected) != out[len(out) - spatial :]:
        raise _contradiction(
            name,
            f"{graph.where(op)} cannot make {out} of {image} with a weight {weight}",
        )


def _ints(op: Op, key: str, count: int) -> list[int]:
    default = 0 if key.endswith("padding") else 1
    value = op.attrs.get(key, default)
    values = [value] * count if type(value) is int else value
    if not isinstance(values, (list, tuple)) or not all(
        type(v) is int and 0 <= v < 1 << 31 for v in values
    ):
        return [default] * count
    return [values[0]] * count if len(values) == 1 else [*values, *[default] * count][:count]


def _partial_weights(graph: Graph) -> list[str]:
    """Weights of which the products read, all views taken together, only a part."""
    views: dict[str, set[int]] = {}
    place: dict[str, str] = {}
    for op in graph.ops:
        if op.name not in RULES:
            continue
        for index in op.inputs:
            value = graph.values[index]
            if isinstance(value.home, str) and value.home in graph.parameters:
                views.setdefault(value.home, set()).add(index)
                place.setdefault(value.home, graph.where(op))
    found = []
    for parameter, indices in views.items():
        whole = prod(graph.parameters[parameter][0])
        read = sum(prod(graph.values[index].shape) for index in indices)
        if read < whole:
            found.append(f"{place[parameter]} reads {read:,} of {whole:,} numbers of {parameter}")
    return found


def _unused_weights(graph: Graph) -> list[tuple[str, str]]:
    """Weights of two or more axes that no operator reads, in a layer that is said to have run."""
    used = graph.read_homes()
    called = {index for index, _ in graph.calls}
    return [
        (
            parameter,
            f"{parameter} is read by no operator although {module.path or 'the model'} was called",
        )
        for index, module in enumerate(graph.modules)
        if index in called and module.leaf
        for parameter in module.parameters
        if len(graph.parameters[parameter][0]) >= 2
        and graph.tied.get(parameter, parameter) not in used
    ]
