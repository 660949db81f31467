"""What can be said of one tensor, output or operator call of torch. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import torch
from torch import nn

__all__ = [
    "attributes",
    "canonical",
    "dtype_name",
    "offset",
    "output_shape",
    "packed_parameters",
    "packed_weights",
    "storage_bytes",
    "stride",
    "tensors_in",
]


# arguments that a counting rule or the cross-check reads
_KEPT: tuple[str, ...] = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
_KEPT += ("quant_min", "quant_max")


def tensors_in(tree: Any) -> Iterator[torch.Tensor]:
    """Yields the tensors of nested tuples, lists and mappings (packed sequences are tuples)."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from tensors_in(item)
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from tensors_in(item)


def dtype_name(tensor: torch.Tensor) -> str:
    """Returns the number type as it is stored: "float16"; "int8" also for quantised tensors."""
    return str(tensor.dtype).removeprefix("torch.").removeprefix("q").replace("quint", "uint")


def packed_parameters(root: nn.Module) -> dict[str, torch.Tensor]:
    """Finds the weights that quantised layers keep packed, where no `parameters()` sees them."""
    found: dict[str, torch.Tensor] = {}
    for path, module in root.named_modules():
        owner = path.removesuffix("_packed_params").removesuffix(".")
        for item in vars(module).values():
            if isinstance(item, torch.ScriptObject) and hasattr(item, "unpack"):
                for tensor in tensors_in(item.unpack()):
                    local = "weight" if tensor.dim() >= 2 else "bias"
                    found.setdefault(f"{owner}.{local}" if owner else local, tensor)
    return found


def output_shape(output: Any) -> list[int]:
    """Shape of a module's output as torchinfo takes it: the first tensor, of a mapping the last."""
    if isinstance(output, torch.Tensor):
        return list(output.shape)
    if isinstance(output, Mapping) and output:
        return output_shape(list(output.values())[-1])
    if isinstance(output, (tuple, list)) and output:
        return output_shape(output[0])
    return []


def canonical(name: str) -> str:
    """Folds the variants of a quantised operator (fused ReLU, dynamic) into one name."""
    space, _, local = name.partition(".")
    if space in {"quantized", "onednn", "_quantized"}:
        if local.startswith("conv"):
            return "quantized.conv"
        if local.startswith("linear"):
            return "quantized.linear"
    return name


def packed_weights(args: Iterable[Any]) -> list[torch.Tensor]:
    """Unpacks the weights of a torch.ao quantised operator (a script object)."""
    weights: list[torch.Tensor] = []
    for arg in args:
        if isinstance(arg, torch.ScriptObject) and hasattr(arg, "unpack"):
            weights += [t for t in tensors_in(arg.unpack()) if t.dim() >= 2]
    return weights


def attributes(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keeps the arguments that a counting rule or a reader needs, where they are plain."""
    named = {
        argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)
    } | dict(kwargs)
    kept: dict[str, Any] = {}
    for key in _KEPT:
        value = named.get(key)
        if isinstance(value, (bool, int)):
            kept[key] = value
        elif isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value):
            kept[key] = [int(v) for v in value]
    return kept


def offset(tensor: torch.Tensor) -> int:
    """Returns where in its storage a tensor begins, in elements."""
    return int(tensor.storage_offset()) if tensor.layout == torch.strided else 0


def stride(tensor: torch.Tensor) -> tuple[int, ...]:
    """Returns the strides; () for sparse tensors."""
    return tuple(tensor.stride()) if tensor.layout == torch.strided else ()


def storage_bytes(tensor: torch.Tensor) -> int:
    """Returns the bytes of the storage behind a tensor; of its elements where it has none."""
    try:
        return int(tensor.untyped_storage().nbytes())
    except (NotImplementedError, RuntimeError):
        return prod(tensor.shape) * int(tensor.element_size())
