"""The frozen records an audit answers with: one row a layer, one result a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["AuditResult", "LayerCount", "Status", "worst"]

Status = Literal["exact", "partial", "unknown"]

_ORDER: dict[Status, int] = {"exact": 0, "partial": 1, "unknown": 2}


def worst(*statuses: Status) -> Status:
    """Returns the least certain of some statuses; `exact` when there is none."""
    return max(statuses, key=_ORDER.__getitem__, default="exact")


@dataclass(frozen=True)
class LayerCount:
    """What one layer holds and costs. Rows of a result add up to its totals.

    Attributes:
        name: module path; "" for what belongs to the whole model.
        kind: class name of the module ("Conv2d"); "" where the file does not tell.
        params: parameters, each stored tensor once (a tied tensor stands in its first layer).
        nonzero_params: parameters that are not zero, pruning masks applied.
        param_bytes: bytes of the parameters at their stored width.
        macs: multiply-accumulates under the strict convention, all calls.
        macs_official: the same as torchinfo 1.8.0 (NeSsi) counts them.
        output_shape: shape of the last output; () where unknown.
        dtype: number type of the parameters; "a+b" where they differ, "" without parameters.
        weight_params: parameters in weight tensors of two or more axes (what int8 makes 1 byte).
        calls: how often one inference runs the module; 0 = never called.
    """

    name: str
    kind: str
    params: int = 0
    nonzero_params: int = 0
    param_bytes: int = 0
    macs: int = 0
    macs_official: int = 0
    output_shape: tuple[int, ...] = ()
    dtype: str = ""
    weight_params: int = 0
    calls: int = 0


@dataclass(frozen=True)
class AuditResult:
    """All figures of one model on one input.

    Attributes:
        macs: multiply-accumulates of one inference under `convention`; None where unknown.
        params: parameters; tied tensors once, layers that never run included.
        nonzero_params: parameters that are not zero, pruning masks applied.
        param_bytes: bytes of the parameters at their stored width.
        bytes_by_dtype: the same, split by number type.
        buffer_bytes: bytes of what is stored beside the parameters (running statistics, masks).
        scale_bytes: bytes of scales and zero points of quantised numbers; in neither of the two.
        deployed_bytes: bytes of the parameters at the width they are deployed with, where that is
            narrower than they are stored (quantisation-aware training); None where nothing is.
        deployed_bytes_by_dtype: the same, split by number type; empty where nothing is.
        peak_activation_bytes: most bytes of activations alive at once; None where unknown.
        peak_activation_layer: the layer (and operator) running at that moment.
        status: the worst of `statuses`.
        statuses: for each metric `exact`, `partial` or `unknown`.
        layers: one row a layer; sums equal the totals (strict convention for `macs`).
        convention: the convention of `macs`.
        input_shape: shape of the (first) input; () where the file does not tell.
        macs_by_convention: MACs under every convention.
        params_by_convention: parameters as each convention counts them.
        nonzero_by_convention: non-zero parameters as each convention counts them.
        bytes_by_convention: bytes of non-zero parameters as each convention counts them.
        uncounted: operators without a counting rule ("aten.fft_r2c at frontend").
        notes: facts a reader must know (tied, never called, masked, hidden weights, ...).
        details: the facts behind the notes, for programs: name -> list of names or counts.
        source: file name or class name; format: what was read; meta: what the file says of itself.
    """

    macs: int | None
    params: int
    nonzero_params: int
    param_bytes: int
    bytes_by_dtype: Mapping[str, int]
    buffer_bytes: int
    peak_activation_bytes: int | None
    peak_activation_layer: str
    status: Status
    statuses: Mapping[str, Status]
    layers: tuple[LayerCount, ...]
    convention: str
    input_shape: tuple[int, ...]
    macs_by_convention: Mapping[str, int | None]
    params_by_convention: Mapping[str, int]
    nonzero_by_convention: Mapping[str, int]
    bytes_by_convention: Mapping[str, int]
    uncounted: tuple[str, ...] = ()
    scale_bytes: int = 0
    deployed_bytes: int | None = None
    deployed_bytes_by_dtype: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    format: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-able Python (lists for tuples)."""
        plain = asdict(self)
        plain["schema"] = 1
        return {key: _plain(value) for key, value in sorted(plain.items())}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
