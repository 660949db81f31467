"""Reader for a live torch module. Imports torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from compressor.audit.graph import Graph, read_graph
from compressor.audit.inventory import Inventory, Role, StoredTensor
from compressor.audit.observe import dtype_name, packed_parameters
from compressor.audit.quantised import assign_roles
from compressor.audit.readers.lowbit import deployed_bits, inner_tensors, is_quantiser, is_scale
from compressor.audit.trace import graph_of, make_inputs
from compressor.errors import UsageError

__all__ = ["deployed_bits", "read_module", "stored_tensors"]


def read_module(module: nn.Module, inputs: Any = None, input_shape: Any = None) -> Inventory:
    """Traces a module and lists its tensors.

    Args:
        module: the network; left as it was.
        inputs: a tensor, a tuple of inputs or a mapping of keyword inputs.
        input_shape: instead of inputs, one shape with its batch axis, or a sequence of shapes.

    Raises:
        UsageError: neither inputs nor a shape were given.
        MeasureError: the network does not run on them.
    """
    if inputs is None:
        if input_shape is None:
            raise UsageError(
                f"audit of {type(module).__name__}: give inputs=... or input_shape=..., "
                "for example input_shape=(1, 1, 40, 51)"
            )
        inputs = make_inputs(module, input_shape)
    graph = read_graph(graph_of(module, inputs))
    found = Inventory(
        source=getattr(module, "original_name", type(module).__name__),
        format="module",
        tensors=tuple(stored_tensors(module, graph)),
        graph=graph,
        deployed_bits=deployed_bits(module),
    )
    return assign_roles(found)


def stored_tensors(module: nn.Module, graph: Graph) -> list[StoredTensor]:
    """Lists what a module stores: parameters, packed weights, buffers, constants, scales."""
    quantisers = tuple(
        f"{path}." for path, each in module.named_modules() if path and is_quantiser(each)
    )
    named: dict[str, tuple[torch.Tensor, Role]] = {
        name: (tensor, "parameter")
        for name, tensor in module.named_parameters(remove_duplicate=False)
    }
    named |= {
        name: (tensor, "buffer") for name, tensor in module.named_buffers(remove_duplicate=False)
    }
    named |= {name: (tensor, "parameter") for name, tensor in packed_parameters(module).items()}
    firsts: dict[int, str] = {}
    tensors = []
    for name, (tensor, given) in named.items():
        role: Role = "scale" if name.startswith(quantisers) else given
        first = firsts.setdefault(id(tensor), name)
        tensors += _stored(name, tensor, role, first, named)
    tensors += [
        StoredTensor(name, shape, dtype, "constant", _numel(shape), 0, 0, 0, name)
        for name, (shape, dtype) in graph.constants.items()
    ]
    tensors += [
        StoredTensor(f"{name}.indices", (), "int64", "buffer", 0, 0, 0, nbytes, f"{name}.indices")
        for name, (tensor, _) in named.items()
        if (nbytes := _index_bytes(tensor))
    ]
    return tensors


def _index_bytes(tensor: torch.Tensor) -> int:
    """Bytes of the indices that a compressed sparse tensor stores beside its values."""
    if tensor.layout not in {torch.sparse_csr, torch.sparse_bsr}:
        return 0
    parts = (tensor.crow_indices(), tensor.col_indices())
    return sum(part.numel() * part.element_size() for part in parts)


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _stored(
    name: str,
    tensor: torch.Tensor,
    role: Role,
    first: str,
    named: dict[str, tuple[torch.Tensor, Role]],
) -> list[StoredTensor]:
    """One row for a tensor, and one for each scale that a quantised tensor carries."""
    tensor = tensor.detach()
    parts = inner_tensors(tensor)
    if parts:
        return _quantised(name, tensor, role, first, parts)
    mask = named.get(name.removesuffix("_orig") + "_mask") if name.endswith("_orig") else None
    stored = _nonzero(tensor)
    effective = _nonzero(tensor * mask[0].to(tensor.dtype)) if mask is not None else stored
    dense = tensor if tensor.layout == torch.strided else tensor.values()
    plain = StoredTensor(
        name=name,
        shape=tuple(tensor.shape),
        dtype=dtype_name(tensor),
        role=role,
        numel=tensor.numel(),
        nonzero=stored,
        effective_nonzero=effective,
        nbytes=dense.numel() * dense.element_size(),
        first=first,
    )
    return [plain, *_scales_of_packed(name, tensor, first)]


def _quantised(
    name: str, tensor: torch.Tensor, role: Role, first: str, parts: dict[str, torch.Tensor]
) -> list[StoredTensor]:
    """A tensor subclass that keeps whole numbers and scales inside."""
    data = {key: part for key, part in parts.items() if not is_scale(key)}
    nbytes = sum(part.numel() * part.element_size() for part in data.values())
    widest = max(data.values(), key=lambda part: part.numel() * part.element_size())
    nonzero = _nonzero(tensor.dequantize()) if hasattr(tensor, "dequantize") else _nonzero(widest)
    row = StoredTensor(
        name=name,
        shape=tuple(tensor.shape),
        # two numbers a byte have no number type of their own in torch
        dtype="int4" if 2 * nbytes == tensor.numel() else dtype_name(widest),
        role=role,
        numel=tensor.numel(),
        nonzero=nonzero,
        effective_nonzero=nonzero,
        nbytes=nbytes,
        first=first,
    )
    scales = [
        _scale(f"{name}.{key}", part, first if first == name else f"{first}.{key}")
        for key, part in parts.items()
        if is_scale(key)
    ]
    return [row, *(replace(s, first=s.name if first == name else s.first) for s in scales)]


def _scales_of_packed(name: str, tensor: torch.Tensor, first: str) -> list[StoredTensor]:
    """The scales and zero points that a quantised tensor of torch carries."""
    if not tensor.is_quantized or first != name:
        return []
    if tensor.qscheme() in {torch.per_channel_affine, torch.per_channel_affine_float_qparams}:
        pair = (tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points())
    else:  # kept as a C++ double and int64
        pair = (torch.tensor(tensor.q_scale()).double(), torch.tensor(tensor.q_zero_point()))
    return [
        _scale(f"{name}.{key}", part, f"{name}.{key}")
        for key, part in zip(("scale", "zero_point"), pair, strict=True)
    ]


def _scale(name: str, tensor: torch.Tensor, first: str) -> StoredTensor:
    nbytes = tensor.numel() * tensor.element_size()
    nonzero = _nonzero(tensor.detach())
    shape = tuple(tensor.shape)
    return StoredTensor(
        name, shape, dtype_name(tensor), "scale", tensor.numel(), nonzero, nonzero, nbytes, first
    )


def _nonzero(tensor: torch.Tensor) -> int:
    if tensor.layout != torch.strided:
        tensor = tensor.values()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    elif tensor.is_floating_point() and tensor.element_size() == 1:  # float8 has no comparison
        tensor = tensor.float()
    return int(torch.count_nonzero(tensor))
