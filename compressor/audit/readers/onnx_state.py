"""The state of a walk over an ONNX graph: names in sight, place in the file, operators that ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compressor.audit.readers.onnx_records import ValueInfo
from compressor.audit.readers.onnx_values import Site, Stored, Val

__all__ = ["UNKNOWN", "Emitted", "Frame", "Scope"]

UNKNOWN = " (shape not known)"  # behind the name of an operator that can therefore not be counted


class Scope:
    """Names of values, those of the enclosing graphs included."""

    def __init__(self, outer: Scope | None = None) -> None:
        """Takes the scope of the enclosing graph."""
        self.names: dict[str, Val | None] = {}
        self.outer = outer

    def get(self, name: str) -> Val | None:
        """Returns a value; None for an input of a function that the call left out.

        Raises:
            KeyError: no such name.
        """
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where in the file the walk is.

    Attributes:
        prefix: path of the enclosing operator.
        opsets: domain -> version of its operators.
        infos: what the file declares of values.
        attrs: of the function call; None outside of functions.
        stack: functions that are being inlined; depth: with the graphs in between.
    """

    prefix: str = ""
    opsets: Mapping[str, int] = field(default_factory=dict)
    infos: Mapping[str, ValueInfo] = field(default_factory=dict)
    attrs: Mapping[str, Any] | None = None
    stack: tuple[tuple[str, str], ...] = ()
    depth: int = 0


@dataclass(slots=True, eq=False)
class Emitted:
    """One operator that runs.

    Attributes:
        name: "onnx.Conv"; site: its layer; node: key of the place in the file where it stands.
        times: how often it runs.
        parameters: the stored ones that it reads.
    """

    name: str
    site: Site
    node: object
    inputs: list[Val | None]
    outputs: list[Val]
    attrs: dict[str, Any]
    times: int
    parameters: tuple[Stored, ...]
