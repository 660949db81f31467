"""Two audits side by side: totals and layers, old, new and the change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compressor.audit.records import AuditResult, LayerCount

__all__ = ["Change", "Comparison", "LayerChange", "compare"]

_LAYER_FIGURES: Mapping[str, str] = {
    "parameters": "params",
    "non-zero": "nonzero_params",
    "bytes": "param_bytes",
    "MACs": "macs",
    "MACs official": "macs_official",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after; None where it is unknown."""

    old: int | None
    new: int | None

    @property
    def change(self) -> int | None:
        """New - old."""
        return None if self.old is None or self.new is None else self.new - self.old

    @property
    def percent(self) -> float | None:
        """The change in percent of the old figure; None where that is 0 or unknown."""
        if self.change is None or not self.old:
            return None
        return round(100 * self.change / self.old, 4)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-able Python."""
        return {"old": self.old, "new": self.new, "change": self.change, "percent": self.percent}


@dataclass(frozen=True, slots=True)
class LayerChange:
    """One layer before and after.

    Attributes:
        name: of the layer; kind: its class, in the new model where that has one.
        state: same, changed, added (only in the new model) or removed (only in the old one).
        figures: parameters, non-zero, bytes, MACs and MACs official; 0 where there is no layer.
    """

    name: str
    kind: str
    state: str
    figures: Mapping[str, Change]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-able Python."""
        figures = {name: change.to_dict() for name, change in self.figures.items()}
        return {"name": self.name, "kind": self.kind, "state": self.state, "figures": figures}


@dataclass(frozen=True)
class Comparison:
    """The change of the totals and of every layer, in the order of the new model, then removed."""

    totals: Mapping[str, Change]
    layers: tuple[LayerChange, ...]

    def names(self, state: str) -> list[str]:
        """Names of the layers in one state."""
        return [layer.name for layer in self.layers if layer.state == state]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-able Python."""
        return {
            "totals": {name: change.to_dict() for name, change in self.totals.items()},
            "added": self.names("added"),
            "removed": self.names("removed"),
            "layers": [layer.to_dict() for layer in self.layers],
        }


def compare(old: AuditResult, new: AuditResult) -> Comparison:
    """Compares two audits; layers are matched by name.

    Args:
        old: of the base model.
        new: of the model that was made of it.
    """
    totals = {
        "parameters": Change(old.params, new.params),
        "non-zero": Change(old.nonzero_params, new.nonzero_params),
        "bytes": Change(old.param_bytes, new.param_bytes),
        "buffer bytes": Change(old.buffer_bytes, new.buffer_bytes),
        "MACs": Change(_macs(old, "strict"), _macs(new, "strict")),
        "MACs official": Change(_macs(old, "nessi"), _macs(new, "nessi")),
        "peak activation bytes": Change(old.peak_activation_bytes, new.peak_activation_bytes),
    }
    if old.deployed_bytes is not None or new.deployed_bytes is not None:
        totals["bytes as deployed"] = Change(_deployed(old), _deployed(new))
    before, after = _by_name(old), _by_name(new)
    layers = [_layer(name, before.get(name), row) for name, row in after.items()]
    layers += [_layer(name, row, None) for name, row in before.items() if name not in after]
    return Comparison(totals, tuple(layers))


def _deployed(result: AuditResult) -> int:
    return result.param_bytes if result.deployed_bytes is None else result.deployed_bytes


def _macs(result: AuditResult, convention: str) -> int | None:
    return result.macs_by_convention.get(convention)


def _by_name(result: AuditResult) -> dict[tuple[str, int], LayerCount]:
    """Rows by name; the second layer of a name is told apart by its number."""
    rows: dict[tuple[str, int], LayerCount] = {}
    seen: dict[str, int] = {}
    for row in result.layers:
        number = seen[row.name] = seen.get(row.name, -1) + 1
        rows[row.name, number] = row
    return rows


def _layer(key: tuple[str, int], old: LayerCount | None, new: LayerCount | None) -> LayerChange:
    figures = {
        name: Change(getattr(old, field) if old else 0, getattr(new, field) if new else 0)
        for name, field in _LAYER_FIGURES.items()
    }
    if old is None or new is None:
        state = "added" if old is None else "removed"
    else:
        same = old.dtype == new.dtype and old.kind == new.kind
        moved = any(change.change for change in figures.values())
        state = "same" if same and not moved else "changed"
    row = new or old
    return LayerChange(key[0], row.kind if row else "", state, figures)
