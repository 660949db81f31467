"""Reader for a live torch module. Imports torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compressor.audit.graph import read_graph
from compressor.audit.inventory import Inventory, Role, StoredTensor
from compressor.audit.observe import dtype_name, packed_parameters
from compressor.audit.trace import graph_of, make_inputs
from compressor.errors import UsageError

__all__ = ["read_module"]


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
    named: dict[str, tuple[torch.Tensor, Role]] = {
        name: (tensor, "parameter")
        for name, tensor in module.named_parameters(remove_duplicate=False)
    }
    named |= {
        name: (tensor, "buffer") for name, tensor in module.named_buffers(remove_duplicate=False)
    }
    named |= {name: (tensor, "parameter") for name, tensor in packed_parameters(module).items()}
    firsts: dict[int, str] = {}
    tensors = [
        _stored(name, tensor, role, firsts.setdefault(id(tensor), name), named)
        for name, (tensor, role) in named.items()
    ]
    tensors += [
        StoredTensor(name, shape, dtype, "constant", _numel(shape), 0, 0, 0, name)
        for name, (shape, dtype) in graph.constants.items()
    ]
    tensors += [
        StoredTensor(f"{name}.indices", (), "int64", "buffer", 0, 0, 0, nbytes, f"{name}.indices")
        for name, (tensor, _) in named.items()
        if (nbytes := _index_bytes(tensor))
    ]
    return Inventory(
        source=type(module).__name__, format="module", tensors=tuple(tensors), graph=graph
    )


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
) -> StoredTensor:
    tensor = tensor.detach()
    mask = named.get(name.removesuffix("_orig") + "_mask") if name.endswith("_orig") else None
    stored = _nonzero(tensor)
    effective = _nonzero(tensor * mask[0].to(tensor.dtype)) if mask is not None else stored
    dense = tensor if tensor.layout == torch.strided else tensor.values()
    return StoredTensor(
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


def _nonzero(tensor: torch.Tensor) -> int:
    if tensor.layout != torch.strided:
        tensor = tensor.values()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    elif tensor.is_floating_point() and tensor.element_size() == 1:  # float8 has no comparison
        tensor = tensor.float()
    return int(torch.count_nonzero(tensor))
