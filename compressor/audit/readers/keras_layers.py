"""Output shapes of Keras layers from their configurations: pure functions, no Keras.

`output_shapes` answers for the layers that it knows; for any other it answers None, and what comes
behind cannot be counted. Shapes carry their batch axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

__all__ = ["VIEWS", "canonical", "channels_first", "output_shapes"]

Shape = tuple[int, ...]
Shapes = Sequence[Shape]
Config = Mapping[str, Any]

_SAME = """
BatchNormalization LayerNormalization GroupNormalization UnitNormalization Normalization Rescaling
Activation ReLU LeakyReLU PReLU ELU ThresholdedReLU Softmax Dropout SpatialDropout1D
SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout GaussianNoise
ActivityRegularization Masking
"""
_MERGE = "Add Subtract Multiply Average Maximum Minimum"
# Layers that move nothing at inference: their output is their input.
_VIEW_NAMES = """
Flatten Reshape Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout
GaussianDropout GaussianNoise ActivityRegularization
"""
VIEWS = frozenset(_VIEW_NAMES.split())
_ALIASES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "SeparableConvolution1D": "SeparableConv1D",
    "SeparableConvolution2D": "SeparableConv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "Convolution2DTranspose": "Conv2DTranspose",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "LSTMV2": "LSTM",
    "GRUV2": "GRU",
}
for _n in (1, 2, 3):
    _ALIASES[f"MaxPool{_n}D"] = f"MaxPooling{_n}D"
    _ALIASES[f"AvgPool{_n}D"] = f"AveragePooling{_n}D"
    _ALIASES[f"GlobalMaxPool{_n}D"] = f"GlobalMaxPooling{_n}D"
    _ALIASES[f"GlobalAvgPool{_n}D"] = f"GlobalAveragePooling{_n}D"


def canonical(name: str) -> str:
    """Returns the usual name of a layer class ("MaxPool2D" -> "MaxPooling2D")."""
    return _ALIASES.get(name, name)


def channels_first(config: Config) -> bool:
    """Tells the layout of a layer's images."""
    return config.get("data_format") == "channels_first"


def output_shapes(kind: str, config: Config, inputs: Shapes) -> list[Shape] | None:
    """Returns the shapes that a layer writes; None for a layer that is not known here.

    Args:
        kind: class name, as `canonical` gives it.
        config: its configuration.
        inputs: shapes of its inputs.

    Raises:
        ValueError, TypeError, IndexError, KeyError: the configuration does not fit the inputs.
    """
    rule = _RULES.get(kind)
    if rule is None:
        return None
    shapes = rule(config, inputs)
    if any(size < 1 for shape in shapes for size in shape):
        raise ValueError(f"input {list(inputs)} is too small for the layer")
    return shapes


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    """A number for all axes, or one for each."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or not all(type(v) is int and 0 <= v < 1 << 31 for v in values):
        raise ValueError(f"{str(value)[:60]} where {rank} whole numbers are expected")
    return values


def _split(config: Config, shape: Shape) -> tuple[Shape, int]:
    """Spatial axes and channels of an image."""
    return (shape[2:], shape[1]) if channels_first(config) else (shape[1:-1], shape[-1])


def _join(config: Config, shape: Shape, spatial: Shape, channels: int) -> Shape:
    first = channels_first(config)
    return (shape[0], channels, *spatial) if first else (shape[0], *spatial, channels)


def _slide(size: int, window: int, stride: int, dilation: int, padding: str) -> int:
    """Positions of a window along one axis."""
    if stride < 1 or window < 1 or dilation < 1:
        raise ValueError(f"window {window}, stride {stride}, dilation {dilation}")
    if padding.lower() in {"same", "causal"}:
        return -(-size // stride)
    if padding.lower() != "valid":
        raise ValueError(f"padding {padding[:60]!r}")
    return (size - dilation * (window - 1) - 1) // stride + 1


def _windows(config: Config, spatial: Shape) -> Shape:
    rank = len(spatial)
    sizes = _tuple(config["kernel_size"], rank)
    strides = _tuple(config.get("strides", 1), rank)
    dilations = _tuple(config.get("dilation_rate", 1), rank)
    padding = str(config.get("padding", "valid"))
    steps = zip(spatial, sizes, strides, dilations, strict=True)
    return tuple(_slide(n, k, s, d, padding) for n, k, s, d in steps)


def _conv(config: Config, inputs: Shapes) -> list[Shape]:
    spatial, _ = _split(config, inputs[0])
    (filters,) = _tuple(config["filters"], 1)
    return [_join(config, inputs[0], _windows(config, spatial), filters)]


def _depthwise(config: Config, inputs: Shapes) -> list[Shape]:
    spatial, channels = _split(config, inputs[0])
    (multiplier,) = _tuple(config.get("depth_multiplier", 1), 1)
    return [_join(config, inputs[0], _windows(config, spatial), channels * multiplier)]


def _transposed(config: Config, inputs: Shapes) -> list[Shape]:
    spatial, _ = _split(config, inputs[0])
    rank = len(spatial)
    (filters,) = _tuple(config["filters"], 1)
    sizes, strides = _tuple(config["kernel_size"], rank), _tuple(config.get("strides", 1), rank)
    dilations = _tuple(config.get("dilation_rate") or 1, rank)
    same = str(config.get("padding", "valid")).lower() == "same"
    extra = config.get("output_padding")
    extras = _tuple(extra, rank) if extra is not None else (None,) * rank
    out = []
    for n, k, s, d, more in zip(spatial, sizes, strides, dilations, extras, strict=True):
        wide = (k - 1) * d + 1
        if more is not None:
            out.append((n - 1) * s + wide - (2 * (wide // 2) if same else 0) + more)
        else:
            out.append(n * s if same else n * s + max(wide - s, 0))
    return [_join(config, inputs[0], tuple(out), filters)]


def _pool(config: Config, inputs: Shapes) -> list[Shape]:
    spatial, channels = _split(config, inputs[0])
    rank = len(spatial)
    sizes = _tuple(config["pool_size"], rank)
    strides = _tuple(config.get("strides") or list(sizes), rank)
    padding = str(config.get("padding", "valid"))
    steps = zip(spatial, sizes, strides, strict=True)
    out = tuple(_slide(n, k, s, 1, padding) for n, k, s in steps)
    return [_join(config, inputs[0], out, channels)]


def _global_pool(config: Config, inputs: Shapes) -> list[Shape]:
    spatial, channels = _split(config, inputs[0])
    if config.get("keepdims"):
        return [_join(config, inputs[0], (1,) * len(spatial), channels)]
    return [(inputs[0][0], channels)]


def _same(_: Config, inputs: Shapes) -> list[Shape]:
    return [tuple(inputs[0])]


def _merge(_: Config, inputs: Shapes) -> list[Shape]:
    """Elementwise, axes of size 1 broadcast."""
    rank = max(map(len, inputs))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in inputs]
    out = tuple(max(sizes) for sizes in zip(*padded, strict=True))
    if any(size not in {1, full} for s in padded for size, full in zip(s, out, strict=True)):
        raise ValueError(f"shapes {list(inputs)} do not fit each other")
    return [out]


def _concatenate(config: Config, inputs: Shapes) -> list[Shape]:
    axis = config.get("axis", -1) % len(inputs[0])
    rest = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
    if len(rest) != 1:
        raise ValueError(f"shapes {list(inputs)} do not fit along axis {axis}")
    total = sum(shape[axis] for shape in inputs)
    return [(*inputs[0][:axis], total, *inputs[0][axis + 1 :])]


def _flatten(_: Config, inputs: Shapes) -> list[Shape]:
    return [(inputs[0][0], prod(inputs[0][1:]))]


def _reshape(config: Config, inputs: Shapes) -> list[Shape]:
    target = [int(size) for size in config["target_shape"]]
    have = prod(inputs[0][1:])
    if target.count(-1) == 1:
        known = prod(size for size in target if size != -1)
        target[target.index(-1)] = have // known if known else 0
    if prod(target) != have:
        raise ValueError(f"{inputs[0][1:]} cannot become {target}")
    return [(inputs[0][0], *target)]


def _permute(config: Config, inputs: Shapes) -> list[Shape]:
    order = [int(axis) for axis in config["dims"]]
    if sorted(order) != list(range(1, len(inputs[0]))):
        raise ValueError(f"axes {order} of {inputs[0]}")
    return [(inputs[0][0], *(inputs[0][axis] for axis in order))]


def _repeat(config: Config, inputs: Shapes) -> list[Shape]:
    (times,) = _tuple(config["n"], 1)
    return [(inputs[0][0], times, inputs[0][1])]


def _pairs(value: Any, rank: int) -> list[tuple[int, int]]:
    """(before, after) along each axis: one number, one an axis, or a pair an axis."""
    if rank == 1 and not isinstance(value, int):
        before, after = _tuple(value[0] if isinstance(value[0], list) else value, 2)
        return [(before, after)]
    values = [value] * rank if isinstance(value, int) else list(value)
    if len(values) != rank:
        raise ValueError(f"{str(value)[:60]} for {rank} axes")
    return [(v, v) if isinstance(v, int) else (int(v[0]), int(v[1])) for v in values]


def _padded(config: Config, inputs: Shapes) -> list[Shape]:
    spatial, channels = _split(config, inputs[0])
    sides = zip(spatial, _pairs(config["padding"], len(spatial)), strict=True)
    return [_join(config, inputs[0], tuple(n + a + b for n, (a, b) in sides), channels)]


def _cropped(config: Config, inputs: Shapes) -> list[Shape]:
    spatial, channels = _split(config, inputs[0])
    sides = zip(spatial, _pairs(config["cropping"], len(spatial)), strict=True)
    return [_join(config, inputs[0], tuple(n - a - b for n, (a, b) in sides), channels)]


def _upsampled(config: Config, inputs: Shapes) -> list[Shape]:
    spatial, channels = _split(config, inputs[0])
    factors = _tuple(config["size"], len(spatial))
    out = tuple(n * f for n, f in zip(spatial, factors, strict=True))
    return [_join(config, inputs[0], out, channels)]


def _embedding(config: Config, inputs: Shapes) -> list[Shape]:
    return [(*inputs[0], *_tuple(config["output_dim"], 1))]


def _dense(config: Config, inputs: Shapes) -> list[Shape]:
    return [(*inputs[0][:-1], *_tuple(config["units"], 1))]


def _recurrent(config: Config, inputs: Shapes) -> list[Shape]:
    (units,) = _tuple(config["units"], 1)
    batch, steps, _ = inputs[0]
    out = (batch, steps, units) if config.get("return_sequences") else (batch, units)
    return [out, *([(batch, units)] * 2 if config.get("return_state") else [])]


_RULES: Mapping[str, Callable[[Config, Shapes], list[Shape]]] = {
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_MERGE.split(), _merge),
    **dict.fromkeys([f"Conv{n}D" for n in (1, 2, 3)], _conv),
    **dict.fromkeys([f"SeparableConv{n}D" for n in (1, 2)], _conv),
    **dict.fromkeys([f"DepthwiseConv{n}D" for n in (1, 2)], _depthwise),
    **dict.fromkeys([f"Conv{n}DTranspose" for n in (1, 2, 3)], _transposed),
    **dict.fromkeys([f"{k}Pooling{n}D" for k in ("Max", "Average") for n in (1, 2, 3)], _pool),
    **dict.fromkeys(
        [f"Global{k}Pooling{n}D" for k in ("Max", "Average") for n in (1, 2, 3)], _global_pool
    ),
    **dict.fromkeys([f"ZeroPadding{n}D" for n in (1, 2, 3)], _padded),
    **dict.fromkeys([f"Cropping{n}D" for n in (1, 2, 3)], _cropped),
    **dict.fromkeys([f"UpSampling{n}D" for n in (1, 2, 3)], _upsampled),
    **dict.fromkeys(["LSTM", "GRU", "SimpleRNN"], _recurrent),
    "Concatenate": _concatenate,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    "Embedding": _embedding,
    "Dense": _dense,
}
