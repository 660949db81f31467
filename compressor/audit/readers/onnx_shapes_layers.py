"""Output shapes of the ONNX operators with weights, and of pooling.

Shape functions as in `onnx_shapes`. Shapes of the weights are checked here, so that a file whose
weights do not fit its graph is refused instead of counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from compressor.audit.graph import Shape
from compressor.audit.readers.onnx_shapes import Out, ShapeRule, broadcast
from compressor.audit.readers.onnx_values import Call, UnknownShape, checked

__all__ = ["LAYERS", "einsum_terms"]


def _windows(
    call: Call, spatial: Shape, kernel: tuple[int, ...], *, pool: bool = False
) -> tuple[int, ...]:
    """Returns how often a window fits along each axis."""
    rank = len(spatial)
    strides = call.list("strides", (1,) * rank)
    dilations = call.list("dilations", (1,) * rank)
    pads = call.list("pads", (0,) * (2 * rank))
    mode = call.text("auto_pad", "NOTSET")
    if not len(kernel) == len(strides) == len(dilations) == rank or len(pads) != 2 * rank:
        raise ValueError(f"kernel {kernel}, strides {strides}, pads {pads} on axes {spatial}")
    if min((*strides, *dilations), default=1) < 1:
        raise ValueError(f"strides {strides}, dilations {dilations}")
    sizes = []
    for axis, size in enumerate(spatial):
        step, reach = strides[axis], (kernel[axis] - 1) * dilations[axis] + 1
        if mode in {"SAME_UPPER", "SAME_LOWER"}:
            sizes.append(-(-size // step))
            continue
        ends = 0 if mode == "VALID" else pads[axis] + pads[axis + rank]
        room = size + ends - reach
        if room < 0:
            raise ValueError(f"a window of {reach} on an axis of {size} (pads {ends})")
        count = room // step + 1
        if pool and call.integer("ceil_mode", 0) and room % step:
            # a window that would start in the padding behind the data is left out
            before = pads[axis] if mode == "NOTSET" else 0
            count += count * step < size + before
        sizes.append(count)
    return tuple(sizes)


def _conv(call: Call, weight_at: int = 1) -> list[Out]:
    """Input (N, C, *), weight (M, C / group, *kernel)."""
    image, weight = call.shape(), call.shape(weight_at)
    group = call.integer("group", 1)
    if len(image) < 2 or len(weight) != len(image) or group < 1:
        raise ValueError(f"an input {image}, a weight {weight}, group {group}")
    if image[1] != weight[1] * group or weight[0] % group:
        raise ValueError(f"an input {image} does not fit a weight {weight} in {group} groups")
    kernel = call.list("kernel_shape", weight[2:])
    if kernel != weight[2:]:
        raise ValueError(f"kernel_shape {kernel} and a weight {weight}")
    spatial = _windows(call, image[2:], kernel)
    return [(call.dtype(), checked((image[0], weight[0], *spatial)))]


def _conv_integer(call: Call) -> list[Out]:
    return [("int32", _conv(call)[0][1])]


def _qlinear_conv(call: Call) -> list[Out]:
    """Inputs x, scale, zero point, w, scale, zero point, scale and zero point of y, bias."""
    if call.integer("channels_last", 0):
        raise UnknownShape
    zero = call.given(7)
    return [(zero.dtype if zero is not None else call.dtype(), _conv(call, 3)[0][1])]


def _conv_transpose(call: Call) -> list[Out]:
    """Input (N, C, *), weight (C, M / group, *kernel)."""
    image, weight = call.shape(), call.shape(1)
    group, rank = call.integer("group", 1), len(image) - 2
    if rank < 0 or len(weight) != len(image) or image[1] != weight[0] or weight[0] % max(group, 1):
        raise ValueError(f"an input {image} does not fit a weight {weight} in {group} groups")
    strides = call.list("strides", (1,) * rank)
    dilations = call.list("dilations", (1,) * rank)
    pads = call.list("pads", (0,) * (2 * rank))
    extra = call.list("output_padding", (0,) * rank)
    given = call.list("output_shape", ())
    same = call.text("auto_pad", "NOTSET").startswith("SAME")
    if not len(strides) == len(dilations) == len(extra) == rank or len(pads) != 2 * rank:
        raise ValueError(f"strides {strides}, pads {pads} for an input {image}")
    sizes = []
    for axis, size in enumerate(image[2:]):
        reach = (weight[axis + 2] - 1) * dilations[axis] + 1
        if same:
            sizes.append(size * strides[axis])
        else:
            ends = pads[axis] + pads[axis + rank]
            sizes.append(strides[axis] * (size - 1) + extra[axis] + reach - ends)
    if given:
        sizes = list(given[-rank:])
    return [(call.dtype(), checked((image[0], weight[1] * group, *sizes)))]


def _pool(call: Call) -> list[Out]:
    image = call.shape()
    kernel = call.list("kernel_shape", ())
    if len(image) < 2 or not kernel:
        raise ValueError(f"a pooling window {kernel} on {image}")
    shape = (*image[:2], *_windows(call, image[2:], kernel, pool=True))
    return [(call.dtype(), shape), ("int64", shape)]


def _global_pool(call: Call) -> list[Out]:
    image = call.shape()
    if call.integer("channels_last", 0):
        return [(call.dtype(), (image[0], *(1 for _ in image[2:]), image[-1]))]
    return [(call.dtype(), (*image[:2], *(1 for _ in image[2:])))]


def _max_unpool(call: Call) -> list[Out]:
    given = call.ints("", 2)
    if given is not None:
        return [(call.dtype(), checked(given))]
    image, kernel = call.shape(), call.list("kernel_shape", ())
    rank = len(image) - 2
    strides, pads = call.list("strides", (1,) * rank), call.list("pads", (0,) * (2 * rank))
    sizes = (
        (size - 1) * strides[i] - pads[i] - pads[i + rank] + kernel[i]
        for i, size in enumerate(image[2:])
    )
    return [(call.dtype(), checked((*image[:2], *sizes)))]


def _product(left: Shape, right: Shape) -> Shape:
    """numpy.matmul: leading axes broadcast, a vector is a row or a column for the while."""
    if not left or not right:
        raise ValueError(f"{left} @ {right} is not a matrix product")
    rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else ()
    if left[-1] != (right[-2] if len(right) > 1 else right[0]):
        raise ValueError(f"{left} @ {right} is not a matrix product")
    return (*broadcast(left[:-2], right[:-2]), *rows, *columns)


def _matmul(call: Call) -> list[Out]:
    return [(call.dtype(), _product(call.shape(0), call.shape(1)))]


def _matmul_integer(call: Call) -> list[Out]:
    return [("int32", _product(call.shape(0), call.shape(1)))]


def _matmul_to_float(call: Call) -> list[Out]:
    return [("float32", _product(call.shape(0), call.shape(1)))]


def _qlinear_matmul(call: Call) -> list[Out]:
    zero = call.given(7)
    dtype = zero.dtype if zero is not None else call.dtype()
    return [(dtype, _product(call.shape(0), call.shape(3)))]


def _fused_matmul(call: Call) -> list[Out]:
    if call.integer("transBatchA", 0) or call.integer("transBatchB", 0):
        raise UnknownShape
    left, right = call.shape(0), call.shape(1)
    if call.integer("transA", 0) and len(left) > 1:
        left = (*left[:-2], left[-1], left[-2])
    if call.integer("transB", 0) and len(right) > 1:
        right = (*right[:-2], right[-1], right[-2])
    return [(call.dtype(), _product(left, right))]


def _gemm(call: Call, right_at: int = 1) -> list[Out]:
    left, right = call.shape(0), call.shape(right_at)
    if len(left) != 2 or len(right) != 2:
        raise ValueError(f"{left} @ {right} is not a matrix product")
    left = left[::-1] if call.integer("transA", 0) else left
    right = right[::-1] if call.integer("transB", 0) else right
    if left[1] != right[0]:
        raise ValueError(f"{left} @ {right} is not a matrix product")
    return [(call.dtype(), (left[0], right[1]))]


def _qgemm(call: Call) -> list[Out]:
    zero = call.given(8)
    return [(zero.dtype if zero is not None else "float32", _gemm(call, 3)[0][1])]


def _matmul_nbits(call: Call) -> list[Out]:
    """Input (..., K), packed weight of N columns with K numbers each."""
    left, rows, columns = call.shape(), call.integer("K", 0), call.integer("N", 0)
    if left[-1:] != (rows,) or columns < 1:
        raise ValueError(f"an input {left} for a packed weight of {rows} x {columns}")
    return [(call.dtype(), checked((*left[:-1], columns)))]


def einsum_terms(equation: str, shapes: tuple[Shape, ...]) -> tuple[list[str], str, dict[str, int]]:
    """Reads an equation: the letters of each operand, those of the result, the size of each letter.

    An ellipsis becomes digits, one for each axis it stands for, counted from the last.

    Raises:
        ValueError: it does not fit the operands.
    """
    if len(equation) > 512:
        raise ValueError("an equation of more than 512 characters")
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"{equation!r} for {len(shapes)} operands")
    sizes: dict[str, int] = {}
    spelled, widest = [], ""
    for term, shape in zip(terms, shapes, strict=True):
        hidden = len(shape) - len(term.replace("...", ""))
        if hidden < 0 or (hidden and "..." not in term) or term.count("...") > 1 or hidden > 10:
            raise ValueError(f"{term!r} of {equation!r} for {shape}")
        axes = "9876543210"[10 - hidden :]
        widest = max(widest, axes, key=len)
        letters = term.replace("...", axes)
        if not all(letter.isalpha() or letter in axes for letter in letters):
            raise ValueError(f"{term!r} of {equation!r}")
        for letter, size in zip(letters, shape, strict=True):
            known = sizes.get(letter, 1)
            if known != 1 and size not in {1, known}:
                raise ValueError(f"{letter!r} of {equation!r} is both {known} and {size}")
            sizes[letter] = max(known, size) if size and letter in sizes else size
        spelled.append(letters)
    if arrow:
        result = right.replace("...", widest)
    else:
        seen = "".join(spelled)
        result = widest + "".join(sorted(c for c in sizes if c.isalpha() and seen.count(c) == 1))
    if any(letter not in sizes for letter in result) or len(set(result)) < len(result):
        raise ValueError(f"{equation!r}: the result has an axis twice, or one of no operand")
    return spelled, result, sizes


def _einsum(call: Call) -> list[Out]:
    shapes = tuple(call.shape(i) for i in range(len(call.inputs)))
    _, result, sizes = einsum_terms(call.text("equation", ""), shapes)
    return [(call.dtype(), tuple(sizes[letter] for letter in result))]


def _recurrent(call: Call) -> list[Out]:
    """Input (T, N, I) or with layout 1 (N, T, I); W (D, gates x H, I), R (D, gates x H, H)."""
    data, weight, back = call.shape(0), call.shape(1), call.shape(2)
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[call.op.removeprefix("com.microsoft.Dynamic")]
    sides = 2 if call.text("direction", "forward") == "bidirectional" else 1
    hidden = call.integer("hidden_size", back[-1] if back else 0)
    if (
        len(data) != 3
        or weight != (sides, gates * hidden, data[2])
        or back != (sides, gates * hidden, hidden)
    ):
        raise ValueError(
            f"weights {weight} and {back} for an input {data}, {sides} x {gates} gates of {hidden}"
        )
    batch_first = call.integer("layout", 0)
    steps, batch = (data[1], data[0]) if batch_first else (data[0], data[1])
    whole = (batch, steps, sides, hidden) if batch_first else (steps, sides, batch, hidden)
    last = (batch, sides, hidden) if batch_first else (sides, batch, hidden)
    return [(call.dtype(), whole), (call.dtype(), last), (call.dtype(), last)]


def _attention(call: Call) -> list[Out]:
    """Query, key, value (N, heads, L, E), or (N, L, heads x E) with the heads as attributes."""
    query, key, value = (call.shape(i) for i in range(3))
    query_heads, heads = call.integer("q_num_heads", 0), call.integer("kv_num_heads", 0)
    if len(query) == 3:
        if query_heads < 1 or heads < 1 or query[2] % query_heads or value[2] % heads:
            raise ValueError(f"{query_heads} and {heads} heads for {query}, {value}")
        width = value[2] // heads
        shape: Shape = (query[0], query[1], query_heads * width)
        split_key = (key[0], heads, key[1], key[2] // heads)
        split_value = (value[0], heads, value[1], width)
        lengths = (query[0], query_heads, query[1])
    else:
        if not len(query) == len(key) == len(value) == 4:
            raise ValueError(f"{query}, {key}, {value} is no attention")
        shape = (*query[:3], value[3])
        split_key, split_value, lengths = key, value, query[:3]
    past = call.given(4)
    before = call.shape(4)[2] if past is not None else 0
    total = split_key[2] + before
    return [
        (call.dtype(), checked(shape)),
        (call.dtype(1), (*split_key[:2], total, split_key[3])),
        (call.dtype(2), (*split_value[:2], total, split_value[3])),
        (call.dtype(), (*lengths, total)),
    ]


def _packed_attention(call: Call) -> list[Out]:
    """com.microsoft.Attention: input (N, L, I), weight (I, query + key + value)."""
    data, weight = call.shape(0), call.shape(1)
    sizes = call.list("qkv_hidden_sizes", ())
    if len(data) != 3 or len(weight) != 2 or data[2] != weight[0]:
        raise ValueError(f"an input {data} for a weight {weight}")
    return [(call.dtype(), (*data[:2], sizes[2] if len(sizes) == 3 else weight[1] // 3))]


def _multi_head(call: Call) -> list[Out]:
    """com.microsoft.MultiHeadAttention: (N, L, hidden), the value decides the last axis."""
    query = call.shape(0)
    if len(query) == 5:  # (N, L, heads, 3, size): all three in one
        return [(call.dtype(), (query[0], query[1], query[2] * query[4]))]
    value = call.shape(2) if call.given(2) is not None else query
    width = value[1] * value[3] if len(value) == 4 else value[2]
    return [(call.dtype(), (*query[:2], width))]


def _grouped_query(call: Call) -> list[Out]:
    query = call.shape(0)
    heads, shared = call.integer("num_heads", 0), call.integer("kv_num_heads", 0)
    width = query[2]
    if call.given(1) is None:  # query, key and value in one
        width = query[2] * heads // max(heads + 2 * shared, 1)
    return [(call.dtype(), (*query[:2], width))]


def _deform_conv(call: Call) -> list[Out]:
    return _conv(call)


def _col2im(call: Call) -> list[Out]:
    data, image, block = call.shape(), call.ints("", 1), call.ints("", 2)
    if not image or not block:
        raise ValueError("an image without sizes")
    return [(call.dtype(), checked((data[0], data[1] // max(prod(block), 1), *image)))]


LAYERS: Mapping[str, ShapeRule] = {
    "Attention": _attention,
    "AveragePool": _pool,
    "Col2Im": _col2im,
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "ConvTranspose": _conv_transpose,
    "DeformConv": _deform_conv,
    "Einsum": _einsum,
    "GRU": _recurrent,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalLpPool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "LSTM": _recurrent,
    "LpPool": _pool,
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "MaxPool": _pool,
    "MaxUnpool": _max_unpool,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "RNN": _recurrent,
    "com.microsoft.Attention": _packed_attention,
    "com.microsoft.DynamicQuantizeMatMul": _matmul_to_float,
    "com.microsoft.FusedConv": _conv,
    "com.microsoft.FusedGemm": _gemm,
    "com.microsoft.FusedMatMul": _fused_matmul,
    "com.microsoft.GroupQueryAttention": _grouped_query,
    "com.microsoft.MatMulIntegerToFloat": _matmul_to_float,
    "com.microsoft.MatMulNBits": _matmul_nbits,
    "com.microsoft.MultiHeadAttention": _multi_head,
    "com.microsoft.QGemm": _qgemm,
    "com.microsoft.QLinearAveragePool": _pool,
    "com.microsoft.QLinearConv": _qlinear_conv,
    "com.microsoft.QLinearGlobalAveragePool": _global_pool,
}
