"""`.pt2`: the network as torch.export leaves it, for PyTorch without this project's code."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressor.errors import MeasureError

__all__ = ["read_strings", "run_pt2", "to_pt2"]

DESCRIPTION_FILE = "compressor.json"


class _Stored(nn.Module):
    """Weights in two bytes, arithmetic in float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = model.to(dtype)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, outputs) of (N, *input_shape)."""
        own = (*self.net.named_parameters(), *self.net.named_buffers())
        state = {name: t.float() if t.is_floating_point() else t for name, t in own}
        logits: Tensor = torch.func.functional_call(self.net, state, (features,))
        return logits


def to_pt2(model: nn.Module, example: Tensor, dtype: str, strings: Mapping[str, str]) -> bytes:
    """The content of a `.pt2` file with a free batch axis.

    Args:
        model: float32 network in evaluation mode, its weights on the grid of `dtype`; taken over.
        example: input (n, *input_shape), n at least 2.
        dtype: number type in which weights are stored.
        strings: what the file says of itself.

    Raises:
        MeasureError: torch cannot export the network.
    """
    import json

    network = model if dtype == "float32" else _Stored(model, getattr(torch, dtype)).eval()
    try:
        program = torch.export.export(
            network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise MeasureError(f"torch.export cannot export {type(model).__name__}: {line}") from error
    _drop_traces(program)
    buffer = io.BytesIO()
    torch.export.save(
        program, buffer, extra_files={DESCRIPTION_FILE: json.dumps(dict(strings), sort_keys=True)}
    )
    return buffer.getvalue()


def _drop_traces(program: torch.export.ExportedProgram) -> None:
    """Remove the source lines of each operator: they carry paths of this machine."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)


def run_pt2(content: bytes, inputs: Tensor) -> Tensor:
    """Outputs (N, outputs) of a `.pt2` file's content on (N, *input_shape)."""
    module = torch.export.load(io.BytesIO(content)).module()
    with torch.no_grad():
        logits: Tensor = module(inputs)
    return logits


def read_strings(content: bytes) -> dict[str, Any]:
    """What a `.pt2` file says of itself."""
    import json

    extra: dict[str, Any] = {DESCRIPTION_FILE: ""}
    torch.export.load(io.BytesIO(content), extra_files=extra)
    found: dict[str, Any] = json.loads(extra[DESCRIPTION_FILE] or "{}")
    return found
