"""What quantisation libraries keep in modules and tensors, told by structure. Imports torch.

torch.ao and brevitas train with float masters that a quantiser rounds on the way; torchao keeps
whole numbers and scales inside tensor subclasses. None of the libraries is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["deployed_bits", "inner_tensors", "is_quantiser", "is_scale"]

_SCALE = re.compile(r"scale|zero|qparams|block_size|amax")


def is_scale(name: str) -> bool:
    """Tells whether a part of a quantised tensor is a scale or zero point, by its name."""
    return _SCALE.search(name.rpartition(".")[2]) is not None


def is_quantiser(module: nn.Module) -> bool:
    """Tells whether a module only quantises: its parameters and buffers are scales and ranges."""
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(module).__mro__}
    return any(kind.startswith("brevitas.proxy.") for kind in kinds) or bool(
        kinds
        & {
            "torch.ao.nn.quantized.modules.Quantize",
            "torch.ao.quantization.fake_quantize.FakeQuantizeBase",
            "torch.ao.quantization.observer.ObserverBase",
            "torchao.quantization.pt2e.fake_quantize.FakeQuantizeBase",
            "torchao.quantization.pt2e.observer.ObserverBase",
        }
    )


def inner_tensors(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns the plain tensors inside a tensor subclass, by dotted name; none for plain ones."""
    flatten = getattr(type(tensor), "__tensor_flatten__", None)
    if flatten is None or type(tensor) in {torch.Tensor, nn.Parameter}:
        return {}
    found: dict[str, torch.Tensor] = {}
    names, _ = flatten(tensor)
    for name in names:
        part = getattr(tensor, name)
        if isinstance(part, torch.Tensor):
            inside = inner_tensors(part)
            found |= {f"{name}.{key}": value for key, value in inside.items()} or {name: part}
    return found


def deployed_bits(root: nn.Module) -> dict[str, int]:
    """Returns the bits that each stored tensor has when deployed, where they are fewer than stored.

    Covers the float masters of quantisation-aware training (a `weight_quant` or
    `weight_fake_quant` beside the weight, the same for biases) and tensor subclasses that keep
    narrower numbers in whole bytes.
    """
    found: dict[str, int] = {}
    for path, module in root.named_modules():
        prefix = f"{path}." if path else ""
        for local, parameter in module._parameters.items():
            if parameter is None:
                continue
            bits = _quantiser_bits(getattr(module, f"{local}_quant", None)) or _fake_quant_bits(
                getattr(module, f"{local}_fake_quant", None)
            )
            bits = bits or _subclass_bits(parameter)
            if bits:
                found[prefix + local] = bits
    return found


def _quantiser_bits(proxy: Any) -> int:
    """Bits of a brevitas weight or bias quantiser; 0 where it is off."""
    if proxy is None or not getattr(proxy, "is_quant_enabled", False):
        return 0
    inner = getattr(getattr(proxy, "tensor_quant", None), "msb_clamp_bit_width_impl", None)
    for width in (getattr(proxy, "bit_width", None), inner):  # a bias has its width inside alone
        with torch.no_grad():
            try:
                bits = width() if callable(width) else None
                if bits is not None:
                    return int(bits)
            except Exception:  # cannot tell without an input
                continue
    return 0


def _fake_quant_bits(module: Any) -> int:
    """Bits of a torch.ao fake quantiser: as many as its range of whole numbers takes."""
    low, high = getattr(module, "quant_min", None), getattr(module, "quant_max", None)
    if type(low) is not int or type(high) is not int or high <= low:
        return 0
    return (high - low).bit_length()


def _subclass_bits(tensor: torch.Tensor) -> int:
    flatten = getattr(type(tensor), "__tensor_flatten__", None)
    if flatten is None or type(tensor) in {torch.Tensor, nn.Parameter}:
        return 0
    context = flatten(tensor)[1]
    target = context.get("target_dtype") if isinstance(context, Mapping) else None
    match = re.fullmatch(r"torch\.u?int([1-7])", str(target))
    return int(match[1]) if match else 0
