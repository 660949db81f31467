"""How operators of an exported program map to those of a recorded graph: names, views, writes.

An exported program holds composite operators (conv2d, linear, gru) and views, which a recording of
a live network shows taken apart or not at all. The tables here fold the two into one vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["ALIASES", "ATTRIBUTES", "CONVOLUTIONS", "RECURRENT", "aliases_input"]

# composite convolution -> spatial axes, transposed
CONVOLUTIONS: Mapping[str, tuple[int, bool]] = {
    "aten.conv1d": (1, False),
    "aten.conv2d": (2, False),
    "aten.conv3d": (3, False),
    "aten.conv_transpose1d": (1, True),
    "aten.conv_transpose2d": (2, True),
    "aten.conv_transpose3d": (3, True),
}
ATTRIBUTES: tuple[str, ...] = (
    "stride",
    "padding",
    "dilation",
    "transposed",
    "output_padding",
    "groups",
    "equation",
)
ATTRIBUTES += ("quant_min", "quant_max")
# recurrent operators of several steps -> mode
RECURRENT: Mapping[str, str] = {
    "aten.gru": "GRU",
    "aten.lstm": "LSTM",
    "aten.rnn_tanh": "RNN_TANH",
    "aten.rnn_relu": "RNN_RELU",
}
_VIEWS = """
    view alias detach permute transpose t select slice narrow squeeze unsqueeze expand expand_as
    unflatten split split_with_sizes chunk unbind unsafe_split unsafe_split_with_sizes tensor_split
    movedim moveaxis swapaxes swapdims diagonal as_strided view_as lift_fresh lift real imag
    unfold numpy_T mT mH adjoint positive _reshape_alias
"""
# always a view of the first input
ALIASES = frozenset(f"aten.{name}" for name in _VIEWS.split())
_WHERE_SAME_LAYOUT = frozenset({"aten.contiguous", "aten.to", "aten._to_copy", "aten.type_as"})
_RESHAPES = frozenset({"aten.reshape", "aten.flatten", "aten.ravel", "aten.reshape_as"})
_IDLE = frozenset({"aten.dropout", "aten.feature_dropout", "aten.alpha_dropout"})  # in eval mode

Layout = tuple[Sequence[int], Sequence[int], str]  # shape, strides, number type


def aliases_input(name: str, first: Layout, out: Layout, arguments: Mapping[str, Any]) -> bool:
    """Tells whether an operator's output is the memory of its first input.

    Args:
        name: operator ("aten.reshape").
        first: shape, strides and number type of the first input.
        out: the same of the output.
        arguments: the plain arguments.
    """
    if name in ALIASES or (name.endswith("_") and not name.endswith("__")):
        return True
    if name in _IDLE:
        return arguments.get("train") is False
    if name in _WHERE_SAME_LAYOUT:
        return name != "aten._to_copy" and list(first[1]) == list(out[1]) and first[2] == out[2]
    return name in _RESHAPES and _viewable(first[0], first[1], out[0])


def _viewable(shape: Sequence[int], strides: Sequence[int], wanted: Sequence[int]) -> bool:
    """Tells whether a shape can be had without copying: runs of axes that lie densely merge."""
    if len(shape) != len(strides):
        return False
    axes = [(size, step) for size, step in zip(shape, strides, strict=True) if size != 1]
    runs: list[list[int]] = []  # [elements, step of the last axis]
    for size, step in axes:
        if runs and runs[-1][1] == size * step:
            runs[-1] = [runs[-1][0] * size, step]
        else:
            runs.append([size, step])
    sizes = [size for size in wanted if size != 1]
    for elements, _ in runs:  # each run is cut into whole axes of the wanted shape
        rest = elements
        while rest > 1:
            if not sizes or rest % sizes[0]:
                return False
            rest //= sizes.pop(0)
    return not sizes
