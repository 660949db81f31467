"""Output shapes of the ONNX operators that only move, pick or repeat elements.

Shape functions as in `onnx_shapes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, prod

from compressor.audit.graph import Shape
from compressor.audit.readers.onnx_shapes import Out, ShapeRule, broadcast
from compressor.audit.readers.onnx_values import Call, axis_of, checked

__all__ = ["MOVES", "slice_ranges"]


def _reshape(call: Call) -> list[Out]:
    """0 keeps an axis (unless allowzero), -1 is what is left."""
    old, wanted = call.shape(), call.ints("shape", 1)
    if wanted is None:
        raise ValueError("a reshape without a shape")
    sizes = list(wanted)
    if not call.integer("allowzero", 0):
        if any(size == 0 and place >= len(old) for place, size in enumerate(sizes)):
            raise ValueError(f"{old} into {wanted}")
        sizes = [old[place] if size == 0 else size for place, size in enumerate(sizes)]
    if sizes.count(-1) > 1:
        raise ValueError(f"{old} into {wanted}: more than one open axis")
    if -1 in sizes:
        rest = prod(size for size in sizes if size != -1)
        if rest and prod(old) % rest:
            raise ValueError(f"{old} into {wanted}")
        sizes[sizes.index(-1)] = prod(old) // rest if rest else 0
    if prod(checked(tuple(sizes))) != prod(old):
        raise ValueError(f"{old} into {wanted}")
    return [(call.dtype(), tuple(sizes))]


def _flatten(call: Call) -> list[Out]:
    shape = call.shape()
    axis = call.integer("axis", 1)
    axis = axis if axis == len(shape) else axis_of(axis, max(len(shape), 1))
    return [(call.dtype(), (prod(shape[:axis]), prod(shape[axis:])))]


def _squeeze(call: Call) -> list[Out]:
    shape, axes = call.shape(), call.ints("axes", 1)
    if axes is None:
        return [(call.dtype(), tuple(size for size in shape if size != 1))]
    gone = {axis_of(axis, len(shape)) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        raise ValueError(f"axes {axes} of {shape} are not 1")
    return [(call.dtype(), tuple(size for i, size in enumerate(shape) if i not in gone))]


def _unsqueeze(call: Call) -> list[Out]:
    shape, axes = call.shape(), call.ints("axes", 1) or ()
    rank = len(shape) + len(axes)
    new = {axis_of(axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise ValueError(f"axes {axes} twice")
    sizes = iter(shape)
    return [(call.dtype(), tuple(1 if i in new else next(sizes) for i in range(rank)))]


def _transpose(call: Call) -> list[Out]:
    shape = call.shape()
    order = call.list("perm", tuple(reversed(range(len(shape)))))
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"order {order} of {shape}")
    return [(call.dtype(), tuple(shape[i] for i in order))]


def _joined(shapes: list[Shape], axis: int) -> Shape:
    first = shapes[0]
    axis = axis_of(axis, len(first))
    for shape in shapes:
        if len(shape) != len(first) or (
            shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]
        ):
            raise ValueError(f"{first} and {shape} do not join along axis {axis}")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _concat(call: Call) -> list[Out]:
    shapes = [call.shape(i) for i in range(len(call.inputs))]
    if not shapes:
        raise ValueError("nothing to join")
    return [(call.dtype(), _joined(shapes, call.integer("axis", 1)))]


def _qlinear_concat(call: Call) -> list[Out]:
    """Scale and zero point of the result, then data, scale and zero point of each input."""
    shapes = [call.shape(i) for i in range(2, len(call.inputs), 3)]
    return [(call.dtype(2), _joined(shapes, call.integer("axis", 1)))]


def _split(call: Call) -> list[Out]:
    shape = call.shape()
    axis = axis_of(call.integer("axis", 0), len(shape))
    sizes = call.ints("split", 1)
    if sizes is None:
        parts = call.integer("num_outputs", call.outputs)
        if parts < 1 or parts > call.outputs:
            raise ValueError(f"{parts} parts for {call.outputs} outputs")
        each = -(-shape[axis] // parts)
        sizes = tuple(max(min(each, shape[axis] - each * i), 0) for i in range(parts))
    if sum(sizes) != shape[axis] or min(sizes, default=0) < 0:
        raise ValueError(f"parts {sizes} of an axis of {shape[axis]}")
    return [(call.dtype(), (*shape[:axis], size, *shape[axis + 1 :])) for size in sizes]


def slice_ranges(call: Call) -> dict[int, range]:
    """Returns for each sliced axis the places that are taken."""
    shape = call.shape()
    starts, ends = call.ints("starts", 1), call.ints("ends", 2)
    if starts is None or ends is None:
        raise ValueError("a slice without start or end")
    axes = call.ints("axes", 3) or tuple(range(len(starts)))
    steps = call.ints("", 4) or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ValueError(f"starts {starts}, ends {ends}, axes {axes}, steps {steps}")
    found = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            raise ValueError("a step of 0")
        place = axis_of(axis, len(shape))
        found[place] = range(*slice(start, end, step).indices(shape[place]))
    return found


def _slice(call: Call) -> list[Out]:
    shape = list(call.shape())
    for axis, taken in slice_ranges(call).items():
        shape[axis] = len(taken)
    return [(call.dtype(), tuple(shape))]


def _gather(call: Call) -> list[Out]:
    shape, picked = call.shape(0), call.shape(1)
    axis = axis_of(call.integer("axis", 0), len(shape))
    return [(call.dtype(), (*shape[:axis], *picked, *shape[axis + 1 :]))]


def _gather_elements(call: Call) -> list[Out]:
    return [(call.dtype(), call.shape(1))]


def _gather_nd(call: Call) -> list[Out]:
    shape, picked = call.shape(0), call.shape(1)
    batch = call.integer("batch_dims", 0)
    if not picked or picked[-1] + batch > len(shape) or batch < 0:
        raise ValueError(f"indices {picked} into {shape}")
    return [(call.dtype(), (*picked[:-1], *shape[batch + picked[-1] :]))]


def _expand(call: Call) -> list[Out]:
    wanted = call.ints("", 1)
    if wanted is None:
        raise ValueError("an expand without a shape")
    return [(call.dtype(), broadcast(call.shape(), checked(wanted)))]


def _tile(call: Call) -> list[Out]:
    shape, times = call.shape(), call.ints("", 1)
    if times is None or len(times) != len(shape):
        raise ValueError(f"repeats {times} of {shape}")
    sizes = tuple(size * count for size, count in zip(shape, times, strict=True))
    return [(call.dtype(), checked(sizes))]


def _pad(call: Call) -> list[Out]:
    """Before and behind each axis; negative numbers cut off."""
    shape = call.shape()
    pads = call.ints("pads", 1)
    if pads is None:
        pads = call.list("paddings", ())
    axes = call.ints("", 3) or tuple(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise ValueError(f"pads {pads} on axes {axes}")
    sizes = list(shape)
    for place, axis in enumerate(axes):
        sizes[axis_of(axis, len(shape))] += pads[place] + pads[place + len(axes)]
    return [(call.dtype(), checked(tuple(sizes)))]


def _depth_to_space(call: Call) -> list[Out]:
    shape, block = call.shape(), call.integer("blocksize", 0)
    if len(shape) != 4 or block < 1 or shape[1] % (block * block):
        raise ValueError(f"blocks of {block} from {shape}")
    sizes = (shape[0], shape[1] // (block * block), shape[2] * block, shape[3] * block)
    return [(call.dtype(), checked(sizes))]


def _space_to_depth(call: Call) -> list[Out]:
    shape, block = call.shape(), call.integer("blocksize", 0)
    if len(shape) != 4 or block < 1:
        raise ValueError(f"blocks of {block} from {shape}")
    sizes = (shape[0], shape[1] * block * block, shape[2] // block, shape[3] // block)
    return [(call.dtype(), checked(sizes))]


def _resize(call: Call) -> list[Out]:
    """Version 10: data, scales; later: data, region, scales, sizes (one of the last two)."""
    shape = call.shape()
    axes = call.list("axes", tuple(range(len(shape))))
    places = [axis_of(axis, len(shape)) for axis in axes]
    new = list(shape)
    sizes = call.ints("", 3)
    if sizes:
        if len(sizes) != len(axes):
            raise ValueError(f"sizes {sizes} for axes {axes}")
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        ratios = [size / max(shape[place], 1) for place, size in zip(places, sizes, strict=True)]
        for place, size in zip(places, sizes, strict=True):
            if policy == "stretch":
                new[place] = size
            else:  # one scale for all axes, halves rounded up
                scale = min(ratios) if policy == "not_larger" else max(ratios)
                new[place] = floor(scale * shape[place] + 0.5)
        return [(call.dtype(), checked(tuple(new)))]
    scales = call.numbers(2 if len(call.inputs) > 2 else 1)
    return _scaled(call, shape, scales, places)


def _upsample(call: Call) -> list[Out]:
    shape = call.shape()
    scales = call.numbers(1) if len(call.inputs) > 1 else call.attrs.get("scales")
    return _scaled(call, shape, scales, list(range(len(shape))))


def _scaled(call: Call, shape: Shape, scales: object, places: list[int]) -> list[Out]:
    if not isinstance(scales, (list, tuple)) or len(scales) != len(places):
        raise ValueError(f"scales {scales} of {shape}")
    new = list(shape)
    for place, scale in zip(places, scales, strict=True):
        if not 0 < scale < 1 << 32:
            raise ValueError(f"a scale of {scale}")
        new[place] = floor(shape[place] * scale)
    return [(call.dtype(), checked(tuple(new)))]


def _top_k(call: Call) -> list[Out]:
    shape, count = list(call.shape()), call.ints("k", 1)
    if not count:
        raise ValueError("a top-k without k")
    axis = axis_of(call.integer("axis", -1), len(shape))
    if not 0 <= count[0] <= shape[axis]:
        raise ValueError(f"{count[0]} largest of {shape[axis]}")
    shape[axis] = count[0]
    return [(call.dtype(), tuple(shape)), ("int64", tuple(shape))]


def _one_hot(call: Call) -> list[Out]:
    shape, depth = call.shape(), call.ints("", 1)
    if not depth:
        raise ValueError("a one-hot without depth")
    axis = axis_of(call.integer("axis", -1), len(shape) + 1)
    return [(call.dtype(2), checked((*shape[:axis], depth[0], *shape[axis:])))]


def _grid_sample(call: Call) -> list[Out]:
    image, grid = call.shape(), call.shape(1)
    return [(call.dtype(), (*image[:2], *grid[1:-1]))]


def _affine_grid(call: Call) -> list[Out]:
    size = call.ints("", 1)
    if not size or len(size) < 4:
        raise ValueError(f"a grid of {size}")
    return [(call.dtype(), checked((size[0], *size[2:], len(size) - 2)))]


def _roi_align(call: Call) -> list[Out]:
    height, width = call.integer("output_height", 1), call.integer("output_width", 1)
    return [(call.dtype(), checked((call.shape(1)[0], call.shape()[1], height, width)))]


def _center_crop_pad(call: Call) -> list[Out]:
    shape, sizes = list(call.shape()), call.ints("", 1) or ()
    axes = call.list("axes", tuple(range(len(shape))))
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis_of(axis, len(shape))] = size
    return [(call.dtype(), checked(tuple(shape)))]


MOVES: Mapping[str, ShapeRule] = {
    "AffineGrid": _affine_grid,
    "CenterCropPad": _center_crop_pad,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "GridSample": _grid_sample,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "RoiAlign": _roi_align,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _upsample,
    "com.microsoft.QLinearConcat": _qlinear_concat,
}
