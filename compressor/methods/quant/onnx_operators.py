"""The ONNX form of every kind of node: one function each, all in `HANDLERS`.

Each returns the name of the tensor it made, or that of its input where it made nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.fx import Node

from compressor.methods.quant.integers import IntegerWeight
from compressor.methods.quant.onnx_writer import INPUT, Array, Writer, cannot

__all__ = ["HANDLERS"]


def _input(writer: Writer, node: Node) -> str:
    del writer, node
    return INPUT


def _constant(writer: Writer, node: Node) -> str:
    tensor = writer.graph.module
    for part in str(node.target).split("."):
        tensor = getattr(tensor, part)
    assert isinstance(tensor, Tensor)
    return writer.store(str(node.target), tensor.detach().cpu().numpy())


def _identity(writer: Writer, node: Node) -> str:
    return writer.source(node.args[0])


def _simple(kind: str, **attributes: Any) -> Callable[[Writer, Node], str]:
    def handler(writer: Writer, node: Node) -> str:
        name = writer.name(node)
        writer.emit(kind, [writer.source(node.args[0])], [name], **attributes)
        return name

    return handler


def _binary(kind: str) -> Callable[[Writer, Node], str]:
    def handler(writer: Writer, node: Node) -> str:
        if len(node.args) != 2 or node.kwargs:
            raise cannot(writer.graph, node, "a sum or product with further arguments")
        name = writer.name(node)
        inputs = [writer.operand(node, argument, i) for i, argument in enumerate(node.args)]
        if _on_integers(writer, node):
            inputs = [_widened(writer, node, i, tensor) for i, tensor in enumerate(inputs)]
        writer.emit(kind, inputs, [name])
        return name

    return handler


def _widened(writer: Writer, node: Node, position: int, tensor: str) -> str:
    """A gate (N, C, 1, 1) beside a map (N, C, H, W), repeated along W while it is integers.

    Integer kernels have the channels innermost. Without this, onnxruntime starts its vector loop
    anew at every place of the map for only C numbers (8 channels: 411 microseconds instead of 36).
    """
    source, shape = cast(Node, node.args[position]), writer.graph.shape(node)
    if len(shape) != 4 or shape[3] == 1 or writer.graph.shape(source)[1:] != (shape[1], 1, 1):
        return tensor
    name = f"{writer.name(node)}.gate{position}"
    sizes = writer.numbers(f"{name}.sizes", 1, 1, 1, shape[3])
    return writer.between(tensor, name, "Expand", sizes)


def _weights(writer: Writer, node: Node) -> tuple[str, str | None]:
    """Names of the weight and the bias that a layer reads, dequantised where they are integers."""
    layer, own = str(node.target), writer.graph.layer(node)
    weight, bias = own.weight, own.bias
    assert isinstance(weight, Tensor)
    integers = writer.integers
    if integers is None or layer not in integers.weights:
        first = writer.store(f"{layer}.weight", weight.detach().cpu().numpy())
        if not isinstance(bias, Tensor):
            return first, None
        return first, writer.store(f"{layer}.bias", bias.detach().cpu().numpy())
    stored = integers.weights[layer]
    if node not in integers.integer:
        first = _unpacked(writer, f"{layer}.weight", stored)
        if not isinstance(bias, Tensor):
            return first, None
        return first, writer.store(f"{layer}.bias", bias.detach().cpu().numpy())
    values = _packed(stored)
    first = _dequantised(writer, f"{layer}.weight", values, stored.scale.numpy())
    if layer not in integers.biases:
        return first, None
    whole = integers.biases[layer]
    return first, _dequantised(writer, f"{layer}.bias", whole.values.numpy(), whole.scale.numpy())


def _dequantised(writer: Writer, name: str, values: Array, scale: Array) -> str:
    """Store integers with their scales, one for each output channel or one for all."""
    writer.store(name, values)
    single = scale.size == 1
    shaped = scale.reshape(()) if single else scale.reshape(-1)
    scale_name = writer.store(f"{name}.scale", shaped.astype(np.float32))
    zero_name = writer.store(f"{name}.zero_point", np.zeros(shaped.shape, dtype=values.dtype))
    attributes = {} if single else {"axis": 0}
    output = f"{name}.float"
    writer.emit("DequantizeLinear", [name, scale_name, zero_name], [output], **attributes)
    return output


def _packed(weight: IntegerWeight) -> Array:
    """Integers in the narrowest type that ONNX stores: 4 or 8 bits."""
    values: Array = weight.values.numpy()
    return values.astype(ml_dtypes.int4) if weight.stored_bits == 4 else values


def _unpacked(writer: Writer, name: str, weight: IntegerWeight) -> str:
    """Store integers of a layer that computes in float32: Cast and Mul of constants.

    onnxruntime works these out once, when it loads the file; DequantizeLinear it would keep for
    every inference.
    """
    writer.store(name, _packed(weight))
    shape = [-1, *[1] * (weight.values.dim() - 1)]
    scale = writer.store(f"{name}.scale", weight.scale.reshape(shape).numpy())
    writer.emit("Cast", [name], [f"{name}.cast"], to=TensorProto.FLOAT)
    writer.emit("Mul", [f"{name}.cast", scale], [f"{name}.float"])
    return f"{name}.float"


def _conv(writer: Writer, node: Node) -> str:
    layer = cast(nn.Conv2d, writer.graph.layer(node))
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise cannot(writer.graph, node, f"padding {layer.padding!r} ({layer.padding_mode})")
    weight, bias = _weights(writer, node)
    name = writer.name(node)
    writer.emit(
        "Conv",
        [writer.source(node.args[0]), weight, *([bias] if bias else [])],
        [name],
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
        pads=[*layer.padding, *layer.padding],
        dilations=list(layer.dilation),
        group=layer.groups,
    )
    return name


def _linear(writer: Writer, node: Node) -> str:
    if len(writer.graph.shape(node)) != 2:
        raise cannot(writer.graph, node, "a linear layer over more than two axes")
    weight, bias = _weights(writer, node)
    name = writer.name(node)
    inputs = [writer.source(node.args[0]), weight, *([bias] if bias else [])]
    writer.emit("Gemm", inputs, [name], transB=1)
    return name


def _batchnorm(writer: Writer, node: Node) -> str:
    layer, path = cast(nn.BatchNorm2d, writer.graph.layer(node)), str(node.target)
    if layer.running_mean is None or layer.running_var is None:
        raise cannot(writer.graph, node, "a BatchNorm without running statistics")
    mean, variance = layer.running_mean.cpu().numpy(), layer.running_var.cpu().numpy()
    ones, zeros = np.ones_like(mean), np.zeros_like(mean)
    values = {
        "weight": ones if layer.weight is None else layer.weight.detach().cpu().numpy(),
        "bias": zeros if layer.bias is None else layer.bias.detach().cpu().numpy(),
        "running_mean": mean,
        "running_var": variance,
    }
    inputs = [writer.store(f"{path}.{key}", value) for key, value in values.items()]
    name = writer.name(node)
    source = writer.source(node.args[0])
    writer.emit("BatchNormalization", [source, *inputs], [name], epsilon=float(layer.eps))
    return name


def _pair(value: Any) -> list[int]:
    return [int(value), int(value)] if isinstance(value, int) else [int(item) for item in value]


def _maxpool(writer: Writer, node: Node) -> str:
    layer = cast(nn.MaxPool2d, writer.graph.layer(node))
    if layer.return_indices:
        raise cannot(writer.graph, node, "a pooling that returns indices")
    pads = _pair(layer.padding)
    name = writer.name(node)
    writer.emit(
        "MaxPool",
        [writer.source(node.args[0])],
        [name],
        kernel_shape=_pair(layer.kernel_size),
        strides=_pair(layer.stride),
        pads=[*pads, *pads],
        dilations=_pair(layer.dilation),
        ceil_mode=int(layer.ceil_mode),
    )
    return name


def _avgpool(writer: Writer, node: Node) -> str:
    layer = cast(nn.AvgPool2d, writer.graph.layer(node))
    if layer.divisor_override is not None:
        raise cannot(writer.graph, node, "an average pooling with a divisor of its own")
    pads = _pair(layer.padding)
    inside = layer.count_include_pad or not any(pads)
    if inside and not layer.ceil_mode and _on_integers(writer, node):
        return _averaging(writer, node, _pair(layer.kernel_size), _pair(layer.stride), pads)
    name = writer.name(node)
    writer.emit(
        "AveragePool",
        [writer.source(node.args[0])],
        [name],
        kernel_shape=_pair(layer.kernel_size),
        strides=_pair(layer.stride),
        pads=[*pads, *pads],
        ceil_mode=int(layer.ceil_mode),
        count_include_pad=int(layer.count_include_pad),
    )
    return name


def _on_integers(writer: Writer, node: Node) -> bool:
    return writer.integers is not None and node in writer.integers.integer


def _averaging(
    writer: Writer, node: Node, kernel: list[int], strides: list[int], pads: list[int]
) -> str:
    """An average over windows as a depthwise convolution with ones, made when the file is loaded.

    The same sum and one rounding. onnxruntime's own integer average goes through floats, value by
    value, and it has none along one axis; its depthwise convolution takes a ninth of the time on
    32 x 64 x 17 and an eighteenth on 64 x 44 x 256.
    """
    name, channels = writer.name(node), writer.graph.shape(node)[1]
    sizes = writer.numbers(f"{name}.sizes", channels, 1, *kernel)
    one = helper.make_tensor("one", TensorProto.INT8, [1], [1])
    writer.emit("ConstantOfShape", [sizes], [f"{name}.ones"], value=one)
    share = np.array(1 / (kernel[0] * kernel[1]), dtype=np.float32)
    scale = writer.store(f"{name}.scale_of_ones", share)
    zero = writer.store(f"{name}.zero_of_ones", np.array(0, dtype=np.int8))
    writer.emit("DequantizeLinear", [f"{name}.ones", scale, zero], [f"{name}.shares"])
    writer.emit(
        "Conv",
        [writer.source(node.args[0]), f"{name}.shares"],
        [name],
        kernel_shape=kernel,
        strides=strides,
        pads=[*pads, *pads],
        group=channels,
    )
    return name


def _globalavg(writer: Writer, node: Node) -> str:
    layer = cast(nn.AdaptiveAvgPool2d, writer.graph.layer(node))
    if layer.output_size not in (1, (1, 1)):
        raise cannot(writer.graph, node, f"an adaptive pooling to {layer.output_size}")
    return _simple("GlobalAveragePool")(writer, node)


def _argument(node: Node, position: int, *names: str, default: Any = None) -> Any:
    """A positional or keyword argument; position 0 is the tensor."""
    if len(node.args) > position:
        return node.args[position]
    return next((node.kwargs[name] for name in names if name in node.kwargs), default)


def _axes(writer: Writer, node: Node, argument: Any) -> list[int]:
    rank = len(writer.graph.shape(cast(Node, node.args[0])))
    value = writer.graph.concrete(argument)
    axes = [value] if isinstance(value, int) else list(value or range(rank))
    return sorted(axis % rank for axis in axes)


def _mean(writer: Writer, node: Node) -> str:
    axes = _axes(writer, node, _argument(node, 1, "dim", "axis"))
    keep = bool(_argument(node, 2, "keepdim", default=False))
    source, name = writer.source(node.args[0]), writer.name(node)
    if axes == [2, 3] and len(writer.graph.shape(cast(Node, node.args[0]))) == 4:
        # the form that has an integer kernel
        pooled = name if keep else f"{name}.pooled"
        writer.emit("GlobalAveragePool", [source], [pooled])
        if not keep:
            writer.emit("Flatten", [pooled], [name], axis=1)
        return name
    sizes = writer.graph.shape(cast(Node, node.args[0]))
    if len(sizes) == 4 and keep and axes in ([2], [3]) and _on_integers(writer, node):
        kernel = [sizes[2], 1] if axes == [2] else [1, sizes[3]]
        return _averaging(writer, node, kernel, [1, 1], [0, 0])
    numbers = writer.numbers(f"{name}.axes", *axes)
    writer.emit("ReduceMean", [source, numbers], [name], keepdims=int(keep))
    return name


def _amax(writer: Writer, node: Node) -> str:
    argument = _argument(node, 1, "dim", "axis")
    if argument is None and writer.graph.kind(node) == "max":
        raise cannot(writer.graph, node, "a maximum over everything")
    name = writer.name(node)
    numbers = writer.numbers(f"{name}.axes", *_axes(writer, node, argument))
    keep = bool(_argument(node, 2, "keepdim", default=False))
    writer.emit("ReduceMax", [writer.source(node.args[0]), numbers], [name], keepdims=int(keep))
    return name


def _cat(writer: Writer, node: Node) -> str:
    parts = node.args[0]
    assert isinstance(parts, (tuple, list))
    name = writer.name(node)
    axis = int(_argument(node, 1, "dim", "axis", default=0))
    writer.emit("Concat", [writer.source(part) for part in parts], [name], axis=axis)
    return name


def _split(writer: Writer, node: Node) -> Any:
    pieces = writer.graph.values[node]
    axis = int(writer.graph.concrete(_argument(node, 2, "dim", default=0)))
    name = writer.name(node)
    sizes = writer.numbers(f"{name}.sizes", *(piece.sizes[axis] for piece in pieces))
    names = [f"{name}.{index}" for index in range(len(pieces))]
    writer.emit("Split", [writer.source(node.args[0]), sizes], names, axis=axis)
    return names


def _getitem(writer: Writer, node: Node) -> str:
    source, index = cast(Node, node.args[0]), writer.graph.concrete(node.args[1])
    if isinstance(writer.graph.values[source], tuple):
        if writer.graph.kind(source) == "max":
            if index != 0:
                raise cannot(writer.graph, node, "the places of the maxima")
            return writer.source(source)
        found = writer.tensors[source][index]
        assert isinstance(found, str)
        return found
    items = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(item, slice) for item in items):
        raise cannot(writer.graph, node, f"the selection {index!r}")
    shape = writer.graph.shape(source)
    cuts = [
        (axis, *item.indices(shape[axis])) for axis, item in enumerate(items) if item != slice(None)
    ]
    if not cuts:
        return writer.source(source)
    if cuts[0][0] == 0:
        raise cannot(writer.graph, node, "a selection of clips of the batch")
    name = writer.name(node)
    parts = [
        writer.numbers(f"{name}.{label}", *values)
        for label, values in (
            ("starts", [cut[1] for cut in cuts]),
            ("ends", [cut[2] for cut in cuts]),
            ("axes", [cut[0] for cut in cuts]),
            ("steps", [cut[3] for cut in cuts]),
        )
    ]
    writer.emit("Slice", [writer.source(source), *parts], [name])
    return name


def _transpose(writer: Writer, node: Node) -> str:
    rank = len(writer.graph.shape(node))
    order = list(range(rank))
    one, two = (
        int(writer.graph.concrete(_argument(node, place, f"dim{place - 1}"))) for place in (1, 2)
    )
    order[one % rank], order[two % rank] = order[two % rank], order[one % rank]
    return _simple("Transpose", perm=order)(writer, node)


def _permute(writer: Writer, node: Node) -> str:
    rank = len(writer.graph.shape(node))
    value = writer.graph.concrete(_argument(node, 1, "dims"))
    order = value if isinstance(value, (tuple, list)) else writer.graph.concrete(node.args[1:])
    return _simple("Transpose", perm=[int(axis) % rank for axis in order])(writer, node)


def _flatten(writer: Writer, node: Node) -> str:
    source = cast(Node, node.args[0])
    before, after = writer.graph.shape(source), writer.graph.shape(node)
    if node.op == "call_module":
        start = int(cast(nn.Flatten, writer.graph.layer(node)).start_dim)
    else:
        start = int(_argument(node, 1, "start_dim", default=0))
    if start % len(before) == 1 and len(after) == 2:
        return _simple("Flatten", axis=1)(writer, node)
    if start % len(before) == 0:
        raise cannot(writer.graph, node, "flattening the batch")
    name = writer.name(node)
    sizes = writer.numbers(f"{name}.shape", 0, *after[1:])  # 0: the batch stays as it is
    writer.emit("Reshape", [writer.source(source), sizes], [name])
    return name


def _axis_change(kind: str) -> Callable[[Writer, Node], str]:
    def handler(writer: Writer, node: Node) -> str:
        value = writer.graph.concrete(_argument(node, 1, "dim"))
        if not isinstance(value, int):
            raise cannot(writer.graph, node, f"{kind.lower()} without one axis")
        source = cast(Node, node.args[0])
        if writer.graph.shape(source) == writer.graph.shape(node):
            return writer.source(source)  # nothing to squeeze
        ranks = [len(writer.graph.shape(n)) for n in (source, node)]
        name = writer.name(node)
        axes = writer.numbers(f"{name}.axes", value % max(ranks))
        writer.emit(kind, [writer.source(source), axes], [name])
        return name

    return handler


def _index_select(writer: Writer, node: Node) -> str:
    name = writer.name(node)
    axis = int(_argument(node, 1, "dim"))
    indices = writer.source(_argument(node, 2, "index"))
    writer.emit("Gather", [writer.source(node.args[0]), indices], [name], axis=axis)
    return name


def _pad(writer: Writer, node: Node) -> str:
    mode, fill = _argument(node, 2, "mode", default="constant"), _argument(node, 3, "value")
    if mode != "constant" or fill not in (None, 0):
        raise cannot(writer.graph, node, f"{mode} padding with {fill}")
    rank = len(writer.graph.shape(node))
    amounts = list(writer.graph.concrete(_argument(node, 1, "pad")))
    before, after = [0] * rank, [0] * rank
    for place in range(len(amounts) // 2):  # torch lists the last axis first
        before[rank - 1 - place], after[rank - 1 - place] = amounts[2 * place : 2 * place + 2]
    name = writer.name(node)
    pads = writer.numbers(f"{name}.pads", *before, *after)
    writer.emit("Pad", [writer.source(node.args[0]), pads], [name])
    return name


HANDLERS: dict[str, Callable[[Writer, Node], Any]] = {
    "input": _input,
    "constant": _constant,
    "identity": _identity,
    "conv": _conv,
    "linear": _linear,
    "batchnorm": _batchnorm,
    "relu": _simple("Relu"),
    "sigmoid": _simple("Sigmoid"),
    "tanh": _simple("Tanh"),
    "hardswish": _simple("HardSwish"),
    "hardsigmoid": _simple("HardSigmoid", alpha=1 / 6, beta=0.5),
    "add": _binary("Add"),
    "mul": _binary("Mul"),
    "cat": _cat,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "globalavg": _globalavg,
    "mean": _mean,
    "max": _amax,
    "amax": _amax,
    "chunk": _split,
    "split": _split,
    "getitem": _getitem,
    "transpose": _transpose,
    "permute": _permute,
    "flatten": _flatten,
    "unsqueeze": _axis_change("Unsqueeze"),
    "squeeze": _axis_change("Squeeze"),
    "index_select": _index_select,
    "pad": _pad,
}
