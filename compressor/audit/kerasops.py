"""Keras layers to multiply-accumulates: the strict convention, as one table.

An operator is one layer call. `attrs["operands"]` names its inputs: "data" first, then the weights
as Keras names them ("kernel", "recurrent_kernel", "forward_kernel"). Layouts are those of Keras:
kernels (*window, I, O), depthwise (*window, C, multiplier), transposed (*window, O, I), dense
(I, O). Each rule is a pure function of shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from compressor.audit.graph import Shape

__all__ = ["FREE", "RULES"]

Shapes = Sequence[Shape]
Rule = Callable[[Shapes, Shapes, Mapping[str, Any]], int]


def _weight(inputs: Shapes, attrs: Mapping[str, Any], *names: str) -> Shape:
    operands: tuple[str, ...] = attrs["operands"]
    for name in names:
        if name in operands:
            return inputs[operands.index(name)]
    raise ValueError(f"no {' or '.join(names)} is stored")


def _positions(shape: Shape, attrs: Mapping[str, Any]) -> tuple[int, int]:
    """Positions of an image (batch x spatial axes), and its channels."""
    channel = 1 if attrs.get("channels_first") else len(shape) - 1
    return prod(shape[:channel] + shape[channel + 1 :]), shape[channel]


def _conv(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """Every weight meets every output position once."""
    kernel = _weight(inputs, attrs, "kernel")
    positions, channels = _positions(outputs[0], attrs)
    given = _positions(inputs[0], attrs)[1]
    fits = len(kernel) == len(inputs[0]) and kernel[-1] == channels
    if not fits or not kernel[-2] or given % kernel[-2]:
        raise ValueError(f"input {inputs[0]}, kernel {kernel}, output {outputs[0]}")
    return positions * prod(kernel)


def _depthwise(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    kernel = _weight(inputs, attrs, "depthwise_kernel", "kernel")
    positions, channels = _positions(outputs[0], attrs)
    given = _positions(inputs[0], attrs)[1]
    if kernel[-2] != given or kernel[-2] * kernel[-1] != channels:
        raise ValueError(f"input {inputs[0]}, kernel {kernel}, output {outputs[0]}")
    return positions * prod(kernel)


def _separable(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """The depthwise part has the output's positions, the pointwise part as well."""
    depthwise = _weight(inputs, attrs, "depthwise_kernel")
    pointwise = _weight(inputs, attrs, "pointwise_kernel")
    positions, channels = _positions(outputs[0], attrs)
    if depthwise[-2] * depthwise[-1] != pointwise[-2] or pointwise[-1] != channels:
        raise ValueError(f"kernels {depthwise} and {pointwise}, output {outputs[0]}")
    return positions * (prod(depthwise) + prod(pointwise))


def _transposed(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """Every weight meets every *input* position once."""
    kernel = _weight(inputs, attrs, "kernel")
    positions, given = _positions(inputs[0], attrs)
    if kernel[-1] != given or kernel[-2] != _positions(outputs[0], attrs)[1]:
        raise ValueError(f"input {inputs[0]}, kernel {kernel}, output {outputs[0]}")
    return positions * prod(kernel)


def _dense(inputs: Shapes, outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """I x O for each row of the input."""
    kernel = _weight(inputs, attrs, "kernel")
    if len(kernel) != 2 or inputs[0][-1:] != kernel[:1] or outputs[0][-1:] != kernel[1:]:
        raise ValueError(f"input {inputs[0]}, kernel {kernel}, output {outputs[0]}")
    return prod(inputs[0][:-1]) * prod(kernel)


def _recurrent(inputs: Shapes, _outputs: Shapes, attrs: Mapping[str, Any]) -> int:
    """Every kernel of every direction meets every step of every sequence once."""
    data = inputs[0]
    pairs = zip(attrs["operands"], inputs, strict=True)
    kernels = [(name, shape) for name, shape in pairs if name.endswith("kernel")]
    fits = [
        shape[0] == data[-1] for name, shape in kernels if not name.endswith("recurrent_kernel")
    ]
    if len(data) != 3 or not kernels or not all(fits):
        raise ValueError(f"input {data}, kernels {[shape for _, shape in kernels]}")
    return prod(data[:2]) * sum(prod(shape) for _, shape in kernels)


RULES: Mapping[str, Rule] = {
    **{f"keras.Conv{n}D": _conv for n in (1, 2, 3)},
    **{f"keras.DepthwiseConv{n}D": _depthwise for n in (1, 2)},
    **{f"keras.SeparableConv{n}D": _separable for n in (1, 2)},
    **{f"keras.Conv{n}DTranspose": _transposed for n in (1, 2, 3)},
    "keras.Dense": _dense,
    **{f"keras.{name}": _recurrent for name in ("LSTM", "GRU", "SimpleRNN")},
}

_FREE_NAMES = """
InputLayer BatchNormalization LayerNormalization GroupNormalization UnitNormalization Normalization
Rescaling Flatten Reshape Permute RepeatVector Add Subtract Multiply Average Maximum Minimum
Concatenate Activation ReLU LeakyReLU PReLU ELU ThresholdedReLU Softmax Dropout SpatialDropout1D
SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout GaussianNoise
ActivityRegularization Masking ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D
Cropping3D UpSampling1D UpSampling2D UpSampling3D Embedding MaxPooling1D MaxPooling2D MaxPooling3D
AveragePooling1D AveragePooling2D AveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D
GlobalMaxPooling3D GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
"""
FREE: frozenset[str] = frozenset(f"keras.{name}" for name in _FREE_NAMES.split())
