"""How often a WHILE of a TFLite file runs: found where it counts up to a number in the file.

That is what converters write for a recurrent layer: the loop carries a counter that starts at a
stored number, adds a stored number each time, and stops at a stored limit. Anything else stays
unknown.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from compressor.audit.readers.tflite_schema import ModelRecord, OpRecord

__all__ = ["Loops"]

_CODES = {"int32": "<i", "int64": "<q"}


@dataclass(frozen=True, slots=True)
class _Loop:
    """A WHILE: the subgraph it stands in, itself, the subgraphs of its condition and body."""

    outside: int
    op: OpRecord
    condition: int
    body: int


class Loops:
    """Answers for the loops of one file."""

    def __init__(self, model: ModelRecord) -> None:
        """Takes the file's records."""
        self._model = model
        self._makers: dict[int, dict[int, OpRecord]] = {}
        self._given: dict[int, dict[int, int]] = {}

    def trips(self, part: int, op: OpRecord) -> int | None:
        """Returns how often the body of a WHILE runs; None where the file does not fix it.

        Args:
            part: the subgraph that the operator stands in.
            op: the WHILE.
        """
        parts = self._model.subgraphs
        if op.options is None:
            return None
        condition, body = op.options.integer(0, "i"), op.options.integer(1, "i")
        if not 0 <= condition < len(parts) or not 0 <= body < len(parts):
            return None  # refused where it is followed
        count = len(op.inputs)
        if {len(parts[condition].inputs), len(parts[body].outputs), len(parts[body].inputs)} != {
            count
        }:
            return None
        ends = parts[condition].outputs
        return self._ends(_Loop(part, op, condition, body), ends[0], 4) if len(ends) == 1 else None

    def _ends(self, loop: _Loop, tensor: int, depth: int) -> int | None:
        """Trips until a truth value of the condition becomes false."""
        maker = self._maker(loop.condition, tensor)
        if maker is None or len(maker.inputs) != 2 or not depth:
            return None
        left, right = maker.inputs
        if maker.name == "LOGICAL_AND":  # ends with the first of the two that ends
            one, two = self._ends(loop, left, depth - 1), self._ends(loop, right, depth - 1)
            return None if one is None or two is None else min(one, two)
        if maker.name == "GREATER":
            left, right = right, left
        elif maker.name != "LESS":
            return None
        carried = self._input(loop.condition, left)
        limit = self._fixed(loop, right)
        if limit is None or carried is None:
            return None
        start = self._constant(loop.outside, loop.op.inputs[carried])
        step = self._step(loop, carried)
        if start is None or step is None or step < 1:
            return None
        return max(0, -(-(limit - start) // step))

    def _fixed(self, loop: _Loop, tensor: int) -> int | None:
        """A number stored in the condition, or carried along unchanged from one outside."""
        carried = self._input(loop.condition, tensor)
        if carried is None:
            return self._constant(loop.condition, tensor)
        body = self._model.subgraphs[loop.body]
        if body.outputs[carried] != body.inputs[carried]:
            return None
        return self._constant(loop.outside, loop.op.inputs[carried])

    def _step(self, loop: _Loop, carried: int) -> int | None:
        body = self._model.subgraphs[loop.body]
        maker = self._maker(loop.body, body.outputs[carried])
        if maker is None or maker.name != "ADD" or len(maker.inputs) != 2:
            return None
        if body.inputs[carried] not in maker.inputs:
            return None
        other = maker.inputs[1 - maker.inputs.index(body.inputs[carried])]
        return self._constant(loop.body, other)

    def _constant(self, part: int, tensor: int) -> int | None:
        """A single whole number that is stored."""
        if tensor < 0 or self._input(part, tensor) is not None or self._maker(part, tensor):
            return None
        record = self._model.subgraphs[part].tensors[tensor]
        code = _CODES.get(record.dtype)
        data = self._model.buffers[record.buffer] if record.buffer else b""
        if code is None or len(data) != struct.calcsize(code):
            return None
        (value,) = struct.unpack(code, data)
        return int(value)

    def _maker(self, part: int, tensor: int) -> OpRecord | None:
        if part not in self._makers:
            ops = self._model.subgraphs[part].ops
            self._makers[part] = {output: op for op in ops for output in op.outputs}
        return self._makers[part].get(tensor)

    def _input(self, part: int, tensor: int) -> int | None:
        """Which input of a subgraph a tensor is."""
        if part not in self._given:
            inputs = self._model.subgraphs[part].inputs
            self._given[part] = {given: slot for slot, given in enumerate(inputs)}
        return self._given[part].get(tensor)
