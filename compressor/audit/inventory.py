"""What a reader finds in a model, whatever its format: stored tensors and the operator graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from compressor.audit.graph import Graph, Shape

__all__ = ["Inventory", "Role", "StoredTensor"]

Role = Literal["parameter", "buffer", "constant", "scale"]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One stored tensor.

    Attributes:
        name: qualified name ("layers.0.conv1.weight").
        shape: its shape; dtype: its number type as torch names it ("float16").
        role: parameter, buffer (saved beside the weights), constant (a plain attribute) or scale
            (scales and zero points of quantised numbers: listed apart, never parameters).
        numel: elements that are stored (an expanded tensor: those of its storage).
        nonzero: elements that are not zero as stored.
        effective_nonzero: the same with a pruning mask of `torch.nn.utils.prune` applied.
        nbytes: bytes of the stored elements.
        first: name of the tensor that this one shares its storage with; its own name otherwise.
    """

    name: str
    shape: Shape
    dtype: str
    role: Role
    numel: int
    nonzero: int
    effective_nonzero: int
    nbytes: int
    first: str

    @property
    def module(self) -> str:
        """Path of the module that owns the tensor."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Inventory:
    """Everything the counting needs; made by one reader a format, read by `count.audit_inventory`.

    Attributes:
        source: file or class name; format: "module", "compressor-model", "state-dict",
            "onnx", "tflite", "keras", "safetensors", "torch-export", "torchscript".
        tensors: all stored tensors, tied ones under each name.
        graph: the operator graph; None where the file has none (MACs are then unknown).
        roles_certain: whether parameters and buffers are told apart by the file, not by name.
        doubts: metric -> what makes it less than exact.
        notes: what a reader of the result should know, and no figure suffers from.
        meta: what the file says of itself (architecture, classes, front-end, ...).
        deployed_bits: parameters that are stored wider than they mean (the float masters of
            quantisation-aware training, 4-bit numbers in whole bytes) -> bits when deployed.
    """

    source: str
    format: str
    tensors: tuple[StoredTensor, ...]
    graph: Graph | None
    roles_certain: bool = True
    doubts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    deployed_bits: Mapping[str, int] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[StoredTensor, ...]:
        """Parameters, each stored tensor once."""
        return tuple(t for t in self.tensors if t.role == "parameter" and t.first == t.name)

    @property
    def buffers(self) -> tuple[StoredTensor, ...]:
        """Buffers, each stored tensor once."""
        return tuple(t for t in self.tensors if t.role == "buffer" and t.first == t.name)

    @property
    def scales(self) -> tuple[StoredTensor, ...]:
        """Scales and zero points of quantised numbers, each stored tensor once."""
        return tuple(t for t in self.tensors if t.role == "scale" and t.first == t.name)

    @property
    def kinds(self) -> dict[str, str]:
        """Module path -> class name; without a graph only BatchNorm is told, by its statistics."""
        if self.graph is not None:
            return {module.path: module.type for module in self.graph.modules}
        return {t.module: "BatchNorm" for t in self.tensors if t.name.endswith(("running_mean",))}
