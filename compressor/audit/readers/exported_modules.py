"""The module tree of an exported program: types, calls and their outputs, from its node notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["ModuleCalls"]


class ModuleCalls:
    """Follows which module runs, node by node.

    Every node notes the modules around it as "key,path,type;key,path,type"; a second call of a
    module has a key of its own ("...@1"). A call ends where its key no longer stands in the note;
    its output is the last value made inside it.
    """

    def __init__(self, paths: Iterable[str], parameters: Iterable[str]) -> None:
        """Takes the paths of all modules and the names of all parameters, both in order."""
        self.calls: list[list[Any]] = []
        self.current = 0
        self._paths: dict[str, int] = {"": 0}
        self._types: dict[str, str] = {}
        self._owned: dict[str, list[str]] = {}
        self._open: list[list[Any]] = []  # [key, module index, shape of the last value]
        for path in paths:
            self._index(path)
        for name in parameters:
            path = name.rpartition(".")[0]
            self._index(path)
            self._owned.setdefault(path, []).append(name)

    def _index(self, path: str) -> int:
        return self._paths.setdefault(path, len(self._paths))

    def enter(self, metadata: Mapping[str, Any]) -> None:
        """Moves to the modules that a node stands in."""
        note = metadata.get("nn_module_stack")
        if not isinstance(note, str):
            return  # made by a pass: belongs to what runs
        stack = []
        for entry in note.split(";"):
            parts = entry.split(",")
            if len(parts) != 3 or parts[0].startswith("_empty_nn_module_stack"):
                continue
            key, path, kind = parts
            path = path.partition("@")[0]
            self._types.setdefault(path, kind.rpartition(".")[2])
            stack.append((key, self._index(path)))
        if not stack:
            return
        same = 0
        while same < min(len(stack), len(self._open)) and self._open[same][0] == stack[same][0]:
            same += 1
        self._close(same)
        self._open += [[key, index, None] for key, index in stack[same:]]
        self.current = stack[-1][1]

    def produced(self, shapes: list[list[int]]) -> None:
        """Notes the output shapes of a node."""
        if shapes:
            for call in self._open:
                call[2] = shapes[0]

    def _close(self, depth: int) -> None:
        while len(self._open) > depth:
            _, index, shape = self._open.pop()
            if shape is not None:
                self.calls.append([index, shape])

    def finish(self, output: list[int] | None) -> None:
        """Ends all calls; the outermost one, the program itself, answers with its first output."""
        if self._open and output is not None:
            self._open[0][2] = output
        self._close(0)

    def records(self) -> list[dict[str, Any]]:
        """Returns the modules in the plain form of a graph."""
        parents = {
            path[:at] for path in self._paths for at, letter in enumerate(path) if letter == "."
        }
        if len(self._paths) > 1:
            parents.add("")
        return [
            {
                "path": path,
                "type": self._types.get(path, ""),
                "leaf": path not in parents,
                "parameters": self._owned.get(path, []),
            }
            for path in self._paths
        ]
